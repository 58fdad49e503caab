//! Why the front refuses.

use std::sync::Arc;

use olb_lease::PlanError;
use thiserror::Error;

use crate::request::Request;
use crate::state::{Event, State};

/// Why something is refused; nothing has changed. The texts are for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reject {
    /// The plan's bytes are not a plan.
    #[error("the request is malformed: {0}")]
    BadPlan(#[from] PlanError),
    /// A decision about the request is with the root half at this moment.
    #[error("a decision on this request is being recorded right now; look at it again")]
    BeingDecided,
    /// All new requests of this uid are held.
    #[error(
        "several requests were denied in a row; new ones are taken again in {retry_after_secs} s"
    )]
    Held {
        /// Seconds until new requests are taken again.
        retry_after_secs: u64,
    },
    /// Recorded facts that cannot follow one another.
    #[error("a request that is {state} cannot take the event {event}")]
    InvalidTransition {
        /// Where the request stands.
        state: State,
        /// What was to happen to it.
        event: Event,
    },
    /// A decision or outcome names another plan than the one it was handed in for, or an approval
    /// comes without its lease.
    #[error("the root half's answer does not belong to this request; see 'olb doctor'")]
    Mismatch,
    /// All eight candidates are too close to a code in use; draw random bytes again.
    #[error("no short code is free at the moment; try again")]
    NoCode,
    /// The request stands where it cannot be cancelled.
    #[error("request {} is {} and can no longer be cancelled", .request.code, .request.state)]
    NotCancellable {
        /// The request.
        request: Arc<Request>,
    },
    /// The request stands where this decision has no place.
    #[error("request {} is {} and cannot be decided like this", .request.code, .request.state)]
    NotDecidable {
        /// The request.
        request: Arc<Request>,
    },
    /// The request holds no lease that could be presented, or the lease's time is over. In a final
    /// state the request tells what was recorded.
    #[error("request {} is {} and holds no lease to present", .request.code, .request.state)]
    NotPresentable {
        /// The request.
        request: Arc<Request>,
    },
    /// Not the caller's, or not known: the two are not told apart.
    #[error("no request of yours has this id or code; 'olb list' shows yours")]
    NotYours,
    /// The ledger may hold a decision that this half does not know.
    #[error("whether this request was decided is not known until the broker answers; try again")]
    Unconfirmed,
    /// A limit.
    #[error("the limit {limit} = {max} is reached; try again when requests are decided")]
    TooMany {
        /// Its name, as in `Limits`.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
}
