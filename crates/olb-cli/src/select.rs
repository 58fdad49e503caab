//! How a person or a script names a request: a code selects, a full id proves.

use olb_lease::RequestId;
use olb_wire::RequestView;

use crate::failure::Failure;

/// Characters of a code, without its dash.
const CODE_CHARACTERS: usize = 6;
/// The digits of codes and ids (Crockford base32).
const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The name of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// `req_...`: names one plan, and can be recomputed from it.
    Full(RequestId),
    /// A short code, as `7FK-3QX`: the broker says which request it stands for.
    Code(String),
}

impl Selector {
    /// Reads either form as people type it: in any case, I and L for 1, O for 0, a code with or
    /// without its dash.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        match text.split_at_checked(4) {
            Some((prefix, digits)) if prefix.eq_ignore_ascii_case("req_") => {
                let digits =
                    String::from_utf8_lossy(&plain(digits.as_bytes())).to_ascii_lowercase();
                format!("req_{digits}").parse().map(Self::Full).map_err(
                    |error: olb_lease::IdError| {
                        Failure::usage(format!("{error}; 'olb list --json' prints them"))
                    },
                )
            }
            _ => Self::code(text).ok_or_else(|| {
                Failure::usage("a request is named by its code, as 7FK-3QX, or its full req_ id")
            }),
        }
    }

    fn code(text: &str) -> Option<Self> {
        let digits = match text.as_bytes() {
            [a, b, c, b'-', d, e, f] => vec![*a, *b, *c, *d, *e, *f],
            digits => digits.to_vec(),
        };
        let code = plain(&digits);
        let is_code =
            code.len() == CODE_CHARACTERS && code.iter().all(|digit| ALPHABET.contains(digit));
        let (first, last) = code.split_at_checked(CODE_CHARACTERS / 2).filter(|_| is_code)?;
        let [first, last] = [first, last].map(String::from_utf8_lossy);
        Some(Self::Code(format!("{first}-{last}")))
    }

    /// As it is sent and shown.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Full(id) => id.to_string(),
            Self::Code(code) => code.clone(),
        }
    }

    /// Whether `view`, whose id was checked against its plan, is what was asked for.
    pub(crate) fn means(&self, view: &RequestView) -> bool {
        match self {
            Self::Full(id) => id.to_string() == view.request_id,
            Self::Code(code) => *code == view.code,
        }
    }
}

fn plain(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| match byte.to_ascii_uppercase() {
        b'I' | b'L' => b'1',
        b'O' => b'0',
        other => other,
    };
    text.iter().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::view;

    #[test]
    fn codes_and_ids_are_read_as_people_type_them() {
        let id = &view("pending").request_id;
        for typed in [id.clone(), id.to_uppercase(), id.to_uppercase().replace('0', "O")] {
            assert_eq!(Selector::parse(&typed).unwrap().text(), *id);
        }
        for typed in ["7FK-3QX", "7fk-3qx", "7fk3qx", "7FK3QX"] {
            assert_eq!(Selector::parse(typed).unwrap(), Selector::Code("7FK-3QX".into()));
        }
        assert_eq!(Selector::parse("ilO-OLI").unwrap(), Selector::Code("110-011".into()));
    }

    #[test]
    fn anything_else_is_no_name() {
        let id = &view("pending").request_id;
        for bad in ["", "7FK-3Q", "req_", &id[..29], "7FK-3QXX", "é-3qxx", "7FK_3QX", "7FU-3QX"] {
            assert_eq!(Selector::parse(bad).unwrap_err().code, 64, "{bad}");
        }
    }

    #[test]
    fn a_request_is_meant_by_its_own_names_only() {
        let asked = view("pending");
        let other = RequestView { request_id: "req_x".into(), code: "AAA-AAA".into(), ..view("x") };
        for name in [&asked.request_id, &asked.code] {
            let selector = Selector::parse(name).unwrap();
            assert!(selector.means(&asked) && !selector.means(&other));
        }
    }
}
