//! A client that does not behave: any bytes, any descriptors, at any moment, as any uid, on the
//! front's two sockets.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

use olb_exec_api::Reason;
use olb_lease::VerdictClaims;
use olb_sys::socket::{recv_with_fds, send_with_fds};
use olb_wire::{
    ByteBuf, Execute, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Request, RequestView, Response, Submit,
};

use crate::approver::Approver;
use crate::exec_sock::Client;
use crate::instance::Instance;

/// Nothing is waited for longer than this: a test that hangs says so.
const PATIENCE: Duration = Duration::from_secs(120);

/// One of the front's sockets, as one uid: a process of that uid makes the connections.
pub struct Door {
    helper: Child,
    control: Option<UnixStream>,
}

impl Door {
    /// `request.sock` as `uid`.
    pub fn request(instance: &Instance, uid: u32) -> Self {
        Self::open(instance, "request.sock", uid)
    }

    /// `review.sock` as `uid`.
    pub fn review(instance: &Instance, uid: u32) -> Self {
        Self::open(instance, "review.sock", uid)
    }

    fn open(instance: &Instance, socket: &str, uid: u32) -> Self {
        let (control, theirs) = UnixStream::pair().expect("a pair");
        let mut command = Command::new(instance.path("bin/olb-test-peer"));
        command.arg(instance.runtime().join(socket)).uid(uid).gid(uid);
        let helper = command.stdin(OwnedFd::from(theirs)).spawn().expect("the helper");
        Self { helper, control: Some(control) }
    }

    /// A new connection.
    pub fn connect(&mut self) -> Raw {
        let control = self.control.as_mut().expect("the helper");
        control.write_all(b"c").expect("a word to the helper");
        let (_, mut fds) = recv_with_fds(control, &mut [0], 1).expect("a hand-over");
        let stream = UnixStream::from(fds.pop().expect("a connection"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Raw { stream }
    }

    /// Asks on a new connection; the answer.
    pub fn ask(&mut self, request: &Request) -> Response {
        self.ask_and_stay(request).1
    }

    /// Asks on a new connection; the connection and the first answer.
    pub fn ask_and_stay(&mut self, request: &Request) -> (Raw, Response) {
        let mut raw = self.connect();
        // A front that has no room answers without reading, and may be gone by now.
        raw.send(&message(request)).ok();
        let answer = raw.answer().expect("an answer");
        (raw, answer)
    }

    /// Asks for a command.
    pub fn submit(&mut self, submit: Submit) -> Response {
        self.ask(&Request::Submit(Box::new(submit)))
    }

    /// Presents a lease; the connection, on which frames follow.
    pub fn execute(&mut self, lease: &[u8]) -> Client {
        let mut raw = self.connect();
        raw.send(&message(&presentation(lease))).expect("a presentation");
        raw.into_client()
    }

    /// Hands in a verdict with these claims.
    pub fn decide(&mut self, approver: &Approver, claims: &VerdictClaims) -> Response {
        let verdict = claims.sign(&approver.key()).expect("a verdict");
        self.ask(&Request::Decide { verdict: ByteBuf::from(verdict) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.control.take());
        self.helper.wait().ok();
    }
}

/// A connection on which anything can be sent.
pub struct Raw {
    /// The connection.
    pub stream: UnixStream,
}

impl Raw {
    /// Sends bytes.
    ///
    /// # Errors
    /// The front has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends bytes with descriptors on the first of them.
    pub fn send_with(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let sent = send_with_fds(self.stream.as_fd(), bytes, fds).expect("descriptors");
        self.stream.write_all(&bytes[sent..]).expect("the rest");
    }

    /// The next answer; `None` at the end of the connection.
    pub fn answer(&mut self) -> Option<Response> {
        let mut prefix = [0; 4];
        if let Err(error) = self.stream.read_exact(&mut prefix) {
            let ends = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
            assert!(ends.contains(&error.kind()), "no answer and no end: {error}");
            return None;
        }
        let length = olb_wire::body_length(prefix, RESPONSE_BYTES_MAX).expect("a length");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        Some(olb_wire::decode(&body).expect("a response"))
    }

    /// The next answer; `None` at the end of the connection, in the middle of an answer too.
    pub fn answer_or_end(&mut self) -> Option<Response> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).ok()?;
        let length = olb_wire::body_length(prefix, RESPONSE_BYTES_MAX).expect("a length");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(olb_wire::decode(&body).expect("a response"))
    }

    /// The same connection, read as frames of the root half.
    pub fn into_client(self) -> Client {
        Client { socket: self.stream }
    }
}

/// A request with its length in front.
pub fn message(request: &Request) -> Vec<u8> {
    olb_wire::encode(request, REQUEST_BYTES_MAX).expect("a message")
}

/// A body with its length in front, whatever it is.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a length");
    [&length.to_be_bytes(), body].concat()
}

/// The presentation of a lease.
pub fn presentation(lease: &[u8]) -> Request {
    let lease = Some(ByteBuf::from(lease));
    Request::Execute(Box::new(Execute { lease, id: None, command: None }))
}

/// A submit of `argv` in the instance's working directory.
pub fn submit_of(instance: &Instance, argv: &[&str]) -> Submit {
    let cwd = instance.work();
    let identity = fs::metadata(&cwd).expect("the working directory");
    Submit {
        command: olb_wire::Command {
            argv: argv.iter().map(|word| ByteBuf::from(word.as_bytes())).collect(),
            cwd: ByteBuf::from(cwd.as_os_str().as_bytes()),
            cwd_dev: identity.dev(),
            cwd_ino: identity.ino(),
            environment_words: Vec::new(),
            user: None,
            group: None,
            stdin: None,
            cwd_changeable: false,
            staged: Vec::new(),
            unbound: Vec::new(),
        },
        reason: String::new(),
        session: String::new(),
        wall_clock_secs: None,
        wait: false,
    }
}

/// The request in an answer that is one.
#[track_caller]
pub fn view(response: Response) -> RequestView {
    match response {
        Response::Request(view) | Response::Decided { request: view, .. } => *view,
        other => panic!("{other:?}"),
    }
}

/// Reason and sentence of a refusal.
#[track_caller]
pub fn refused(response: Response) -> (Reason, String) {
    match response {
        Response::Refused { reason, text, .. } => {
            (Reason::from_number(reason).expect("a known reason"), text)
        }
        other => panic!("{other:?}"),
    }
}
