//! A front that lies: it serves request.sock or review.sock in the real front's place.

use std::fs::set_permissions;
use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg};
use olb_exec_api::{ClientFrame, Info, encode_info};
use olb_wire::{ByteBuf, Health, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Request, Response};

use crate::instance::Instance;

/// A connection from a client of the lying front.
pub struct Caller {
    /// The connection.
    pub socket: UnixStream,
}

impl Caller {
    /// Reads one request; `None` when the client has closed.
    pub fn request(&mut self) -> Option<Request> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).ok()?;
        let mut body = vec![0; olb_wire::body_length(length, REQUEST_BYTES_MAX).expect("a length")];
        self.socket.read_exact(&mut body).ok()?;
        Some(olb_wire::decode(&body).expect("a request"))
    }

    /// Answers; a client that is gone does not matter.
    pub fn answer(&mut self, response: &Response) {
        let bytes = olb_wire::encode(response, RESPONSE_BYTES_MAX).expect("a response");
        self.socket.write_all(&bytes).ok();
    }

    /// Sends a frame as the root half would; a client that is gone does not matter.
    pub fn send(&mut self, frame: &ClientFrame) {
        self.socket.write_all(&frame.encode()).ok();
    }

    /// Sends a frame with descriptors and lets it come from `uid`: only root can, so only tests.
    pub fn send_as(&self, uid: u32, frame: &ClientFrame, fds: &[BorrowedFd<'_>]) {
        let pid = libc::pid_t::try_from(std::process::id()).expect("a pid");
        let sender = UnixCredentials::from(libc::ucred { pid, uid, gid: uid });
        let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut control = vec![ControlMessage::ScmCredentials(&sender)];
        if !numbers.is_empty() {
            control.push(ControlMessage::ScmRights(&numbers));
        }
        let bytes = frame.encode();
        let parts = [IoSlice::new(&bytes)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        // A client that has heard enough is gone.
        sendmsg::<()>(self.socket.as_raw_fd(), &parts, &control, flags, None).ok();
    }

    /// Answers `Status` honestly with what the root half says.
    pub fn answer_status(&mut self, info: &Info) {
        self.answer(&Response::Status(Box::new(Health {
            execd: true,
            info: Some(ByteBuf::from(encode_info(info))),
            ..Health::default()
        })));
    }
}

/// Serves `connections` connections on the socket called `name`, one after the other, with `lie`.
/// The thread ends then, or when the client side is gone for good.
pub fn fake_front(
    instance: &Instance,
    name: &str,
    connections: usize,
    mut lie: impl FnMut(Caller) + Send + 'static,
) -> JoinHandle<()> {
    let path = instance.runtime().join(name);
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).expect("the socket");
    set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("its mode");
    thread::spawn(move || {
        for _ in 0..connections {
            let (socket, _) = listener.accept().expect("a connection");
            lie(Caller { socket });
        }
    })
}
