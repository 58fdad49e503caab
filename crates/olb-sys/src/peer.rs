//! Who is at the other end of a socket: the kernel's word, with its edge values refused.
//!
//! `SO_PEERCRED` succeeds on sockets that have no peer at all (unconnected, or not even
//! `AF_UNIX`: pid 0, uid -1) and names the creator of a listening one. Each of these is refused
//! here, so that a [`Peer`] is always a process that connected.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use nix::sys::socket::{self, UnixAddr, sockopt};

use crate::raw;

/// The process that connected: ids as they were at `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id; may be dead by now and even reused. For logs only.
    pub pid: i32,
    /// Effective user id. This is what authorises.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// Why a socket has no peer that can be trusted to be one.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Not a local socket.
    #[error("the descriptor is not a local (AF_UNIX) socket; connect through the broker's socket")]
    NotLocal,
    /// Stream where datagrams were expected, or the other way round.
    #[error("the socket is of the wrong type; connect through the broker's socket")]
    WrongType,
    /// A listening socket names its creator, not a peer.
    #[error("the socket is a listening one; hand over the accepted connection")]
    Listening,
    /// Never connected, or already closed by the other side.
    #[error("nobody is connected to the socket; connect again")]
    NotConnected,
    /// Pid 0, uid -1 or the overflow uid: the peer lives in another user namespace.
    #[error(
        "the peer's identity is unknown in this user namespace; connect as a user of this host"
    )]
    Unmapped,
    /// The kernel refused to answer.
    #[error("the peer's identity cannot be read ({0}); connect again")]
    Io(#[from] io::Error),
}

/// Why the user namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A needed uid is missing or means another user outside.
    #[error(
        "uid {0} is not mapped to itself in this user namespace; start the service without PrivateUsers= or uid mapping"
    )]
    NotIdentity(u32),
    /// `/proc/self/uid_map` cannot be read.
    #[error("/proc/self/uid_map cannot be read ({0}); mount /proc before starting the service")]
    Io(#[from] io::Error),
    /// `/proc/self/uid_map` is not what the kernel documents.
    #[error("/proc/self/uid_map is not understood; mount a real /proc before starting the service")]
    Malformed,
}

/// The peer of a connected `SOCK_STREAM` socket.
///
/// # Errors
/// Every case in [`PeerError`].
pub fn stream_peer(fd: impl AsFd) -> Result<Peer, PeerError> {
    peer(fd.as_fd(), libc::SOCK_STREAM)
}

/// The peer of a connected `SOCK_SEQPACKET` socket.
///
/// # Errors
/// Every case in [`PeerError`].
pub fn seqpacket_peer(fd: impl AsFd) -> Result<Peer, PeerError> {
    peer(fd.as_fd(), libc::SOCK_SEQPACKET)
}

fn peer(fd: BorrowedFd<'_>, kind: libc::c_int) -> Result<Peer, PeerError> {
    match raw::socket_option(fd, libc::SO_DOMAIN) {
        Ok(libc::AF_UNIX) => {}
        Err(error) if error.raw_os_error() != Some(libc::ENOTSOCK) => return Err(error.into()),
        _ => return Err(PeerError::NotLocal),
    }
    if raw::socket_option(fd, libc::SO_TYPE)? != kind {
        return Err(PeerError::WrongType);
    }
    if raw::socket_option(fd, libc::SO_ACCEPTCONN)? != 0 {
        return Err(PeerError::Listening);
    }
    if socket::getpeername::<UnixAddr>(fd.as_raw_fd()).is_err() {
        return Err(PeerError::NotConnected);
    }
    let credentials = socket::getsockopt(&fd, sockopt::PeerCredentials).map_err(io::Error::from)?;
    let peer = Peer { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid() };
    if peer.pid <= 0 || peer.uid == u32::MAX || peer.uid == overflow_uid()? {
        return Err(PeerError::Unmapped);
    }
    Ok(peer)
}

/// The uid under which the kernel shows users that this namespace does not map.
fn overflow_uid() -> io::Result<u32> {
    static UID: OnceLock<u32> = OnceLock::new();
    if let Some(uid) = UID.get() {
        return Ok(*uid);
    }
    let text = fs::read_to_string("/proc/sys/kernel/overflowuid")?;
    let uid = text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(*UID.get_or_init(|| uid))
}

/// Refuses a user namespace in which one of `uids` is unmapped or is somebody else outside.
///
/// There `SO_PEERCRED` shows the overflow uid for everybody, or the wrong user.
///
/// # Errors
/// Every case in [`MapError`].
pub fn require_identity_uid_map(uids: &[u32]) -> Result<(), MapError> {
    check_uid_map(&fs::read_to_string("/proc/self/uid_map")?, uids)
}

fn check_uid_map(map: &str, uids: &[u32]) -> Result<(), MapError> {
    let mut identical = Vec::new();
    for line in map.lines() {
        let fields: Vec<u64> = line
            .split_whitespace()
            .map(|field| field.parse().map_err(|_| MapError::Malformed))
            .collect::<Result<_, _>>()?;
        let [inside, outside, count] = fields[..] else { return Err(MapError::Malformed) };
        if inside == outside {
            identical.push(inside..inside.saturating_add(count));
        }
    }
    let is_mapped = |uid: &u32| identical.iter().any(|range| range.contains(&u64::from(*uid)));
    match uids.iter().find(|uid| !is_mapped(uid)) {
        Some(uid) => Err(MapError::NotIdentity(*uid)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
