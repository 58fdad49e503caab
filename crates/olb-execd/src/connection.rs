//! One connection from the front: the replies that it may get.

use std::os::fd::{AsFd as _, OwnedFd};

use olb_exec_api::{Recorded, Refusal, Status, reply};
use olb_sys::socket::{send_datagram, set_nonblocking};

/// A connection on exec.sock whose request was read.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Takes the accepted socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        // A front that does not read its replies keeps nobody waiting. This cannot fail on a socket.
        set_nonblocking(socket.as_fd(), true).ok();
        Self { socket }
    }

    /// DECIDE or READ is done.
    pub fn done(&self, answer: &[u8]) {
        self.send(Status::Done, answer);
    }

    /// The lease is burned.
    pub fn burned(&self) {
        self.send(Status::Burned, &[]);
    }

    /// The command ended.
    pub fn outcome(&self, recorded: &Recorded) {
        self.send(Status::Outcome, &recorded.encode());
    }

    /// Refused.
    pub fn refused(&self, refusal: &Refusal) {
        self.send(Status::Refused, &refusal.encode());
    }

    /// A front that is gone, or does not read, learns what is recorded by READ when it is back.
    fn send(&self, status: Status, answer: &[u8]) {
        if let Ok(datagram) = reply(status, answer, &[]) {
            send_datagram(self.socket.as_fd(), &datagram, &[]).ok();
        }
    }
}
