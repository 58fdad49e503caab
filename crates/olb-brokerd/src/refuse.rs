//! Everything the front refuses, and the stable reason of each.

use std::io;
use std::sync::Arc;

use olb_core::{Reject, Request, SelectorError, State};
use olb_exec_api::{Reason, Recorded, Refusal};
use olb_lease::{LeaseError, PlanError, VerdictError};
use olb_store::StoreError;
use olb_sys::peer::MapError;
use thiserror::Error;

use crate::account::AccountError;
use crate::admission::AdmissionError;
use crate::environment::WordError;
use crate::execd::ExecdError;
use crate::lookup::LookupError;
use crate::plan::ShapeError;
use crate::resolve::ResolveError;
use crate::standing;
use crate::upload::UploadError;

/// What people read wherever the root half does not answer.
pub(crate) const UNAVAILABLE: &str =
    "broker unavailable; host bootstrap required (see 'olb doctor')";

/// A refusal of the front. Its text is one sentence for the person who asked.
#[derive(Debug, Error)]
pub(crate) enum Refuse {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error("{file} changed since it was approved; ask again")]
    Changed { file: String },
    #[error("{what} is not what was approved; ask again for what you want to run")]
    Differs { what: &'static str },
    #[error(
        "the files of this request cannot be handed over ({0}); ask again, and look at the \
         broker's disk if it happens then too"
    )]
    Files(io::Error),
    #[error(
        "this broker keeps no copies of files, and {file} can be changed by somebody other than \
         root; put a copy where only root can write, and name that"
    )]
    NoStaging { file: String },
    #[error("{}", execd_text(.0))]
    Execd(#[from] ExecdError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("the broker's uid map is wrong: {0}")]
    Namespace(#[from] MapError),
    #[error("this command was not asked for yet; ask with 'olb request'")]
    NotAsked,
    #[error("the request says neither a lease, an id nor a command; name one of them")]
    NothingToRun,
    #[error("{}", plan_text(.0))]
    Plan(#[from] PlanError),
    #[error("no random numbers can be drawn; see the broker's log")]
    Random,
    #[error(transparent)]
    Reject(#[from] Reject),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The request stands where it cannot be run; where it ran, what was recorded comes along.
    #[error("{}", standing::sentence(.request, *.retry_after_secs))]
    Standing { request: Arc<Request>, retry_after_secs: Option<u64> },
    #[error("the broker cannot record the request: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Verdict(#[from] VerdictError),
    #[error(transparent)]
    Word(#[from] WordError),
    #[error("this is not asked for on this socket; use the other one")]
    WrongDoor,
}

/// What the front checks in words of its own does not get here; this is what is left.
fn plan_text(error: &PlanError) -> String {
    match error {
        PlanError::Limit("length") => format!(
            "the command with its environment, reason and groups is longer than {} bytes as a \
             whole; put long arguments into a root-owned file",
            olb_lease::PLAN_BYTES_MAX
        ),
        PlanError::Limit(field) => {
            format!("the {field} of this command is outside what a request can hold; shorten it")
        }
        PlanError::Nul(field) => {
            format!(
                "the {field} of this command holds a NUL byte, which cannot be passed; remove it"
            )
        }
        PlanError::Cbor(_) => {
            String::from("the request that is kept is damaged; ask for the command again")
        }
    }
}

fn execd_text(error: &ExecdError) -> &str {
    match error {
        ExecdError::Refused(refusal) => &refusal.text,
        ExecdError::Unreachable(_)
        | ExecdError::Closed
        | ExecdError::Late
        | ExecdError::Header(_)
        | ExecdError::Body(_)
        | ExecdError::Frame(_)
        | ExecdError::Unexpected => UNAVAILABLE,
    }
}

impl Refuse {
    /// The stable reason, which also gives the exit code.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Account(AccountError::Lookup(_))
            | Self::Files(_)
            | Self::Lookup(_)
            | Self::Namespace(_)
            | Self::Random
            | Self::Store(_)
            | Self::Upload(UploadError::Disk(_)) => Reason::Unavailable,
            Self::Account(_) | Self::NoStaging { .. } | Self::Word(_) => Reason::Unsupported,
            Self::Admission(AdmissionError::TooMany { .. }) => Reason::Busy,
            Self::Admission(AdmissionError::NotRequester) => Reason::NotListed,
            Self::Admission(AdmissionError::NotApprover) => Reason::NotEnrolled,
            Self::Changed { .. } | Self::Differs { .. } => Reason::Mismatch,
            Self::Execd(ExecdError::Refused(refusal)) => refusal.reason,
            Self::Execd(_) => Reason::Unavailable,
            Self::NotAsked => Reason::NotYours,
            Self::Resolve(error) => resolve_reason(error),
            Self::Reject(reject) => reject_reason(reject),
            Self::Standing { request, .. } => standing::reason(request),
            Self::Lease(_)
            | Self::NothingToRun
            | Self::Plan(_)
            | Self::Selector(_)
            | Self::Shape(_)
            | Self::Upload(_)
            | Self::Verdict(_)
            | Self::WrongDoor => Reason::Malformed,
        }
    }

    /// The refusal as a client of an execution reads it.
    pub(crate) fn refusal(&self) -> Refusal {
        let recorded = match self {
            Self::Execd(ExecdError::Refused(refusal)) => refusal.recorded.clone(),
            Self::Standing { request, .. } => recorded(request),
            _ => None,
        };
        Refusal { reason: self.reason(), text: self.to_string(), recorded }
    }

    /// The request that the refusal is about, where there is one.
    pub(crate) fn request(&self) -> Option<&Arc<Request>> {
        match self {
            Self::Standing { request, .. }
            | Self::Reject(
                Reject::NotCancellable { request }
                | Reject::NotDecidable { request }
                | Reject::NotPresentable { request },
            ) => Some(request),
            _ => None,
        }
    }
}

/// What is recorded of the run, where there was one.
fn recorded(request: &Request) -> Option<Recorded> {
    let receipt = request.outcome.and(request.receipt.clone())?;
    Some(Recorded {
        receipt,
        stdout_tail: request.stdout_tail.clone(),
        stderr_tail: request.stderr_tail.clone(),
    })
}

fn resolve_reason(error: &ResolveError) -> Reason {
    match error {
        ResolveError::NotFound { .. } => Reason::NoSuchCommand,
        ResolveError::NotExecutable { .. } => Reason::NotExecutable,
        ResolveError::Changeable { .. }
        | ResolveError::MagicLink { .. }
        | ResolveError::Unreadable { .. } => Reason::CannotBind,
    }
}

fn reject_reason(reject: &Reject) -> Reason {
    match reject {
        Reject::BadPlan(_) => Reason::Malformed,
        Reject::BeingDecided | Reject::NoCode | Reject::TooMany { .. } => Reason::Busy,
        Reject::Held { .. } => Reason::CoolOff,
        Reject::InvalidTransition { .. } | Reject::Mismatch | Reject::Unconfirmed => {
            Reason::Unavailable
        }
        Reject::NotYours => Reason::NotYours,
        Reject::NotCancellable { request }
        | Reject::NotDecidable { request }
        | Reject::NotPresentable { request } => match request.state {
            State::Approved => Reason::AlreadyDecided,
            State::Pending
            | State::Executing
            | State::Exited
            | State::Killed
            | State::SpawnFailed
            | State::OutcomeUnknown
            | State::Denied
            | State::Expired
            | State::Cancelled
            | State::Revoked => standing::reason(request),
        },
    }
}
