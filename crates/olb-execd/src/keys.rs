//! The root half's own keys: made on the host, kept 0400, never leaving it.

use std::path::Path;

use olb_lease::{Audit, KeyError, LeaseIssuer, PublicKey, Role, SigningKey};
use olb_sys::file::{TrustedFileError, read_private, read_trusted, write_new_private};
use rand::TryRng as _;
use rand::rngs::SysRng;
use thiserror::Error;
use zeroize::Zeroizing;

/// 64 hexadecimal digits and a newline.
const FILE_BYTES_MAX: usize = 65;
/// Some hundred retired keys. With the present ones `keys.pub` stays below 64 KiB, which is what is
/// read of it.
const RETIRED_BYTES_MAX: usize = 60 * 1024;

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file is missing, too open or too long.
    #[error("cannot read the key {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: TrustedFileError,
    },
    /// The file could not be made.
    #[error("cannot make the key {path}: {source}")]
    Create {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold 64 hexadecimal digits.
    #[error("the key {path} does not hold 64 lower-case hexadecimal digits")]
    Digits {
        /// The file.
        path: String,
    },
    /// The key is refused.
    #[error("the key {path} is refused: {source}")]
    Refused {
        /// The file.
        path: String,
        /// Why.
        source: KeyError,
    },
    /// A retired key is lost, and with it the proof of what it signed.
    #[error(
        "line {line} of {path} is not 'audit-retired' and an audit key's 64 hexadecimal digits; \
         restore the file, or take out that line if no key was ever in it"
    )]
    Retired {
        /// The file.
        path: String,
        /// Its line, from 1.
        line: usize,
    },
    /// The operating system gave no random numbers.
    #[error("the operating system gave no random numbers")]
    Random,
}

/// The lease key and the audit key; those that are missing are made.
///
/// # Errors
/// See [`KeyFileError`].
pub fn load_or_create(
    state_dir: &Path,
    own_uid: u32,
) -> Result<(SigningKey<LeaseIssuer>, SigningKey<Audit>), KeyFileError> {
    Ok((one(&state_dir.join("lease.key"), own_uid)?, one(&state_dir.join("audit.key"), own_uid)?))
}

/// The lines of the audit keys before the present one; there are none until the first is replaced.
///
/// # Errors
/// The file is there and cannot be believed, or a line of it does not read.
pub fn retired(state_dir: &Path, own_uid: u32) -> Result<String, KeyFileError> {
    let path = state_dir.join("audit.retired");
    let name = || path.display().to_string();
    let bytes = match read_trusted(&path, RETIRED_BYTES_MAX, own_uid) {
        Err(TrustedFileError::Missing(_)) => return Ok(String::new()),
        read => read.map_err(|source| KeyFileError::File { path: name(), source })?,
    };
    let mut kept = String::new();
    // What is not UTF-8 is no digit either way.
    for (line, text) in (1..).zip(String::from_utf8_lossy(&bytes).lines().map(str::trim)) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let hex = text.strip_prefix("audit-retired ").unwrap_or_default();
        PublicKey::<Audit>::from_hex(hex)
            .map_err(|_| KeyFileError::Retired { path: name(), line })?;
        kept.extend([text, "\n"]);
    }
    Ok(kept)
}

fn one<R: Role>(path: &Path, own_uid: u32) -> Result<SigningKey<R>, KeyFileError> {
    let name = || path.display().to_string();
    if !path.try_exists().unwrap_or(true) {
        create(path)?;
    }
    let text = read_private(path, FILE_BYTES_MAX, own_uid)
        .map(Zeroizing::new)
        .map_err(|source| KeyFileError::File { path: name(), source })?;
    let seed = decode_seed(&text).ok_or_else(|| KeyFileError::Digits { path: name() })?;
    SigningKey::from_seed(&seed).map_err(|source| KeyFileError::Refused { path: name(), source })
}

fn create(path: &Path) -> Result<(), KeyFileError> {
    let seed = Zeroizing::new(random::<32>().ok_or(KeyFileError::Random)?);
    let mut text = Zeroizing::new(Vec::with_capacity(65));
    for byte in seed.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(if digit < 10 { b'0' | digit } else { b'W'.wrapping_add(digit) });
        }
    }
    text.push(b'\n');
    // Complete or not there at all, also after a power cut.
    let draft = path.with_extension("new");
    std::fs::remove_file(&draft).ok();
    write_new_private(&draft, &text, 0o400)
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|source| KeyFileError::Create { path: path.display().to_string(), source })
}

fn decode_seed(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let mut seed = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit & 15,
                b'a'..=b'f' => (digit & 15).wrapping_add(9),
                _ => return None,
            };
            *byte = (*byte << 4) | value;
        }
    }
    Some(seed)
}

/// `N` random bytes from the operating system.
#[must_use]
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_survives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let own = olb_sys::harden::effective_uid();
        let (first, _) = load_or_create(dir.path(), own).unwrap();
        let (again, audit) = load_or_create(dir.path(), own).unwrap();
        assert_eq!(first.public(), again.public());
        assert_ne!(again.public().as_bytes(), audit.public().as_bytes());
    }

    // [K-5]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let own = olb_sys::harden::effective_uid();
        load_or_create(dir.path(), own).unwrap();
        let path = dir.path().join("lease.key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        assert!(matches!(load_or_create(dir.path(), own), Err(KeyFileError::File { .. })));
    }

    // [K-5]
    #[test]
    fn every_digit_decodes_and_other_text_does_not() {
        let text: Vec<u8> = b"0123456789abcdef".repeat(4);
        assert_eq!(decode_seed(&text).unwrap()[..8], [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert!(decode_seed(&text.to_ascii_uppercase()).is_none());
        assert!(decode_seed(&text[1..]).is_none());
    }

    // [F-10]
    #[test]
    fn retired_keys_are_none_only_where_there_is_no_file() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.retired");
        let read = || retired(dir.path(), olb_sys::harden::effective_uid());
        assert_eq!(read().unwrap(), "");
        let hex = SigningKey::<Audit>::from_seed(&[3; 32].into()).unwrap().public().hex();
        let line = format!("audit-retired {hex}");
        std::fs::write(&path, format!("# ours\n\n{line}\n{line}")).unwrap();
        assert_eq!(read().unwrap(), format!("{line}\n{line}\n"));
        for wrong in
            [&hex, &format!("audit {hex}"), &line[..70], &format!("{line}0"), "audit-retired"]
        {
            std::fs::write(&path, format!("{line}\n{wrong}\n")).unwrap();
            let error = read().unwrap_err();
            assert!(matches!(error, KeyFileError::Retired { line: 2, .. }), "{wrong}: {error}");
            assert!(error.to_string().contains("audit.retired"), "{error}");
        }
        std::fs::write(&path, b"\xff\n").unwrap();
        assert!(matches!(read(), Err(KeyFileError::Retired { line: 1, .. })), "not UTF-8");
        std::fs::write(&path, "#".repeat(RETIRED_BYTES_MAX + 1)).unwrap();
        assert!(matches!(read(), Err(KeyFileError::File { .. })), "too long");
        std::fs::write(&path, &line).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(read(), Err(KeyFileError::File { .. })), "written by others");
        std::fs::remove_file(&path).unwrap();
        symlink("/dev/null", &path).unwrap();
        assert!(matches!(read(), Err(KeyFileError::File { .. })), "a link");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(), Err(KeyFileError::File { .. })), "a folder");
    }
}
