//! One operation that was handed to the root half: it ends exactly once, also where the task that
//! waits for it is dropped.

use std::rc::Rc;
use std::sync::Arc;

use olb_core::{Decision, Effect, Finish, Request, State};
use olb_exec_api::Reason;
use olb_lease::{PlanDigest, VerdictKind};

use crate::execd::ExecdError;
use crate::front::Front;
use crate::refuse::Refuse;

/// An operation under way. Dropped without an end it counts as lost, and the ledger is asked.
pub(crate) struct Operation {
    front: Rc<Front>,
    plan: PlanDigest,
    ended: bool,
}

impl Operation {
    /// Begins to hand in a verdict.
    pub(crate) fn decide(
        front: &Rc<Front>,
        plan: PlanDigest,
        kind: VerdictKind,
    ) -> Result<(Self, Arc<Request>), Refuse> {
        let request = front.lifecycle.borrow_mut().begin_decide(plan, kind)?;
        Ok((Self { front: Rc::clone(front), plan, ended: false }, request))
    }

    /// Begins to present the lease of `plan` for `uid`.
    pub(crate) fn execute(
        front: &Rc<Front>,
        plan: PlanDigest,
        uid: u32,
    ) -> Result<(Self, Arc<Request>), Refuse> {
        let now = front.now();
        let request = front.lifecycle.borrow_mut().begin_execute(now, plan, uid)?;
        Ok((Self { front: Rc::clone(front), plan, ended: false }, request))
    }

    /// The front it belongs to.
    pub(crate) fn front(&self) -> Rc<Front> {
        Rc::clone(&self.front)
    }

    /// The verdict is recorded.
    pub(crate) fn decided(mut self, decision: Decision) -> Result<(), Refuse> {
        self.ended = true;
        let now = self.front.now();
        let effects = self.front.lifecycle.borrow_mut().decided(now, self.plan, decision)?;
        self.carry_out(effects);
        Ok(())
    }

    /// The lease is burned; the operation goes on. That it is need not be stored where the end comes
    /// soon.
    pub(crate) fn burned(&self) -> Result<(), Refuse> {
        let now = self.front.now();
        let mut effects = self.front.lifecycle.borrow_mut().burned(now, self.plan)?;
        effects.retain(|effect| !matches!(effect, Effect::Persist(_)));
        self.carry_out(effects);
        Ok(())
    }

    /// Stores that the lease is burned.
    pub(crate) fn store_burned(&self) {
        let request = self.front.lifecycle.borrow().by_plan(&self.plan).cloned();
        self.carry_out(request.map(Effect::Persist).into_iter().collect());
    }

    /// The run is over.
    pub(crate) fn finished(mut self, finish: Finish) -> Result<(), Refuse> {
        self.ended = true;
        let now = self.front.now();
        let effects = self.front.lifecycle.borrow_mut().finished(now, self.plan, finish)?;
        self.carry_out(effects);
        Ok(())
    }

    /// What the ledger holds is so, whether or not the front's store can take it: a failing store is
    /// reported where it fails, and asked about again after a restart.
    fn carry_out(&self, effects: Vec<Effect>) {
        self.front.apply(effects).ok();
    }

    /// The root half did not do it. Where that shows that the ledger knows more than the front, or
    /// where the answer is missing, the ledger is asked.
    pub(crate) fn failed(mut self, error: &ExecdError) {
        if let ExecdError::Refused(refusal) = error
            && !(self.is_undecided() && tells_of_the_ledger(refusal.reason))
        {
            self.ended = true;
            self.front.lifecycle.borrow_mut().refused(self.plan);
        }
    }

    /// The root half did not burn the lease.
    pub(crate) fn not_burned(mut self, error: &ExecdError) {
        match error {
            ExecdError::Refused(refusal) if refusal.reason == Reason::NotEnrolled => {
                self.ended = true;
                self.front.lifecycle.borrow_mut().approver_is_out(self.plan);
                self.front.in_doubt.notify_one();
            }
            error => self.failed(error),
        }
    }

    /// Whether the front still believes that the request can be decided or run.
    fn is_undecided(&self) -> bool {
        let lifecycle = self.front.lifecycle.borrow();
        let state = lifecycle.by_plan(&self.plan).map(|request| request.state);
        matches!(state, Some(State::Pending | State::Approved))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.ended {
            self.front.lifecycle.borrow_mut().lost(self.plan);
            self.front.in_doubt.notify_one();
        }
    }
}

/// Whether a refusal means that the ledger holds something that the front may not know.
fn tells_of_the_ledger(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::OutcomeUnknown
            | Reason::Expired
            | Reason::BrokerRestarted
            | Reason::Denied
            | Reason::Revoked
            | Reason::AlreadyBurned
            | Reason::NotIssued
            | Reason::NotEnrolled
            | Reason::StaleVerdict
            | Reason::AlreadyDecided
    )
}
