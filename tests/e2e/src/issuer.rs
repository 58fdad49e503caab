//! Leases from a ledger that is opened here: what the root half does from a verdict to a receipt,
//! without its processes, for tests and measurements that need very many.

use std::io;
use std::path::Path;

use olb_lease::{
    Audit, Cti, CutBy, Digest, Epoch, LeaseClaims, LeaseIssuer, Outcome, Plan, PlanDigest,
    RawLease, RawVerdict, SigningKey, StreamSummary, VerdictKind, VerifiedLease, argv_digest,
    cwd_digest, env_digest, plan_digest, sha256,
};
use olb_ledger::{
    BurnCheck, BurnCounter, BurnedLease, Decision, DecisionResult, Finish, Ledger, NewLease,
    Options,
};

use crate::approver::Approver;
use crate::plan::command;

/// What its pretended command writes.
const OUTPUT: &[u8] = b"done\n";

/// The counter of this boot is left alone: a ledger that is ahead of it is as good as new.
struct NoCounter;

impl BurnCounter for NoCounter {
    fn advance(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// An open ledger, the keys that go with it, and an approver who says yes to everything.
pub struct Issuer {
    ledger: Ledger,
    epoch: Epoch,
    lease_key: SigningKey<LeaseIssuer>,
    approver: Approver,
    plan: Plan,
}

/// An approved request.
pub struct Approved {
    /// Its plan: the one given to the issuer, with other words.
    pub plan: Plan,
    /// The plan in bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: PlanDigest,
    /// The lease, its signature verified.
    pub lease: VerifiedLease,
}

impl Issuer {
    /// Opens the ledger in `dir`, at the time `now` in seconds since the Unix epoch.
    pub fn open(
        dir: &Path,
        lease_key: SigningKey<LeaseIssuer>,
        audit_key: SigningKey<Audit>,
        approver: &Approver,
        plan: Plan,
        now: u64,
    ) -> Self {
        let options = Options {
            path: dir.join("ledger.db"),
            boot_id: olb_sys::clock::boot_id().expect("the boot id"),
            burn_counter: None,
            counter: Box::new(NoCounter),
            fresh_epoch: Epoch([7; 16]),
            lease_kid: lease_key.public().kid(),
            audit_key,
            now,
            ballast_bytes: 0,
            may_be_running: false,
        };
        let (ledger, opened) = Ledger::open(options).expect("the ledger");
        Self { ledger, epoch: opened.epoch, lease_key, approver: approver.copy(), plan }
    }

    /// The ledger's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Has request `number` approved at the time `at`.
    pub fn approve(&self, number: u32, at: u64) -> Approved {
        let mut plan = self.plan.clone();
        plan.typed_argv = command(&["/bin/true", &number.to_string()]);
        plan.argv = plan.typed_argv.clone();
        plan.random[..4].copy_from_slice(&number.to_be_bytes());
        let bytes = plan.encode().expect("a plan");
        let digest = plan_digest(&bytes);
        let seconds = u32::try_from(at).expect("before 2106");
        let mut claims = self.approver.claims(VerdictKind::Approve, digest, self.epoch);
        (claims.issued_at, claims.expires_at) = (seconds, seconds + 900);
        let verdict_bytes = claims.sign(&self.approver.key()).expect("a verdict");
        let verdict = RawVerdict::parse(&verdict_bytes).expect("a verdict");
        let verdict = verdict.verify(self.approver.key().public()).expect("its signature");
        let mut cti = [0; 16];
        cti[..4].copy_from_slice(&number.to_be_bytes());
        let claims = LeaseClaims {
            audience: plan.audience,
            expires_at: seconds + 900,
            issued_at: seconds,
            cti: Cti(cti),
            argv: argv_digest(&plan.argv),
            requester_uid: plan.requester_uid,
            environment: env_digest(&plan.environment),
            cwd: cwd_digest(&plan.cwd),
            plan: digest,
            verdict: verdict.digest(),
            epoch: self.epoch,
        };
        let lease = claims.sign(&self.lease_key).expect("a lease");
        let decision = Decision {
            verdict,
            verdict_bytes,
            plan_bytes: bytes.clone(),
            plan: digest,
            requester_uid: plan.requester_uid,
            approver_name: self.approver.name.clone(),
            approver_uid: self.approver.uid,
            now: at,
            boot_now_ms: 1,
            lease: Some(NewLease { bytes: lease.clone(), claims, deadline_boot_ms: 900_001 }),
            max_approvals_per_hour: u32::MAX,
        };
        let decided = self.ledger.decide(decision).expect("the ledger");
        assert!(matches!(decided, DecisionResult::Recorded { .. }), "{decided:?}");
        let lease = RawLease::parse(&lease).expect("a lease");
        let lease = lease.verify(self.lease_key.public()).expect("its signature");
        Approved { plan, bytes, digest, lease }
    }

    /// Burns a lease at the time `at`.
    pub fn burn(&self, lease: VerifiedLease, at: u64) -> BurnedLease {
        let check = BurnCheck { now: at, boot_now_ms: 1, epoch: self.epoch };
        self.ledger.burn(lease, check).expect("a burn")
    }

    /// Records that its command wrote a line and ended well; the receipt.
    pub fn finish(&self, burned: BurnedLease, at: u64) -> Vec<u8> {
        let summary = |bytes: &[u8]| StreamSummary {
            bytes: bytes.len() as u64,
            sha256: Digest(sha256(bytes)),
        };
        let finish = Finish {
            now: at,
            outcome: Outcome::Exited(0),
            stdout: summary(OUTPUT),
            stderr: summary(b""),
            cut_by: CutBy::Nobody,
            duration_ms: 5,
            usage: None,
            stdout_tail: OUTPUT.to_vec(),
            stderr_tail: Vec::new(),
        };
        self.ledger.finish(burned, finish).expect("a receipt")
    }

    /// Closes the ledger.
    pub fn close(self) {
        self.ledger.close();
    }
}
