//! Local sockets: listening, connecting, and passing descriptors without leaking any.

use std::fs::{self, Permissions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, AtFlags, FcntlArg, OFlag};
use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sockopt,
};
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, Uid};

pub use crate::activation::{ActivationError, named_listeners};
use crate::raw;

/// Connections the kernel queues for us; more are refused or wait, by the kernel's rules.
const BACKLOG: i32 = 128;

/// One whole datagram and what came with it.
#[derive(Debug)]
pub struct Datagram {
    /// The bytes, never empty.
    pub bytes: Vec<u8>,
    /// The descriptors in the order they were sent, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Why no datagram was received.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// The other side closed the connection (or sent an empty datagram, which nobody of ours does).
    #[error("the connection was closed by the other side; connect again")]
    Eof,
    /// The datagram is larger than allowed; it was dropped.
    #[error("the message is larger than allowed; send a shorter one")]
    Truncated,
    /// More descriptors than allowed; all were closed.
    #[error("the message carries more descriptors than allowed; send fewer")]
    TooManyFds,
    /// The system call failed; `WouldBlock` passes through here unchanged.
    #[error("the message cannot be received ({0}); connect again")]
    Io(#[from] io::Error),
}

/// Listens on a `SOCK_STREAM` socket at `path`, created with `mode`.
///
/// A socket file left by a dead process is replaced; one in use is not.
///
/// # Errors
/// `AddrInUse` when somebody serves there, `AlreadyExists` when `path` is no socket.
pub fn listen_stream(path: &Path, mode: u32) -> io::Result<UnixListener> {
    listen(path, mode, None, SockType::Stream).map(UnixListener::from)
}

/// Listens on a `SOCK_SEQPACKET` socket at `path`, created with `mode` and given to `owner`.
///
/// As [`listen_stream`]. Nobody can connect before the owner is set.
///
/// # Errors
/// As [`listen_stream`], and `PermissionDenied` when the owner may not be changed.
pub fn listen_seqpacket(path: &Path, mode: u32, owner: Option<u32>) -> io::Result<OwnedFd> {
    listen(path, mode, owner, SockType::SeqPacket)
}

fn listen(path: &Path, mode: u32, owner: Option<u32>, kind: SockType) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    remove_stale(path, &address, kind)?;
    let fd = new_socket(kind)?;
    // Linux creates the file with the mode of the socket, less the umask: it is never more open
    // than asked for, without touching the umask of other threads.
    stat::fchmod(&fd, Mode::from_bits_truncate(mode))?;
    socket::bind(fd.as_raw_fd(), &address)?;
    let serving = open_for(&fd, path, mode, owner);
    if serving.is_err() {
        // The first failure is the one to report.
        drop(fs::remove_file(path));
    }
    serving.map(|()| fd)
}

/// Nobody can connect before `listen`, so owner and full mode come first.
fn open_for(fd: &OwnedFd, path: &Path, mode: u32, owner: Option<u32>) -> io::Result<()> {
    if let Some(uid) = owner {
        let flag = AtFlags::AT_SYMLINK_NOFOLLOW;
        unistd::fchownat(AT_FDCWD, path, Some(Uid::from_raw(uid)), None, flag)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(socket::listen(fd, Backlog::new(BACKLOG)?)?)
}

/// Removes the socket file of a process that is gone.
fn remove_stale(path: &Path, address: &UnixAddr, kind: SockType) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    let probe = new_socket(kind)?;
    // A full backlog must not make this wait: EAGAIN then means that somebody serves.
    set_nonblocking(&probe, true)?;
    match socket::connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) | Err(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
    }
}

fn new_socket(kind: SockType) -> io::Result<OwnedFd> {
    Ok(socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Waits for one connection.
///
/// # Errors
/// `WouldBlock` on a non-blocking listener; out of descriptors.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    loop {
        match raw::accept(listener.as_fd()) {
            Err(error) if is_transient(&error) => {}
            result => return result,
        }
    }
}

/// A peer that gave up while queued is no reason to stop serving the others.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

/// Connects to a `SOCK_SEQPACKET` socket.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when nobody serves, `PermissionDenied` by the socket's mode.
pub fn connect_seqpacket(path: &Path) -> io::Result<OwnedFd> {
    let fd = new_socket(SockType::SeqPacket)?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// As [`connect_seqpacket`], for event loops: never waits, and the socket stays non-blocking.
///
/// # Errors
/// As there, and `WouldBlock` while the server's queue is full.
pub fn connect_seqpacket_now(path: &Path) -> io::Result<OwnedFd> {
    let fd = new_socket(SockType::SeqPacket)?;
    set_nonblocking(&fd, true)?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Switches between blocking and non-blocking mode.
///
/// This is a flag of the shared file description: never set it on a descriptor that others hold.
///
/// # Errors
/// Only for descriptors that do not know the flag.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl::fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl::fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Sends one datagram, whole or not at all.
///
/// # Errors
/// `BrokenPipe` when nobody receives, `WouldBlock` on a non-blocking socket, `EMSGSIZE` when too
/// large, `ETOOMANYREFS` when too many descriptors are in flight (the receiver is slow: busy).
pub fn send_datagram(fd: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let sent = send_with_fds(fd, bytes, fds)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
}

/// Receives one datagram of at most `max` bytes with at most `max_fds` descriptors.
///
/// # Errors
/// Every case in [`RecvError`]; whatever came with a refused datagram is closed.
pub fn recv_datagram(fd: impl AsFd, max: usize, max_fds: usize) -> Result<Datagram, RecvError> {
    // What waits already tells how much room is needed, which is a page instead of the most there is.
    let room = match queued_bytes(&fd) {
        Ok(queued @ 1..) => queued.min(max),
        Ok(0) | Err(_) => max,
    };
    let (bytes, received) = raw::receive_new(fd.as_fd(), room, max_fds)?;
    let received = complete(received, max_fds)?;
    if received.flags & libc::MSG_TRUNC != 0 {
        return Err(RecvError::Truncated);
    }
    if received.length == 0 {
        return Err(RecvError::Eof);
    }
    Ok(Datagram { bytes, fds: received.fds })
}

/// Sends bytes on a stream with descriptors attached to the first of them; returns the length.
///
/// # Errors
/// As [`send_datagram`], and `InvalidInput` for descriptors without a byte to carry them.
pub fn send_with_fds(fd: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    send_message(fd.as_fd(), bytes, fds, MsgFlags::MSG_NOSIGNAL)
}

/// As [`send_with_fds`], but whatever mode the socket is in, without waiting for room.
///
/// # Errors
/// As [`send_with_fds`], and `WouldBlock` when there is no room.
pub fn send_now_with_fds(fd: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    send_message(fd.as_fd(), bytes, fds, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)
}

fn send_message(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<usize> {
    if bytes.is_empty() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let parts = [IoSlice::new(bytes)];
    retry(|| socket::sendmsg::<UnixAddr>(fd.as_raw_fd(), &parts, control, flags, None))
}

/// Receives bytes of a stream and at most `max_fds` descriptors. `0` bytes means end of stream.
///
/// # Errors
/// [`RecvError::TooManyFds`] (all are closed) and [`RecvError::Io`].
pub fn recv_with_fds(
    fd: impl AsFd,
    buffer: &mut [u8],
    max_fds: usize,
) -> Result<(usize, Vec<OwnedFd>), RecvError> {
    recv_from(fd, buffer, max_fds).map(|(length, fds, _)| (length, fds))
}

/// Has the kernel note with whatever is sent to this socket from now on who sent it.
///
/// # Errors
/// The descriptor is no local socket.
pub fn ask_for_senders(fd: impl AsFd) -> io::Result<()> {
    Ok(socket::setsockopt(&fd, sockopt::PassCred, &true)?)
}

/// As [`recv_with_fds`], and the uid of the process that sent all of it: its real one, or another
/// of its own that it named. What several processes sent is never received at once. `None` on a
/// socket for which [`ask_for_senders`] was not called.
///
/// # Errors
/// As [`recv_with_fds`].
pub fn recv_from(
    fd: impl AsFd,
    buffer: &mut [u8],
    max_fds: usize,
) -> Result<(usize, Vec<OwnedFd>, Option<u32>), RecvError> {
    let received = complete(raw::receive(fd.as_fd(), buffer, max_fds)?, max_fds)?;
    Ok((received.length, received.fds, received.sender))
}

/// Refuses what came with more descriptors than allowed.
fn complete(received: raw::Received, max_fds: usize) -> Result<raw::Received, RecvError> {
    // The kernel fills aligned space, so that a buffer for three takes a fourth: count as well.
    if received.flags & libc::MSG_CTRUNC != 0 || received.fds.len() > max_fds {
        return Err(RecvError::TooManyFds);
    }
    Ok(received)
}

/// Sends what fits, whatever mode the socket is in, and never raises `SIGPIPE`.
///
/// # Errors
/// `WouldBlock` when nothing fits, `BrokenPipe` when nobody receives.
pub fn send_now(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    retry(|| socket::send(fd.as_fd().as_raw_fd(), bytes, flags))
}

/// Receives what is there, whatever mode the socket is in. `Ok(0)` means end of stream.
///
/// Descriptors that came along are dropped by the kernel without ever being ours.
///
/// # Errors
/// `WouldBlock` when nothing is there.
pub fn recv_now(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| socket::recv(fd.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Bytes that can be read at once (of a datagram socket: of the next datagram).
///
/// # Errors
/// The descriptor is no socket or pipe.
pub fn queued_bytes(fd: impl AsFd) -> io::Result<usize> {
    raw::bytes_queued(fd.as_fd())
}

/// The path a local socket is bound to. An accepted socket has its listener's.
#[must_use]
pub fn local_path(fd: impl AsFd) -> Option<PathBuf> {
    let address: UnixAddr = socket::getsockname(fd.as_fd().as_raw_fd()).ok()?;
    address.path().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests;
