//! The line format of the root half's configuration and of enrolments: `key = value`, one a line, `#` begins a
//! comment line. Every key is known, no key comes twice.

use std::collections::BTreeMap;

use thiserror::Error;

/// Why a text is not a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// A line without `=`.
    #[error("line {line} is not 'key = value'")]
    Shape {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A key that comes twice.
    #[error("line {line} gives a key again")]
    Duplicate {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A key that nobody asked for.
    #[error("'{key}' is not a known key")]
    Unknown {
        /// The key, cut at 40 characters.
        key: String,
    },
    /// A key that has to be there.
    #[error("'{key}' is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value that does not read.
    #[error("'{key}' wants {wants}")]
    Value {
        /// The key.
        key: &'static str,
        /// What belongs there.
        wants: &'static str,
    },
    /// Not text.
    #[error("not UTF-8 text")]
    Text,
}

/// The lines of a file, taken key by key; what is left at the end is an error.
#[derive(Debug)]
pub struct Lines {
    values: BTreeMap<String, String>,
}

impl Lines {
    /// Takes a text apart.
    ///
    /// # Errors
    /// A line without `=`, a key that comes twice, or not UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, LineError> {
        let text = std::str::from_utf8(bytes).map_err(|_| LineError::Text)?;
        let mut values = BTreeMap::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (key, value) = content.split_once('=').ok_or(LineError::Shape { line })?;
            if values.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
                return Err(LineError::Duplicate { line });
            }
        }
        Ok(Self { values })
    }

    /// The value of a key that need not be there.
    pub fn optional(&mut self, key: &'static str) -> Option<String> {
        self.values.remove(key)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// It is missing or empty.
    pub fn text(&mut self, key: &'static str) -> Result<String, LineError> {
        match self.optional(key) {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) => Err(LineError::Value { key, wants: "a value" }),
            None => Err(LineError::Missing { key }),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is missing, or is none of this type.
    pub fn number<N: std::str::FromStr>(&mut self, key: &'static str) -> Result<N, LineError> {
        let wants = "a whole number in its range";
        self.text(key)?.parse().map_err(|_| LineError::Value { key, wants })
    }

    /// A whole number, or `default` where the key is missing.
    ///
    /// # Errors
    /// The value is no number of this type.
    pub fn number_or<N: std::str::FromStr>(
        &mut self,
        key: &'static str,
        default: N,
    ) -> Result<N, LineError> {
        if self.values.contains_key(key) { self.number(key) } else { Ok(default) }
    }

    /// Uids or gids separated by commas, perhaps none.
    ///
    /// # Errors
    /// The key is missing, or something in the list is no such number.
    pub fn uids(&mut self, key: &'static str) -> Result<Vec<u32>, LineError> {
        let value = self.optional(key).ok_or(LineError::Missing { key })?;
        parse_uids(&value).ok_or(LineError::Value { key, wants: "uids separated by commas" })
    }

    /// `any`, which is `None`, or uids.
    ///
    /// # Errors
    /// As [`Self::uids`].
    pub fn any_or_uids(&mut self, key: &'static str) -> Result<Option<Vec<u32>>, LineError> {
        if self.values.get(key).is_some_and(|value| value == "any") {
            self.values.remove(key);
            return Ok(None);
        }
        self.uids(key).map(Some)
    }

    /// To be called last.
    ///
    /// # Errors
    /// A key is left that nobody asked for.
    pub fn end(self) -> Result<(), LineError> {
        match self.values.into_keys().next() {
            Some(key) => Err(LineError::Unknown { key: key.chars().take(40).collect() }),
            None => Ok(()),
        }
    }
}

/// Numeric uids separated by commas; empty is an empty list. `(uid_t)-1` is never one.
fn parse_uids(value: &str) -> Option<Vec<u32>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    let uid = |word: &str| word.trim().parse().ok().filter(|uid| *uid != u32::MAX);
    value.split(',').map(uid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_spaces_are_passed_over() {
        let mut lines = Lines::parse(b"# c\n\n a = 1 \nb=2,3\n").unwrap();
        assert_eq!(lines.number::<u8>("a"), Ok(1));
        assert_eq!(lines.uids("b"), Ok(vec![2, 3]));
        assert_eq!(lines.end(), Ok(()));
    }

    // [F-2] [F-3]
    #[test]
    fn every_defect_has_its_own_error() {
        assert_eq!(Lines::parse(b"a").unwrap_err(), LineError::Shape { line: 1 });
        assert_eq!(Lines::parse(b"a=1\na=1").unwrap_err(), LineError::Duplicate { line: 2 });
        assert_eq!(Lines::parse(b"\xff").unwrap_err(), LineError::Text);
        let mut lines = Lines::parse(b"a = 256\nu = 1,x\nm = 4294967295\nz = 1").unwrap();
        assert!(matches!(lines.number::<u8>("a"), Err(LineError::Value { .. })));
        assert!(matches!(lines.uids("u"), Err(LineError::Value { .. })));
        assert!(matches!(lines.uids("m"), Err(LineError::Value { .. })));
        assert_eq!(lines.text("q"), Err(LineError::Missing { key: "q" }));
        assert_eq!(lines.end(), Err(LineError::Unknown { key: "z".into() }));
    }
}
