//! What a daemon does to itself at start.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, Gid, Uid};

use crate::raw;

/// Keeps keys out of core files and out of the reach of a debugger of the same user.
///
/// # Errors
/// The kernel refused; do not go on with keys in memory.
pub fn no_dumps() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, hard)?)
}

/// New files are for their owner only (umask 077).
pub fn private_umask() {
    stat::umask(Mode::from_bits_truncate(0o077));
}

/// Lets `SIGPIPE` end this process again, as a program in a pipeline should.
///
/// Rust ignores it at start; `olb exec ... | head -1` must die as `sudo` does.
pub fn restore_sigpipe() {
    raw::set_default(libc::SIGPIPE);
}

/// Becomes `uid` and `gid` with no supplementary groups, for good.
///
/// Call it before starting threads, or in any case through this function only: libc applies it to
/// every thread.
///
/// # Errors
/// A step was refused, or root can be regained: the caller must exit.
pub fn drop_privileges(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "root is no lower privilege"));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    unistd::setgroups(&[])?;
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(uid, uid, uid)?;
    let users = unistd::getresuid()?;
    let groups = unistd::getresgid()?;
    let is_dropped = [users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3]
        && unistd::getgroups()?.is_empty();
    // Capabilities could have survived (secure bits): the proof is that the way back is closed.
    let can_return = unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
        .is_ok()
        || unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).is_ok();
    if is_dropped && !can_return {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "privileges could not be dropped"))
    }
}

/// The effective user id of this process.
#[must_use]
pub fn effective_uid() -> u32 {
    unistd::geteuid().as_raw()
}

/// Turns `SIGTERM`, `SIGINT` and `SIGHUP` into a descriptor that becomes readable.
///
/// They are blocked in this thread and in every thread it starts later: call it first.
///
/// # Errors
/// Out of descriptors.
pub fn termination_fd() -> io::Result<OwnedFd> {
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let signals: SigSet = signals.into_iter().collect();
    signals.thread_block()?;
    let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Ok(fd.into())
}

/// Raises the number of descriptors this process may have open to what the host allows.
///
/// # Errors
/// The kernel refused.
pub fn raise_nofile() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
