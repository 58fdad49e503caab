//! The daemon's command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use thiserror::Error;

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Where the sockets are.
    pub runtime_dir: PathBuf,
    /// Where `broker.db` is; must belong to the account that serves, mode 0700.
    pub state_dir: PathBuf,
    /// The configuration; the defaults hold without one.
    pub config: Option<PathBuf>,
    /// The account to become after the sockets are bound; mandatory when started as root.
    pub drop_to: Option<(u32, u32)>,
}

/// Why the command line is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArgsError {
    /// Not an option of this program, or an argument that is no option.
    #[error("'{0}' is not an option; there are --runtime-dir, --state-dir, --config and --drop-to")]
    Unknown(String),
    /// An option at the end without its value, or given twice.
    #[error("give the option {0} once, with a value")]
    Value(&'static str),
    /// A directory that has no default was left out.
    #[error("the option {0} is missing; give it, there is no default")]
    Missing(&'static str),
    /// Not numbers, or the superuser.
    #[error("--drop-to takes UID:GID, two numbers above 0")]
    DropTo,
}

const RUNTIME_DIR: &str = "--runtime-dir";
const STATE_DIR: &str = "--state-dir";
const CONFIG: &str = "--config";
const DROP_TO: &str = "--drop-to";

/// Reads the arguments after the program's name.
///
/// # Errors
/// See [`ArgsError`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, ArgsError> {
    let mut args = args.into_iter();
    let mut values: [Option<OsString>; 4] = [const { None }; 4];
    let names = [RUNTIME_DIR, STATE_DIR, CONFIG, DROP_TO];
    while let Some(arg) = args.next() {
        let known = names.into_iter().zip(&mut values).find(|(name, _)| arg == **name);
        let Some((name, value)) = known else {
            return Err(ArgsError::Unknown(arg.to_string_lossy().escape_debug().to_string()));
        };
        let given = args.next().ok_or(ArgsError::Value(name))?;
        if value.replace(given).is_some() {
            return Err(ArgsError::Value(name));
        }
    }
    let [runtime_dir, state_dir, config, drop_to] = values;
    Ok(Args {
        runtime_dir: runtime_dir.ok_or(ArgsError::Missing(RUNTIME_DIR))?.into(),
        state_dir: state_dir.ok_or(ArgsError::Missing(STATE_DIR))?.into(),
        config: config.map(PathBuf::from),
        drop_to: drop_to.map(|ids| account(&ids)).transpose()?,
    })
}

fn account(ids: &OsStr) -> Result<(u32, u32), ArgsError> {
    let parts = ids.to_str().and_then(|ids| ids.split_once(':'));
    let number = |text: &str| text.parse().ok().filter(|id| (1..u32::MAX).contains(id));
    let account = parts.and_then(|(uid, gid)| Some((number(uid)?, number(gid)?)));
    account.ok_or(ArgsError::DropTo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, ArgsError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn all_options_are_read() {
        let args = read("--runtime-dir /r --state-dir /s --config /c --drop-to 7:8").unwrap();
        let want = Args {
            runtime_dir: "/r".into(),
            state_dir: "/s".into(),
            config: Some("/c".into()),
            drop_to: Some((7, 8)),
        };
        assert_eq!(args, want);
    }

    #[test]
    fn a_directory_that_is_left_out_is_missed_by_name() {
        assert_eq!(read("--state-dir /s"), Err(ArgsError::Missing(RUNTIME_DIR)));
        assert_eq!(read("--runtime-dir /r"), Err(ArgsError::Missing(STATE_DIR)));
    }

    #[test]
    fn unknown_repeated_and_cut_options_are_refused() {
        assert_eq!(read("--verbose"), Err(ArgsError::Unknown("--verbose".into())));
        assert_eq!(read("--config"), Err(ArgsError::Value(CONFIG)));
        assert_eq!(read("--config a --config b"), Err(ArgsError::Value(CONFIG)));
    }

    #[test]
    fn nobody_drops_to_root_or_to_a_name() {
        for ids in ["0:0", "0:7", "7:0", "olb:olb", "7", "7:", "4294967295:7", "-1:7"] {
            let line = format!("--runtime-dir /r --state-dir /s --drop-to {ids}");
            assert_eq!(read(&line), Err(ArgsError::DropTo), "{ids}");
        }
    }
}
