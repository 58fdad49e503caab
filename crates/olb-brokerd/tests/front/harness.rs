//! One front with its folders, and clients.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use olb_brokerd::{Config, Setup, serve_until};
use olb_exec_api::{ClientFrame, FRAME_HEADER_BYTES, Reason, Refusal};
use olb_lease::{Digest, Epoch, VerdictClaims, VerdictKind, plan_digest, sha256};
use olb_sys::clock::unix_secs;
use olb_sys::harden::effective_uid;
use olb_sys::socket::listen_stream;
use olb_wire::{
    ByteBuf, Command, Execute, Health, LENGTH_BYTES, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
    Request, RequestView, Response, Submit,
};
use tokio::sync::oneshot;

use crate::ledger::{FakeExecd, Seen, approver_key};

/// A front that serves until it is dropped.
pub(crate) struct Front {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the front panicked");
        }
    }
}

/// The folders of a test.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(folder.path(), 0o755);
        for (name, bits) in [("run", 0o755), ("state", 0o700)] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            mode(&folder.path().join(name), bits);
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn execd(&self) -> (FakeExecd, Seen) {
        FakeExecd::start(&self.path("run"), effective_uid())
    }

    pub(crate) fn front(&self) -> Front {
        self.front_with("")
    }

    /// A front with these lines as its `[limits]`.
    pub(crate) fn front_with(&self, limits: &str) -> Front {
        let config = Config::parse(format!("[limits]\n{limits}").as_bytes()).unwrap();
        let listen = |name: &str| {
            let listener = listen_stream(&self.path("run").join(name), 0o666).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let setup = Setup {
            runtime_dir: self.path("run"),
            state_dir: self.path("state"),
            config,
            request: listen("request.sock"),
            review: listen("review.sock"),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let stop = async { drop(stopped.await) };
            let ready = move || ready.send(()).unwrap();
            runtime.unwrap().block_on(serve_until(setup, ready, stop)).unwrap();
        });
        is_ready.recv().unwrap();
        Front { stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn connect(&self, socket: &str) -> Client {
        Client(UnixStream::connect(self.path("run").join(socket)).unwrap())
    }

    /// Asks on a new connection and returns it after the first answer.
    pub(crate) fn ask(&self, socket: &str, request: &Request) -> (Client, Response) {
        let mut client = self.connect(socket);
        client.send(request);
        let response = client.receive();
        (client, response)
    }

    pub(crate) fn submit(&self, submit: Submit) -> Response {
        self.ask("request.sock", &Request::Submit(Box::new(submit))).1
    }

    /// A request that was taken in.
    pub(crate) fn submitted(&self, submit: Submit) -> RequestView {
        view(self.submit(submit))
    }

    pub(crate) fn show(&self, selector: &str) -> Response {
        let show = Request::Show { selector: selector.into(), wait: false };
        self.ask("request.sock", &show).1
    }

    /// The pages of a list, without the empty one at the end.
    pub(crate) fn pages(&self, socket: &str, open: bool) -> Vec<Vec<RequestView>> {
        let (mut client, mut response) = self.ask(socket, &Request::List { open });
        let mut pages = Vec::new();
        loop {
            let Response::Requests(page) = response else { panic!("{response:?}") };
            if page.is_empty() {
                return pages;
            }
            pages.push(page);
            response = client.receive();
        }
    }

    pub(crate) fn health(&self) -> Health {
        match self.ask("request.sock", &Request::Status).1 {
            Response::Status(health) => *health,
            other => panic!("{other:?}"),
        }
    }

    /// A signed verdict on a request, handed in.
    pub(crate) fn decide(&self, request: &RequestView, kind: VerdictKind, why: &str) -> Response {
        let verdict = ByteBuf::from(verdict(request, kind, why));
        self.ask("review.sock", &Request::Decide { verdict }).1
    }

    pub(crate) fn approved(&self, request: &RequestView) -> RequestView {
        match self.decide(request, VerdictKind::Approve, "") {
            Response::Decided { request, .. } => *request,
            other => panic!("{other:?}"),
        }
    }

    /// Presents a lease; the connection is the root half's from here on.
    pub(crate) fn execute(&self, execute: Execute) -> Client {
        let mut client = self.connect("request.sock");
        client.send(&Request::Execute(Box::new(execute)));
        client
    }

    /// Waits until the request with this id is over.
    pub(crate) fn wait_until_over(&self, id: &str) -> RequestView {
        let show = Request::Show { selector: id.into(), wait: true };
        let (mut client, mut response) = self.ask("request.sock", &show);
        loop {
            let request = view(response);
            if !["pending", "approved", "executing"].contains(&request.state.as_str()) {
                return request;
            }
            response = client.receive();
        }
    }
}

/// A connection of a client.
pub(crate) struct Client(pub(crate) UnixStream);

impl Client {
    pub(crate) fn send(&mut self, request: &Request) {
        let bytes = olb_wire::encode(request, REQUEST_BYTES_MAX).unwrap();
        self.0.write_all(&bytes).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Response {
        let mut prefix = [0; LENGTH_BYTES];
        self.0.read_exact(&mut prefix).unwrap();
        let mut body = vec![0; olb_wire::body_length(prefix, RESPONSE_BYTES_MAX).unwrap()];
        self.0.read_exact(&mut body).unwrap();
        olb_wire::decode(&body).unwrap()
    }

    pub(crate) fn frame(&mut self) -> ClientFrame {
        let mut header = [0; FRAME_HEADER_BYTES];
        self.0.read_exact(&mut header).unwrap();
        let header = ClientFrame::header(header).unwrap();
        let mut payload = vec![0; header.length];
        self.0.read_exact(&mut payload).unwrap();
        ClientFrame::decode(header, &payload).unwrap()
    }

    pub(crate) fn refusal(&mut self) -> Refusal {
        match self.frame() {
            ClientFrame::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn view(response: Response) -> RequestView {
    match response {
        Response::Request(view) => *view,
        other => panic!("{other:?}"),
    }
}

/// Reason and text of a refusal.
pub(crate) fn refused(response: Response) -> (Reason, String) {
    match response {
        Response::Refused { reason, text, .. } => (Reason::from_number(reason).unwrap(), text),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn verdict(request: &RequestView, kind: VerdictKind, reason: &str) -> Vec<u8> {
    let issued_at = u32::try_from(unix_secs()).unwrap();
    let claims = VerdictClaims {
        kind,
        plan: plan_digest(&request.plan),
        epoch: Epoch([1; 16]),
        issued_at,
        expires_at: issued_at + 900,
        evidence: olb_lease::Evidence {
            channel: "terminal".into(),
            messages: Vec::new(),
            shown: Digest(sha256(b"shown")),
            reply: Digest(sha256(b"y")),
        },
        reason: reason.into(),
    };
    claims.sign(&approver_key()).unwrap()
}

/// A command in `/`, which only root can change.
pub(crate) fn command(argv: &[&str]) -> Command {
    let cwd = std::fs::metadata("/").unwrap();
    Command {
        argv: argv.iter().map(|word| ByteBuf::from(word.as_bytes())).collect(),
        cwd: ByteBuf::from(b"/".as_slice()),
        cwd_dev: cwd.dev(),
        cwd_ino: cwd.ino(),
        environment_words: Vec::new(),
        user: None,
        group: None,
        stdin: None,
        cwd_changeable: false,
        staged: Vec::new(),
        unbound: Vec::new(),
    }
}

pub(crate) fn ask_for(argv: &[&str]) -> Submit {
    Submit {
        command: command(argv),
        reason: "config changed".into(),
        session: "agent:main".into(),
        wall_clock_secs: None,
        wait: false,
    }
}

/// The lease that the front keeps for this request.
pub(crate) fn by_id(request: &RequestView) -> Execute {
    Execute { lease: None, id: Some(request.request_id.clone()), command: None }
}
