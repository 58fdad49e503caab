//! What is handed to the root half and what comes back; cancelling; reconciling after a gap.

use std::sync::Arc;

use olb_lease::{PlanDigest, VerdictKind};

use super::{Agreement, Effect, Lifecycle, Viewer};
use crate::decision::{Change, Decision, Finish, LedgerView, verdict_event};
use crate::reject::Reject;
use crate::request::{APPROVER_OUT, BROKER_RESTARTED, LEASE_UNUSED, Request};
use crate::selector::Selector;
use crate::state::{State, Step, next};

impl Lifecycle {
    /// A verdict of this kind over `plan` is about to be handed to the root half. To be followed by
    /// exactly one of [`Self::decided`], [`Self::refused`] and [`Self::lost`].
    ///
    /// # Errors
    /// [`Reject::NotYours`] where the plan is not known, [`Reject::NotDecidable`].
    pub fn begin_decide(
        &mut self,
        plan: PlanDigest,
        kind: VerdictKind,
    ) -> Result<Arc<Request>, Reject> {
        let entry = self.entries.get_mut(&plan).ok_or(Reject::NotYours)?;
        let request = Arc::clone(&entry.request);
        match next(request.state, verdict_event(kind)) {
            // A repeated verdict goes to the root half too: it answers with what it recorded.
            Step::To(_) | Step::Same => {}
            Step::Refused => return Err(Reject::NotDecidable { request }),
        }
        entry.disturb();
        entry.under_way = entry.under_way.saturating_add(1);
        Ok(request)
    }

    /// The root half recorded the verdict. Ends the operation.
    ///
    /// # Errors
    /// [`Reject::Mismatch`] where the decision is over another plan or approves without a lease;
    /// [`Reject::InvalidTransition`] where the request was closed meanwhile.
    pub fn decided(
        &mut self,
        now: u64,
        plan: PlanDigest,
        decision: Decision,
    ) -> Result<Vec<Effect>, Reject> {
        self.refused(plan);
        let leaseless = decision.kind == VerdictKind::Approve && decision.lease.is_none();
        if decision.plan != plan || leaseless {
            return Err(Reject::Mismatch);
        }
        let changed = self.advance(now, plan, Change::Decide(decision))?;
        Ok(if changed { self.report(plan) } else { Vec::new() })
    }

    /// The lease of `plan` is about to be presented for `uid`; the request returned holds it. Several
    /// presentations may be under way: the root half decides which one runs. To be followed by
    /// exactly one of [`Self::finished`], [`Self::refused`] and [`Self::lost`].
    ///
    /// # Errors
    /// [`Reject::NotYours`]; [`Reject::NotPresentable`] with the request, whose state says why. A
    /// request that is still approved there has a lease that is over.
    pub fn begin_execute(
        &mut self,
        now: u64,
        plan: PlanDigest,
        uid: u32,
    ) -> Result<Arc<Request>, Reject> {
        let entry = self.entries.get(&plan).ok_or(Reject::NotYours)?;
        let request = Arc::clone(&entry.request);
        request.check_presentable(uid, now)?;
        if self.is_of_old_epoch(&request) {
            return Err(Reject::NotPresentable { request });
        }
        if let Some(entry) = self.entries.get_mut(&plan) {
            entry.disturb();
            entry.under_way = entry.under_way.saturating_add(1);
        }
        Ok(request)
    }

    /// The root half burned the lease: the command runs, and the operation goes on.
    ///
    /// # Errors
    /// [`Reject::InvalidTransition`] where the request was not approved.
    pub fn burned(&mut self, now: u64, plan: PlanDigest) -> Result<Vec<Effect>, Reject> {
        if let Some(entry) = self.entries.get_mut(&plan) {
            entry.disturb();
        }
        let changed = self.advance(now, plan, Change::Burn)?;
        Ok(if changed { self.report(plan) } else { Vec::new() })
    }

    /// The run is over. Ends the operation.
    ///
    /// # Errors
    /// [`Reject::Mismatch`] where the outcome is another plan's; [`Reject::InvalidTransition`]
    /// where the request was not executing.
    pub fn finished(
        &mut self,
        now: u64,
        plan: PlanDigest,
        finish: Finish,
    ) -> Result<Vec<Effect>, Reject> {
        self.refused(plan);
        if finish.plan != plan {
            return Err(Reject::Mismatch);
        }
        let changed = self.advance(now, plan, Change::Finish(finish))?;
        Ok(if changed { self.report(plan) } else { Vec::new() })
    }

    /// The root half refused, and nothing changed by it. Ends the operation. Where the refusal shows
    /// that the ledger knows more than this half, it is [`Self::lost`] that has to be called.
    pub fn refused(&mut self, plan: PlanDigest) {
        if let Some(entry) = self.entries.get_mut(&plan) {
            entry.disturb();
            entry.under_way = entry.under_way.saturating_sub(1);
        }
    }

    /// The answer did not come, or showed that the ledger knows more. Ends the operation; the
    /// request has to be reconciled.
    pub fn lost(&mut self, plan: PlanDigest) {
        self.refused(plan);
        if let Some(entry) = self.entries.get_mut(&plan) {
            entry.agreement = Agreement::Doubted;
        }
    }

    /// As [`Self::lost`], where the root half does not take the lease because of its approver's key:
    /// if the ledger has the key as revoked, the request is over.
    pub fn approver_is_out(&mut self, plan: PlanDigest) {
        self.lost(plan);
        if let Some(entry) = self.entries.get_mut(&plan) {
            entry.void_reason = APPROVER_OUT;
        }
    }

    /// Who may approve is not who it was: as [`Self::approver_is_out`] for every lease that waits to
    /// be used.
    pub fn approvers_changed(&mut self) {
        let idle = self.entries.values_mut().filter(|entry| entry.under_way == 0);
        // Also where the ledger is being asked: its answer may be from before.
        for entry in idle.filter(|entry| entry.request.state == State::Approved) {
            entry.agreement = Agreement::Doubted;
            entry.void_reason = APPROVER_OUT;
        }
    }

    /// The open requests on which the ledger has to be asked now, one round at a time; each answer
    /// goes to [`Self::reconcile`]. To be called at start, when the root half can be reached again,
    /// and after an operation that was lost.
    #[must_use]
    pub fn unreconciled(&mut self) -> Vec<PlanDigest> {
        let doubted = self
            .entries
            .values_mut()
            .filter(|entry| entry.request.is_open() && entry.agreement != Agreement::Confirmed);
        let asked = doubted.map(|entry| {
            entry.agreement = Agreement::Asked;
            entry.request.digest
        });
        asked.collect()
    }

    /// Takes the ledger's word on a request; a plan that is not known is no concern. To be called
    /// after [`Self::epoch_is`]. A request stays unreconciled where something happened to it since
    /// the ledger was asked, or where a run goes on without an operation of ours.
    ///
    /// # Errors
    /// [`Reject::Mismatch`] where the view is another plan's.
    pub fn reconcile(
        &mut self,
        now: u64,
        plan: PlanDigest,
        view: LedgerView,
    ) -> Result<Vec<Effect>, Reject> {
        let Some(entry) = self.entries.get(&plan) else { return Ok(Vec::new()) };
        let decided = view.decision.as_ref().is_none_or(|decision| decision.plan == plan);
        let finished = view.finish.as_ref().is_none_or(|finish| finish.plan == plan);
        if !(decided && finished) {
            return Err(Reject::Mismatch);
        }
        // What the view does not hold means something only if nothing happened since it was asked.
        let complete = entry.agreement == Agreement::Asked;
        let usable = view.decision.as_ref().is_some_and(|decision| decision.lease.is_some());
        let burned = view.burned;
        let mut changed = false;
        if let Some(decision) = view.decision {
            changed |= self.catch_up(now, plan, Change::Decide(decision));
        }
        if burned {
            changed |= self.catch_up(now, plan, Change::Burn);
        }
        if let Some(finish) = view.finish {
            changed |= self.catch_up(now, plan, Change::Finish(finish));
        }
        if complete {
            changed |= self.give_up(now, plan, usable, burned);
            self.confirm(plan);
        }
        Ok(if changed { self.report(plan) } else { Vec::new() })
    }

    /// Takes a step if the table has it; what the ledger repeats or what comes too late is passed
    /// over.
    fn catch_up(&mut self, now: u64, plan: PlanDigest, change: Change) -> bool {
        self.advance(now, plan, change).unwrap_or(false)
    }

    /// Ends a request that the ledger cannot carry on: a lease that can no longer be used, or a run
    /// of which a replaced ledger knows nothing.
    fn give_up(&mut self, now: u64, plan: PlanDigest, usable: bool, burned: bool) -> bool {
        let Some(request) = self.by_plan(&plan).cloned() else { return false };
        match request.state {
            State::Approved if !usable => {
                let in_time = request.deadline().is_some_and(|deadline| now < deadline);
                let why = self.entries.get(&plan).map_or(BROKER_RESTARTED, |one| one.void_reason);
                let change = if self.is_of_old_epoch(&request) {
                    Change::NewEpoch(BROKER_RESTARTED)
                } else if in_time {
                    Change::NewEpoch(why)
                } else {
                    Change::Expire(LEASE_UNUSED)
                };
                self.catch_up(now, plan, change)
            }
            State::Executing if !burned => {
                self.catch_up(now, plan, Change::Finish(Finish::forgotten(plan)))
            }
            State::Pending if self.is_for_another_broker(&request) => {
                self.catch_up(now, plan, Change::Expire(BROKER_RESTARTED))
            }
            State::Pending
            | State::Approved
            | State::Executing
            | State::Exited
            | State::Killed
            | State::SpawnFailed
            | State::OutcomeUnknown
            | State::Denied
            | State::Expired
            | State::Cancelled
            | State::Revoked => false,
        }
    }

    /// The ledger agrees; but the end of a run that nobody waits for has to be asked for again.
    fn confirm(&mut self, plan: PlanDigest) {
        if let Some(entry) = self.entries.get_mut(&plan) {
            let running = entry.request.state == State::Executing;
            entry.agreement = if running { Agreement::Doubted } else { Agreement::Confirmed };
        }
    }

    /// Cancels a pending request of `uid`.
    ///
    /// # Errors
    /// [`Reject::NotYours`]; [`Reject::NotCancellable`] where it is not pending;
    /// [`Reject::BeingDecided`] where a decision is with the root half, which could then not be
    /// taken back; [`Reject::Unconfirmed`] where one may have been recorded: then the ledger has to
    /// be asked first.
    pub fn cancel(
        &mut self,
        now: u64,
        selector: &Selector,
        uid: u32,
    ) -> Result<(Arc<Request>, Vec<Effect>), Reject> {
        let found = self.find(selector, Viewer::Requester(uid)).ok_or(Reject::NotYours)?;
        let request = Arc::clone(found);
        let plan = request.digest;
        match next(request.state, Change::Cancel.event()) {
            Step::To(_) => {}
            Step::Same => return Ok((request, Vec::new())),
            Step::Refused => return Err(Reject::NotCancellable { request }),
        }
        match self.entries.get(&plan) {
            Some(entry) if entry.under_way > 0 => return Err(Reject::BeingDecided),
            Some(entry) if entry.agreement != Agreement::Confirmed => {
                return Err(Reject::Unconfirmed);
            }
            Some(_) | None => {}
        }
        self.advance(now, plan, Change::Cancel)?;
        let cancelled = self.by_plan(&plan).cloned().unwrap_or(request);
        Ok((cancelled, self.report(plan)))
    }
}
