//! Text armor of a lease: `olbl1_` and base64url without padding (RFC 4648 section 5).
//!
//! Armor is undone by unprivileged processes; the root half sees binary only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::lease::{LEASE_BYTES, LEASE_TEXT_MAX};

/// What every lease in text begins with.
pub const PREFIX: &str = "olbl1_";

/// Why a text is not an armored lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ArmorError {
    /// Does not begin with [`PREFIX`].
    #[error("a lease begins with 'olbl1_'")]
    Prefix,
    /// Too long or too short.
    #[error("not the length of a lease")]
    Length,
    /// Not base64url without padding, or bits left over.
    #[error("not base64url without padding")]
    Alphabet,
}

/// Armors `lease`.
#[must_use]
pub fn encode(lease: &[u8]) -> String {
    let mut text = String::from(PREFIX);
    URL_SAFE_NO_PAD.encode_string(lease, &mut text);
    text
}

/// Undoes the armor. One trailing newline is allowed, as files have it; nothing else is.
///
/// # Errors
/// See [`ArmorError`].
pub fn decode(text: &str) -> Result<Vec<u8>, ArmorError> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.len() > LEASE_TEXT_MAX {
        return Err(ArmorError::Length);
    }
    let body = text.strip_prefix(PREFIX).ok_or(ArmorError::Prefix)?;
    let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| ArmorError::Alphabet)?;
    if bytes.len() == LEASE_BYTES { Ok(bytes) } else { Err(ArmorError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armor_round_trips_and_fits_the_limit() {
        let lease = [0xa5; LEASE_BYTES];
        let text = encode(&lease);
        assert!(text.len() <= LEASE_TEXT_MAX, "{}", text.len());
        assert_eq!(decode(&text).as_deref(), Ok(lease.as_slice()));
        assert_eq!(decode(&format!("{text}\n")).as_deref(), Ok(lease.as_slice()));
    }

    #[test]
    fn armor_refuses_every_other_spelling() {
        let text = encode(&[0xa5; LEASE_BYTES]);
        assert_eq!(decode(text.trim_start_matches("olbl1_")), Err(ArmorError::Prefix));
        assert_eq!(decode(&text.replacen("olbl1_", "olbl2_", 1)), Err(ArmorError::Prefix));
        assert_eq!(decode(&format!(" {text}")), Err(ArmorError::Prefix));
        assert_eq!(decode(&format!("{text}\n\n")), Err(ArmorError::Alphabet));
        assert_eq!(decode(&format!("{text}=")), Err(ArmorError::Alphabet));
        assert_eq!(decode(&text[..text.len() - 4]), Err(ArmorError::Length));
        assert_eq!(decode(&"olbl1_".repeat(200)), Err(ArmorError::Length));
    }
}
