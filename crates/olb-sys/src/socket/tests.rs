use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use super::*;
use crate::testing::{self, STRANGER};

fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
    socket::socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

/// A pipe whose writer is handed out; its end is seen exactly when every copy is closed.
fn witness() -> (File, OwnedFd) {
    let (reader, writer) = crate::pipe::pipe().unwrap();
    (File::from(reader), writer)
}

fn assert_all_closed(mut reader: File) {
    // Another test may just be starting a command, whose child holds copies until it executes, so
    // this waits for the end of file instead of asking once.
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn datagram_arrives_whole_with_its_descriptors_in_order() {
    let (a, b) = pair(SockType::SeqPacket);
    let (reader, writer) = witness();
    send_datagram(&a, b"hello", &[reader.as_fd(), writer.as_fd()]).unwrap();
    drop(writer);
    let datagram = recv_datagram(&b, 64, 2).unwrap();
    assert_eq!(datagram.bytes, b"hello");
    assert_eq!(datagram.fds.len(), 2);
    for fd in &datagram.fds {
        let flags = fcntl::fcntl(fd, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
    File::from(datagram.fds[1].try_clone().unwrap()).write_all(b"x").unwrap();
    let mut byte = [0];
    File::from(datagram.fds[0].try_clone().unwrap()).read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

//
#[test]
fn datagram_of_exactly_the_allowed_size_is_taken_and_one_byte_more_is_refused() {
    let (a, b) = pair(SockType::SeqPacket);
    send_datagram(&a, &[7; 100], &[]).unwrap();
    assert_eq!(recv_datagram(&b, 100, 0).unwrap().bytes.len(), 100);
    send_datagram(&a, &[7; 101], &[]).unwrap();
    assert!(matches!(recv_datagram(&b, 100, 0), Err(RecvError::Truncated)));
}

//
#[test]
fn more_descriptors_than_allowed_are_refused_and_closed() {
    for (sent, allowed) in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (20, 3)] {
        let (a, b) = pair(SockType::SeqPacket);
        let (reader, writer) = witness();
        let fds = vec![writer.as_fd(); sent];
        send_datagram(&a, b"x", &fds).unwrap();
        drop(writer);
        let result = recv_datagram(&b, 16, allowed);
        assert!(matches!(result, Err(RecvError::TooManyFds)), "{sent} for {allowed}: {result:?}");
        assert_all_closed(reader);
    }
}

#[test]
fn descriptors_of_a_truncated_datagram_are_closed() {
    let (a, b) = pair(SockType::SeqPacket);
    let (reader, writer) = witness();
    send_datagram(&a, &[0; 200], &[writer.as_fd()]).unwrap();
    drop(writer);
    assert!(matches!(recv_datagram(&b, 100, 1), Err(RecvError::Truncated)));
    assert_all_closed(reader);
}

#[test]
fn end_of_connection_is_told_apart_from_no_message_yet() {
    let (a, b) = pair(SockType::SeqPacket);
    set_nonblocking(&b, true).unwrap();
    match recv_datagram(&b, 16, 0) {
        Err(RecvError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        other => panic!("{other:?}"),
    }
    drop(a);
    assert!(matches!(recv_datagram(&b, 16, 0), Err(RecvError::Eof)));
}

#[test]
fn sending_to_nobody_is_an_error_and_not_a_signal() {
    let (a, b) = pair(SockType::SeqPacket);
    drop(b);
    assert_eq!(send_datagram(&a, b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(send_now(&a, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn stream_carries_descriptors_with_the_first_byte() {
    let (a, b) = pair(SockType::Stream);
    let (reader, writer) = witness();
    assert_eq!(send_with_fds(&a, b"ab", &[writer.as_fd()]).unwrap(), 2);
    drop(writer);
    let mut buffer = [0; 1];
    let (length, fds) = recv_with_fds(&b, &mut buffer, 1).unwrap();
    assert_eq!((length, buffer[0], fds.len()), (1, b'a', 1));
    drop(fds);
    assert_all_closed(reader);
    let (length, fds) = recv_with_fds(&b, &mut buffer, 1).unwrap();
    assert_eq!((length, buffer[0], fds.len()), (1, b'b', 0));
    drop(a);
    assert_eq!(recv_with_fds(&b, &mut buffer, 1).unwrap().0, 0);
}

#[test]
fn whoever_sent_is_told_and_what_two_sent_comes_apart() {
    let (a, b) = pair(SockType::Stream);
    let (_reader, writer) = witness();
    let own = crate::harden::effective_uid();
    let mut buffer = [0; 8];
    send_now(&a, b"early").unwrap();
    assert_eq!(recv_from(&b, &mut buffer, 2).unwrap().2, None, "nobody asked");
    ask_for_senders(&b).unwrap();
    send_with_fds(&a, b"x", &[writer.as_fd(), writer.as_fd()]).unwrap();
    let (length, fds, sender) = recv_from(&b, &mut buffer, 2).unwrap();
    assert_eq!((length, fds.len(), sender), (1, 2, Some(own)));
    send_with_fds(&a, b"x", &[writer.as_fd(); 3]).unwrap();
    assert!(matches!(recv_from(&b, &mut buffer, 2), Err(RecvError::TooManyFds)));
    // Only root may name another account than its own, and nobody can send as root unless they are.
    let other = libc::ucred {
        pid: libc::pid_t::try_from(std::process::id()).unwrap(),
        uid: STRANGER,
        gid: 0,
    };
    let other = nix::sys::socket::UnixCredentials::from(other);
    let named = [ControlMessage::ScmCredentials(&other)];
    let parts = [IoSlice::new(b"y")];
    let sent = socket::sendmsg::<UnixAddr>(a.as_raw_fd(), &parts, &named, MsgFlags::empty(), None);
    if own != 0 {
        assert_eq!(sent, Err(Errno::EPERM));
        return;
    }
    send_now(&a, b"z").unwrap();
    let (length, _, sender) = recv_from(&b, &mut buffer, 2).unwrap();
    assert_eq!((length, buffer[0], sender), (1, b'y', Some(STRANGER)));
    let (length, _, sender) = recv_from(&b, &mut buffer, 2).unwrap();
    assert_eq!((length, buffer[0], sender), (1, b'z', Some(own)));
}

#[test]
fn descriptors_need_a_byte_to_travel_with() {
    let (a, _b) = pair(SockType::Stream);
    let error = send_with_fds(&a, b"", &[a.as_fd()]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn immediate_calls_never_wait_on_a_blocking_socket() {
    let (a, b) = pair(SockType::Stream);
    assert_eq!(recv_now(&b, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let chunk = [0; 4096];
    let error = loop {
        if let Err(error) = send_now(&a, &chunk) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn plain_receive_drops_passed_descriptors() {
    let (a, b) = pair(SockType::Stream);
    let (reader, writer) = witness();
    send_with_fds(&a, b"x", &[writer.as_fd()]).unwrap();
    drop(writer);
    assert_eq!(recv_now(&b, &mut [0; 4]).unwrap(), 1);
    assert_all_closed(reader);
}

#[test]
fn queued_bytes_are_counted() {
    let (a, b) = pair(SockType::Stream);
    assert_eq!(queued_bytes(&b).unwrap(), 0);
    send_now(&a, b"12345").unwrap();
    assert_eq!(queued_bytes(&b).unwrap(), 5);
}

#[test]
fn socket_file_gets_mode_and_owner_and_accepted_sockets_know_its_path() {
    if !testing::is_root("socket owner") {
        return;
    }
    let directory = testing::root_directory();
    let path = directory.path().join("s");
    let listener = listen_seqpacket(&path, 0o600, Some(STRANGER)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, STRANGER));
    let refused = testing::as_user(STRANGER + 1, || connect_seqpacket(&path).unwrap_err());
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    let client = testing::as_user(STRANGER, || connect_seqpacket(&path).unwrap());
    let server = accept(&listener).unwrap();
    assert_eq!(crate::peer::seqpacket_peer(&server).unwrap().uid, STRANGER);
    assert_eq!(local_path(&server).as_deref(), Some(path.as_path()));
    assert_eq!(local_path(&client), None);
}

#[test]
fn world_accessible_mode_is_set_in_spite_of_the_umask() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _listener = listen_stream(&path, 0o666).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
}

#[test]
fn socket_of_a_dead_process_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let first = listen_seqpacket(&path, 0o600, None).unwrap();
    let error = listen_seqpacket(&path, 0o600, None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    // A live socket of another type is in use as well.
    assert_eq!(listen_stream(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    // Shut down as well: a command that another test is just starting may hold a copy.
    socket::shutdown(first.as_raw_fd(), socket::Shutdown::Both).unwrap();
    drop(first);
    let second = listen_stream(&path, 0o600).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(second);
}

#[test]
fn other_files_are_never_replaced_by_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    fs::write(&path, "precious").unwrap();
    let error = listen_stream(&path, 0o600).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}
