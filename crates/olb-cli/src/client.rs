//! Reaching the front: which socket, and one question per connection.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use olb_exec_api::Info;
use olb_lease::{Plan, plan_digest};
use olb_review::display::safe;
use olb_sys::socket::ask_for_senders;
use olb_wire::{
    Execute, LENGTH_BYTES, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Request, RequestView, Response,
    WireError,
};

use crate::failure::{Failure, code};
use crate::relay::Frames;
use crate::select::Selector;
use crate::text;

/// Where the sockets are unless `OLB_RUNTIME_DIR` says otherwise.
const DEFAULT_RUNTIME_DIR: &str = "/run/olb";
/// An answer that does not wait for a human is there within this time.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// While files are sent the front takes some of their bytes at least so often.
const UPLOAD_STALL: Duration = Duration::from_secs(60);

/// A list has at most this many requests.
const LISTED_MAX: usize = 10_000;

/// The two sockets of the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    /// For those who ask.
    Request,
    /// For those who decide.
    Review,
}

/// The folder with the sockets and public keys of one broker.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    dir: PathBuf,
    is_default: bool,
}

impl Runtime {
    /// For the requester's own commands: whatever `OLB_RUNTIME_DIR` says.
    pub(crate) fn for_requester() -> Self {
        match std::env::var_os("OLB_RUNTIME_DIR") {
            Some(dir) if !dir.is_empty() => Self { dir: dir.into(), is_default: false },
            Some(_) | None => Self { dir: DEFAULT_RUNTIME_DIR.into(), is_default: true },
        }
    }

    /// For commands that sign or change something: `OLB_RUNTIME_DIR` counts only where nobody but
    /// root and the caller can have put it there.
    pub(crate) fn for_operator() -> Result<Self, Failure> {
        let runtime = Self::for_requester();
        if runtime.is_default {
            return Ok(runtime);
        }
        let Ok(dir) = runtime.dir.canonicalize() else {
            return Err(Failure::no_broker());
        };
        let caller = olb_sys::harden::effective_uid();
        let trusted = |part: &Path| {
            // What is made in the folder itself is looked for by name: there sticky is no help.
            let may_be_sticky = part != dir;
            is_trusted(part, caller, may_be_sticky)
        };
        match dir.ancestors().find(|part| !trusted(part)) {
            None => Ok(Self { dir, is_default: false }),
            Some(part) => Err(Failure::refused(
                "untrusted_runtime_dir",
                format!(
                    "OLB_RUNTIME_DIR is not used: {} can be changed by somebody other than root \
                     and you; unset it or give a folder of your own",
                    safe(part.as_os_str().as_encoded_bytes())
                ),
            )),
        }
    }

    /// The broker whose sockets are in `dir`, for callers that made it themselves.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir, is_default: false }
    }

    /// A file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A path beside the folder, for instances that keep their state there; `None` for the
    /// installed broker.
    pub(crate) fn beside(&self, path: &str) -> Option<PathBuf> {
        if self.is_default {
            return None;
        }
        Some(self.dir.parent()?.join(path))
    }

    /// Connects.
    pub(crate) fn connect(&self, socket: Socket) -> Result<Connection, Failure> {
        let name = match socket {
            Socket::Request => "request.sock",
            Socket::Review => "review.sock",
        };
        let stream = UnixStream::connect(self.file(name)).map_err(|_| Failure::no_broker())?;
        Ok(Connection { stream })
    }

    /// One question and its answer; a refusal is a failure.
    pub(crate) fn ask(&self, socket: Socket, request: &Request) -> Result<Response, Failure> {
        let mut connection = self.connect(socket)?;
        connection.send(request)?;
        connection.receive(Some(Instant::now() + ANSWER_TIME))?.ok_or_else(Failure::no_broker)
    }

    /// The request that `selector` names, and no other.
    pub(crate) fn show(
        &self,
        socket: Socket,
        selector: &Selector,
    ) -> Result<Box<RequestView>, Failure> {
        match self.ask(socket, &Request::Show { selector: selector.text(), wait: false })? {
            Response::Request(view) if selector.means(&view) => Ok(view),
            Response::Request(_) => Err(Failure::mismatch(text::OTHER_REQUEST)),
            _ => Err(Failure::bad_answer()),
        }
    }

    /// The requests that the front shows to the caller: all pages of them.
    pub(crate) fn list(&self, socket: Socket, open: bool) -> Result<Vec<RequestView>, Failure> {
        let mut connection = self.connect(socket)?;
        connection.send(&Request::List { open })?;
        let mut all = Vec::new();
        loop {
            match connection.receive(Some(Instant::now() + ANSWER_TIME))? {
                Some(Response::Requests(page)) if page.is_empty() => return Ok(all),
                Some(Response::Requests(page)) => all.extend(page),
                Some(_) => return Err(Failure::bad_answer()),
                None => return Err(Failure::no_broker()),
            }
            // No honest front keeps as many; another one would go on for ever.
            if all.len() > LISTED_MAX {
                return Err(Failure::bad_answer());
            }
        }
    }

    /// What the root half says of itself, by way of the front.
    pub(crate) fn info(&self, socket: Socket) -> Result<Info, Failure> {
        let Response::Status(health) = self.ask(socket, &Request::Status)? else {
            return Err(Failure::bad_answer());
        };
        let info = health.info.ok_or_else(Failure::no_broker)?;
        olb_exec_api::decode_info(&info).map_err(|_| Failure::bad_answer())
    }
}

/// Whether only root and `caller` can replace what is in `part`. In a sticky folder an entry that is
/// there belongs to its owner, but anybody can make one that is not.
fn is_trusted(part: &Path, caller: u32, may_be_sticky: bool) -> bool {
    const OTHERS_MAY_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    part.symlink_metadata().is_ok_and(|meta| {
        let owner_is_trusted = meta.uid() == 0 || meta.uid() == caller;
        let is_sticky = may_be_sticky && meta.mode() & STICKY != 0;
        owner_is_trusted && (meta.mode() & OTHERS_MAY_WRITE == 0 || is_sticky)
    })
}

/// One connection: one request, then its answers.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Sends the request.
    pub(crate) fn send(&mut self, request: &Request) -> Result<(), Failure> {
        let bytes = olb_wire::encode(request, REQUEST_BYTES_MAX).map_err(|error| match error {
            // Standard input was measured when it was read: what is left are the words.
            WireError::TooLong { .. } => Failure::usage(text::TOO_LONG),
            WireError::Encode(_) | WireError::Decode(_) => Failure::bad_answer(),
        })?;
        self.write(&bytes)
    }

    /// Sends the bytes of the files that the request announced.
    pub(crate) fn send_files(&mut self, files: &[Vec<u8>]) -> Result<(), Failure> {
        // A front that reads nothing at all for so long is none.
        let set = self.stream.set_write_timeout(Some(UPLOAD_STALL));
        set.map_err(|_| Failure::no_broker())?;
        files.iter().try_for_each(|bytes| self.write(bytes))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.stream.write_all(bytes) {
            Ok(()) => Ok(()),
            // The front refuses strangers without reading; what it said first can still be read.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            Err(_) => Err(Failure::no_broker()),
        }
    }

    /// The next answer, or `None` when `deadline` comes first. A refusal is a failure.
    pub(crate) fn receive(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Response>, Failure> {
        let mut prefix = [0; LENGTH_BYTES];
        if !self.fill(&mut prefix, deadline)? {
            return Ok(None);
        }
        let length =
            olb_wire::body_length(prefix, RESPONSE_BYTES_MAX).map_err(|_| Failure::bad_answer())?;
        let mut body = vec![0; length];
        if !self.fill(&mut body, Some(Instant::now() + ANSWER_TIME))? {
            return Err(Failure::no_broker());
        }
        let response = olb_wire::decode(&body).map_err(|_| Failure::bad_answer())?;
        check_views(&response)?;
        match response {
            Response::Refused { reason, text, request } => {
                Err(Failure::from_broker(reason, &text, request))
            }
            response => Ok(Some(response)),
        }
    }

    /// Presents a lease. `root_half` is the uid whose word the frames that follow have to be.
    pub(crate) fn execute(mut self, execute: Execute, root_half: u32) -> Result<Frames, Failure> {
        // Before it is sent: of what came earlier the kernel knows no sender.
        ask_for_senders(&self.stream).map_err(|_| Failure::no_broker())?;
        self.send(&Request::Execute(Box::new(execute)))?;
        Ok(Frames::new(self.stream, root_half))
    }

    /// Fills `buffer`; false when the time is over before its first byte.
    fn fill(&mut self, buffer: &mut [u8], deadline: Option<Instant>) -> Result<bool, Failure> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return if filled == 0 { Ok(false) } else { Err(Failure::no_broker()) };
            }
            self.stream.set_read_timeout(left).map_err(|_| Failure::no_broker())?;
            match self.stream.read(rest) {
                Ok(0) => return Err(no_answer()),
                Ok(count) => filled += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted
                    | io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut => {}
                    _ => return Err(no_answer()),
                },
            }
        }
        Ok(true)
    }
}

/// Ties every request in an answer to its plan, from whose bytes id and requester follow. Nothing
/// that does not belong together reaches any command.
fn check_views(response: &Response) -> Result<(), Failure> {
    let views: &[RequestView] = match response {
        Response::Request(view) | Response::Decided { request: view, .. } => {
            std::slice::from_ref(view)
        }
        Response::Refused { request, .. } => request.as_deref().map_or(&[], std::slice::from_ref),
        Response::Requests(views) => views,
        Response::Status(_) | Response::Records(_) => &[],
    };
    let belongs = |view: &RequestView| {
        view.request_id == plan_digest(&view.plan).request_id().to_string()
            && Plan::decode(&view.plan).is_ok_and(|plan| plan.requester_uid == view.requester_uid)
    };
    if views.iter().all(belongs) { Ok(()) } else { Err(Failure::mismatch(text::SWAPPED_PLAN)) }
}

fn no_answer() -> Failure {
    Failure::new(code::UNAVAILABLE, "unavailable", text::NO_ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::view;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection { stream: ours }, theirs)
    }

    #[test]
    fn an_answer_in_pieces_is_read_whole() {
        let (mut connection, mut front) = pair();
        let answer = Response::Request(Box::new(view("pending")));
        let bytes = olb_wire::encode(&answer, RESPONSE_BYTES_MAX).unwrap();
        let writer = std::thread::spawn(move || {
            for byte in bytes {
                front.write_all(&[byte]).unwrap();
            }
        });
        assert_eq!(connection.receive(None).unwrap(), Some(answer));
        writer.join().unwrap();
    }

    #[test]
    fn a_refusal_becomes_a_failure_with_its_code() {
        let (mut connection, mut front) = pair();
        let reason = olb_exec_api::Reason::NotListed;
        let answer = Response::Refused {
            reason: reason as u16,
            text: "uid 7 may not ask\u{1b}[2J".into(),
            request: None,
        };
        front.write_all(&olb_wire::encode(&answer, RESPONSE_BYTES_MAX).unwrap()).unwrap();
        let failure = connection.receive(None).unwrap_err();
        assert_eq!((failure.code, failure.name), (77, "not_listed"));
        assert_eq!(failure.text, "uid 7 may not ask\\u{1b}[2J");
    }

    #[test]
    fn silence_garbage_and_a_closed_door_are_told_apart_from_answers() {
        let (mut connection, front) = pair();
        assert_eq!(connection.receive(Some(Instant::now())).unwrap(), None);
        drop(front);
        assert_eq!(connection.receive(None).unwrap_err().text, text::NO_ANSWER);
        let (mut connection, mut front) = pair();
        front.write_all(&[0, 0, 0, 1, 0xff]).unwrap();
        assert_eq!(connection.receive(None).unwrap_err().text, text::BAD_ANSWER);
        let (mut connection, mut front) = pair();
        front.write_all(&[0xff; 4]).unwrap();
        assert_eq!(connection.receive(None).unwrap_err().code, 69);
    }

    #[test]
    fn a_request_that_is_not_that_of_its_plan_reaches_nobody() {
        let asked = view("pending");
        let mut other = crate::testing::plan();
        other.random = [8; 16];
        let swapped = RequestView { plan: other.encode().unwrap().into(), ..asked.clone() };
        let renamed = RequestView { requester_uid: 0, ..asked.clone() };
        let broken = RequestView { plan: vec![0xff].into(), ..asked.clone() };
        for lie in [swapped, renamed, broken] {
            let lie = Box::new(lie);
            let refused = Response::Refused {
                reason: olb_exec_api::Reason::Denied as u16,
                text: String::new(),
                request: Some(lie.clone()),
            };
            let decided = Response::Decided { receipt: Vec::new().into(), request: lie.clone() };
            let list = Response::Requests(vec![asked.clone(), (*lie).clone()]);
            for answer in [Response::Request(lie), list, decided, refused] {
                let (mut connection, mut front) = pair();
                let bytes = olb_wire::encode(&answer, RESPONSE_BYTES_MAX).unwrap();
                front.write_all(&bytes).unwrap();
                let failure = connection.receive(None).unwrap_err();
                assert_eq!((failure.code, failure.name), (70, "mismatch"));
            }
        }
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let me = olb_sys::harden::effective_uid();
        let mode =
            |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode));
        for (bits, trusted) in
            [(0o700, true), (0o711, true), (0o770, false), (0o777, false), (0o1777, true)]
        {
            mode(bits).unwrap();
            assert_eq!(is_trusted(dir.path(), me, true), trusted, "{bits:o}");
        }
        assert!(!is_trusted(dir.path(), me, false), "in a sticky folder anybody makes sockets");
        mode(0o700).unwrap();
        assert_eq!(is_trusted(dir.path(), me + 1, true), me == 0);
        assert!(!is_trusted(&dir.path().join("missing"), me, true));
    }
}
