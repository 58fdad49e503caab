//! Connects to the socket named by its one argument and hands the connection to whoever holds the
//! other end of its standard input. Run as some uid, it makes a socket whose peer is that uid.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

fn main() {
    let path = std::env::args_os().nth(1).expect("usage: olb-test-peer SOCKET");
    let socket = UnixStream::connect(path).expect("a connection");
    let stdin = std::io::stdin();
    olb_sys::socket::send_with_fds(stdin.as_fd(), b"s", &[socket.as_fd()]).expect("a hand-over");
}
