//! Reading files whose owner and mode decide whether they may be believed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustedFileError {
    /// There is no such file.
    #[error("{0} does not exist; create it")]
    Missing(PathBuf),
    /// A directory, link, pipe or device.
    #[error("{0} is not a regular file; replace it by one")]
    NotRegular(PathBuf),
    /// Somebody else owns it.
    #[error("{path} belongs to uid {got} instead of uid {expected}; change its owner")]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// Who should own it.
        expected: u32,
        /// Who does.
        got: u32,
    },
    /// Others may write it.
    #[error("{0} can be written by group or others; run chmod go-w on it")]
    Writable(PathBuf),
    /// Others may read a private file.
    #[error("{0} can be accessed by group or others; run chmod 600 on it")]
    NotPrivate(PathBuf),
    /// Larger than its purpose needs.
    #[error("{path} is larger than {max} bytes; shorten it")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        max: usize,
    },
    /// The system refused.
    #[error("{path} cannot be read ({error}); check its permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Reads a regular file of at most `max` bytes that `owner` owns and nobody else can write.
///
/// The last component is not followed if it is a link; the directories are the caller's choice.
///
/// # Errors
/// Every case in [`TrustedFileError`] but `NotPrivate`.
pub fn read_trusted(path: &Path, max: usize, owner: u32) -> Result<Vec<u8>, TrustedFileError> {
    read(path, max, owner, 0o022, TrustedFileError::Writable)
}

/// As [`read_trusted`], for secrets: group and others must have no access at all.
///
/// # Errors
/// Every case in [`TrustedFileError`] but `Writable`.
pub fn read_private(path: &Path, max: usize, owner: u32) -> Result<Vec<u8>, TrustedFileError> {
    read(path, max, owner, 0o077, TrustedFileError::NotPrivate)
}

fn read(
    path: &Path,
    max: usize,
    owner: u32,
    forbidden: u32,
    too_open: impl FnOnce(PathBuf) -> TrustedFileError,
) -> Result<Vec<u8>, TrustedFileError> {
    let named = || path.to_path_buf();
    let failed = |error: io::Error| TrustedFileError::Io { path: named(), error };
    let file = open(path)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(TrustedFileError::NotRegular(named()));
    }
    if metadata.uid() != owner {
        let got = metadata.uid();
        return Err(TrustedFileError::WrongOwner { path: named(), expected: owner, got });
    }
    if metadata.mode() & forbidden != 0 {
        return Err(too_open(named()));
    }
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    // Room for its end too, which is a read of its own.
    let room = usize::try_from(metadata.len()).map_or(max, |length| length.min(max));
    let mut bytes = Vec::with_capacity(room.saturating_add(1));
    // One byte more than allowed, so that a file that grew meanwhile is noticed too.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(TrustedFileError::TooLarge { path: named(), max });
    }
    Ok(bytes)
}

/// Opens without following a link, waiting for a pipe's writer or taking a terminal.
fn open(path: &Path) -> Result<File, TrustedFileError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        let path = path.to_path_buf();
        match error.raw_os_error() {
            Some(libc::ENOENT) => TrustedFileError::Missing(path),
            Some(libc::ELOOP | libc::ENXIO) => TrustedFileError::NotRegular(path),
            _ => TrustedFileError::Io { path, error },
        }
    })
}

/// Creates a file that must not exist yet, with exactly `mode`, durable when this returns.
///
/// # Errors
/// `AlreadyExists`, or the write failed; then no file is left.
pub fn write_new_private(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let written = fill(file, path, bytes, mode);
    if written.is_err() {
        // The first failure is the one to report.
        drop(fs::remove_file(path));
    }
    written
}

fn fill(mut file: File, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(bytes)?;
    // Not through the umask: the caller named the mode it wants.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Whether anybody has this regular file open for writing, also a child of ours that has not become
/// its command yet. While that is so the kernel executes it for nobody (`ETXTBSY`).
///
/// # Errors
/// It cannot be told: another user's file, say.
pub fn has_writers(file: &File) -> io::Result<bool> {
    // A read lease is given only where nobody writes; it is gone when the file is closed.
    match crate::raw::take_read_lease(file.as_fd()) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Who owns the controlling terminal; `None` without one.
///
/// A terminal opened by somebody else can be typed into by that person, also after `su`.
///
/// # Errors
/// There is one, but its device file cannot be found.
pub fn terminal_owner() -> io::Result<Option<u32>> {
    let Some(device) = parse_terminal(&fs::read("/proc/self/stat")?)? else { return Ok(None) };
    let (major, minor) = (libc::major(device), libc::minor(device));
    let uevent = fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/uevent"));
    let path = match (major, uevent) {
        // Pseudo-terminals have one major number and sit in a file system of their own.
        (136, _) => format!("/dev/pts/{minor}"),
        (_, Ok(text)) => match text.lines().find_map(|line| line.strip_prefix("DEVNAME=")) {
            Some(name) => format!("/dev/{name}"),
            None => return Err(io::Error::from(io::ErrorKind::NotFound)),
        },
        (_, Err(error)) => return Err(error),
    };
    let metadata = fs::metadata(path)?;
    if metadata.rdev() == device {
        Ok(Some(metadata.uid()))
    } else {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Field 7 of `/proc/PID/stat`, the device number of the controlling terminal.
fn parse_terminal(stat: &[u8]) -> io::Result<Option<u64>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    // The second field is a name in brackets that may contain anything, brackets and blanks too.
    let name_end = stat.iter().rposition(|byte| *byte == b')').ok_or_else(malformed)?;
    let rest = stat.get(name_end.saturating_add(1)..).ok_or_else(malformed)?;
    let text = str::from_utf8(rest).map_err(|_| malformed())?;
    let field = text.split_whitespace().nth(4).ok_or_else(malformed)?;
    // Printed as a signed 32-bit number in the kernel's packing of major and minor.
    let packed: i32 = field.parse().map_err(|_| malformed())?;
    let packed = packed.cast_unsigned();
    if packed == 0 {
        return Ok(None);
    }
    let major = packed >> 8 & 0xfff;
    let minor = packed & 0xff | packed >> 12 & 0xf_ff00;
    Ok(Some(libc::makedev(major, minor)))
}

#[cfg(test)]
mod tests;
