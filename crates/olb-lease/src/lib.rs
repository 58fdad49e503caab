//! Plan, verdict, lease and receipt: the signed and hashed things of the OpenClaw Lease Broker.
//!
//! SPEC.md at the top of the repository specifies every byte. The crate does no I/O, reads no
//! clock and draws no random numbers: bytes, times and keys are arguments.
//!
//! How it is meant to be driven:
//!
//! * the front builds a [`Plan`], encodes it once and keeps the bytes; [`plan_digest`] names it;
//! * the approver's process signs a [`VerdictClaims`] over that digest;
//! * the root half checks [`RawVerdict`] `->` [`VerifiedVerdict`] and signs [`LeaseClaims`];
//! * on presentation it checks [`RawLease`] `->` [`VerifiedLease`]; only the ledger can turn that
//!   into a burned lease, and only a burned lease can be spawned;
//! * what happened is a [`Record`] in a hash chain, whose head is signed as a [`ReceiptClaims`].
//!
//! Every decoder runs the same way: limits, strict deterministic CBOR ([`cbor::validate`]), then a
//! reader that expects the one permitted field order. Nothing is skipped and nothing is optional.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

pub mod armor;
pub mod cbor;
pub mod cose;
mod digest;
pub mod environment;
mod id;
mod key;
mod lease;
mod plan;
mod receipt;
mod record;
pub mod staging;
pub mod trail;
mod verdict;

#[cfg(test)]
mod vectors;

pub use cose::EnvelopeError;
pub use digest::{argv_digest, audience, cwd_digest, env_digest, sha256};
pub use id::{
    Audience, ChainHead, Cti, Digest, Epoch, IdError, Kid, PlanDigest, RequestId, VerdictDigest,
};
pub use key::{
    Approver, Audit, KeyError, LeaseIssuer, PublicKey, Role, SigningKey, verify_strict_raw,
};
pub use lease::{LEASE_BYTES, LEASE_TEXT_MAX, LeaseClaims, LeaseError, RawLease, VerifiedLease};
pub use plan::{
    Directory, Executable, PLAN_BYTES_MAX, Plan, PlanError, RunAs, Staged, Stdin, Unbound,
    limit as plan_limit, plan_digest,
};
pub use receipt::{RECEIPT_BYTES_MAX, RawReceipt, ReceiptClaims, ReceiptError};
pub use record::{
    CutBy, EpochReason, Outcome, RECORD_BYTES_MAX, Record, RecordError, RecordEvent, StreamSummary,
    Usage, chain,
};
pub use verdict::{
    Evidence, RawVerdict, VERDICT_BYTES_MAX, VerdictClaims, VerdictError, VerdictKind,
    VerifiedVerdict, limit as verdict_limit,
};
