//! What a daemon does to itself at start.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, Gid, Uid};

/// Keeps keys out of core files and out of the reach of a debugger of the same user.
///
/// # Errors
/// The kernel refused; do not go on with keys in memory.
pub fn no_dumps() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, hard)?)
}

/// Gives memory that was allocated and freed again back to the kernel. glibc keeps it for each thread
/// that there was; other libraries do not.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    crate::raw::trim_heap();
}

/// New files are for their owner only (umask 077).
pub fn private_umask() {
    stat::umask(Mode::from_bits_truncate(0o077));
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

/// Raises the number of descriptors this process may have open to what the host allows, and returns
/// that.
///
/// # Errors
/// The kernel refused.
pub fn raise_nofile() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::poll::{PollFd, PollFlags, poll};
    use crate::testing::{self, STRANGER};

    #[test]
    fn dropped_privileges_cannot_be_regained() {
        if testing::is_root("dropping privileges") {
            testing::assert_passes_alone("harden::tests::alone_drops_privileges");
        }
    }

    #[test]
    #[ignore = "changes the whole process; started by dropped_privileges_cannot_be_regained"]
    fn alone_drops_privileges() {
        assert!(drop_privileges(0, STRANGER).is_err(), "root is no lower privilege");
        drop_privileges(STRANGER, STRANGER).unwrap();
        assert_eq!(effective_uid(), STRANGER);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains("Uid:\t12345\t12345\t12345\t12345"), "{status}");
        assert!(status.contains("Gid:\t12345\t12345\t12345\t12345"), "{status}");
        assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
        assert!(unistd::setuid(Uid::from_raw(0)).is_err());
    }

    #[test]
    fn ordinary_user_cannot_drop_to_somebody_else() {
        if testing::is_root("foreign user") {
            testing::assert_passes_alone("harden::tests::alone_fails_to_drop_twice");
        }
    }

    #[test]
    #[ignore = "changes the whole process; started by ordinary_user_cannot_drop_to_somebody_else"]
    fn alone_fails_to_drop_twice() {
        drop_privileges(STRANGER, STRANGER).unwrap();
        assert!(drop_privileges(STRANGER + 1, STRANGER + 1).is_err());
        assert_eq!(effective_uid(), STRANGER);
    }

    #[test]
    fn daemon_settings_take_effect() {
        testing::assert_passes_alone("harden::tests::alone_hardens_itself");
    }

    #[test]
    #[ignore = "changes the whole process; started by daemon_settings_take_effect"]
    fn alone_hardens_itself() {
        no_dumps().unwrap();
        assert!(!prctl::get_dumpable().unwrap());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap().0, 0);
        let raised = raise_nofile().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
        private_umask();
        assert_eq!(stat::umask(Mode::from_bits_truncate(0o077)).bits(), 0o077);
    }

    #[test]
    fn termination_is_a_readable_descriptor_and_not_the_end() {
        testing::assert_passes_alone("harden::tests::alone_is_terminated");
    }

    #[test]
    #[ignore = "changes the whole process; started by termination_is_a_readable_descriptor_and_not_the_end"]
    fn alone_is_terminated() {
        let fd = termination_fd().unwrap();
        let mut waiting = [PollFd::new(std::os::fd::AsFd::as_fd(&fd), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waiting, Some(0)).unwrap(), 0);
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert_eq!(poll(&mut waiting, None).unwrap(), 1);
    }
}
