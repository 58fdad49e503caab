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
        "{command} cannot be bound: {file} can be changed by somebody other than root, and is not one of \
         the files that were handed in; put a copy where only root can write, and name that"
    )]
    Changeable { command: String, file: String },
    #[error(
        "{command} cannot be bound: {file} means another file in every process; name the file \
         itself"
    )]
    MagicLink { command: String, file: String },
    #[error("{command} cannot be bound: the broker cannot look at {file}")]
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
/// change is refused, unless it is one of those `provided_for`: a copy is bound, or the human is told
/// that it can be changed. Relative words are looked at only where the front sees the same directory as
/// the client; the root half looks at all of them again before anything runs.
pub(crate) fn operands(
    argv: &[Vec<u8>],
    provided_for: &[u32],
    cwd: &Directory,
    trusted: &[u32],
) -> Result<(), ResolveError> {
    let Ok(directory) = open_directory(path(&cwd.path)) else { return Ok(()) };
    if (directory.dev, directory.ino) != (cwd.dev, cwd.ino) {
        return Ok(());
    }
    let command = || argv.first().map(|name| shown(name)).unwrap_or_default();
    let open = |(at, _): &(u32, _)| !provided_for.contains(at);
    for (_, word) in (0..).zip(argv).skip(1).filter(open) {
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
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
                Self::Absent
            }
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn found(name: &str) -> Result<Executable, ResolveError> {
        executable(name.as_bytes(), b"/", &[0])
    }

    fn here(folder: &Path) -> Directory {
        let metadata = fs::metadata(folder).unwrap();
        let path = folder.as_os_str().as_bytes().to_vec();
        Directory { path, dev: metadata.dev(), ino: metadata.ino() }
    }

    fn argv(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_name_is_searched_on_the_secure_path_and_its_links_are_followed() {
        let shell = found("sh").unwrap();
        let canonical = fs::canonicalize("/bin/sh").unwrap();
        let metadata = fs::metadata(&canonical).unwrap();
        assert_eq!(shell.path, canonical.as_os_str().as_bytes());
        assert_eq!(
            (shell.dev, shell.ino, shell.size),
            (metadata.dev(), metadata.ino(), metadata.size())
        );
    }

    #[test]
    fn a_path_is_taken_relative_to_the_working_directory() {
        let by_path = executable(b"../bin/sh", b"/usr", &[0]).unwrap();
        assert_eq!(by_path, found("sh").unwrap());
    }

    #[test]
    fn a_name_in_the_working_directory_is_not_found_without_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("olb-test-program");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let cwd = folder.path().as_os_str().as_bytes();
        let refused = executable(b"olb-test-program", cwd, &[0]);
        assert_eq!(refused, Err(ResolveError::NotFound { name: "olb-test-program".into() }));
        let refused = executable(b"./olb-test-program", cwd, &[0]);
        assert!(matches!(refused, Err(ResolveError::Changeable { .. })), "{refused:?}");
    }

    #[test]
    fn missing_and_non_executable_files_are_told_apart() {
        let missing = found("/no/such/file");
        assert_eq!(missing, Err(ResolveError::NotFound { name: "/no/such/file".into() }));
        let below_a_file = found("/etc/passwd/x");
        assert!(matches!(below_a_file, Err(ResolveError::NotFound { .. })));
        for file in ["/etc/passwd", "/etc", "/dev/null"] {
            assert_eq!(found(file), Err(ResolveError::NotExecutable { file: file.into() }));
        }
    }

    #[test]
    fn words_that_name_changeable_files_are_refused_in_each_spelling() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("x.sh"), "").unwrap();
        symlink("/etc/passwd", folder.join("link")).unwrap();
        let cwd = here(&folder);
        for word in ["x.sh", "./x.sh", "--file=x.sh", "@x.sh", "--opt=@x.sh", "link"] {
            let refused = operands(&argv(&["sh", word]), &[], &cwd, &[0]);
            assert!(matches!(refused, Err(ResolveError::Changeable { .. })), "{word}: {refused:?}");
            assert_eq!(operands(&argv(&["sh", word]), &[1], &cwd, &[0]), Ok(()), "{word}");
        }
        for word in ["nginx", "--force", "/etc/passwd", "."] {
            assert_eq!(operands(&argv(&["sh", word]), &[], &cwd, &[0]), Ok(()), "{word}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn words_are_left_to_the_root_half_where_the_directory_is_another_one_here() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("x.sh"), "").unwrap();
        let mut cwd = here(&folder);
        cwd.ino += 1;
        assert_eq!(operands(&argv(&["sh", "x.sh"]), &[], &cwd, &[0]), Ok(()));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn magic_links_are_refused() {
        let cwd = here(Path::new("/"));
        for word in ["/proc/self/environ", "/dev/stdin", "/dev/fd/0", "/proc/1/root/etc/passwd"] {
            let refused = operands(&argv(&["cat", word]), &[], &cwd, &[0]);
            assert!(matches!(refused, Err(ResolveError::MagicLink { .. })), "{word}: {refused:?}");
        }
    }

    #[test]
    fn names_in_sentences_are_display_safe_and_short() {
        let refused = found("no\u{1b}[2Jsuch").unwrap_err().to_string();
        assert!(!refused.contains('\u{1b}'), "{refused}");
        assert!(found(&"x".repeat(5000)).unwrap_err().to_string().len() < 400);
    }
}
