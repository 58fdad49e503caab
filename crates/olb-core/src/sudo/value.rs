//! Values of options and variables.

use std::fmt;

use olb_lease::plan_limit;

use super::refusal::{Refusal, Shown};

/// A user or group as `-u`, `-g` and `-U` take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// By name: no control characters, no `:` and no `=`, at most 253 bytes, begins with neither `-` nor
    /// `#`. Digits alone are a name too, as for sudo.
    Name(String),
    /// By number, never 4294967295, which the kernel takes for "leave it as it is".
    Id(u32),
}

impl Account {
    /// Reads `NAME` or `#NUMBER`; the number in decimal digits and nothing else.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(digits) = text.strip_prefix('#') {
            let id = decimal(digits).and_then(|id| u32::try_from(id).ok());
            return id.filter(|id| *id != u32::MAX).map(Self::Id);
        }
        let odd = |letter: char| letter.is_control() || ":=".contains(letter);
        let named = !text.is_empty() && text.len() <= plan_limit::NAME_BYTES;
        (named && !text.starts_with('-') && !text.contains(odd)).then(|| Self::Name(text.into()))
    }
}

/// As `-u` takes it, which is also how the front does.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "#{id}"),
        }
    }
}

/// A `NAME=value` word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// A letter or `_`, then letters, digits and `_`.
    pub name: String,
    /// Any bytes but NUL; may be empty.
    pub value: Vec<u8>,
}

impl Assignment {
    /// Reads a word that has `=` in it. sudo takes any name; a shell could not set most of them.
    pub(super) fn read(word: &[u8]) -> Result<Self, Refusal> {
        let mut halves = word.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next());
        match (variable(name), value) {
            (Some(name), Some(value)) => Ok(Self { name, value: value.into() }),
            (None, _) | (_, None) => Err(Refusal::NotAVariable { word: Shown::of(word) }),
        }
    }

    /// The word.
    pub(super) fn word(&self) -> Vec<u8> {
        [self.name.as_bytes(), b"=", &self.value].concat()
    }
}

/// The name of a variable, if it is one.
pub(super) fn variable(name: &[u8]) -> Option<String> {
    let first = name.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    let rest = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if first && rest { String::from_utf8(name.into()).ok() } else { None }
}

/// Seconds of a time limit as `-T` takes it: numbers with `d`, `h`, `m` or `s` in either case behind
/// them, the larger unit first; a last number without a unit is in seconds.
pub(super) fn seconds(text: &[u8]) -> Option<u32> {
    let mut rest = std::str::from_utf8(text).ok()?;
    let (mut total, mut last) = (0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at_checked(digits)?;
        let mut letters = behind.chars();
        let unit = match letters.next().map(|letter| letter.to_ascii_lowercase()) {
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') | None => 1,
            Some(_) => return None,
        };
        if unit > last {
            return None;
        }
        total = decimal(number)?.checked_mul(unit)?.checked_add(total)?;
        last = unit;
        rest = letters.as_str();
    }
    let secs = u32::try_from(total).ok()?;
    (1..=plan_limit::WALL_CLOCK_SECS).contains(&secs).then_some(secs)
}

/// A number in decimal digits and nothing else.
pub(super) fn decimal(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_number_wraps_round_to_root() {
        // CVE-2019-14287: -1 and 4294967295 were taken for "leave the uid as it is".
        let texts =
            ["#-1", "#4294967295", "#4294967296", "#18446744073709551616", "#", "#+0", "# 0"];
        for text in texts.iter().chain(&["#0x0", "##0", "#0 ", "#٠"]) {
            assert_eq!(Account::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Account::read(b"#4294967294"), Some(Account::Id(4_294_967_294)));
        assert_eq!(Account::read(b"#007"), Some(Account::Id(7)));
        assert_eq!(Account::read(b"0"), Some(Account::Name("0".into())));
    }

    #[test]
    fn names_that_no_account_has_are_not_looked_up() {
        let long = "a".repeat(254);
        for text in ["", "-n", "--", "root:0", "=root", "a\nb", "a\u{7f}", &long] {
            assert_eq!(Account::read(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Account::read(b"\xff"), None);
    }

    #[test]
    fn times_are_read_as_sudo_reads_them() {
        let times = [
            ("5", 5),
            ("5s", 5),
            ("5S", 5),
            ("1m30", 90),
            ("1h2m3s", 3723),
            ("1m1m", 120),
            ("5h5", 18_005),
            ("24h", 86_400),
            ("1d", 86_400),
            ("0005", 5),
        ];
        for (text, secs) in times {
            assert_eq!(seconds(text.as_bytes()), Some(secs), "{text}");
        }
        let huge = "9".repeat(30);
        let none = ["", "0", "0s", "x", "s", "5x", "2m1h", "-1", "+5", " 5", "5 ", "24h1", "1.5h"];
        for text in none.into_iter().chain([huge.as_str(), "5é"]) {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }
}
