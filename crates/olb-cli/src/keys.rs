//! `olb keys`, and the approver's own key.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use olb_lease::{Approver, SigningKey};
use olb_review::display::safe;
use olb_sys::file::write_new_private;

use crate::args::{KeysCommand, KeysCreateArgs, RotateArgs};
use crate::client::Runtime;
use crate::failure::{Failure, code};
use crate::out::say;
use crate::{enroll, json};

pub(crate) mod folder;
mod list;
pub(crate) mod place;
mod renew;
mod revoke;
pub(crate) mod root_half;
mod rotate;
mod seed;
pub(crate) mod write;

use rotate::BrokerKey;
use seed::KeyFileError;

/// Where a person's key is, below the home directory.
const HOME_KEY: &str = ".config/olb/approver.key";

/// `olb keys`.
pub(crate) fn run(command: &KeysCommand) -> ExitCode {
    match command {
        KeysCommand::Create(args) => create(args),
        KeysCommand::Enroll(args) => enroll::run(args),
        KeysCommand::List(args) => list::run(args),
        KeysCommand::Rotate(args) => rotate(args),
        KeysCommand::Revoke(args) => revoke::run(args),
    }
}

fn rotate(args: &RotateArgs) -> ExitCode {
    let is_root = olb_sys::harden::effective_uid() == 0;
    match args.which.map(BrokerKey::of) {
        Some(Some(key)) => rotate::run(key, args),
        Some(None) => renew::run(args),
        None if !is_root => renew::run(args),
        None => {
            let text = "name the key to rotate: lease, audit, or approver for your own";
            Failure::usage(text).report(args.json)
        }
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
    match seed::read::<Approver>(&path) {
        Ok(key) => return Ok(OwnKey { path, public: key.public().hex(), is_new: false }),
        Err(error) if error.is_missing() => {}
        Err(error) => return Err(unusable(&error)),
    }
    let failed = |error: io::Error| {
        let shown = safe(path.as_os_str().as_encoded_bytes());
        Failure::usage(format!(
            "the key {shown} cannot be made ({error}); give another place with --out"
        ))
    };
    let (seed, key) = seed::fresh::<Approver>().map_err(failed)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    write_new_private(&path, &seed::to_hex(&seed), 0o600).map_err(failed)?;
    Ok(OwnKey { public: key.public().hex(), path, is_new: true })
}

/// The key that the caller signs with: `--key`, else the instance's, else the one at home.
pub(crate) fn load(
    path: Option<&Path>,
    runtime: &Runtime,
) -> Result<SigningKey<Approver>, Failure> {
    // A key in memory: no core file, no debugger of the same user.
    olb_sys::harden::no_dumps().map_err(|error| {
        let text = format!("this process cannot be protected ({error}); nothing was signed");
        Failure::new(code::UNAVAILABLE, "unavailable", text)
    })?;
    let path = own_path(path, runtime)?;
    seed::read(&path).map_err(|error| match error {
        error if error.is_missing() => Failure::refused(
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

/// Where the key is that the caller signs with: as given, else the instance's, else at home.
fn own_path(path: Option<&Path>, runtime: &Runtime) -> Result<PathBuf, Failure> {
    if let Some(path) = path {
        return Ok(path.to_owned());
    }
    let caller = olb_sys::harden::effective_uid();
    let beside = runtime.beside(&format!("state/approver-{caller}.key"));
    match beside.filter(|path| seed::read::<Approver>(path).is_ok()) {
        Some(path) => Ok(path),
        None => home_key(),
    }
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

fn unusable(error: &KeyFileError) -> Failure {
    Failure::refused("no_key", error.to_string())
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
        assert_eq!(seed::read::<Approver>(&path).unwrap().public().hex(), made.public);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read(&path).unwrap().len(), seed::KEY_FILE_BYTES);
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
}
