//! One path walked component by component, asking at each: who could make this name lead elsewhere?
//!
//! The kernel's own resolution answers only for the last component. This walk follows symbolic
//! links itself, looks at every directory on the way (those that hold a link included), and stops
//! before it would leave the part of the file tree that the local kernel vouches for. Everything is
//! opened with `O_PATH`: no content is read, no device touched, no lease or pipe waited for.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, FileStat, Mode};
use nix::sys::statfs::{self, FsType};

use crate::raw;

/// Links followed before giving up, as the kernel does.
const MAX_LINKS: usize = 40;

/// File systems served by a user's process or by another host: owner and mode mean nothing there.
const FOREIGN: [u32; 11] = [
    0x6573_5546, // FUSE
    0x0000_0187, // autofs: the name turns into another file system when it is used
    0x0000_6969, // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x0000_517b, // SMB
    0x0102_1997, // 9P
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS (OpenAFS)
    0x6b41_4653, // AFS (kernel)
    0x7375_7245, // Coda
];
const PROCFS: u32 = 0x0000_9fa0;
/// The inode number of every procfs root directory.
const PROCFS_ROOT_INODE: u64 = 1;

/// Whether owner and mode on this file system are somebody else's claim.
pub(crate) fn is_foreign(kind: FsType) -> bool {
    FOREIGN.contains(&magic(kind))
}

/// Whether names on this file system mean something else in every process.
pub(crate) fn is_procfs(kind: FsType) -> bool {
    magic(kind) == PROCFS
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "magic numbers have 32 bits; the kernel's field is a wider, signed one"
)]
fn magic(kind: FsType) -> u32 {
    kind.0 as u32
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At the file the path names; see the walk's fields.
    Reached,
    /// At a name that means something else in every process.
    MagicLink,
    /// At the root of a file system whose owners and modes are not to be believed.
    Foreign,
}

/// A component still to be walked.
struct Step {
    name: Vec<u8>,
    /// Written by the caller, not the target of a link.
    is_typed: bool,
}

/// A position in the file tree and what was seen on the way there.
pub(crate) struct Walk<'a> {
    trusted: &'a [u32],
    fd: OwnedFd,
    stat: FileStat,
    kind: FsType,
    /// Names from the root to here, links resolved.
    names: Vec<Vec<u8>>,
    links: usize,
    is_changeable: bool,
}

impl<'a> Walk<'a> {
    /// Starts at `/`; the users `trusted` may change anything without it counting.
    pub(crate) fn from_root(trusted: &'a [u32]) -> io::Result<Self> {
        let fd = open_root()?;
        let stat = stat::fstat(&fd)?;
        let kind = statfs::fstatfs(&fd)?.filesystem_type();
        let names = Vec::new();
        let mut walk = Self { trusted, fd, stat, kind, names, links: 0, is_changeable: false };
        walk.is_changeable = is_foreign(kind) || walk.can_change_here()?;
        Ok(walk)
    }

    /// Starts at a directory that the command will really be in, whatever its path leads to now.
    pub(crate) fn from_directory(
        directory: BorrowedFd<'_>,
        trusted: &'a [u32],
    ) -> io::Result<(Self, End)> {
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        // Another error than "not found", which would speak of the word, not of /proc.
        let path = fcntl::readlinkat(AT_FDCWD, link.as_str()).map_err(|_| Errno::EIO)?;
        let mut walk = Self::from_root(trusted)?;
        let end = match walk.go(path.as_bytes()) {
            Ok(end) => end,
            // Moved or deleted meanwhile: the comparison below notices.
            Err(error) if is_absent(&error) => End::Reached,
            Err(error) => return Err(error),
        };
        let stat = stat::fstat(directory)?;
        if (stat.st_dev, stat.st_ino) != (walk.stat.st_dev, walk.stat.st_ino) {
            walk.fd = directory.try_clone_to_owned()?;
            walk.stat = stat;
            walk.kind = statfs::fstatfs(directory)?.filesystem_type();
            walk.names.clear();
            walk.is_changeable = true;
        }
        Ok((walk, end))
    }

    /// Walks on from here (from the root when `path` is absolute).
    pub(crate) fn go(&mut self, path: &[u8]) -> io::Result<End> {
        let mut steps = VecDeque::new();
        self.enqueue(path, true, &mut steps)?;
        while let Some(step) = steps.pop_front() {
            if self.is_magic_name(&step) {
                return Ok(End::MagicLink);
            }
            let end = self.take(&step.name, &mut steps)?;
            if end != End::Reached {
                return Ok(end);
            }
        }
        Ok(End::Reached)
    }

    /// Whether anybody but the trusted users could have changed what the path led to.
    pub(crate) fn is_changeable(&self) -> bool {
        self.is_changeable
    }

    /// Whether a symbolic link was followed.
    pub(crate) fn followed_link(&self) -> bool {
        self.links > 0
    }

    /// Whether the walk stands at a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.file_type() == libc::S_IFDIR
    }

    /// Puts the components of `path` before the other steps; an absolute one restarts at the root.
    fn enqueue(
        &mut self,
        path: &[u8],
        is_typed: bool,
        steps: &mut VecDeque<Step>,
    ) -> io::Result<()> {
        if path.starts_with(b"/") {
            self.fd = open_root()?;
            self.stat = stat::fstat(&self.fd)?;
            self.kind = statfs::fstatfs(&self.fd)?.filesystem_type();
            self.names.clear();
        }
        let is_step = |name: &&[u8]| !name.is_empty() && *name != b".";
        for name in path.split(|byte| *byte == b'/').filter(is_step).rev() {
            steps.push_front(Step { name: name.to_vec(), is_typed });
        }
        Ok(())
    }

    fn take(&mut self, name: &[u8], steps: &mut VecDeque<Step>) -> io::Result<End> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = fcntl::openat(&self.fd, name, flags, Mode::empty())?;
        let kind = statfs::fstatfs(&fd)?.filesystem_type();
        if is_foreign(kind) {
            return Ok(End::Foreign);
        }
        let stat = stat::fstat(&fd)?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
            return self.follow(name, &fd, steps);
        }
        if name == b".." {
            self.names.pop();
        } else {
            self.names.push(name.to_vec());
        }
        (self.fd, self.stat, self.kind) = (fd, stat, kind);
        self.is_changeable |= self.can_change_here()?;
        Ok(End::Reached)
    }

    /// A link's own owner does not matter: only who can change its directory can replace it.
    fn follow(
        &mut self,
        name: &[u8],
        link: &OwnedFd,
        steps: &mut VecDeque<Step>,
    ) -> io::Result<End> {
        self.links = self.links.saturating_add(1);
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP.into());
        }
        if is_procfs(self.kind) {
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
            if fcntl::openat2(&self.fd, name, how).err() == Some(Errno::ELOOP) {
                return Ok(End::MagicLink);
            }
        }
        let target = fcntl::readlinkat(link, "")?;
        self.enqueue(target.as_bytes(), false, steps)?;
        Ok(End::Reached)
    }

    /// Names that are refused without looking: the process they speak of may be another one, or
    /// not exist yet, when the command uses them.
    fn is_magic_name(&self, step: &Step) -> bool {
        let name = step.name.as_slice();
        if is_procfs(self.kind) {
            let is_process =
                name.iter().all(u8::is_ascii_digit) || name == b"self" || name == b"thread-self";
            let is_at_root = self.stat.st_ino == PROCFS_ROOT_INODE;
            return is_at_root && step.is_typed && is_process
                || !is_at_root && (name == b"fd" || name == b"map_files");
        }
        let is_in_dev =
            self.names.len() == 1 && self.names.first().is_some_and(|dir| dir == b"dev");
        is_in_dev && matches!(name, b"fd" | b"stdin" | b"stdout" | b"stderr")
    }

    fn file_type(&self) -> libc::mode_t {
        self.stat.st_mode & libc::S_IFMT
    }

    /// Whether somebody not trusted can change the file or directory the walk stands at.
    fn can_change_here(&self) -> io::Result<bool> {
        if !self.trusted.contains(&self.stat.st_uid) {
            return Ok(true);
        }
        let is_device = matches!(self.file_type(), libc::S_IFCHR | libc::S_IFBLK);
        let is_in_dev = self.names.first().is_some_and(|name| name == b"dev");
        // The mode of a socket says who may connect, not who answers; that of a device, who may
        // use it.
        if self.file_type() == libc::S_IFSOCK || is_device && is_in_dev {
            return Ok(false);
        }
        if self.stat.st_mode & 0o022 != 0 {
            return Ok(true);
        }
        // The descriptor is O_PATH, which the f-variants of getxattr refuse.
        let path = CString::new(format!("/proc/self/fd/{}", self.fd.as_fd().as_raw_fd()))?;
        // No answer (no /proc, say) is no proof.
        Ok(raw::has_attribute(&path, c"system.posix_acl_access").unwrap_or(true))
    }
}

fn open_root() -> io::Result<OwnedFd> {
    Ok(fcntl::open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Errors that mean: there is no such file.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG))
}

/// Errors that mean: there is no such file, but somebody could make it.
pub(crate) fn can_appear(error: &io::Error) -> bool {
    is_absent(error) && error.raw_os_error() != Some(libc::ENAMETOOLONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_foreign_file_systems_are_the_kernels() {
        for kind in [
            statfs::FUSE_SUPER_MAGIC,
            statfs::AUTOFS_SUPER_MAGIC,
            statfs::NFS_SUPER_MAGIC,
            statfs::SMB_SUPER_MAGIC,
            statfs::CODA_SUPER_MAGIC,
            statfs::AFS_SUPER_MAGIC,
        ] {
            assert!(is_foreign(kind), "{kind:?}");
        }
        for kind in [statfs::EXT4_SUPER_MAGIC, statfs::TMPFS_MAGIC, statfs::PROC_SUPER_MAGIC] {
            assert!(!is_foreign(kind), "{kind:?}");
        }
        assert!(is_procfs(statfs::PROC_SUPER_MAGIC) && !is_procfs(statfs::TMPFS_MAGIC));
    }
}
