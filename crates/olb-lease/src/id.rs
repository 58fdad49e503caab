//! Names for things: digests, ids and their text forms. Each is a type of its own, so that one
//! cannot be handed in for another.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not the prefix, length or alphabet.
    #[error("not a request id: 'req_' and 26 characters of lower-case Crockford base32")]
    RequestId,
    /// Not hexadecimal of the right length.
    #[error("not {bytes} bytes in lower-case hexadecimal")]
    Hex {
        /// How many bytes belong here.
        bytes: usize,
    },
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lower-case hexadecimal.
            #[must_use]
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// From lower-case hexadecimal.
            ///
            /// # Errors
            /// Another length, or a character that is not a lower-case hexadecimal digit.
            pub fn from_hex(text: &str) -> Result<Self, IdError> {
                unhex(text).map(Self).ok_or(IdError::Hex { bytes: $len })
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex(&self.0))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }
    };
}

byte_id!(
    /// Any SHA-256 digest without a type of its own: argv, environment, cwd, stdin, streams.
    Digest, 32
);
byte_id!(
    /// Digest of a plan's bytes; names the plan.
    PlanDigest, 32
);
byte_id!(
    /// Digest of a signed verdict's bytes.
    VerdictDigest, 32
);
byte_id!(
    /// Digest of host name and lease key: where a lease is good.
    Audience, 32
);
byte_id!(
    /// Head of the audit chain after a record.
    ChainHead, 32
);
byte_id!(
    /// CWT id of a lease: 16 random bytes, burned once (RFC 8392 section 3.1.7).
    Cti, 16
);
byte_id!(
    /// Ledger epoch: 16 random bytes, renewed when the burn memory may be incomplete.
    Epoch, 16
);
byte_id!(
    /// Key id: the first 8 bytes of the domain-separated SHA-256 of a public key.
    Kid, 8
);
byte_id!(
    /// The first 128 bits of a plan's digest, shown as `req_...`.
    RequestId, 16
);

impl PlanDigest {
    /// The request id that this plan has.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        let mut id = [0; 16];
        id.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        RequestId(id)
    }
}

/// Crockford base32, lower case: no i, l, o, u.
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("req_")?;
        let number = u128::from_be_bytes(self.0);
        for position in (0..26_u32).rev() {
            let digit = (number >> position.saturating_mul(5)) & 31;
            let letter = CROCKFORD.get(usize::try_from(digit).unwrap_or(0)).copied();
            write!(f, "{}", char::from(letter.unwrap_or(b'0')))?;
        }
        Ok(())
    }
}

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix("req_").ok_or(IdError::RequestId)?;
        // 26 digits carry 130 bits: the first one holds the top three only.
        if digits.len() != 26 || digits.as_bytes().first().is_none_or(|first| *first > b'7') {
            return Err(IdError::RequestId);
        }
        let mut number = 0_u128;
        for byte in digits.bytes() {
            let digit = CROCKFORD.iter().position(|letter| *letter == byte);
            let digit = digit.and_then(|at| u128::try_from(at).ok()).ok_or(IdError::RequestId)?;
            number = (number << 5) | digit;
        }
        Ok(Self(number.to_be_bytes()))
    }
}

/// Lower-case hexadecimal of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit.wrapping_sub(b'0'),
                b'a'..=b'f' => digit.wrapping_sub(b'a').wrapping_add(10),
                _ => return None,
            };
            *byte = (*byte << 4) | value;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_text_round_trips_at_the_edges() {
        for bytes in [[0; 16], [0xff; 16], *b"0123456789abcdef"] {
            let id = RequestId(bytes);
            assert_eq!(id.to_string().len(), 30);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    // [I-1]
    #[test]
    fn request_id_refuses_other_spellings() {
        let good = RequestId([0xff; 16]).to_string();
        for bad in [
            good.to_uppercase(),
            good.replace("req_", "rex_"),
            format!("{good}0"),
            good.replacen('7', "8", 1),
            good.replacen('z', "u", 1),
            String::from("req_é"),
        ] {
            assert_eq!(bad.parse::<RequestId>(), Err(IdError::RequestId), "{bad}");
        }
    }

    // [I-2]
    #[test]
    fn hex_round_trips_and_refuses_upper_case() {
        let kid = Kid([0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x0a, 0xa0]);
        assert_eq!(Kid::from_hex(&kid.hex()), Ok(kid));
        assert!(Kid::from_hex(&kid.hex().to_uppercase()).is_err());
        assert!(Kid::from_hex("00").is_err());
    }
}
