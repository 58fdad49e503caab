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
