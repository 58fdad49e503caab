//! Messages on a client's stream. Exact lengths are read and never a byte more: what follows an
//! EXECUTE belongs to the root half, which is handed the socket.

use std::future::Future;
use std::time::Duration;

use olb_exec_api::Reason;
use olb_wire::{
    LENGTH_BYTES, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Request, Response, WireError, body_length,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::turns::Turn;

/// Room for a message, in bytes, that is made before any of it has arrived.
const FIRST_BYTES: usize = 4096;

/// Why there is no request to serve.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("the client closed the connection before its request was complete")]
    Closed,
    #[error("the request was not complete within {} seconds; send it again", .0.as_secs())]
    Late(Duration),
    #[error("bytes follow the request; send one request and wait for the answer")]
    Trailing,
    #[error("the request is not understood: {0}")]
    Wire(#[from] WireError),
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
}

impl FrameError {
    /// Whether the client gets an answer, and with which reason.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Closed | Self::Io(_) => None,
            Self::Late(_) | Self::Trailing | Self::Wire(_) => Some(Reason::Malformed),
        }
    }
}

/// Reads one request; it has to be complete within `limit`. Once its length is known `turn` is waited
/// for, and handed back to be kept as long as the request is.
pub(crate) async fn read<F: Future<Output = Option<Turn>>>(
    stream: &mut UnixStream,
    limit: Duration,
    turn: impl FnOnce(u64) -> F,
) -> Result<(Request, Option<Turn>), FrameError> {
    let body = timeout(limit, read_body(stream, turn));
    let (body, turn) = body.await.map_err(|_| FrameError::Late(limit))??;
    let request = olb_wire::decode(&body)?;
    let files_follow =
        matches!(&request, Request::Submit(submit) if !submit.command.staged.is_empty());
    match olb_sys::socket::queued_bytes(&*stream)? {
        0 => Ok((request, turn)),
        _ if files_follow => Ok((request, turn)),
        _ => Err(FrameError::Trailing),
    }
}

/// Plain reads without a control buffer: the kernel drops descriptors that a client attaches.
async fn read_body<F: Future<Output = Option<Turn>>>(
    stream: &mut UnixStream,
    turn: impl FnOnce(u64) -> F,
) -> Result<(Vec<u8>, Option<Turn>), FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).await.map_err(|_| FrameError::Closed)?;
    let length = body_length(prefix, REQUEST_BYTES_MAX)?;
    let turn = turn(length as u64).await;
    // Most fit at once; others grow with what arrives, so that an announcement costs no memory.
    let mut body = Vec::with_capacity(length.min(FIRST_BYTES));
    stream.take(length as u64).read_to_end(&mut body).await?;
    if body.len() == length { Ok((body, turn)) } else { Err(FrameError::Closed) }
}

/// Writes one response; a client that does not read within `limit` is given up.
pub(crate) async fn write(
    stream: &mut UnixStream,
    response: &Response,
    limit: Duration,
) -> Result<(), FrameError> {
    let bytes = olb_wire::encode(response, RESPONSE_BYTES_MAX)?;
    write_bytes(stream, &bytes, limit).await
}

/// Writes bytes that are framed already.
pub(crate) async fn write_bytes(
    stream: &mut UnixStream,
    bytes: &[u8],
    limit: Duration,
) -> Result<(), FrameError> {
    Ok(timeout(limit, stream.write_all(bytes)).await.map_err(|_| FrameError::Late(limit))??)
}

/// Resolves when the client hangs up, or sends what no client sends while it waits.
pub(crate) async fn gone(stream: &mut UnixStream) {
    let mut byte = [0];
    // Whatever this yields - an end, an error, a stray byte - the conversation is over.
    drop(stream.read(&mut byte).await);
}
