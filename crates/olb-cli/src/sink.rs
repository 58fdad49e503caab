//! Where a stream of output ends: standard output or standard error, written to without waiting
//! there where that can be had.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use olb_sys::socket::send_now;

/// What a pipe that polls as writable takes without waiting (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

/// How to write to a descriptor that others have too: its mode is theirs and stays as it is.
#[derive(Debug)]
enum Way {
    /// A pipe, through a description of our own that does not wait.
    Own(File),
    /// A socket, by calls that do not wait.
    Socket,
    /// A pipe that cannot be opened anew, in pieces that fit once it polls as writable.
    Pieces,
    /// A file, a terminal, a device.
    Plain,
}

/// A descriptor to write to.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    fd: BorrowedFd<'a>,
    /// Found out with the first byte: most commands write nothing to one of the two.
    way: Option<Way>,
}

impl<'a> Sink<'a> {
    /// Writes to `fd`.
    pub(crate) fn new(fd: BorrowedFd<'a>) -> Self {
        Self { fd, way: None }
    }

    /// What to wait at for room.
    pub(crate) fn fd(&self) -> BorrowedFd<'a> {
        self.fd
    }

    /// Whether a write is right without having waited for room.
    pub(crate) fn may_be_tried(&mut self) -> bool {
        !matches!(self.way(), Way::Pieces)
    }

    /// Writes some of `bytes`; returns how many.
    ///
    /// # Errors
    /// `EAGAIN` without room, and whatever else the kernel says.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let fd = self.fd;
        match self.way() {
            Way::Own(file) => nix::unistd::write(file, bytes),
            Way::Socket => send_now(fd, bytes).map_err(errno_of),
            Way::Pieces => nix::unistd::write(fd, &bytes[..bytes.len().min(PIECE_BYTES)]),
            Way::Plain => nix::unistd::write(fd, bytes),
        }
    }

    fn way(&mut self) -> &Way {
        let fd = self.fd;
        self.way.get_or_insert_with(|| Way::of(fd))
    }
}

impl Way {
    fn of(fd: BorrowedFd<'_>) -> Self {
        let file = fd.as_fd().try_clone_to_owned().map(File::from);
        let kind = file.and_then(|file| Ok(file.metadata()?.file_type()));
        match kind {
            Ok(kind) if kind.is_fifo() => open_anew(fd).map_or(Self::Pieces, Self::Own),
            Ok(kind) if kind.is_socket() => Self::Socket,
            Ok(_) | Err(_) => Self::Plain,
        }
    }
}

/// The same pipe with a mode of its own. Fails where it belongs to somebody else, and without
/// readers.
fn open_anew(fd: BorrowedFd<'_>) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    File::options().write(true).custom_flags(flags).open(path)
}

fn errno_of(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use olb_sys::pipe::pipe;

    use super::*;

    /// Fills `sink` until it has no room; how many bytes that took.
    fn fill(sink: &mut Sink<'_>) -> usize {
        let mut written = 0;
        loop {
            match sink.write(&[7; 64 * 1024]) {
                Ok(count) => written += count,
                Err(Errno::EAGAIN) => return written,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_full_pipe_or_socket_is_not_waited_for_and_keeps_its_mode() {
        let (reader, writer) = pipe().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        for (writer, reader) in [(writer, reader), (ours.into(), OwnedFd::from(theirs))] {
            let mut sink = Sink::new(writer.as_fd());
            assert!(sink.may_be_tried());
            let written = fill(&mut sink);
            assert!(written > PIECE_BYTES);
            let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
            assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
            drop(sink);
            drop(writer);
            let mut all = Vec::new();
            File::from(reader).read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), written);
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_broken() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(Sink::new(writer.as_fd()).write(b"x"), Err(Errno::EPIPE));
    }

    #[test]
    fn a_file_takes_everything() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Sink::new(file.as_fd()).write(&[7; 100_000]), Ok(100_000));
    }
}
