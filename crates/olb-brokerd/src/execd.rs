//! The front's side of `exec.sock`: one connection per operation.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use olb_exec_api::{
    DATAGRAM_BYTES_MAX, Decided, FrameError, HeaderError, Info, Op, Query, RecordPage, Recorded,
    Refusal, RequestState, Status, decode_info, request, split_reply,
};
use olb_lease::PlanDigest;
use olb_lease::cbor::CborError;
use olb_sys::socket::{RecvError, connect_seqpacket_now, recv_datagram, send_datagram};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// How long the root half may take to answer anything but the end of a run.
const ANSWER: Duration = Duration::from_secs(15);

/// Why an operation has no result.
#[derive(Debug, Error)]
pub(crate) enum ExecdError {
    /// The root half said no.
    #[error("{}", .0.text)]
    Refused(Refusal),
    #[error("the root half cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("the root half closed the connection without an answer")]
    Closed,
    #[error("the root half did not answer within {} seconds", ANSWER.as_secs())]
    Late,
    #[error("the root half's answer is not understood: {0}")]
    Header(#[from] HeaderError),
    #[error("the root half's answer is not understood: {0}")]
    Body(#[from] CborError),
    #[error("the root half's answer is not understood: {0}")]
    Frame(#[from] FrameError),
    #[error("the root half answered something else than was asked")]
    Unexpected,
}

/// The root half, by its socket.
#[derive(Debug, Clone)]
pub(crate) struct Execd {
    socket: PathBuf,
}

impl Execd {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Who and what this broker is.
    pub(crate) async fn info(&self) -> Result<Info, ExecdError> {
        Ok(decode_info(&self.read(Query::Info).await?)?)
    }

    /// A page of the audit trail, checked to be one and otherwise passed on as it is.
    pub(crate) async fn records(&self, from: u64) -> Result<Vec<u8>, ExecdError> {
        let page = self.read(Query::Records { from }).await?;
        RecordPage::decode(&page)?;
        Ok(page)
    }

    /// What the ledger holds on one request.
    pub(crate) async fn request(&self, plan: PlanDigest) -> Result<RequestState, ExecdError> {
        Ok(RequestState::decode(&self.read(Query::Request { plan }).await?)?)
    }

    /// Hands in a verdict together with the approver's own socket.
    pub(crate) async fn decide(
        &self,
        verdict: &[u8],
        plan: &[u8],
        approver: BorrowedFd<'_>,
    ) -> Result<Decided, ExecdError> {
        let conversation = self.open(Op::Decide, verdict, plan, &[approver])?;
        Ok(Decided::decode(&conversation.done().await?)?)
    }

    /// Presents a lease together with the client's socket, and standard input if there is any.
    pub(crate) fn execute(
        &self,
        lease: &[u8],
        plan: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Run, ExecdError> {
        Ok(Run(self.open(Op::Execute, lease, plan, descriptors)?))
    }

    async fn read(&self, query: Query) -> Result<Vec<u8>, ExecdError> {
        self.open(Op::Read, &query.encode(), &[], &[])?.done().await
    }

    fn open(
        &self,
        op: Op,
        a: &[u8],
        b: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Conversation, ExecdError> {
        let datagram = request(op, a, b)?;
        let socket = connect_seqpacket_now(&self.socket).map_err(ExecdError::Unreachable)?;
        // A fresh connection has room for one datagram. Where the kernel refuses all the same, too
        // many descriptors are under way and the root half is behind: that is for the caller to say.
        send_datagram(&socket, &datagram, descriptors).map_err(ExecdError::Unreachable)?;
        let socket = UnixDatagram::from_std(socket.into()).map_err(ExecdError::Unreachable)?;
        Ok(Conversation { socket })
    }
}

/// One connection. tokio knows no `SOCK_SEQPACKET` type; the one for datagrams only waits for the
/// descriptor to be ready, and sending and receiving is done by `olb-sys`.
struct Conversation {
    socket: UnixDatagram,
}

impl Conversation {
    async fn done(&self) -> Result<Vec<u8>, ExecdError> {
        match timeout(ANSWER, self.next()).await.map_err(|_| ExecdError::Late)?? {
            (Status::Done, body) => Ok(body),
            (Status::Burned | Status::Outcome | Status::Refused, _) => Err(ExecdError::Unexpected),
        }
    }

    /// The next reply; a refusal is an error.
    async fn next(&self) -> Result<(Status, Vec<u8>), ExecdError> {
        let receive = || match recv_datagram(&self.socket, DATAGRAM_BYTES_MAX, 0) {
            Err(RecvError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            other => Ok(other),
        };
        let received = self.socket.async_io(Interest::READABLE, receive).await;
        let datagram = match received.map_err(ExecdError::Unreachable)? {
            Ok(datagram) => datagram,
            Err(RecvError::Eof) => return Err(ExecdError::Closed),
            Err(_) => return Err(ExecdError::Unexpected),
        };
        let (status, body, rest) = split_reply(&datagram.bytes)?;
        match status {
            Status::Refused => Err(ExecdError::Refused(Refusal::decode(body)?)),
            Status::Done | Status::Burned | Status::Outcome if rest.is_empty() => {
                Ok((status, body.to_vec()))
            }
            Status::Done | Status::Burned | Status::Outcome => Err(ExecdError::Unexpected),
        }
    }
}

/// An execution that the root half was asked for.
pub(crate) struct Run(Conversation);

impl Run {
    /// Waits until the lease is burned and the command started.
    pub(crate) async fn burned(&self) -> Result<(), ExecdError> {
        match timeout(ANSWER, self.0.next()).await.map_err(|_| ExecdError::Late)?? {
            (Status::Burned, _) => Ok(()),
            (Status::Done | Status::Outcome | Status::Refused, _) => Err(ExecdError::Unexpected),
        }
    }

    /// Waits until the command is over, however long it runs.
    pub(crate) async fn outcome(&self) -> Result<Recorded, ExecdError> {
        match self.0.next().await? {
            (Status::Outcome, body) => Ok(Recorded::decode(&body)?),
            (Status::Done | Status::Burned | Status::Refused, _) => Err(ExecdError::Unexpected),
        }
    }
}
