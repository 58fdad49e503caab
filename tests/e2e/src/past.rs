//! A past: requests that were asked for, approved, run and recorded, put into both databases by the
//! code that writes them in earnest, only faster than people are.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use olb_core::{Code, CoolOffKey, MatchKey, Request, State};
use olb_exec_api::Info;
use olb_lease::{
    Audit, Cti, CutBy, Digest, Epoch, LeaseClaims, LeaseIssuer, Outcome, Plan, RawLease,
    RawVerdict, Role, SigningKey, StreamSummary, VerdictKind, argv_digest, cwd_digest, env_digest,
    plan_digest, sha256,
};
use olb_ledger::{
    BurnCheck, BurnCounter, Decision, DecisionResult, Finish, Ledger, NewLease, Options,
};
use olb_store::Store;
use zeroize::Zeroizing;

use crate::approver::Approver;
use crate::instance::Instance;
use crate::plan::{command, plan_for};

/// Calls that wait for the disk together.
const THREADS: u32 = 64;
/// From when to when the past was, in seconds before now: nothing of it is recent.
const SPAN: u64 = 28 * 86_400;
const END: u64 = 2 * 86_400;

/// The counter of this boot is left alone: a ledger that is ahead of it is as good as new.
struct NoCounter;

impl BurnCounter for NoCounter {
    fn advance(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct Writer {
    ledger: Ledger,
    lease_key: SigningKey<LeaseIssuer>,
    approver: Approver,
    plan: Plan,
    epoch: Epoch,
    audience: olb_lease::Audience,
    now: u64,
    count: u32,
}

fn key<R: Role>(instance: &Instance, name: &str) -> SigningKey<R> {
    let text = fs::read_to_string(instance.state().join(name)).expect("a key");
    let hex = text.trim();
    let mut seed = Zeroizing::new([0; 32]);
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex");
    }
    SigningKey::from_seed(&seed).expect("a key")
}

/// Puts `count` finished requests of the first requester into the databases of an instance whose
/// halves do not run; `info` is what the root half said while it did.
pub fn put_past(instance: &Instance, approver: &Approver, info: &Info, count: u32) {
    let now = olb_sys::clock::unix_secs();
    let options = Options {
        path: instance.state().join("ledger.db"),
        boot_id: olb_sys::clock::boot_id().expect("the boot id"),
        burn_counter: None,
        counter: Box::new(NoCounter),
        fresh_epoch: Epoch([7; 16]),
        lease_kid: key::<LeaseIssuer>(instance, "lease.key").public().kid(),
        audit_key: key::<Audit>(instance, "audit.key"),
        now: now - END - SPAN,
        ballast_bytes: 0,
        may_be_running: false,
    };
    let (ledger, opened) = Ledger::open(options).expect("the ledger");
    let writer = Writer {
        ledger,
        lease_key: key(instance, "lease.key"),
        approver: approver.copy(),
        plan: plan_for(instance, info, instance.requester(0), &["/bin/true"]),
        epoch: opened.epoch,
        audience: info.audience,
        now,
        count,
    };
    let (done, requests) = channel();
    let next = AtomicU32::new(0);
    let (store, _) = Store::open(&instance.path("front")).expect("the store");
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let done = done.clone();
            scope.spawn(|| writer.write(&next, done));
        }
        drop(done);
        for request in requests {
            store.save(&request).expect("a row");
        }
    });
    drop(store);
    writer.ledger.close();
    for file in fs::read_dir(instance.path("front")).expect("the front's folder") {
        let path = file.expect("a file").path();
        chown(path, Some(instance.front()), Some(instance.front())).expect("its owner");
    }
}

impl Writer {
    fn write(&self, next: &AtomicU32, done: Sender<Request>) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                return;
            }
            done.send(self.one(number)).expect("the store's side");
        }
    }

    /// One request from plan to receipt.
    fn one(&self, number: u32) -> Request {
        let at = self.now - END - SPAN + SPAN * u64::from(number) / u64::from(self.count);
        let word = number.to_string();
        let mut plan = self.plan.clone();
        plan.typed_argv = command(&["/bin/true", &word]);
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
            audience: self.audience,
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
        let receipt = self.run(&lease, at);
        Request {
            digest,
            code: Code::from_random((number << 2).to_be_bytes()),
            state: State::Exited,
            requester_uid: plan.requester_uid,
            match_key: MatchKey::of(&plan),
            cool_off_key: CoolOffKey::of(&plan),
            plan: bytes.into(),
            created_at: at,
            expires_at: at + 1800,
            decided_at: Some(at),
            decided_by: Some(self.approver.name.clone()),
            reason: None,
            lease: None,
            lease_expires_at: Some(at + 900),
            epoch: Some(self.epoch),
            burned_at: Some(at),
            finished_at: Some(at),
            outcome: Some(Outcome::Exited(0)),
            receipt: Some(receipt),
            stdout_tail: b"done\n".to_vec(),
            stderr_tail: Vec::new(),
        }
    }

    fn run(&self, lease: &[u8], at: u64) -> Vec<u8> {
        let lease = RawLease::parse(lease).expect("a lease");
        let lease = lease.verify(self.lease_key.public()).expect("its signature");
        let check = BurnCheck { now: at, boot_now_ms: 1, epoch: self.epoch };
        let burned = self.ledger.burn(lease, check).expect("a burn");
        let summary = |bytes: &[u8]| StreamSummary {
            bytes: bytes.len() as u64,
            sha256: Digest(sha256(bytes)),
        };
        let finish = Finish {
            now: at,
            outcome: Outcome::Exited(0),
            stdout: summary(b"done\n"),
            stderr: summary(b""),
            cut_by: CutBy::Nobody,
            duration_ms: 5,
            stdout_tail: b"done\n".to_vec(),
            stderr_tail: Vec::new(),
        };
        self.ledger.finish(burned, finish).expect("a receipt")
    }
}
