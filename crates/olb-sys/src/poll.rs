//! Waiting for several descriptors at once.

use std::io;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollTimeout;
pub use nix::poll::{PollFd, PollFlags};

/// Waits until one of `fds` is ready or `timeout_ms` milliseconds have passed (`None`: for ever).
///
/// Returns how many are ready; 0 means the time is over. A signal does not end the wait early and
/// does not prolong it. Timeouts above about 24 days count as for ever.
///
/// # Errors
/// Too many descriptors, or out of kernel memory.
pub fn poll(fds: &mut [PollFd<'_>], timeout_ms: Option<u32>) -> io::Result<usize> {
    let start = Instant::now();
    loop {
        let timeout = match timeout_ms {
            None => PollTimeout::NONE,
            Some(total) => {
                let left = u128::from(total).saturating_sub(start.elapsed().as_millis());
                PollTimeout::try_from(left).unwrap_or(PollTimeout::NONE)
            }
        };
        match nix::poll::poll(fds, timeout) {
            Ok(ready) => {
                return usize::try_from(ready)
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn ready_descriptors_are_counted_and_quiet_ones_are_not() {
        let (quiet, _writer) = crate::pipe::pipe().unwrap();
        let (ended, writer) = crate::pipe::pipe().unwrap();
        drop(writer);
        let wanted = PollFlags::POLLIN;
        let mut fds = [PollFd::new(quiet.as_fd(), wanted), PollFd::new(ended.as_fd(), wanted)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert_eq!(fds[0].any(), Some(false));
        assert!(fds[1].revents().unwrap().contains(PollFlags::POLLHUP));
        assert_eq!(poll(&mut fds[..1], Some(0)).unwrap(), 0);
    }
}
