//! One output stream of a command, from the root half's pipe to our own output.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::socket::queued_bytes;

use crate::sink::Sink;

/// Bytes read at once; larger buffers fall out of the processor's cache and were slower.
const BUFFER_BYTES: usize = 64 * 1024;
/// What the first read has room for: most commands say little, and pages cost.
const FIRST_BYTES: usize = 1024;

/// One output stream of the command on its way to ours.
///
/// Where our output is a pipe or a file, the kernel moves the bytes there; else they are copied.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    pipe: Option<OwnedFd>,
    sink: Sink<'a>,
    /// The pipe has bytes, and the output has no room for them.
    is_full: bool,
    buffer: Vec<u8>,
    pending: Range<usize>,
    bytes: u64,
    lost: Option<io::Error>,
}

impl<'a> Stream<'a> {
    /// From `pipe` to `sink`.
    pub(crate) fn new(pipe: OwnedFd, sink: BorrowedFd<'a>) -> Self {
        Self {
            pipe: Some(pipe),
            sink: Sink::new(sink),
            is_full: false,
            buffer: Vec::new(),
            pending: 0..0,
            bytes: 0,
            lost: None,
        }
    }

    /// How many bytes arrived, to compare with the receipt.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Why not all of it could be passed on.
    pub(crate) fn lost(&self) -> Option<&io::Error> {
        self.lost.as_ref()
    }

    /// Whether anything is left to pass on.
    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some() || !self.pending.is_empty()
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Option<PollFd<'_>> {
        if self.is_full || !self.pending.is_empty() {
            return Some(PollFd::new(self.sink.fd(), PollFlags::POLLOUT));
        }
        let pipe = self.pipe.as_ref()?;
        Some(PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
    }

    /// What [`Self::interest`] waited for: a move or a read, with a write where that need not be
    /// waited for, or a write.
    pub(super) fn step(&mut self) {
        let result = if !self.pending.is_empty() {
            self.flush()
        } else if self.sink.takes_pages() {
            self.splice()
        } else {
            self.fill()
        };
        match result {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => {
                // With the pipe closed the command learns that nobody listens, as without us.
                self.close();
                self.pending = 0..0;
                self.lost = Some(error.into());
            }
        }
    }

    fn close(&mut self) {
        self.pipe = None;
        self.is_full = false;
    }

    fn splice(&mut self) -> Result<(), Errno> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        match self.sink.splice(pipe.as_fd()) {
            Ok(0) => self.close(),
            Ok(count) => {
                self.bytes += count as u64;
                self.is_full = false;
            }
            Err(Errno::EAGAIN) => {
                // In this order: what is written before the end is counted.
                let is_at_end = is_hung_up(pipe.as_fd());
                self.is_full = queued_bytes(pipe).is_ok_and(|bytes| bytes > 0);
                // The end is not told while the output is full, and would wake us for ever.
                if is_at_end && !self.is_full {
                    self.close();
                }
            }
            // A kind of file that cannot be written to so: nothing was taken from the pipe.
            Err(Errno::EINVAL) => self.sink.copy(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Errno> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        if self.buffer.is_empty() {
            self.buffer.resize(FIRST_BYTES, 0);
        }
        let count = nix::unistd::read(pipe, &mut self.buffer)?;
        if count == 0 {
            self.close();
        }
        self.bytes += count as u64;
        self.pending = 0..count;
        if count == self.buffer.len() {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        if count > 0 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Errno> {
        self.pending.start += self.sink.write(&self.buffer[self.pending.clone()])?;
        Ok(())
    }
}

/// Whether nobody can write to this pipe any more.
fn is_hung_up(pipe: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::empty())];
    let polled = poll(&mut fds, Some(0));
    polled.is_ok() && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}
