//! Pipes for the output of commands, and copying between them without ever blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{self, FcntlArg, OFlag, SpliceFFlags};
use nix::unistd;

/// A pipe: `(read end, write end)`, both close-on-exec and blocking.
///
/// The ends are separate file descriptions: making one non-blocking with
/// [`crate::socket::set_nonblocking`] leaves the other as it is.
///
/// # Errors
/// Out of descriptors or of pipe memory.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// Sets the capacity in bytes (the kernel rounds up) and returns the new one.
///
/// # Errors
/// `EPERM` beyond the limit for unprivileged users, `EBUSY` when more is queued already.
pub fn set_size(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    let bytes =
        libc::c_int::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    to_length(fcntl::fcntl(fd, FcntlArg::F_SETPIPE_SZ(bytes))?)
}

/// Duplicates up to `max` queued bytes of one pipe into another without consuming them.
///
/// `Ok(0)` means the source is at its end. Never blocks, whatever the flags of the two.
///
/// # Errors
/// `WouldBlock` when the source is empty or the destination full, `BrokenPipe` when nobody reads
/// the destination.
pub fn tee_now(from: impl AsFd, to: impl AsFd, max: usize) -> io::Result<usize> {
    Ok(fcntl::tee(from.as_fd(), to.as_fd(), max, SpliceFFlags::SPLICE_F_NONBLOCK)?)
}

/// Reads what is queued. `Ok(0)` means end of file.
///
/// # Errors
/// `InvalidInput` when the descriptor is in blocking mode: a worker must not get stuck here.
/// `WouldBlock` when nothing is queued.
pub fn read_now(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    require_nonblocking(fd.as_fd())?;
    Ok(unistd::read(fd, buffer)?)
}

/// Writes as much as fits.
///
/// # Errors
/// `InvalidInput` when the descriptor is in blocking mode, `WouldBlock` when nothing fits,
/// `BrokenPipe` when nobody reads (the process must not die of `SIGPIPE`; Rust ignores it).
pub fn write_now(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    require_nonblocking(fd.as_fd())?;
    Ok(unistd::write(fd, bytes)?)
}

fn require_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl::fcntl(fd, FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "the descriptor is in blocking mode"))
    }
}

fn to_length(value: libc::c_int) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::set_nonblocking;

    #[test]
    fn blocking_descriptors_are_refused_by_the_immediate_calls() {
        let (reader, writer) = pipe().unwrap();
        let error = read_now(&reader, &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(write_now(&writer, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn ends_have_separate_modes_and_tell_empty_from_closed() {
        let (reader, writer) = pipe().unwrap();
        set_nonblocking(&reader, true).unwrap();
        assert!(write_now(&writer, b"x").is_err(), "the write end stays in blocking mode");
        assert_eq!(read_now(&reader, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(writer);
        assert_eq!(read_now(&reader, &mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn tee_copies_without_consuming_and_never_waits() {
        let (source, input) = pipe().unwrap();
        let (output, sink) = pipe().unwrap();
        for end in [&source, &input, &output] {
            set_nonblocking(end, true).unwrap();
        }
        let error = tee_now(&source, &sink, 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "empty source");
        write_now(&input, b"hello").unwrap();
        assert_eq!(tee_now(&source, &sink, 100).unwrap(), 5);
        let mut buffer = [0; 8];
        assert_eq!(read_now(&source, &mut buffer).unwrap(), 5);
        assert_eq!(read_now(&output, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        drop(input);
        assert_eq!(tee_now(&source, &sink, 100).unwrap(), 0, "end of the source");
        drop(output);
        let error = tee_now(&source, &sink, 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn size_is_rounded_up_and_reported() {
        let (reader, _writer) = pipe().unwrap();
        assert_eq!(set_size(&reader, 200_000).unwrap(), 262_144);
    }
}
