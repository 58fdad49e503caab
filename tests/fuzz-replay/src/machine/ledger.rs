//! The root half's rules, as small as the lifecycle can be tested against.

use std::collections::BTreeMap;

use olb_core::{Decision, Finish, LedgerView};
use olb_lease::{Epoch, Outcome, PlanDigest, VerdictKind};

/// How long a verdict, and so a lease, lives in the model, in seconds.
const VERDICT_SECS: u64 = 900;

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) verdict: VerdictKind,
    pub(super) verdict_expires_at: u64,
    epoch: Epoch,
    pub(super) burned: bool,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug, Clone)]
pub(super) struct Ledger {
    pub(super) epoch: Epoch,
    pub(super) rows: BTreeMap<PlanDigest, Row>,
    /// How often each plan was spawned.
    pub(super) runs: BTreeMap<PlanDigest, u32>,
}

/// The model's lease says which plan it is for and in which epoch it is good.
fn lease(plan: PlanDigest, epoch: Epoch) -> Vec<u8> {
    [plan.0.as_slice(), epoch.0.as_slice()].concat()
}

/// The plan that a lease of the model is for.
pub(super) fn plan_of(lease: &[u8]) -> PlanDigest {
    PlanDigest::try_from(&lease[..32]).unwrap()
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self { epoch: Epoch([1; 16]), rows: BTreeMap::new(), runs: BTreeMap::new() }
    }

    pub(super) fn is_usable(&self, plan: PlanDigest, now: u64) -> bool {
        self.rows.get(&plan).is_some_and(|row| {
            let alive = row.epoch == self.epoch && now < row.verdict_expires_at;
            row.verdict == VerdictKind::Approve && alive && !row.burned
        })
    }

    fn decision(&self, plan: PlanDigest, now: u64) -> Option<Decision> {
        let row = self.rows.get(&plan)?;
        let lease = self.is_usable(plan, now).then(|| lease(plan, row.epoch));
        Some(Decision {
            plan,
            kind: row.verdict,
            by: "alice".into(),
            reason: None,
            epoch: row.epoch,
            lease_expires_at: if lease.is_some() { row.verdict_expires_at } else { 0 },
            lease,
            receipt: vec![row.verdict as u8],
        })
    }

    /// DECIDE; `None` is a refusal.
    pub(super) fn decide(
        &mut self,
        plan: PlanDigest,
        kind: VerdictKind,
        now: u64,
    ) -> Option<Decision> {
        let epoch = self.epoch;
        let verdict_expires_at = now + VERDICT_SECS;
        let row = self.rows.entry(plan).or_insert(Row {
            verdict: kind,
            verdict_expires_at,
            epoch,
            burned: false,
            outcome: None,
        });
        if row.burned {
            return None;
        }
        match (row.verdict, kind) {
            (VerdictKind::Approve, VerdictKind::Approve) => {
                self.decision(plan, now).filter(|decision| decision.lease.is_some())
            }
            (VerdictKind::Approve, VerdictKind::Deny | VerdictKind::Revoke) => {
                row.verdict = kind;
                self.decision(plan, now)
            }
            (closed, again) if closed == again => self.decision(plan, now),
            (VerdictKind::Deny | VerdictKind::Revoke, _) => None,
        }
    }

    /// EXECUTE; false is a refusal.
    pub(super) fn burn(&mut self, lease: &[u8], now: u64) -> bool {
        let plan = plan_of(lease);
        let good = self.is_usable(plan, now) && lease == self::lease(plan, self.epoch);
        if good {
            self.rows.get_mut(&plan).unwrap().burned = true;
            *self.runs.entry(plan).or_default() += 1;
        }
        good
    }

    /// The run of `plan` ends.
    pub(super) fn finish(&mut self, plan: PlanDigest, outcome: Outcome) {
        self.rows.get_mut(&plan).unwrap().outcome.get_or_insert(outcome);
    }

    /// The root half is killed and started again, after a reboot in a new epoch.
    pub(super) fn restart(&mut self, reboot: bool) {
        for row in self.rows.values_mut().filter(|row| row.burned) {
            row.outcome.get_or_insert(Outcome::Unknown { may_be_running: !reboot });
        }
        if reboot {
            self.epoch.0[0] += 1;
        }
    }

    pub(super) fn finish_of(&self, plan: PlanDigest) -> Option<Finish> {
        let outcome = self.rows.get(&plan)?.outcome?;
        let (stdout_tail, stderr_tail) = (vec![1], vec![2]);
        Some(Finish { plan, outcome, receipt: Some(vec![9]), stdout_tail, stderr_tail })
    }

    /// READ.
    pub(super) fn view(&self, plan: PlanDigest, now: u64) -> LedgerView {
        LedgerView {
            decision: self.decision(plan, now),
            burned: self.rows.get(&plan).is_some_and(|row| row.burned),
            finish: self.finish_of(plan),
        }
    }
}
