use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType};

use super::*;
use crate::socket as local;
use crate::testing::{self, STRANGER};

fn unconnected(kind: SockType) -> OwnedFd {
    socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
    socket::socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

#[test]
fn accepted_connection_names_the_process_that_connected() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("s")).unwrap();
    let _client = UnixStream::connect(directory.path().join("s")).unwrap();
    let (server, _) = listener.accept().unwrap();
    let peer = stream_peer(&server).unwrap();
    assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
    assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
}

#[test]
fn socket_passed_on_by_another_process_still_names_who_connected() {
    if !testing::is_root("passed socket") {
        return;
    }
    let directory = testing::root_directory();
    let path = directory.path().join("s");
    let listener = local::listen_stream(&path, 0o666).unwrap();
    let _client = testing::as_user(STRANGER, || UnixStream::connect(&path).unwrap());
    let (accepted, _) = listener.accept().unwrap();
    let (front, root) = pair(SockType::SeqPacket);
    local::send_datagram(&front, b"x", &[accepted.as_fd()]).unwrap();
    drop(accepted);
    let datagram = local::recv_datagram(&root, 16, 1).unwrap();
    let peer = stream_peer(&datagram.fds[0]).unwrap();
    assert_eq!((peer.uid, peer.gid), (STRANGER, STRANGER));
}

#[test]
fn seqpacket_connection_is_accepted_as_such_only() {
    let (a, _b) = pair(SockType::SeqPacket);
    assert!(seqpacket_peer(&a).is_ok());
    assert!(matches!(stream_peer(&a), Err(PeerError::WrongType)));
    let (a, _b) = pair(SockType::Stream);
    assert!(matches!(seqpacket_peer(&a), Err(PeerError::WrongType)));
}

#[test]
fn unconnected_socket_has_no_peer() {
    let result = stream_peer(unconnected(SockType::Stream));
    assert!(matches!(result, Err(PeerError::NotConnected)), "{result:?}");
    let result = seqpacket_peer(unconnected(SockType::SeqPacket));
    assert!(matches!(result, Err(PeerError::NotConnected)), "{result:?}");
}

#[test]
fn listening_socket_names_its_creator_and_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("s")).unwrap();
    assert!(matches!(stream_peer(&listener), Err(PeerError::Listening)));
}

#[test]
fn internet_socket_and_plain_file_are_not_local_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(matches!(stream_peer(&stream), Err(PeerError::NotLocal)));
    let file = fs::File::open("/dev/null").unwrap();
    assert!(matches!(stream_peer(&file), Err(PeerError::NotLocal)));
}

#[test]
fn peer_with_the_overflow_uid_is_nobody_in_particular() {
    if !testing::is_root("overflow uid") {
        return;
    }
    let directory = testing::root_directory();
    let path = directory.path().join("s");
    let listener = local::listen_stream(&path, 0o666).unwrap();
    let overflow = overflow_uid().unwrap();
    let _client = testing::as_user(overflow, || UnixStream::connect(&path).unwrap());
    let (server, _) = listener.accept().unwrap();
    assert!(matches!(stream_peer(&server), Err(PeerError::Unmapped)));
}

#[test]
fn uid_map_must_show_every_listed_user_as_itself() {
    let whole = "         0          0 4294967295\n";
    assert!(check_uid_map(whole, &[0, 1000, 65_534]).is_ok());
    let private = "0 0 1\n999 999 1\n";
    assert!(check_uid_map(private, &[0, 999]).is_ok());
    assert!(matches!(check_uid_map(private, &[0, 1000]), Err(MapError::NotIdentity(1000))));
    let shifted = "0 100000 65536\n";
    assert!(matches!(check_uid_map(shifted, &[0]), Err(MapError::NotIdentity(0))));
    assert!(matches!(check_uid_map("", &[5]), Err(MapError::NotIdentity(5))));
    assert!(matches!(check_uid_map("0 0\n", &[0]), Err(MapError::Malformed)));
    assert!(matches!(check_uid_map("0 x 1\n", &[0]), Err(MapError::Malformed)));
}

#[test]
fn last_uid_of_a_range_is_inside_and_the_next_is_not() {
    let map = "1000 1000 10\n";
    assert!(check_uid_map(map, &[1000, 1009]).is_ok());
    assert!(matches!(check_uid_map(map, &[1010]), Err(MapError::NotIdentity(1010))));
}
