//! `olb keys create` and `olb keys list`, and the approver's own key.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use olb_lease::{Approver, SigningKey};
use olb_review::display::safe;
use olb_sys::file::{TrustedFileError, read_private, write_new_private};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::{KeysCommand, KeysCreateArgs, KeysListArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::out::say;
use crate::{enroll, json};

/// Where a person's key is, below the home directory.
const HOME_KEY: &str = ".config/olb/approver.key";
/// 64 hexadecimal digits and a newline.
const KEY_FILE_BYTES: usize = 65;

/// `olb keys`.
pub(crate) fn run(command: &KeysCommand) -> ExitCode {
    match command {
        KeysCommand::Create(args) => create(args),
        KeysCommand::Enroll(args) => enroll::run(args),
        KeysCommand::List(args) => list(args),
    }
}

/// A person's key: where it is, its public half, and whether it was made just now.
#[derive(Debug)]
pub(crate) struct OwnKey {
    pub(crate) path: PathBuf,
    pub(crate) public: String,
    pub(crate) is_new: bool,
}

fn create(args: &KeysCreateArgs) -> ExitCode {
    match own(args.out.as_deref()) {
        Ok(key) => {
            let path = key.path.as_os_str().as_encoded_bytes();
            if args.json {
                let mut object = serde_json::Map::new();
                object.insert("key".into(), key.public.into());
                object.insert("created".into(), key.is_new.into());
                json::put_bytes(&mut object, "path", path);
                say!("{}", json::line(&object));
            } else {
                let how = if key.is_new { "made" } else { "already there" };
                say!("{}   ({how}: {})", key.public, safe(path));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

/// The caller's key at `path` or its usual place; made if there is none.
pub(crate) fn own(path: Option<&Path>) -> Result<OwnKey, Failure> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => home_key()?,
    };
    match read(&path) {
        Ok(key) => return Ok(OwnKey { path, public: key.public().hex(), is_new: false }),
        Err(KeyFileError::File(TrustedFileError::Missing(_))) => {}
        Err(error) => return Err(unusable(&error)),
    }
    let failed = |error: io::Error| {
        let shown = safe(path.as_os_str().as_encoded_bytes());
        Failure::usage(format!(
            "the key {shown} cannot be made ({error}); give another place with --out"
        ))
    };
    let mut seed = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(seed.as_mut_slice()).map_err(|error| failed(io::Error::other(error)))?;
    let key = SigningKey::<Approver>::from_seed(&seed)
        .map_err(|error| failed(io::Error::other(error)))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    write_new_private(&path, &to_hex(&seed), 0o600).map_err(failed)?;
    Ok(OwnKey { public: key.public().hex(), path, is_new: true })
}

/// The key that the caller signs with: `--key`, else the instance's, else the one at home.
pub(crate) fn load(
    path: Option<&Path>,
    runtime: &Runtime,
) -> Result<SigningKey<Approver>, Failure> {
    let caller = olb_sys::harden::effective_uid();
    // A key in memory: no core file, no debugger of the same user.
    olb_sys::harden::no_dumps().map_err(|error| {
        let text = format!("this process cannot be protected ({error}); nothing was signed");
        Failure::new(code::UNAVAILABLE, "unavailable", text)
    })?;
    if let Some(path) = path {
        return read(path).map_err(|error| unusable(&error));
    }
    if let Some(path) = runtime.beside(&format!("state/approver-{caller}.key"))
        && let Ok(key) = read(&path)
    {
        return Ok(key);
    }
    read(&home_key()?).map_err(|error| match error {
        KeyFileError::File(TrustedFileError::Missing(path)) => Failure::refused(
            "no_key",
            format!(
                "you have no approver key at {}; make one with 'olb keys create' and let root \
                 enrol it",
                safe(path.as_os_str().as_encoded_bytes())
            ),
        ),
        error => unusable(&error),
    })
}

/// The usual place, by the account database: the environment could name another.
fn home_key() -> Result<PathBuf, Failure> {
    let caller = olb_sys::harden::effective_uid();
    let account = olb_sys::account::user_by_uid(caller).ok().flatten();
    let account = account.ok_or_else(|| {
        Failure::usage(format!(
            "uid {caller} has no account here; name the key with --key or --out"
        ))
    })?;
    Ok(account.home.join(HOME_KEY))
}

#[derive(Debug)]
enum KeyFileError {
    File(TrustedFileError),
    Text(PathBuf),
}

fn unusable(error: &KeyFileError) -> Failure {
    let text = match error {
        KeyFileError::File(error) => safe(error.to_string().as_bytes()),
        KeyFileError::Text(path) => {
            let shown = safe(path.as_os_str().as_encoded_bytes());
            format!("{shown} is not an approver key: 64 hex digits and a newline are expected")
        }
    };
    Failure::refused("no_key", text)
}

fn read(path: &Path) -> Result<SigningKey<Approver>, KeyFileError> {
    let caller = olb_sys::harden::effective_uid();
    let text = read_private(path, KEY_FILE_BYTES, caller).map_err(KeyFileError::File)?;
    let text = Zeroizing::new(text);
    let seed = from_hex(&text).ok_or_else(|| KeyFileError::Text(path.to_owned()))?;
    SigningKey::from_seed(&seed).map_err(|_| KeyFileError::Text(path.to_owned()))
}

fn to_hex(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES));
    for byte in seed {
        text.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    text.push(b'\n');
    text
}

fn from_hex(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
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

fn list(args: &KeysListArgs) -> ExitCode {
    let info = Runtime::for_operator().and_then(|runtime| {
        let refused = match runtime.info(Socket::Review) {
            Ok(info) => return Ok(info),
            Err(failure) => failure,
        };
        runtime.info(Socket::Request).map_err(|_| refused)
    });
    let info = match info {
        Ok(info) => info,
        Err(failure) => return failure.report(args.json),
    };
    if args.json {
        let keys = info.enrolments.iter().map(|one| {
            json!({
                "name": one.name, "uid": one.uid, "kid": one.kid.hex(),
                "key": olb_lease::Digest(one.key).hex(),
                "max_lease_secs": one.lease_lifetime_secs,
            })
        });
        say!("{}", json::line(&json!({ "keys": keys.collect::<Vec<_>>() })));
        return ExitCode::SUCCESS;
    }
    say!("{:<20} {:>10} {:<16} {:>10}", "NAME", "UID", "KEY ID", "LEASE");
    for one in &info.enrolments {
        let lease = format!("{} s", one.lease_lifetime_secs);
        let name = safe(one.name.as_bytes());
        say!("{name:<20} {:>10} {} {lease:>10}", one.uid, one.kid.hex());
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/approver.key");
        let made = own(Some(&path)).unwrap();
        assert!(made.is_new);
        let again = own(Some(&path)).unwrap();
        assert_eq!((again.is_new, &again.public), (false, &made.public));
        assert_eq!(read(&path).unwrap().public().hex(), made.public);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read(&path).unwrap().len(), KEY_FILE_BYTES);
    }

    // [K-5]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("approver.key");
        own(Some(&path)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let failure = own(Some(&path)).unwrap_err();
        assert_eq!((failure.code, failure.name), (77, "no_key"));
    }

    // [K-5]
    #[test]
    fn a_file_that_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("approver.key");
        for text in ["", "00", &"g".repeat(64), &"A".repeat(64), &format!("{}\n\n", "0".repeat(63))]
        {
            drop(std::fs::remove_file(&path));
            write_new_private(&path, text.as_bytes(), 0o600).unwrap();
            assert!(matches!(read(&path), Err(KeyFileError::Text(_))), "{text}");
        }
    }

    #[test]
    fn seeds_round_trip_through_text() {
        let seed: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        assert_eq!(*from_hex(&to_hex(&seed)).unwrap(), seed);
    }
}
