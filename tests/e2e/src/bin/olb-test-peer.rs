//! For every byte on its standard input: connects to the socket named by its first argument (a
//! SEQPACKET one where there is a second argument), and hands the connection to whoever holds the
//! other end of that input. Run as some uid, it makes sockets whose peer is that uid.

use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

fn connect(path: &Path, is_seqpacket: bool) -> std::io::Result<OwnedFd> {
    if is_seqpacket {
        olb_sys::socket::connect_seqpacket(path)
    } else {
        UnixStream::connect(path).map(OwnedFd::from)
    }
}

fn main() {
    let mut words = std::env::args_os().skip(1);
    let path = words.next().expect("usage: olb-test-peer SOCKET [seqpacket]");
    let is_seqpacket = words.next().is_some();
    let mut stdin = std::io::stdin();
    while stdin.read(&mut [0]).expect("a byte or the end") == 1 {
        let socket = connect(Path::new(&path), is_seqpacket).expect("a connection");
        olb_sys::socket::send_with_fds(stdin.as_fd(), b"s", &[socket.as_fd()])
            .expect("a hand-over");
    }
}
