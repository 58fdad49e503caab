//! Finding the executable, and looking at the words that name files.
//!
//! What is found is bound by identity, which means something only if nobody but a trusted account
//! (root, and where there is no privilege boundary the caller) can put another file in its place.
//! Everything here may block on a strange file system: callers run it in a thread with a deadline.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use olb_lease::environment::SECURE_PATH;
use olb_lease::{Directory, Executable};
use olb_review::display::safe;
use olb_sys::operand::{Operand, check_word};
use olb_sys::path::{FileId, canonicalize, identify, only_trusted_can_change, open_directory};
use thiserror::Error;

/// Why a command cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ResolveError {
    #[error("there is no command {name}; check its name")]
    NotFound { name: String },
    #[error("{file} is not an executable file; name a program")]
    NotExecutable { file: String },
    #[error(
        "{command} cannot be bound yet: {file} can be changed by somebody other than root; move it \
         to a folder that only root can change"
    )]
    Changeable { command: String, file: String },
    #[error(
        "{command} cannot be bound yet: {file} means another file in every process; name the file \
         itself"
    )]
    MagicLink { command: String, file: String },
    #[error("{command} cannot be bound yet: the broker cannot look at {file}")]
    Unreadable { command: String, file: String },
}

/// Finds what `argv[0]` means and makes sure that it stays what it is.
pub(crate) fn executable(
    argv0: &[u8],
    cwd: &[u8],
    trusted: &[u32],
) -> Result<Executable, ResolveError> {
    let file = if argv0.contains(&b'/') {
        look_at(&path(cwd).join(path(argv0))).map_err(|error| error.named(argv0, argv0))?
    } else {
        search(argv0)?
    };
    let canonical = path(&file.path);
    match only_trusted_can_change(canonical, trusted) {
        Ok(true) => Ok(described(file)),
        Ok(false) => {
            Err(ResolveError::Changeable { command: shown(argv0), file: shown(&file.path) })
        }
        Err(_) => Err(ResolveError::Unreadable { command: shown(argv0), file: shown(&file.path) }),
    }
}

/// Looks at each word after the first: one that names an existing file which somebody else can
/// change is refused. Relative words are looked at only where the front sees the same directory as
/// the client; the root half looks at all of them again before anything runs.
pub(crate) fn operands(
    argv: &[Vec<u8>],
    cwd: &Directory,
    trusted: &[u32],
) -> Result<(), ResolveError> {
    let Ok(directory) = open_directory(path(&cwd.path)) else { return Ok(()) };
    if (directory.dev, directory.ino) != (cwd.dev, cwd.ino) {
        return Ok(());
    }
    let command = || argv.first().map(|name| shown(name)).unwrap_or_default();
    for word in argv.iter().skip(1) {
        match check_word(directory.fd.as_fd(), word, trusted) {
            // The front is sandboxed: what it cannot see, the root half judges.
            Operand::Harmless | Operand::Unreadable(_) => {}
            Operand::Changeable(file) => {
                return Err(ResolveError::Changeable { command: command(), file: shown(&file) });
            }
            Operand::MagicLink(file) => {
                return Err(ResolveError::MagicLink { command: command(), file: shown(&file) });
            }
        }
    }
    Ok(())
}

/// Why one path is not a program; named for the user by [`Miss::named`].
enum Miss {
    Absent,
    NotExecutable,
    Unreadable,
}

impl Miss {
    fn named(self, command: &[u8], file: &[u8]) -> ResolveError {
        match self {
            Self::Absent => ResolveError::NotFound { name: shown(command) },
            Self::NotExecutable => ResolveError::NotExecutable { file: shown(file) },
            Self::Unreadable => {
                ResolveError::Unreadable { command: shown(command), file: shown(file) }
            }
        }
    }
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::Absent,
            _ => Self::Unreadable,
        }
    }
}

/// As `execvp` searches: the first executable file wins, a non-executable one is remembered.
fn search(name: &[u8]) -> Result<FileId, ResolveError> {
    let mut miss = Miss::Absent.named(name, name);
    for folder in SECURE_PATH.split(':') {
        let candidate = PathBuf::from(folder).join(path(name));
        match look_at(&candidate) {
            Ok(file) => return Ok(file),
            Err(Miss::Absent) => {}
            Err(worse) => miss = worse.named(name, candidate.as_os_str().as_bytes()),
        }
    }
    Err(miss)
}

fn look_at(path: &Path) -> Result<FileId, Miss> {
    let file = identify(&canonicalize(path)?)?;
    if file.is_regular() && file.is_executable() { Ok(file) } else { Err(Miss::NotExecutable) }
}

fn described(file: FileId) -> Executable {
    Executable {
        path: file.path,
        dev: file.dev,
        ino: file.ino,
        size: file.size,
        ctime_secs: file.ctime_secs,
        ctime_nanos: file.ctime_nanos,
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A name for a sentence: display-safe, cut after 200 characters.
fn shown(bytes: &[u8]) -> String {
    safe(bytes).chars().take(200).collect()
}
