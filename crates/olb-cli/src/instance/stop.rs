//! Being told to stop, as something that can be waited for beside other things, so that Ctrl-C
//! never leaves processes or files behind.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use olb_sys::harden::termination_fd;
use olb_sys::poll::{PollFd, PollFlags, poll};

/// The process was told to stop while it did something that can be given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped before the end")
    }
}

impl std::error::Error for Stopped {}

/// SIGINT, SIGTERM and SIGHUP of this process, from the moment this is made.
#[derive(Debug)]
pub(crate) struct Stop {
    fd: OwnedFd,
}

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// At least one of the descriptors can be read or is at its end.
    Ready,
    /// The time is over.
    Timeout,
}

impl Stop {
    /// From here on the signals no longer end the process.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { fd: termination_fd().context("signals cannot be watched")? })
    }

    /// Waits for one of `fds`, at most `timeout_ms` milliseconds (`None`: for ever).
    ///
    /// # Errors
    /// [`Stopped`], also if the process was told so before.
    pub(crate) fn wait(&self, fds: &[BorrowedFd<'_>], timeout_ms: Option<u32>) -> Result<Woken> {
        let all = std::iter::once(self.fd.as_fd()).chain(fds.iter().copied());
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let ready = poll(&mut all, timeout_ms).context("waiting failed")?;
        if all.first().and_then(PollFd::any).unwrap_or(false) {
            return Err(Stopped.into());
        }
        Ok(if ready == 0 { Woken::Timeout } else { Woken::Ready })
    }
}
