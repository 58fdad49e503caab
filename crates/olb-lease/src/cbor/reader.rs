//! Reads the fields of a format in their one order.

use super::{ARRAY, BYTES, CborError, MAP, NINT, TEXT, UINT, head, split};

/// Reads the fields that a format expects, in the order it expects them.
///
/// Meant to follow [`validate`]; on its own it checks shortest heads but not what it does not read.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `input`.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    fn typed(&mut self, want: u8, expected: &'static str) -> Result<u64, CborError> {
        let (major, value, rest) = head(self.rest)?;
        if major != want {
            return Err(CborError::Unexpected { expected });
        }
        self.rest = rest;
        Ok(value)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// Anything else.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.typed(UINT, "an unsigned integer")
    }

    /// An unsigned integer that fits 32 bits; `what` names the field.
    ///
    /// # Errors
    /// Anything else.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, CborError> {
        u32::try_from(self.uint()?).map_err(|_| CborError::Range { what })
    }

    /// An unsigned integer that fits 16 bits; `what` names the field.
    ///
    /// # Errors
    /// Anything else.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, CborError> {
        u16::try_from(self.uint()?).map_err(|_| CborError::Range { what })
    }

    /// An unsigned integer that fits 8 bits; `what` names the field.
    ///
    /// # Errors
    /// Anything else.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, CborError> {
        u8::try_from(self.uint()?).map_err(|_| CborError::Range { what })
    }

    /// A signed integer within the range of `i64`.
    ///
    /// # Errors
    /// Anything else.
    pub fn int(&mut self) -> Result<i64, CborError> {
        let (major, value, rest) = head(self.rest)?;
        let value =
            i64::try_from(value).map_err(|_| CborError::Range { what: "a signed integer" })?;
        let value = match major {
            UINT => value,
            NINT => !value,
            _ => return Err(CborError::Unexpected { expected: "an integer" }),
        };
        self.rest = rest;
        Ok(value)
    }

    /// The unsigned integer `want`, as a map key or a constant.
    ///
    /// # Errors
    /// Anything else.
    pub fn key(&mut self, want: u64) -> Result<(), CborError> {
        let mut ahead = self.clone();
        if ahead.uint() != Ok(want) {
            return Err(CborError::Unexpected { expected: "the next key of the closed map" });
        }
        *self = ahead;
        Ok(())
    }

    /// The signed integer `want`, as a map key.
    ///
    /// # Errors
    /// Anything else.
    pub fn int_key(&mut self, want: i64) -> Result<(), CborError> {
        let mut ahead = self.clone();
        if ahead.int() != Ok(want) {
            return Err(CborError::Unexpected { expected: "the next key of the closed map" });
        }
        *self = ahead;
        Ok(())
    }

    /// A byte string.
    ///
    /// # Errors
    /// Anything else.
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.typed(BYTES, "a byte string")?;
        let (body, rest) = split(self.rest, length)?;
        self.rest = rest;
        Ok(body)
    }

    /// A byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// Anything else.
    pub fn array_of<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let body = self.bytes()?;
        <[u8; N]>::try_from(body)
            .map_err(|_| CborError::Unexpected { expected: "a byte string of the fixed size" })
    }

    /// A text string.
    ///
    /// # Errors
    /// Anything else.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.typed(TEXT, "a text string")?;
        let (body, rest) = split(self.rest, length)?;
        self.rest = rest;
        std::str::from_utf8(body).map_err(|_| CborError::Utf8)
    }

    /// The head of an array; returns how many items follow.
    ///
    /// # Errors
    /// Anything else.
    pub fn array(&mut self) -> Result<u64, CborError> {
        self.typed(ARRAY, "an array")
    }

    /// The head of an array of exactly `items` items.
    ///
    /// # Errors
    /// Anything else.
    pub fn array_len(&mut self, items: u64) -> Result<(), CborError> {
        if self.array()? == items {
            Ok(())
        } else {
            Err(CborError::Unexpected { expected: "an array of the fixed length" })
        }
    }

    /// The head of a map; returns how many pairs follow.
    ///
    /// # Errors
    /// Anything else.
    pub fn map(&mut self) -> Result<u64, CborError> {
        self.typed(MAP, "a map")
    }

    /// The head of a map of exactly `pairs` pairs.
    ///
    /// # Errors
    /// Anything else.
    pub fn map_len(&mut self, pairs: u64) -> Result<(), CborError> {
        if self.map()? == pairs {
            Ok(())
        } else {
            Err(CborError::Unexpected { expected: "a map of the fixed size" })
        }
    }

    /// True, and consumed, if the next item is `null`.
    pub fn null(&mut self) -> bool {
        match self.rest.split_first() {
            Some((0xf6, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// `false` or `true`.
    ///
    /// # Errors
    /// Anything else.
    pub fn bool(&mut self) -> Result<bool, CborError> {
        let (value, rest) = match self.rest.split_first() {
            Some((0xf4, rest)) => (false, rest),
            Some((0xf5, rest)) => (true, rest),
            _ => return Err(CborError::Unexpected { expected: "a boolean" }),
        };
        self.rest = rest;
        Ok(value)
    }

    /// Succeeds when everything was read.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn end(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }
}
