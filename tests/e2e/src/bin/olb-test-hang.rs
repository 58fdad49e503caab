//! Holds a file whose file system never answers, in a process of its own: whoever holds such a file
//! hangs when it ends, and whoever starts a program meanwhile hangs too.
//!
//! `send FILE SOCKET` attaches the file to messages for the front, says "sent" and ends, as far as
//! it can. `exec FILE` starts another program, as far as it can.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use olb_e2e_tests::{Raw, message};
use olb_wire::{Request, Response};

fn send(file: &File, socket: &OsString) -> Vec<Raw> {
    let connected = || Raw { stream: UnixStream::connect(socket).expect("a connection") };
    let mut all: Vec<Raw> = std::iter::repeat_with(connected).take(8).collect();
    for raw in &mut all {
        raw.send_with(&message(&Request::Status), &[file.as_fd()]);
        assert!(matches!(raw.answer(), Some(Response::Status(_))));
        // Queued and never read: dropped with the connection. The front may be gone by now.
        raw.stream.set_nonblocking(true).expect("not to wait");
        olb_sys::socket::send_with_fds(&raw.stream, b"x", &[file.as_fd()]).ok();
    }
    all
}

fn main() {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let file = File::open(&words[1]).expect("the file");
    match words.get(2) {
        Some(socket) => {
            let _open = send(&file, socket);
            println!("sent");
        }
        // The kernel closes the file on the way into the program.
        None => panic!("{}", Command::new("/bin/true").exec()),
    }
}
