//! Where a stream of output ends: standard output or standard error, written to without waiting
//! there where that can be had.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt as _;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use olb_sys::socket::send_now;

/// More than a pipe holds by default or by the root half's doing.
const SPLICE_BYTES: usize = 1024 * 1024;

/// How to write to a descriptor that others have too: its mode is theirs and stays as it is.
#[derive(Debug)]
enum Way {
    /// A pipe or a file, to which the kernel moves what is in another pipe, without waiting for room.
    Pages,
    /// A socket, by calls that do not wait.
    Socket,
    /// A terminal, a device, a file that is appended to.
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

    /// Whether [`Self::splice`] is the way to write, until it says that it is not.
    pub(crate) fn takes_pages(&mut self) -> bool {
        matches!(self.way(), Way::Pages)
    }

    /// Moves what is in `pipe` here, as much as there is room for; returns how many bytes, 0 at the
    /// end of `pipe`.
    ///
    /// # Errors
    /// `EAGAIN` when nothing is in `pipe` or there is no room, `EINVAL` where this cannot be done,
    /// and whatever else the kernel says.
    pub(crate) fn splice(&self, pipe: BorrowedFd<'_>) -> Result<usize, Errno> {
        splice(pipe, None, self.fd, None, SPLICE_BYTES, SpliceFFlags::SPLICE_F_NONBLOCK)
    }

    /// From now on takes copies only.
    pub(crate) fn copy(&mut self) {
        self.way = Some(Way::Plain);
    }

    /// Writes some of `bytes`; returns how many.
    ///
    /// # Errors
    /// `EAGAIN` without room, and whatever else the kernel says.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let fd = self.fd;
        match self.way() {
            Way::Socket => send_now(fd, bytes).map_err(errno_of),
            Way::Pages | Way::Plain => nix::unistd::write(fd, bytes),
        }
    }

    fn way(&mut self) -> &Way {
        let fd = self.fd;
        self.way.get_or_insert_with(|| Way::of(fd))
    }
}

impl Way {
    fn of(fd: BorrowedFd<'_>) -> Self {
        let file = fd.try_clone_to_owned().map(File::from);
        let kind = file.and_then(|file| Ok(file.metadata()?.file_type()));
        match kind {
            Ok(kind) if kind.is_fifo() || kind.is_file() => Self::Pages,
            Ok(kind) if kind.is_socket() => Self::Socket,
            Ok(_) | Err(_) => Self::Plain,
        }
    }
}

fn errno_of(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use olb_sys::pipe::pipe;

    use super::*;

    /// A pipe with `bytes` in it.
    fn holding(bytes: &[u8]) -> (OwnedFd, File) {
        let (reader, writer) = pipe().unwrap();
        let mut writer = File::from(writer);
        writer.write_all(bytes).unwrap();
        (reader, writer)
    }

    fn is_blocking(fd: &OwnedFd) -> bool {
        !OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK)
    }

    #[test]
    fn a_full_pipe_is_not_waited_for_and_keeps_its_mode() {
        let (reader, writer) = pipe().unwrap();
        let mut sink = Sink::new(writer.as_fd());
        assert!(sink.takes_pages());
        let mut moved = 0;
        loop {
            let (source, _source) = holding(&[7; 32 * 1024]);
            match sink.splice(source.as_fd()) {
                Ok(count) => moved += count,
                Err(error) => break assert_eq!(error, Errno::EAGAIN),
            }
        }
        assert!(is_blocking(&writer));
        drop(writer);
        let mut all = Vec::new();
        File::from(reader).read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), moved);
    }

    #[test]
    fn a_full_socket_is_not_waited_for_and_keeps_its_mode() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let writer = OwnedFd::from(writer);
        let mut sink = Sink::new(writer.as_fd());
        assert!(!sink.takes_pages());
        let mut written = 0;
        loop {
            match sink.write(&[7; 64 * 1024]) {
                Ok(count) => written += count,
                Err(error) => break assert_eq!(error, Errno::EAGAIN),
            }
        }
        assert!(is_blocking(&writer));
        drop(writer);
        let mut all = Vec::new();
        File::from(OwnedFd::from(reader)).read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), written);
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_broken() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let (source, _source) = holding(b"x");
        assert_eq!(Sink::new(writer.as_fd()).splice(source.as_fd()), Err(Errno::EPIPE));
    }

    #[test]
    fn a_file_takes_everything_and_one_that_is_appended_to_takes_copies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let file = File::create(&path).unwrap();
        let (source, _source) = holding(b"moved\n");
        assert_eq!(Sink::new(file.as_fd()).splice(source.as_fd()), Ok(6));
        let file = File::options().append(true).open(&path).unwrap();
        let mut sink = Sink::new(file.as_fd());
        let (source, _source) = holding(b"x");
        assert_eq!(sink.splice(source.as_fd()), Err(Errno::EINVAL));
        sink.copy();
        assert!(!sink.takes_pages());
        assert_eq!(sink.write(b"copied\n"), Ok(7));
        assert_eq!(std::fs::read(&path).unwrap(), b"moved\ncopied\n");
    }
}
