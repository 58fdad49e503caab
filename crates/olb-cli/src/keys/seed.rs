//! Private keys as files: 64 hexadecimal digits and a newline, for nobody but their owner.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use olb_lease::{Role, SigningKey};
use olb_review::display::safe;
use olb_sys::file::{TrustedFileError, read_private};
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

/// 64 hexadecimal digits and a newline.
pub(super) const KEY_FILE_BYTES: usize = 65;

/// A seed: the private key itself.
pub(super) type Seed = Zeroizing<[u8; 32]>;

/// Why a file is no key of the caller's.
#[derive(Debug)]
pub(super) enum KeyFileError {
    /// It cannot be believed or read.
    File(TrustedFileError),
    /// It holds something else.
    Text(PathBuf),
}

impl KeyFileError {
    /// Whether there simply is no such file.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::File(TrustedFileError::Missing(_)))
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => f.write_str(&safe(error.to_string().as_bytes())),
            Self::Text(path) => {
                let shown = safe(path.as_os_str().as_encoded_bytes());
                write!(f, "{shown} is not a private key: 64 hex digits and a newline are expected")
            }
        }
    }
}

/// Reads the caller's key at `path`.
pub(super) fn read<R: Role>(path: &Path) -> Result<SigningKey<R>, KeyFileError> {
    let caller = olb_sys::harden::effective_uid();
    let text = read_private(path, KEY_FILE_BYTES, caller).map_err(KeyFileError::File)?;
    let text = Zeroizing::new(text);
    let seed = from_hex(&text).ok_or_else(|| KeyFileError::Text(path.to_owned()))?;
    SigningKey::from_seed(&seed).map_err(|_| KeyFileError::Text(path.to_owned()))
}

/// A new key.
pub(super) fn fresh<R: Role>() -> io::Result<(Seed, SigningKey<R>)> {
    let mut seed = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(seed.as_mut_slice()).map_err(io::Error::other)?;
    let key = SigningKey::from_seed(&seed).map_err(io::Error::other)?;
    Ok((seed, key))
}

/// The text of a key's file.
pub(super) fn to_hex(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES));
    for byte in seed {
        text.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    text.push(b'\n');
    text
}

fn from_hex(text: &[u8]) -> Option<Seed> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    if digits.len() != 64 {
        return None;
    }
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = (*byte << 4) | value;
        }
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use olb_lease::Approver;
    use olb_sys::file::write_new_private;

    use super::*;

    // [K-5]
    #[test]
    fn a_file_that_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("approver.key");
        for text in ["", "00", &"g".repeat(64), &"A".repeat(64), &format!("{}\n\n", "0".repeat(63))]
        {
            drop(std::fs::remove_file(&path));
            write_new_private(&path, text.as_bytes(), 0o600).unwrap();
            assert!(matches!(read::<Approver>(&path), Err(KeyFileError::Text(_))), "{text}");
        }
    }

    #[test]
    fn seeds_round_trip_through_text() {
        let seed: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        assert_eq!(*from_hex(&to_hex(&seed)).unwrap(), seed);
    }
}
