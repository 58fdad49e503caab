//! Paths that name one thing only: no symbolic link on the way, and an identity to compare.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, FileStat};
use nix::sys::statfs;
use nix::sys::statvfs::{self, FsFlags};

use crate::walk::{self, End, Walk};

/// What a canonical path named at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The path itself.
    pub path: Vec<u8>,
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of content or attributes: seconds since 1970.
    pub ctime_secs: u64,
    /// Last change: nanoseconds within the second.
    pub ctime_nanos: u32,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl FileId {
    fn new(path: &Path, stat: &FileStat) -> Self {
        Self {
            path: path.as_os_str().as_bytes().to_vec(),
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            ctime_secs: u64::try_from(stat.st_ctime).unwrap_or(0),
            ctime_nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    /// A regular file.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// A directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// A regular file that somebody may execute.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.is_regular() && self.mode & 0o111 != 0
    }

    /// Runs with its owner's or group's rights.
    #[must_use]
    pub fn is_setuid_or_setgid(&self) -> bool {
        self.mode & (libc::S_ISUID | libc::S_ISGID) != 0
    }
}

/// A directory that was opened by its canonical path.
#[derive(Debug)]
pub struct Directory {
    /// `O_PATH` descriptor: good for `fchdir` and lookups, not for listing.
    pub fd: OwnedFd,
    /// Device number of its file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// Why a path is no usable directory.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// It does not exist.
    #[error("the working directory does not exist; change to an existing one")]
    Missing,
    /// A file, or a path through one.
    #[error("the working directory is not a directory; change to a directory")]
    NotDirectory,
    /// Some component is a symbolic link.
    #[error("the working directory's path contains a symbolic link; use its canonical path")]
    NotCanonical,
    /// On procfs, FUSE or autofs, where a name can mean anything at any time.
    #[error(
        "the working directory is on a file system that cannot be trusted; change to another one"
    )]
    Untrusted,
    /// The system refused.
    #[error("the working directory cannot be opened ({0}); check its permissions")]
    Io(#[from] io::Error),
}

fn open_canonical(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    if !path.is_absolute() {
        return Err(Errno::EINVAL);
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match fcntl::openat2(AT_FDCWD, path, how) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// What a canonical path names now. Opens nothing but the name (`O_PATH`).
///
/// # Errors
/// `NotFound`; `ELOOP` when any component is a symbolic link; `InvalidInput` when relative.
pub fn identify(canonical: &Path) -> io::Result<FileId> {
    let fd = open_canonical(canonical, OFlag::empty())?;
    Ok(FileId::new(canonical, &stat::fstat(&fd)?))
}

/// The absolute path without links, `.` or `..` that names the same file now.
///
/// # Errors
/// `NotFound`, or some directory may not be searched.
pub fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// Whether nothing can be executed on the file system of `path` (mounted `noexec`).
///
/// # Errors
/// It cannot be told.
pub fn is_noexec(path: &Path) -> io::Result<bool> {
    Ok(statvfs::statvfs(path)?.flags().contains(FsFlags::ST_NOEXEC))
}

/// Opens a directory for use as a working directory.
///
/// # Errors
/// Every case in [`DirError`].
pub fn open_directory(canonical: &Path) -> Result<Directory, DirError> {
    let fd = open_canonical(canonical, OFlag::O_DIRECTORY).map_err(|errno| match errno {
        Errno::ENOENT => DirError::Missing,
        Errno::ENOTDIR => DirError::NotDirectory,
        Errno::ELOOP => DirError::NotCanonical,
        other => DirError::Io(other.into()),
    })?;
    let kind = statfs::fstatfs(&fd).map_err(io::Error::from)?.filesystem_type();
    if walk::is_procfs(kind) || walk::is_foreign(kind) {
        return Err(DirError::Untrusted);
    }
    let stat = stat::fstat(&fd).map_err(io::Error::from)?;
    Ok(Directory { fd, dev: stat.st_dev, ino: stat.st_ino })
}

/// Whether only root can change the file or anything on its path.
///
/// # Errors
/// As [`only_trusted_can_change`].
pub fn only_root_can_change(canonical: &Path) -> io::Result<bool> {
    only_trusted_can_change(canonical, &[0])
}

/// Whether only the users `trusted` can change what a canonical path names and contains.
///
/// The file and every directory above it must belong to one of them and be writable by nobody
/// else. A sticky directory such as `/tmp`, any POSIX ACL, a symbolic link on the way, and a file
/// system served by a user process or another host all count as changeable.
///
/// # Errors
/// `NotFound`, or the path cannot be examined; treat every error as changeable.
pub fn only_trusted_can_change(canonical: &Path, trusted: &[u32]) -> io::Result<bool> {
    if !canonical.is_absolute() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut walk = Walk::from_root(trusted)?;
    Ok(match walk.go(canonical.as_os_str().as_bytes())? {
        End::Reached => !walk.is_changeable() && !walk.followed_link(),
        End::MagicLink | End::Foreign => false,
    })
}

#[cfg(test)]
mod tests;
