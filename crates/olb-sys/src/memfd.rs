//! Files that exist only in memory: standard input of commands, from bytes.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{self, FcntlArg, SealFlag};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat;

/// What is copied at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A memory file with these bytes that nobody can change any more, its offset at 0.
///
/// # Errors
/// Out of memory or of descriptors, or a name that is too long or contains NUL.
pub fn sealed_memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    sealed_copy(name, &mut &*bytes)
}

/// As [`sealed_memfd`], with everything that `source` gives.
///
/// # Errors
/// As there, or `source` fails.
pub fn sealed_copy(name: &str, source: &mut impl Read) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    io::copy(source, &mut file)?;
    // The reader of the descriptor starts at its offset.
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl::fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Copies the content of a memory file of at most `max` bytes, wherever its offset is.
///
/// The sender may still hold the file and, unless it is sealed, change it: use the copy, never the
/// descriptor, for anything that was checked.
///
/// # Errors
/// `InvalidInput` for anything but a memory file (reading other files could block or trigger
/// foreign code), `FileTooLarge` beyond `max`.
pub fn read_all_at_most(fd: impl AsFd, max: usize) -> io::Result<Vec<u8>> {
    require_memory(&fd)?;
    let stat = stat::fstat(fd.as_fd())?;
    let size =
        usize::try_from(stat.st_size).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if size > max {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Hands the content of a memory file to `each` in pieces, from its start to its end, wherever its
/// offset is. As with [`read_all_at_most`], only what `each` has kept was seen.
///
/// # Errors
/// `InvalidInput` for anything but a memory file, `FileTooLarge` once there are more than `max`
/// bytes, and whatever `each` returns.
pub fn read_in_pieces(
    fd: impl AsFd,
    max: u64,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    require_memory(&fd)?;
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    let mut piece = vec![0; PIECE_BYTES];
    let mut seen = 0_u64;
    loop {
        let length = file.read_at(&mut piece, seen)?;
        let bytes = piece.get(..length).unwrap_or_default();
        seen = seen.saturating_add(length as u64);
        if seen > max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        if length == 0 {
            return Ok(());
        }
        each(bytes)?;
    }
}

/// Only memory files know about seals. This is asked first because it never reaches a file system
/// that could hang.
fn require_memory(fd: &impl AsFd) -> io::Result<()> {
    match fcntl::fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a memory file")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn sealed_file_reads_from_its_start_and_cannot_be_changed() {
        let fd = sealed_memfd("test", b"hello").unwrap();
        let mut file = File::from(fd.try_clone().unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(100).is_err());
        // The offset is at the end now, which does not matter here.
        assert_eq!(read_all_at_most(&fd, 5).unwrap(), b"hello");
    }

    #[test]
    fn larger_files_are_refused_and_empty_ones_are_not() {
        let fd = sealed_memfd("test", b"hello").unwrap();
        assert_eq!(read_all_at_most(&fd, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_all_at_most(sealed_memfd("test", b"").unwrap(), 0).unwrap(), b"");
    }

    #[test]
    fn pieces_are_all_of_it_and_one_byte_too_many_is_noticed() {
        let content: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let fd = sealed_memfd("test", &content).unwrap();
        let mut copy = Vec::new();
        let keep = |copy: &mut Vec<u8>, bytes: &[u8]| {
            copy.extend_from_slice(bytes);
            Ok(())
        };
        read_in_pieces(&fd, 200_000, |bytes| keep(&mut copy, bytes)).unwrap();
        assert!(copy == content);
        let error = read_in_pieces(&fd, 199_999, |bytes| keep(&mut copy, bytes)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn anything_but_a_memory_file_is_refused_without_reading() {
        let (pipe, _writer) = crate::pipe::pipe().unwrap();
        let error = read_all_at_most(&pipe, 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let null = File::open("/dev/null").unwrap();
        assert!(read_all_at_most(&null, 10).is_err());
        let disk = File::open("/etc/passwd").unwrap();
        assert!(read_all_at_most(&disk, 1 << 20).is_err());
        for other in [File::from(pipe), null, disk] {
            assert!(read_in_pieces(&other, 1 << 20, |_| panic!("it was read")).is_err());
        }
    }
}
