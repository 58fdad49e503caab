//! A running command: waiting for it and signalling it without ever hitting a stranger.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::{Pid, getpgid};

use crate::raw;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this code.
    Exited(u8),
    /// A signal of this number ended it.
    Killed(u8),
}

/// What a child and the children that it waited for have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Processor time in user mode, in milliseconds.
    pub user_ms: u64,
    /// Processor time in the kernel, in milliseconds.
    pub system_ms: u64,
    /// The most memory that one of them had at once, in KiB. The kernel counts what this process had
    /// when it made the child.
    pub max_rss_kib: u64,
}

/// A child process that leads its own session and process group.
///
/// Dropping it neither kills nor reaps: the owner decides, and a daemon that stops leaves its
/// commands running.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    exit: Option<Exit>,
    used: Option<Used>,
}

impl Child {
    /// `pid` must be a child of this process that `pidfd` refers to and that nobody else reaps.
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, exit: None, used: None }
    }

    /// The process id, which is the id of its session and group too.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable by `poll` once the process has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for the end and reaps. Later calls return the same.
    ///
    /// # Errors
    /// Somebody else reaped the process.
    pub fn wait(&mut self) -> io::Result<Exit> {
        match self.reap(0)? {
            Some(exit) => Ok(exit),
            None => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// What it has used, once it was reaped.
    #[must_use]
    pub fn used(&self) -> Option<Used> {
        self.used
    }

    /// Reaps when the process has ended; `None` while it runs.
    ///
    /// # Errors
    /// Somebody else reaped the process.
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        self.reap(libc::WNOHANG)
    }

    /// How the process ended, without reaping it: its group can still be signalled safely.
    ///
    /// # Errors
    /// Somebody else reaped the process.
    pub fn peek(&self) -> io::Result<Option<Exit>> {
        match self.exit {
            Some(exit) => Ok(Some(exit)),
            None => decode(raw::wait_pidfd(self.pidfd(), libc::WNOHANG | libc::WNOWAIT)?.as_ref()),
        }
    }

    /// Whether other processes than the leader are in the group. Looked up in `/proc`, so of use
    /// only where a moment's delay does not matter; where it cannot be told, the answer is yes.
    ///
    /// Strangers are asked about by `getpgid` alone: reading the `stat` of a process that somebody
    /// wedged within `execve`, as anybody can, would never end.
    #[must_use]
    pub fn group_has_others(&self) -> bool {
        let Ok(entries) = std::fs::read_dir("/proc") else { return true };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let group = Pid::from_raw(self.pid);
        let others = pids.map(Pid::from_raw).filter(|pid| *pid != group);
        others.filter(|pid| getpgid(Some(*pid)) == Ok(group)).any(is_alive)
    }

    fn reap(&mut self, options: libc::c_int) -> io::Result<Option<Exit>> {
        if self.exit.is_none() {
            let ended = raw::wait_pidfd(self.pidfd.as_fd(), options)?;
            self.used = ended.as_ref().map(|ended| used(&ended.usage));
            self.exit = decode(ended.as_ref())?;
        }
        Ok(self.exit)
    }

    /// Signals every process of the group.
    ///
    /// Until the leader is reaped its number cannot be given to anybody else, so the group is
    /// ours; afterwards this refuses.
    ///
    /// # Errors
    /// `ESRCH` once reaped, `EINVAL` for a number that is no signal.
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        if self.exit.is_some() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        raw::signal_group(self.pid, signal)
    }
}

/// Neither gone nor a zombie, which is gone but for somebody who has to notice.
fn is_alive(pid: Pid) -> bool {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.split(|byte| *byte == b'\n');
    lines.any(|line| line.starts_with(b"State:") && !line.contains(&b'Z'))
}

fn used(usage: &libc::rusage) -> Used {
    let ms = |time: libc::timeval| {
        let whole = u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1000);
        whole.saturating_add(u64::try_from(time.tv_usec).unwrap_or(0).div_euclid(1000))
    };
    Used {
        user_ms: ms(usage.ru_utime),
        system_ms: ms(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }
}

fn decode(ended: Option<&raw::Ended>) -> io::Result<Option<Exit>> {
    let Some(raw::Ended { code, status, .. }) = ended else { return Ok(None) };
    let number = u8::try_from(*status).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    match *code {
        libc::CLD_EXITED => Ok(Some(Exit::Exited(number))),
        libc::CLD_KILLED | libc::CLD_DUMPED => Ok(Some(Exit::Killed(number))),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
