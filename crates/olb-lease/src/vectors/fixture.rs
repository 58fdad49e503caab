//! One request from plan to receipt, with the published test keys of RFC 8032 section 7.1.

use std::collections::BTreeMap;

use crate::cose::Envelope;
use crate::environment::{Account, base};
use crate::key::Role;
use crate::{
    Approver, Audit, ChainHead, Cti, CutBy, Digest, Directory, Epoch, Evidence, Executable,
    LeaseClaims, LeaseIssuer, Outcome, Plan, RawVerdict, ReceiptClaims, Record, RecordEvent, RunAs,
    SigningKey, StreamSummary, Usage, VerdictClaims, VerdictKind, argv_digest, audience,
    cwd_digest, env_digest, plan_digest, sha256,
};

/// Private halves of TEST 1, TEST 2 and TEST 3.
pub(super) const SEEDS: [&str; 3] = [
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
];
/// 2026-11-22 15:30:00 UTC.
pub(super) const NOW: u32 = 1_795_361_400;
pub(super) const EPOCH: Epoch = Epoch([0xe0; 16]);

/// A test key in whatever role.
pub(super) fn key<R: Role>(number: usize) -> SigningKey<R> {
    SigningKey::from_seed(&Digest::from_hex(SEEDS[number]).unwrap().0.into()).unwrap()
}

/// TEST 1.
pub(super) fn approver() -> SigningKey<Approver> {
    key(0)
}

/// TEST 2.
pub(super) fn issuer() -> SigningKey<LeaseIssuer> {
    key(1)
}

/// TEST 3.
pub(super) fn audit() -> SigningKey<Audit> {
    key(2)
}

pub(super) fn plan() -> Plan {
    let argv: Vec<Vec<u8>> = ["systemctl", "restart", "nginx"].map(Into::into).into();
    let account = Account { name: "root", home: b"/root", shell: b"/bin/bash" };
    let words = BTreeMap::from([(b"NO_COLOR".to_vec(), b"1".to_vec())]);
    let mut environment = base(account);
    environment.extend(words.clone());
    Plan {
        random: *b"16 random bytes.",
        host: "web-1".into(),
        audience: audience("web-1", issuer().public()),
        requester_uid: 1001,
        typed_argv: argv.clone(),
        argv,
        executable: Executable {
            path: b"/usr/bin/systemctl".into(),
            dev: 65_025,
            ino: 1_311_042,
            size: 1_501_016,
            ctime_secs: 1_790_000_000,
            ctime_nanos: 123_456_789,
        },
        environment,
        environment_words: words,
        cwd: Directory { path: b"/srv/app".into(), dev: 65_025, ino: 262_147 },
        cwd_changeable: true,
        run_as: RunAs { name: "root".into(), uid: 0, gid: 0, groups: vec![0] },
        stdin: None,
        staged: Vec::new(),
        unbound: Vec::new(),
        wall_clock_secs: 3600,
        whole: false,
        reason: "config changed, needs a restart".into(),
        session: "agent:main:main".into(),
    }
}

pub(super) fn verdict() -> VerdictClaims {
    VerdictClaims {
        kind: VerdictKind::Approve,
        plan: plan_digest(&plan().encode().unwrap()),
        epoch: EPOCH,
        issued_at: NOW,
        expires_at: NOW + 900,
        evidence: Evidence {
            channel: "terminal".into(),
            messages: Vec::new(),
            shown: Digest(sha256(b"the text that was shown")),
            reply: Digest(sha256(b"y")),
        },
        reason: String::new(),
    }
}

pub(super) fn lease() -> LeaseClaims {
    let plan = plan();
    let signed = verdict().sign(&approver()).unwrap();
    let verdict = RawVerdict::parse(&signed).unwrap().verify(approver().public()).unwrap();
    LeaseClaims {
        audience: plan.audience,
        expires_at: NOW + 900,
        issued_at: NOW + 1,
        cti: Cti(*b"nonce, 16 bytes."),
        argv: argv_digest(&plan.argv),
        requester_uid: plan.requester_uid,
        environment: env_digest(&plan.environment),
        cwd: cwd_digest(&plan.cwd),
        plan: plan_digest(&plan.encode().unwrap()),
        verdict: verdict.digest(),
        epoch: EPOCH,
    }
}

fn stream(output: &[u8]) -> StreamSummary {
    StreamSummary { bytes: output.len() as u64, sha256: Digest(sha256(output)) }
}

pub(super) fn record() -> Record {
    let lease = lease();
    Record {
        at: u64::from(NOW) + 130,
        epoch: EPOCH,
        event: RecordEvent::Finished {
            plan: lease.plan,
            cti: lease.cti,
            outcome: Outcome::Exited(0),
            stdout: stream(b""),
            stderr: stream(b"warning: unit file changed on disk\n"),
            cut_by: CutBy::Nobody,
            duration_ms: 412,
            usage: Some(Usage { user_ms: 31, system_ms: 12, max_rss_kib: 8704 }),
        },
    }
}

pub(super) fn receipt() -> ReceiptClaims {
    ReceiptClaims { sequence: 4, previous: ChainHead([0xc4; 32]), record: record().encode() }
}

/// The payload of a sealed statement.
pub(super) fn payload(sealed: &[u8]) -> Vec<u8> {
    Envelope::parse(sealed, usize::MAX).unwrap().unverified_payload().to_vec()
}
