//! Messages between unprivileged processes: the agent's and operator's `olb` on one side, the
//! front on the other. The root half never links this crate.
//!
//! A message is a 4-byte big-endian length and that many bytes of CBOR. On `request.sock` and
//! `review.sock` the client sends one [`Request`] and reads [`Response`]s. A [`Request::Submit`] is
//! followed by the bytes of its staged files, in their order and with nothing between; after
//! [`Request::Execute`] it reads the frames of `olb-exec-api` instead, because from there on the
//! root half may be the one that writes.
#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
pub use serde_bytes::ByteBuf;
use thiserror::Error;

/// Bytes of the length that precedes a message.
pub const LENGTH_BYTES: usize = 4;
/// A message to the front is at most this long, in bytes: 1 MiB of standard input and a plan's
/// worth of the rest.
pub const REQUEST_BYTES_MAX: usize = 1_310_720;
/// A message from the front is at most this long, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why bytes are not a message.
#[derive(Debug, Error)]
pub enum WireError {
    /// The length is above the limit.
    #[error("a message of {got} bytes, at most {max} are read")]
    TooLong {
        /// The limit.
        max: usize,
        /// The announced length.
        got: usize,
    },
    /// The body does not decode.
    #[error("the message does not decode: {0}")]
    Decode(serde_cbor::Error),
    /// The message cannot be encoded.
    #[error("the message cannot be encoded: {0}")]
    Encode(serde_cbor::Error),
}

/// A file that the requester's process read, in place of which the command gets a copy. In a
/// [`Request::Submit`] its bytes follow the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagedWord {
    /// The word of `argv` that names it.
    pub word: u32,
    /// How many bytes of that word stand before the name.
    pub prefix: u32,
    /// Canonical path.
    pub path: ByteBuf,
    /// How many bytes were read.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: ByteBuf,
    /// Whether the file could be executed.
    pub executable: bool,
}

/// A name in the command behind which others may put another file at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnboundWord {
    /// The word of `argv` that names it.
    pub word: u32,
    /// Canonical path.
    pub path: ByteBuf,
}

/// The command as typed, with what the requester's process knows of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The arguments as typed, the command's name first.
    pub argv: Vec<ByteBuf>,
    /// Working directory: canonical path.
    pub cwd: ByteBuf,
    /// Its `st_dev` as the requester sees it.
    pub cwd_dev: u64,
    /// Its `st_ino` as the requester sees it.
    pub cwd_ino: u64,
    /// Whether others than root can change it, as far as the requester sees.
    pub cwd_changeable: bool,
    /// `NAME=value` words typed before the command.
    pub environment_words: Vec<ByteBuf>,
    /// Target account, as `-u` takes it: a name or `#uid`; root if absent.
    pub user: Option<String>,
    /// Target group, as `-g` takes it.
    pub group: Option<String>,
    /// Bytes for standard input; `/dev/null` if absent.
    pub stdin: Option<ByteBuf>,
    /// Files of which copies are bound, ascending by word.
    pub staged: Vec<StagedWord>,
    /// Files that are named and not bound, ascending by word.
    pub unbound: Vec<UnboundWord>,
}

/// A new request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// What is asked for.
    pub command: Command,
    /// The requester's own words about why.
    pub reason: String,
    /// The requester's session key.
    pub session: String,
    /// Wall-clock limit of the command, in seconds; the configured default if absent.
    pub wall_clock_secs: Option<u32>,
    /// Keep the connection and send the request again each time it changes, until it is over.
    pub wait: bool,
}

/// The presentation of a lease. With neither lease nor id the front looks for an approved request
/// for this command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execute {
    /// The lease in binary.
    pub lease: Option<ByteBuf>,
    /// The request whose lease the front keeps: `req_...` or code.
    pub id: Option<String>,
    /// The command as typed now, compared with what was approved; may be absent with an id.
    pub command: Option<Command>,
}

/// What a client asks of the front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Request {
    /// Ask for a command (request.sock). The bytes of its staged files follow.
    Submit(Box<Submit>),
    /// Present a lease (request.sock). Answered by frames of `olb-exec-api`.
    Execute(Box<Execute>),
    /// One request by `req_...` or code: one's own, or any for an approver (both sockets).
    Show {
        /// `req_...` or code.
        selector: String,
        /// Keep the connection and send the request again each time it changes.
        wait: bool,
    },
    /// Requests: one's own, or all for an approver (both sockets). Several [`Response::Requests`]
    /// follow, an empty one last.
    List {
        /// Only those not in a final state; otherwise the newest of all.
        open: bool,
    },
    /// Cancel one's own pending request (request.sock).
    Cancel {
        /// `req_...` or code.
        selector: String,
    },
    /// Health, limits and keys (both sockets).
    Status,
    /// Hand in a signed verdict (review.sock).
    Decide {
        /// The verdict.
        verdict: ByteBuf,
    },
    /// Every request that changes from now on, as [`Response::Request`] (review.sock).
    Watch,
    /// Audit records from this sequence number on (review.sock); the answer is a page of
    /// `olb-exec-api`.
    Records {
        /// First sequence number, from 1.
        from: u64,
    },
}

/// A request as its owner or an approver may see it. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestView {
    /// `req_...`.
    pub request_id: String,
    /// The short code.
    pub code: String,
    /// One of the documented states.
    pub state: String,
    /// Who asked.
    pub requester_uid: u32,
    /// The plan's bytes.
    pub plan: ByteBuf,
    /// When it was asked for.
    pub created_at: u64,
    /// When it expires unanswered.
    pub expires_at: u64,
    /// True where this submit joined a request that was there before.
    pub joined: bool,
    /// The lease in binary, for its owner, while it can be used.
    pub lease: Option<ByteBuf>,
    /// When the lease expires.
    pub lease_expires_at: Option<u64>,
    /// Who decided: the enrolled name.
    pub decided_by: Option<String>,
    /// The human's reason for a denial or revocation, or ours for an expiry.
    pub reason: Option<String>,
    /// Exit code of the command.
    pub exit_code: Option<u8>,
    /// Signal that killed the command.
    pub signal: Option<u8>,
    /// `errno` of a failed spawn.
    pub errno: Option<u16>,
    /// With `outcome_unknown`: whether it may still be running.
    pub may_be_running: Option<bool>,
    /// The signed receipt of the last thing that was recorded.
    pub receipt: Option<ByteBuf>,
    /// The last bytes of standard output.
    pub stdout_tail: ByteBuf,
    /// The last bytes of standard error.
    pub stderr_tail: ByteBuf,
    /// Seconds after which asking again is allowed, after a denial.
    pub retry_after_secs: Option<u64>,
}

/// Health and limits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// Whether the root half answered.
    pub execd: bool,
    /// One sentence where something is wrong.
    pub problem: Option<String>,
    /// The root half's `Info` as it sent it (`olb-exec-api`), if it answered.
    pub info: Option<ByteBuf>,
    /// The front's own limits by name.
    pub limits: Vec<(String, u64)>,
    /// Open requests in all.
    pub open_requests: u64,
    /// Version of the front.
    pub version: String,
}

/// What the front answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// One request; more follow where the client asked to wait or watch.
    Request(Box<RequestView>),
    /// A page of a list, the newest request of all on the last page and last there. After the last
    /// page comes an empty one.
    Requests(Vec<RequestView>),
    /// Health.
    Status(Box<Health>),
    /// A page of audit records.
    Records(ByteBuf),
    /// A verdict was recorded by the root half: its signed record, and the request as it is now.
    Decided {
        /// The receipt.
        receipt: ByteBuf,
        /// The request.
        request: Box<RequestView>,
    },
    /// Refused.
    Refused {
        /// Number of the reason (`olb-exec-api`).
        reason: u16,
        /// One sentence.
        text: String,
        /// The request it is about, where there is one and the caller may see it.
        request: Option<Box<RequestView>>,
    },
}

/// A message with its length in front.
///
/// # Errors
/// It cannot be encoded, or is longer than `max`.
pub fn encode<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, WireError> {
    let body = serde_cbor::to_vec(message).map_err(WireError::Encode)?;
    let length = body.len();
    match u32::try_from(length) {
        Ok(prefix) if length <= max => Ok([&prefix.to_be_bytes(), body.as_slice()].concat()),
        _ => Err(WireError::TooLong { max, got: length }),
    }
}

/// The announced length of a body.
///
/// # Errors
/// It is above `max`.
pub fn body_length(prefix: [u8; LENGTH_BYTES], max: usize) -> Result<usize, WireError> {
    let got = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if got > max { Err(WireError::TooLong { max, got }) } else { Ok(got) }
}

/// Decodes a body; bytes after the message are refused.
///
/// # Errors
/// It does not decode.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    serde_cbor::from_slice(body).map_err(WireError::Decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let message = Request::Decide { verdict: ByteBuf::from(vec![0xff; 100]) };
        let bytes = encode(&message, REQUEST_BYTES_MAX).unwrap();
        let (prefix, body) = bytes.split_first_chunk::<4>().unwrap();
        assert_eq!(body_length(*prefix, REQUEST_BYTES_MAX).unwrap(), body.len());
        assert_eq!(decode::<Request>(body).unwrap(), message);
    }

    #[test]
    fn unknown_fields_are_refused() {
        use serde_cbor::Value;
        let fields = [("selector", Value::Text("x".into())), ("state", Value::Bool(true))];
        let fields = fields.map(|(name, value)| (Value::Text(name.into()), value)).into();
        let message = Value::Map([(Value::Text("Cancel".into()), Value::Map(fields))].into());
        let body = serde_cbor::to_vec(&message).unwrap();
        assert!(decode::<Request>(&body).is_err());
    }

    #[test]
    fn deep_nesting_and_trailing_bytes_are_refused() {
        assert!(decode::<Request>(&vec![0x81; 100_000]).is_err());
        let mut body = serde_cbor::to_vec(&Request::Status).unwrap();
        body.push(0);
        assert!(decode::<Request>(&body).is_err());
    }

    #[test]
    fn a_giant_length_is_refused_before_anything_is_read() {
        assert!(body_length([0xff; 4], REQUEST_BYTES_MAX).is_err());
    }
}
