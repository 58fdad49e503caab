//! How a person or a program names a request.

use std::fmt;
use std::str::FromStr;

use olb_lease::RequestId;
use thiserror::Error;

use crate::code::{Code, plain};

/// Not a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("neither a request id ('req_' and 26 characters) nor a code like 7FK-3QX; see 'olb list'")]
pub struct SelectorError;

/// A request id or a short code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// `req_...`: names one plan for ever.
    Id(RequestId),
    /// A code: names one request of the last day.
    Code(Code),
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads either form as people type it: in any case, I and L for 1, O for 0, a code with or
    /// without its dash.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        match text.split_at_checked(4) {
            Some((prefix, digits)) if prefix.eq_ignore_ascii_case("req_") => {
                let digits = digits.bytes().map(|byte| plain(byte).to_ascii_lowercase());
                let id: String = digits.map(char::from).collect();
                format!("req_{id}").parse().map(Self::Id).map_err(|_| SelectorError)
            }
            _ => text.parse().map(Self::Code).map_err(|_| SelectorError),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Code(code) => code.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_codes_are_told_apart_in_any_spelling() {
        let id = RequestId([0x11; 16]);
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(Selector::Id(id)));
        assert_eq!(text.to_uppercase().parse(), Ok(Selector::Id(id)));
        let typed = text.replace('1', "l").replace('0', "O");
        assert_eq!(typed.parse(), Ok(Selector::Id(id)));
        assert_eq!("7fk3qx".parse(), Ok(Selector::Code("7FK-3QX".parse().unwrap())));
    }

    #[test]
    fn anything_else_selects_nothing() {
        for text in ["", "req_", "req_7FK-3QX", "7FK", "é", "reqé", "../x"] {
            assert_eq!(text.parse::<Selector>(), Err(SelectorError), "{text}");
        }
    }
}
