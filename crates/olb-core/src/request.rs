//! One request: what is kept of it, in memory and in the store.

use std::sync::Arc;

use olb_lease::{Epoch, Outcome, Plan, PlanDigest, RequestId, plan_digest};

use crate::code::Code;
use crate::matching::{CoolOffKey, MatchKey};
use crate::reject::Reject;
use crate::state::State;

/// Reason of an expired request that nobody answered.
pub const UNANSWERED: &str = "expired unanswered";
/// Reason of an expired request whose lease was not presented in time.
pub const LEASE_UNUSED: &str = "lease expired unused";
/// Reason of an expired request whose lease died with its epoch.
pub const BROKER_RESTARTED: &str = "broker restarted";
/// Reason of an expired request whose lease died with its approver's key.
pub const APPROVER_OUT: &str = "the approver's key counts no longer";

/// One request. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names the plan; the request's id is its first half.
    pub digest: PlanDigest,
    /// The short code.
    pub code: Code,
    /// Where it stands.
    pub state: State,
    /// Who asked.
    pub requester_uid: u32,
    /// The plan's bytes, as built once.
    pub plan: Arc<[u8]>,
    /// What was asked.
    pub match_key: MatchKey,
    /// What a denial would be about.
    pub cool_off_key: CoolOffKey,
    /// When it was asked for.
    pub created_at: u64,
    /// When it expires unanswered.
    pub expires_at: u64,
    /// When the decision that stands was taken note of.
    pub decided_at: Option<u64>,
    /// Who decided: the enrolled name.
    pub decided_by: Option<String>,
    /// The human's words for a denial or revocation, or ours for an expiry.
    pub reason: Option<String>,
    /// The lease in binary, while the request is approved; never afterwards.
    pub lease: Option<Vec<u8>>,
    /// When the lease expires; kept after the lease is gone.
    pub lease_expires_at: Option<u64>,
    /// The epoch of the ledger under which it was approved.
    pub epoch: Option<Epoch>,
    /// When the burn was taken note of.
    pub burned_at: Option<u64>,
    /// When it reached its final state.
    pub finished_at: Option<u64>,
    /// How the run ended.
    pub outcome: Option<Outcome>,
    /// The signed receipt of the last thing that the root half recorded about it.
    pub receipt: Option<Vec<u8>>,
    /// The last bytes of standard output.
    pub stdout_tail: Vec<u8>,
    /// The last bytes of standard error.
    pub stderr_tail: Vec<u8>,
}

impl Request {
    /// A pending request for `plan`, whose bytes are `bytes`.
    pub(crate) fn new(plan: &Plan, bytes: Vec<u8>, code: Code, now: u64, expires_at: u64) -> Self {
        Self {
            digest: plan_digest(&bytes),
            code,
            state: State::Pending,
            requester_uid: plan.requester_uid,
            plan: bytes.into(),
            match_key: MatchKey::of(plan),
            cool_off_key: CoolOffKey::of(plan),
            created_at: now,
            expires_at,
            decided_at: None,
            decided_by: None,
            reason: None,
            lease: None,
            lease_expires_at: None,
            epoch: None,
            burned_at: None,
            finished_at: None,
            outcome: None,
            receipt: None,
            stdout_tail: Vec::new(),
            stderr_tail: Vec::new(),
        }
    }

    /// `req_...`.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.digest.request_id()
    }

    /// Whether it is not in a final state.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.state.is_final()
    }

    /// Bytes that it holds beside what every request does.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let optional = [&self.lease, &self.receipt].into_iter().flatten().map(Vec::len);
        let parts = [self.plan.len(), self.stdout_tail.len(), self.stderr_tail.len()];
        parts.into_iter().chain(optional).map(|bytes| bytes as u64).sum()
    }

    /// Whether anything of it was noted at a time after `now`.
    pub(crate) fn is_ahead_of(&self, now: u64) -> bool {
        let later = [self.decided_at, self.burned_at, self.finished_at];
        later.into_iter().flatten().chain([self.created_at]).max().is_some_and(|at| at > now)
    }

    /// Takes times that are after `now` for `now`; deadlines keep their distance from what they are
    /// counted from.
    pub(crate) fn settle(&mut self, now: u64) {
        let created_ahead = self.created_at.saturating_sub(now);
        let decided_ahead = self.decided_at.map_or(0, |at| at.saturating_sub(now));
        self.expires_at = self.expires_at.saturating_sub(created_ahead);
        self.lease_expires_at = self.lease_expires_at.map(|end| end.saturating_sub(decided_ahead));
        self.created_at = self.created_at.min(now);
        for at in [&mut self.decided_at, &mut self.burned_at, &mut self.finished_at] {
            *at = at.map(|at| at.min(now));
        }
    }

    /// The lease, if it can be presented at `now`.
    #[must_use]
    pub fn usable_lease(&self, now: u64) -> Option<&[u8]> {
        let alive = self.lease_expires_at.is_some_and(|end| now < end);
        let approved = self.state == State::Approved;
        self.lease.as_deref().filter(|_| approved && alive)
    }

    /// Whether `uid` may present this request's lease at `now`: for requests that are no longer in
    /// memory; for the others [`crate::Lifecycle::begin_execute`] asks the same.
    ///
    /// # Errors
    /// [`Reject::NotYours`], or [`Reject::NotPresentable`] with the request.
    pub fn check_presentable(self: &Arc<Self>, uid: u32, now: u64) -> Result<(), Reject> {
        if self.requester_uid != uid {
            return Err(Reject::NotYours);
        }
        match self.usable_lease(now) {
            Some(_) => Ok(()),
            None => Err(Reject::NotPresentable { request: Arc::clone(self) }),
        }
    }

    /// When it expires if nothing happens; `None` where only the root half can end it.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Pending => Some(self.expires_at),
            State::Approved => self.lease_expires_at,
            State::Executing
            | State::Exited
            | State::Killed
            | State::SpawnFailed
            | State::OutcomeUnknown
            | State::Denied
            | State::Expired
            | State::Cancelled
            | State::Revoked => None,
        }
    }
}
