//! The audit trail as anybody can read and check it, and what it says about a request.

use std::collections::{BTreeMap, BTreeSet};

use olb_exec_api::{Op, Query, RecordPage};
use olb_lease::trail::{BEGINNING, verify_trail};
use olb_lease::{
    ChainHead, Cti, Outcome, PlanDigest, PublicKey, Record, RecordEvent, VerdictKind, plan_digest,
};

use crate::exec_sock::{ExecSock, Reply};

/// What the trail says about one request, found by its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fate {
    /// An approval is recorded.
    pub approved: bool,
    /// How often its lease was burned.
    pub burns: usize,
    /// The recorded outcome.
    pub outcome: Option<Outcome>,
}

/// The trail, verified as far as it was read.
pub struct Trail {
    sock: ExecSock,
    at: (u64, ChainHead),
    fates: BTreeMap<String, Fate>,
    open: BTreeMap<PlanDigest, Cti>,
    burned: BTreeSet<[u8; 16]>,
}

impl Trail {
    /// Reads and verifies the whole trail.
    pub fn read(sock: &ExecSock) -> Self {
        let mut trail = Self {
            sock: sock.clone(),
            at: BEGINNING,
            fates: BTreeMap::new(),
            open: BTreeMap::new(),
            burned: BTreeSet::new(),
        };
        trail.update();
        trail
    }

    /// Reads and verifies what was added since: the chain goes on where it ended, signatures hold,
    /// no lease is burned twice, and no outcome comes without its burn or a second time.
    pub fn update(&mut self) {
        let key = PublicKey::from_bytes(&self.sock.info().audit_key).expect("the audit key");
        loop {
            let page = self.page(self.at.0 + 1);
            if page.records.is_empty() {
                return;
            }
            let records = page
                .records
                .iter()
                .map(|one| (one.sequence, one.record.as_slice(), one.receipt.as_deref()));
            let keys = std::slice::from_ref(&key);
            let intact = verify_trail(records, keys, self.at, &BTreeMap::new());
            let last = page.records.last().map_or(0, |one| one.sequence);
            self.at = (last, intact.expect("an intact trail").head);
            for one in &page.records {
                self.note(Record::decode(&one.record).expect("a record").event);
            }
        }
    }

    fn page(&self, from: u64) -> RecordPage {
        match self.sock.ask(Op::Read, &Query::Records { from }.encode(), &[], &[]).next() {
            Some(Reply::Done(answer)) => RecordPage::decode(&answer).expect("a page"),
            other => panic!("{other:?}"),
        }
    }

    fn note(&mut self, event: RecordEvent) {
        match event {
            RecordEvent::Decided { plan, verdict, .. } => {
                let verdict = olb_lease::RawVerdict::parse(&verdict);
                let claims = verdict.and_then(|raw| raw.unverified_claims()).expect("a verdict");
                let fate = self.fate_mut(plan_digest(&plan));
                fate.approved |= claims.kind == VerdictKind::Approve;
            }
            RecordEvent::Burned { plan, cti } => {
                assert!(self.burned.insert(cti.0), "burned twice: {}", plan.request_id());
                assert!(self.open.insert(plan, cti).is_none(), "burned while it ran");
                self.fate_mut(plan).burns += 1;
            }
            RecordEvent::Finished { plan, cti, outcome, .. } => {
                assert_eq!(self.open.remove(&plan), Some(cti), "an outcome without its burn");
                self.fate_mut(plan).outcome = Some(outcome);
            }
            RecordEvent::EpochBegan { .. }
            | RecordEvent::Refused { .. }
            | RecordEvent::KeyEnded { .. } => {}
        }
    }

    fn fate_mut(&mut self, plan: PlanDigest) -> &mut Fate {
        self.fates.entry(plan.request_id().to_string()).or_default()
    }

    /// What is recorded about the request called `id`.
    pub fn fate(&self, id: &str) -> Fate {
        self.fates.get(id).cloned().unwrap_or_default()
    }

    /// How many records were read.
    pub fn records(&self) -> u64 {
        self.at.0
    }

    /// Whether every burn has an outcome.
    pub fn is_settled(&self) -> bool {
        self.unsettled() == 0
    }

    /// How many burns have none.
    pub fn unsettled(&self) -> usize {
        self.open.len()
    }
}
