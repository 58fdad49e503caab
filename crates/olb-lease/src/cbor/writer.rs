//! Writes deterministic CBOR.

use super::{ARRAY, BYTES, MAP, NINT, TEXT, UINT, validate};

/// Writes heads in their shortest form; the caller keeps map keys ascending (debug builds of the encoders
/// check it by running [`validate`] over the result).
#[derive(Debug, Clone, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn head(&mut self, major: u8, value: u64) {
        let lead = major << 5;
        let digits = value.to_be_bytes();
        let (info, width) = match value {
            0..=23 => {
                self.out.push(lead | digits[7]);
                return;
            }
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.out.push(lead | info);
        self.out.extend(digits.iter().skip(8_usize.saturating_sub(width)));
    }

    /// Appends an unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value);
        self
    }

    /// Appends a signed integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.head(NINT, (!value).unsigned_abs());
        } else {
            self.head(UINT, value.unsigned_abs());
        }
        self
    }

    /// Appends a byte string.
    pub fn bytes(&mut self, body: &[u8]) -> &mut Self {
        self.head(BYTES, body.len() as u64);
        self.out.extend_from_slice(body);
        self
    }

    /// Appends a text string.
    pub fn text(&mut self, body: &str) -> &mut Self {
        self.head(TEXT, body.len() as u64);
        self.out.extend_from_slice(body.as_bytes());
        self
    }

    /// Appends the head of an array of `items` items.
    pub fn array(&mut self, items: usize) -> &mut Self {
        self.head(ARRAY, items as u64);
        self
    }

    /// Appends the head of a map of `pairs` pairs.
    pub fn map(&mut self, pairs: usize) -> &mut Self {
        self.head(MAP, pairs as u64);
        self
    }

    /// Appends `null`.
    pub fn null(&mut self) -> &mut Self {
        self.out.push(0xf6);
        self
    }

    /// Appends `false` or `true`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.out.push(if value { 0xf5 } else { 0xf4 });
        self
    }

    /// The bytes written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        debug_assert!(validate(&self.out, usize::MAX).is_ok(), "an encoder broke the rules");
        self.out
    }
}
