//! What the root half recorded, read from its receipts.

use olb_lease::{
    Epoch, Outcome, PlanDigest, RawReceipt, RawVerdict, Record, RecordEvent, VerdictKind,
};
use thiserror::Error;

use crate::state::Event;

/// A receipt that is not about what it was handed in for. The front does not check its signature:
/// it has it from the root half itself, and those who rely on it check it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the root half's receipt does not hold what was expected; see 'olb doctor'")]
pub struct ReceiptMismatch;

/// A verdict as the root half recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The plan it is about.
    pub plan: PlanDigest,
    /// What was decided.
    pub kind: VerdictKind,
    /// The enrolled name of who decided.
    pub by: String,
    /// The human's words, if there are any.
    pub reason: Option<String>,
    /// The ledger's epoch.
    pub epoch: Epoch,
    /// The lease in binary, for an approval that can still be used.
    pub lease: Option<Vec<u8>>,
    /// When the lease expires, in seconds since the Unix epoch; never later than the verdict.
    pub lease_expires_at: u64,
    /// The signed receipt.
    pub receipt: Vec<u8>,
}

impl Decision {
    /// Reads the receipt of a decision; `lease` and `expires_at` (seconds since the Unix epoch) are
    /// what the root half gave beside it.
    ///
    /// # Errors
    /// The receipt is not one of a decision.
    pub fn read(
        receipt: Vec<u8>,
        lease: Option<Vec<u8>>,
        expires_at: u32,
    ) -> Result<Self, ReceiptMismatch> {
        let record = record_of(&receipt)?;
        let RecordEvent::Decided { plan, verdict, approver, .. } = record.event else {
            return Err(ReceiptMismatch);
        };
        let claims = RawVerdict::parse(&verdict).and_then(|verdict| verdict.unverified_claims());
        let claims = claims.map_err(|_| ReceiptMismatch)?;
        if claims.plan != olb_lease::plan_digest(&plan) {
            return Err(ReceiptMismatch);
        }
        Ok(Self {
            plan: claims.plan,
            kind: claims.kind,
            by: approver,
            reason: Some(claims.reason).filter(|reason| !reason.is_empty()),
            epoch: record.epoch,
            lease,
            lease_expires_at: expires_at.min(claims.expires_at).into(),
            receipt,
        })
    }
}

/// A run that is over, as the root half recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The plan that ran.
    pub plan: PlanDigest,
    /// How it ended.
    pub outcome: Outcome,
    /// The signed receipt; `None` where the ledger has lost the run.
    pub receipt: Option<Vec<u8>>,
    /// The last bytes of standard output.
    pub stdout_tail: Vec<u8>,
    /// The last bytes of standard error.
    pub stderr_tail: Vec<u8>,
}

impl Finish {
    /// Reads the receipt of a run; the tails are what the root half gave beside it.
    ///
    /// # Errors
    /// The receipt is not one of a run.
    pub fn read(
        receipt: Vec<u8>,
        stdout_tail: Vec<u8>,
        stderr_tail: Vec<u8>,
    ) -> Result<Self, ReceiptMismatch> {
        let RecordEvent::Finished { plan, outcome, .. } = record_of(&receipt)?.event else {
            return Err(ReceiptMismatch);
        };
        Ok(Self { plan, outcome, receipt: Some(receipt), stdout_tail, stderr_tail })
    }

    /// A run that the ledger has no memory of: it may have run and may still be running.
    pub(crate) fn forgotten(plan: PlanDigest) -> Self {
        Self {
            plan,
            outcome: Outcome::Unknown { may_be_running: true },
            receipt: None,
            stdout_tail: Vec::new(),
            stderr_tail: Vec::new(),
        }
    }
}

fn record_of(receipt: &[u8]) -> Result<Record, ReceiptMismatch> {
    let claims = RawReceipt::parse(receipt).and_then(|receipt| receipt.unverified_claims());
    claims.and_then(|claims| claims.decode_record()).map_err(|_| ReceiptMismatch)
}

/// What the ledger holds on one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerView {
    /// The decision that stands.
    pub decision: Option<Decision>,
    /// Whether the lease was burned.
    pub burned: bool,
    /// The outcome, once there is one.
    pub finish: Option<Finish>,
}

/// Something that happens to a request, with what is recorded of it.
#[derive(Debug)]
pub(crate) enum Change {
    Decide(Decision),
    Burn,
    Finish(Finish),
    /// The reason is one of ours.
    Expire(&'static str),
    NewEpoch(&'static str),
    Cancel,
}

impl Change {
    pub(crate) fn event(&self) -> Event {
        match self {
            Self::Decide(decision) => verdict_event(decision.kind),
            Self::Burn => Event::Burn,
            Self::Finish(finish) => finish.outcome.into(),
            Self::Expire(_) => Event::Expire,
            Self::NewEpoch(_) => Event::ChangeEpoch,
            Self::Cancel => Event::Cancel,
        }
    }
}

pub(crate) fn verdict_event(kind: VerdictKind) -> Event {
    match kind {
        VerdictKind::Approve => Event::Approve,
        VerdictKind::Deny => Event::Deny,
        VerdictKind::Revoke => Event::Revoke,
    }
}
