//! `exec.sock`: what the front and the root half say to each other, and what the root half says to
//! a client whose socket it was handed.
//!
//! One connection carries one request datagram (`SOCK_SEQPACKET`) and its replies. The root half
//! reads a fixed header of 16 bytes and the two parts it announces; the first part is a signed
//! statement or a fixed-size query, the second a plan. Nothing here uses serde.
//!
//! Beside the protocol stands the text of the root half's files ([`Lines`], [`Enrolled`]), for all who
//! read or write them.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

mod client;
mod enrolment;
mod header;
mod lines;
mod read;
mod reason;

pub use client::{
    ClientFrame, ClientSignal, FRAME_HEADER_BYTES, FRAME_PAYLOAD_MAX, FrameError, FrameHeader,
    Recorded, Refusal,
};
pub use enrolment::{ENROLMENT_BYTES_MAX, ENROLMENTS_MAX, Enrolled, EnrolmentError};
pub use header::{
    DATAGRAM_BYTES_MAX, HEADER_BYTES, HeaderError, Op, Status, reply, request, split_reply,
    split_request,
};
pub use lines::{LineError, Lines};
pub use read::{
    Decided, Enrolment, Info, Limit, Query, RecordPage, RequestState, SequencedRecord, decode_info,
    encode_info,
};
pub use reason::Reason;
