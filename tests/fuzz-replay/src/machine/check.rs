//! What has to hold after every step, and once everything has settled.

use std::collections::BTreeMap;

use olb_core::{Limits, Request, State, Viewer};
use olb_lease::{Outcome, PlanDigest, VerdictKind};

use super::World;
use super::ledger::{Row, plan_of};

/// Where a request stands, why, and how its run ended.
type Place = (State, Option<String>, Option<Outcome>);

impl World {
    /// What is stored follows from what was stored.
    pub(super) fn check_history(&self, request: &Request) {
        let Some(before) = self.stored.get(&request.digest) else { return };
        assert!(before.is_open(), "{} became {}", before.state, request.state);
        assert!(before.burned_at.is_none() || before.burned_at == request.burned_at);
    }

    pub(super) fn check(&self) {
        for request in self.core.list(Viewer::Approver, false) {
            let row = self.ledger.rows.get(&request.digest);
            if !self.crashing {
                assert_eq!(self.stored.get(&request.digest), Some(&*request), "not persisted");
            }
            if let Some(lease) = &request.lease {
                assert_eq!((request.state, plan_of(lease)), (State::Approved, request.digest));
                let end = request.lease_expires_at.unwrap();
                assert!(end <= row.unwrap().verdict_expires_at, "a lease outlives its verdict");
            }
            self.check_against(&request, row);
        }
        for (plan, runs) in &self.ledger.runs {
            assert!(*runs <= 1, "two runs");
            assert_eq!(self.ledger.rows[plan].verdict, VerdictKind::Approve);
        }
        self.check_codes();
    }

    fn check_against(&self, request: &Request, row: Option<&Row>) {
        match request.state {
            State::Executing
            | State::Exited
            | State::Killed
            | State::SpawnFailed
            | State::OutcomeUnknown => {
                let row = row.expect("a run without a verdict");
                assert!(row.burned, "a run without a burn");
                assert_eq!(row.verdict, VerdictKind::Approve, "a run without an approval");
            }
            State::Denied | State::Revoked => {
                let row = row.expect("closed without a verdict");
                assert!(!row.burned && row.verdict != VerdictKind::Approve, "not final");
            }
            State::Approved => assert!(row.is_some(), "approved without a verdict"),
            State::Pending | State::Expired | State::Cancelled => {
                assert!(
                    row.is_none_or(|row| request.is_open() || !row.burned),
                    "{} {:?}",
                    request.state,
                    request.reason
                );
            }
        }
    }

    fn check_codes(&self) {
        let recent = |at: u64| self.now.saturating_sub(at) < Limits::default().code_reuse_secs;
        let stored: Vec<_> = self.stored.values().filter(|one| recent(one.created_at)).collect();
        for (at, one) in stored.iter().enumerate() {
            for other in &stored[at + 1..] {
                let (a, b) = (one.code.to_string(), other.code.to_string());
                let apart = a.bytes().zip(b.bytes()).filter(|(a, b)| a != b).count();
                assert!(apart >= 2, "{a} and {b}");
            }
        }
    }

    /// Where everything stands once nothing is under way and the ledger was asked.
    pub(super) fn settled(mut self) -> BTreeMap<PlanDigest, Place> {
        let lost: Vec<_> = self.operations.drain(..).collect();
        lost.into_iter().for_each(|one| self.core.lost(one.plan));
        let effects = self.ask();
        self.carry_out(effects);
        let effects = self.reconcile();
        self.carry_out(effects);
        let effects = self.core.tick(self.now);
        self.carry_out(effects);
        self.check();
        for (plan, request) in &self.stored {
            self.check_settled(*plan, request);
        }
        let place = |request: Request| (request.state, request.reason, request.outcome);
        self.stored.into_iter().map(|(plan, request)| (plan, place(request))).collect()
    }

    /// The front tells what the ledger holds.
    fn check_settled(&self, plan: PlanDigest, request: &Request) {
        let Some(row) = self.ledger.rows.get(&plan) else { return };
        if row.burned {
            assert_eq!(request.outcome, row.outcome);
            assert_eq!(request.is_open(), row.outcome.is_none());
        } else if self.ledger.is_usable(plan, self.now) {
            // Whoever cancelled can be sure that nothing runs.
            assert_eq!(request.state, State::Approved, "{:?}", request.reason);
        } else {
            assert!(!request.is_open(), "{} {:?}", request.state, request.reason);
        }
    }
}
