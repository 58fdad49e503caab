//! Speaking exec.sock as a front does, honest or not.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};

use olb_exec_api::{
    ClientFrame, Decided, Info, Op, Query, Reason, Recorded, Refusal, RequestState, Status,
    decode_info, reply, request, split_reply,
};
use olb_lease::{Epoch, PlanDigest, VerdictKind, plan_digest};
use olb_sys::socket::{
    RecvError, accept, connect_seqpacket, listen_seqpacket, recv_datagram, recv_with_fds,
    send_datagram,
};

use crate::approver::Approver;
use crate::instance::Instance;
use crate::peers::Peers;

/// exec.sock of an instance.
#[derive(Debug, Clone)]
pub struct ExecSock {
    path: PathBuf,
    peers: Peers,
    /// The helper program, and the uid to connect as where that is not the test's own.
    helper: PathBuf,
    speaker: Option<u32>,
}

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// DECIDE or READ: the answer.
    Done(Vec<u8>),
    /// The lease is burned.
    Burned,
    /// The run is over.
    Outcome(Recorded),
    /// Refused.
    Refused(Refusal),
}

/// The replies on one connection, as they come.
pub struct Replies {
    socket: OwnedFd,
}

impl Iterator for Replies {
    type Item = Reply;

    fn next(&mut self) -> Option<Reply> {
        let datagram = match recv_datagram(self.socket.as_fd(), 1 << 20, 0) {
            Ok(datagram) => datagram,
            // Also what a root half leaves behind that is killed.
            Err(RecvError::Eof | RecvError::Io(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        let (status, a, _) = split_reply(&datagram.bytes).expect("a reply");
        Some(match status {
            Status::Done => Reply::Done(a.into()),
            Status::Burned => Reply::Burned,
            Status::Outcome => Reply::Outcome(Recorded::decode(a).expect("an outcome")),
            Status::Refused => Reply::Refused(Refusal::decode(a).expect("a refusal")),
        })
    }
}

impl ExecSock {
    /// exec.sock of `instance`.
    pub fn of(instance: &Instance) -> Self {
        Self {
            path: instance.runtime().join("exec.sock"),
            peers: Peers::of(instance),
            helper: instance.path("bin/olb-test-peer"),
            speaker: None,
        }
    }

    /// The same, but another socket.
    #[must_use]
    pub fn at(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// The same, but connected by `uid` in the test's place.
    #[must_use]
    pub fn speaking_as(self, uid: u32) -> Self {
        Self { speaker: Some(uid), ..self }
    }

    /// A connection on which nothing was sent yet.
    pub fn connect(&self) -> OwnedFd {
        let Some(uid) = self.speaker else {
            return connect_seqpacket(&self.path).expect("exec.sock");
        };
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut command = Command::new(&self.helper);
        command.arg(&self.path).arg("seqpacket").uid(uid).gid(uid).stdin(OwnedFd::from(theirs));
        let mut child = command.spawn().expect("the helper");
        drop(command);
        (&ours).write_all(b"c").expect("the helper");
        let (_, mut fds) = recv_with_fds(ours.as_fd(), &mut [0], 1).expect("a hand-over");
        drop(ours);
        assert!(child.wait().expect("its end").success());
        fds.pop().expect("the connection")
    }

    /// Sends raw bytes and descriptors.
    pub fn send(&self, datagram: &[u8], fds: &[BorrowedFd<'_>]) -> Replies {
        let socket = self.connect();
        send_datagram(socket.as_fd(), datagram, fds).expect("a datagram");
        Replies { socket }
    }

    /// Sends a request.
    pub fn ask(&self, op: Op, a: &[u8], b: &[u8], fds: &[BorrowedFd<'_>]) -> Replies {
        self.send(&request(op, a, b).expect("a request"), fds)
    }

    /// Sends a request, if somebody is there to take it.
    pub fn try_ask(
        &self,
        op: Op,
        a: &[u8],
        b: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Replies> {
        let socket = connect_seqpacket(&self.path)?;
        send_datagram(socket.as_fd(), &request(op, a, b).expect("a request"), fds)?;
        Ok(Replies { socket })
    }

    /// Who the broker is, if it answers.
    pub fn try_info(&self) -> Option<Info> {
        match self.try_ask(Op::Read, &Query::Info.encode(), &[], &[]).ok()?.next()? {
            Reply::Done(answer) => Some(decode_info(&answer).expect("info")),
            other => panic!("{other:?}"),
        }
    }

    /// Who the broker is.
    pub fn info(&self) -> Info {
        match self.ask(Op::Read, &Query::Info.encode(), &[], &[]).next() {
            Some(Reply::Done(answer)) => decode_info(&answer).expect("info"),
            other => panic!("{other:?}"),
        }
    }

    /// What the ledger holds on a request.
    pub fn state(&self, plan: PlanDigest) -> RequestState {
        match self.ask(Op::Read, &Query::Request { plan }.encode(), &[], &[]).next() {
            Some(Reply::Done(answer)) => RequestState::decode(&answer).expect("a state"),
            other => panic!("{other:?}"),
        }
    }

    /// Hands in a verdict over a socket that `approver` connected.
    pub fn decide(
        &self,
        verdict: &[u8],
        plan: &[u8],
        approver: impl AsFd,
    ) -> Result<Decided, Refusal> {
        match self.ask(Op::Decide, verdict, plan, &[approver.as_fd()]).next() {
            Some(Reply::Done(answer)) => Ok(Decided::decode(&answer).expect("a decision")),
            Some(Reply::Refused(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Signs and hands in a verdict as `approver`.
    pub fn decide_as(
        &self,
        approver: &Approver,
        kind: VerdictKind,
        plan: &[u8],
        epoch: Epoch,
    ) -> Result<Decided, Refusal> {
        let verdict = approver.sign(kind, plan_digest(plan), epoch);
        let (socket, _keep) = self.peers.connected_by(approver.uid);
        self.decide(&verdict, plan, &socket)
    }

    /// Has `plan` approved; returns the lease.
    pub fn approve(&self, approver: &Approver, plan: &[u8]) -> Vec<u8> {
        let epoch = self.info().epoch;
        let decided = self.decide_as(approver, VerdictKind::Approve, plan, epoch);
        decided.expect("an approval").lease.expect("a lease")
    }

    /// Presents a lease for a client that `uid` connected.
    pub fn execute(&self, lease: &[u8], plan: &[u8], uid: u32) -> (Replies, Client) {
        self.execute_with(lease, plan, uid, &[])
    }

    /// The same, with the descriptors of standard input and of staged files.
    pub fn execute_with(
        &self,
        lease: &[u8],
        plan: &[u8],
        uid: u32,
        files: &[BorrowedFd<'_>],
    ) -> (Replies, Client) {
        let (server, client) = self.peers.connected_by(uid);
        let fds = [&[server.as_fd()], files].concat();
        let replies = self.ask(Op::Execute, lease, plan, &fds);
        (replies, Client { socket: client })
    }

    /// Presents a lease; the reason why it was refused, which the client was told too.
    ///
    /// # Panics
    /// It was not refused.
    pub fn refused(&self, lease: &[u8], plan: &[u8], uid: u32) -> Reason {
        refusal_of(self.execute(lease, plan, uid))
    }

    /// In the place of an instance's root half, which is down: answers the first who asks that it is busy,
    /// then it is gone.
    pub fn busy_once(instance: &Instance) -> JoinHandle<()> {
        let socket = instance.runtime().join("exec.sock");
        fs::remove_file(&socket).ok();
        let listener = listen_seqpacket(&socket, 0o600, None).expect("exec.sock");
        thread::spawn(move || {
            let peer = accept(&listener).expect("a peer");
            recv_datagram(&peer, 1 << 10, 0).expect("a question");
            let busy = Refusal::new(Reason::Busy, "too much is asked").encode();
            let busy = reply(Status::Refused, &busy, &[]).expect("a reply");
            send_datagram(&peer, &busy, &[]).expect("a listener");
        })
    }
}

/// The reason of a refusal that front and client were told alike.
///
/// # Panics
/// It was not refused.
pub fn refusal_of((mut replies, mut client): (Replies, Client)) -> Reason {
    let told = match client.frame() {
        Some((ClientFrame::Refused(refusal), _)) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    let reason = told.reason;
    assert_eq!(replies.next(), Some(Reply::Refused(told)), "both are told the same");
    reason
}

/// The client's side of a handed-over socket.
pub struct Client {
    /// The socket.
    pub socket: UnixStream,
}

impl Client {
    /// The next frame and the descriptors that came with it.
    pub fn frame(&mut self) -> Option<(ClientFrame, Vec<OwnedFd>)> {
        let mut header = [0; 8];
        let (got, fds) = recv_with_fds(self.socket.as_fd(), &mut header, 2).expect("a frame");
        if got == 0 {
            return None;
        }
        self.socket.read_exact(&mut header[got..]).expect("a header");
        let header = ClientFrame::header(header).expect("a header");
        let mut payload = vec![0; header.length];
        self.socket.read_exact(&mut payload).expect("a payload");
        Some((ClientFrame::decode(header, &payload).expect("a frame"), fds))
    }
}
