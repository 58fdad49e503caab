//! What the tests share: a directory, keys, a counter that survives a restart, and requests.

mod burning;
mod deciding;
mod files;
mod full_disk;
mod growth;
mod opening;
mod writing;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use olb_lease::trail::{BEGINNING, Intact, verify_trail};
use olb_lease::{
    Approver, Audience, Audit, Cti, CutBy, Digest, Epoch, Evidence, Kid, LeaseClaims, LeaseIssuer,
    Outcome, PlanDigest, RawLease, RawVerdict, SigningKey, StreamSummary, Usage, VerdictClaims,
    VerdictKind, VerifiedLease, plan_digest, sha256,
};

use crate::{
    BurnCheck, BurnCounter, Decision, DecisionResult, Finish, Ledger, LedgerError, NewLease,
    Opened, Options,
};

const NOW: u64 = 1_800_000_000;
const BOOT_NOW_MS: u64 = 5_000_000;
const LEASE_SECS: u32 = 900;

fn key<R: olb_lease::Role>(seed: u8) -> SigningKey<R> {
    SigningKey::from_seed(&[seed; 32].into()).unwrap()
}

/// The burn counter's file.
#[derive(Clone, Default)]
struct Counter {
    value: Arc<Mutex<Option<u64>>>,
    fails: Arc<Mutex<bool>>,
}

impl BurnCounter for Counter {
    fn advance(&mut self, next: u64) -> io::Result<()> {
        if *self.fails.lock().unwrap() {
            return Err(io::Error::other("the counter's disk is gone"));
        }
        let mut value = self.value.lock().unwrap();
        assert!(value.is_none_or(|value| value <= next), "the counter went back");
        *value = Some(next);
        Ok(())
    }
}

fn private_directory() -> tempfile::TempDir {
    let private = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().unwrap()
}

/// A host with a state directory.
struct Host {
    directory: tempfile::TempDir,
    counter: Counter,
    boot_id: [u8; 16],
    lease_seed: u8,
    opened: u8,
    ballast_bytes: u64,
}

impl Host {
    fn new() -> Self {
        Self {
            directory: private_directory(),
            counter: Counter::default(),
            boot_id: [1; 16],
            lease_seed: 20,
            opened: 0,
            ballast_bytes: 64 * 1024,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("ledger.db")
    }

    fn options(&mut self, path: &Path) -> Options {
        self.opened += 1;
        Options {
            path: path.into(),
            boot_id: self.boot_id,
            burn_counter: *self.counter.value.lock().unwrap(),
            counter: Box::new(self.counter.clone()),
            fresh_epoch: Epoch([self.opened; 16]),
            lease_kid: self.lease_kid(),
            audit_key: key::<Audit>(21),
            now: NOW,
            ballast_bytes: self.ballast_bytes,
            may_be_running: false,
        }
    }

    fn lease_kid(&self) -> Kid {
        key::<LeaseIssuer>(self.lease_seed).public().kid()
    }

    fn try_open(&mut self) -> Result<(Ledger, Opened), LedgerError> {
        let options = self.options(&self.path());
        Ledger::open(options)
    }

    fn open(&mut self) -> Ledger {
        self.try_open().unwrap().0
    }
}

/// A new host with its ledger open.
fn fresh() -> (Host, Ledger) {
    let mut host = Host::new();
    let ledger = host.open();
    (host, ledger)
}

/// One request with what its approval would bring about.
#[derive(Clone)]
struct Request {
    plan: Vec<u8>,
    epoch: Epoch,
    approver: u8,
    kind: VerdictKind,
    now: u64,
    per_hour: u32,
}

impl Request {
    fn new(ledger: &Ledger, number: u32) -> Self {
        Self {
            plan: format!("plan {number}").into(),
            epoch: ledger.epoch(),
            approver: 22,
            kind: VerdictKind::Approve,
            now: NOW,
            per_hour: 1_000,
        }
    }

    fn digest(&self) -> PlanDigest {
        plan_digest(&self.plan)
    }

    fn verdict(&self) -> Vec<u8> {
        let at = u32::try_from(self.now).unwrap();
        let evidence = Evidence {
            channel: "terminal".into(),
            messages: Vec::new(),
            shown: Digest([3; 32]),
            reply: Digest([4; 32]),
        };
        let claims = VerdictClaims {
            kind: self.kind,
            plan: self.digest(),
            epoch: self.epoch,
            issued_at: at,
            expires_at: at + LEASE_SECS,
            evidence,
            reason: String::new(),
        };
        claims.sign(&key::<Approver>(self.approver)).unwrap()
    }

    /// A decision; `nonce` is what the root half would have drawn for the lease.
    fn decision(&self, nonce: u32) -> Decision {
        let verdict_bytes = self.verdict();
        let raw = RawVerdict::parse(&verdict_bytes).unwrap();
        let verdict = raw.verify(key::<Approver>(self.approver).public()).unwrap();
        let lease = (self.kind == VerdictKind::Approve).then(|| self.lease(&verdict, nonce));
        Decision {
            verdict,
            verdict_bytes,
            plan_bytes: self.plan.clone(),
            plan: self.digest(),
            requester_uid: 1001,
            approver_name: "alice".into(),
            approver_uid: 1000,
            now: self.now,
            boot_now_ms: BOOT_NOW_MS,
            lease,
            max_approvals_per_hour: self.per_hour,
        }
    }

    fn lease(&self, verdict: &olb_lease::VerifiedVerdict, nonce: u32) -> NewLease {
        let mut cti = [0; 16];
        cti[..4].copy_from_slice(&nonce.to_be_bytes());
        cti[4..].copy_from_slice(&sha256(&self.plan)[..12]);
        let claims = LeaseClaims {
            audience: Audience([5; 32]),
            expires_at: verdict.claims().expires_at,
            issued_at: verdict.claims().issued_at,
            cti: Cti(cti),
            argv: Digest([6; 32]),
            requester_uid: 1001,
            environment: Digest([7; 32]),
            cwd: Digest([8; 32]),
            plan: self.digest(),
            verdict: verdict.digest(),
            epoch: self.epoch,
        };
        let bytes = claims.sign(&key::<LeaseIssuer>(20)).unwrap();
        let lifetime_ms = u64::from(LEASE_SECS) * 1_000;
        NewLease { bytes, claims, deadline_boot_ms: BOOT_NOW_MS + lifetime_ms }
    }

    /// Approves; returns the lease.
    fn approve(&self, ledger: &Ledger) -> Vec<u8> {
        let decision = self.decision(1);
        let lease = decision.lease.clone().unwrap().bytes;
        match ledger.decide(decision).unwrap() {
            DecisionResult::Recorded { .. } => lease,
            other => panic!("not approved: {other:?}"),
        }
    }

    fn decide(mut self, kind: VerdictKind, ledger: &Ledger) -> DecisionResult {
        self.kind = kind;
        ledger.decide(self.decision(1)).unwrap()
    }
}

fn verified(lease: &[u8]) -> VerifiedLease {
    RawLease::parse(lease).unwrap().verify(key::<LeaseIssuer>(20).public()).unwrap()
}

fn check(ledger: &Ledger) -> BurnCheck {
    BurnCheck { now: NOW + 1, boot_now_ms: BOOT_NOW_MS + 1_000, epoch: ledger.epoch() }
}

fn exited(code: u8) -> Finish {
    let summary = StreamSummary { bytes: 2, sha256: Digest(sha256(b"0\n")) };
    Finish {
        now: NOW + 2,
        outcome: Outcome::Exited(code),
        stdout: summary,
        stderr: summary,
        cut_by: CutBy::Nobody,
        duration_ms: 12,
        usage: Some(Usage { user_ms: 3, system_ms: 2, max_rss_kib: 1024 }),
        stdout_tail: b"0\n".into(),
        stderr_tail: Vec::new(),
    }
}

/// Reads the whole trail in small pages and verifies it up to the head that the ledger reports.
fn intact(ledger: &Ledger) -> Intact {
    let mut entries: Vec<crate::TrailEntry> = Vec::new();
    loop {
        let from = entries.last().map_or(1, |(sequence, ..)| sequence + 1);
        let page = ledger.records(from, 2_000).unwrap();
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    let anchors = [ledger.head().unwrap()].into();
    verify_trail(entries, &[key::<Audit>(21).public().clone()], BEGINNING, &anchors).unwrap()
}
