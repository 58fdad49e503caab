//! Plans and decisions for tests.

use std::collections::BTreeMap;

use olb_lease::{
    Approver, Audience, Audit, ChainHead, Cti, CutBy, Digest, Directory, Epoch, Evidence,
    Executable, Outcome, Plan, PlanDigest, ReceiptClaims, Record, RecordEvent, RunAs, SigningKey,
    StreamSummary, VerdictClaims, VerdictKind, plan_digest,
};

/// The epoch in which the samples are decided.
pub(crate) const EPOCH: Epoch = Epoch([1; 16]);

/// A plan of `uid` for these words; `random` tells plans for the same words apart.
pub(crate) fn plan(uid: u32, words: &[&str], random: u8) -> Plan {
    let argv: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    Plan {
        random: [random; 16],
        host: "web-1".into(),
        audience: Audience([2; 32]),
        requester_uid: uid,
        typed_argv: argv.clone(),
        argv,
        executable: Executable {
            path: b"/usr/bin/systemctl".to_vec(),
            dev: 1,
            ino: 2,
            size: 3,
            ctime_secs: 4,
            ctime_nanos: 5,
        },
        environment: BTreeMap::new(),
        environment_words: BTreeMap::new(),
        cwd: Directory { path: b"/srv/app".to_vec(), dev: 1, ino: 9 },
        cwd_changeable: false,
        run_as: RunAs { name: "root".into(), uid: 0, gid: 0, groups: vec![0] },
        stdin: None,
        staged: Vec::new(),
        unbound: Vec::new(),
        wall_clock_secs: 3600,
        whole: false,
        reason: "because".into(),
        session: "main".into(),
    }
}

/// The bytes of a plan.
pub(crate) fn bytes(plan: &Plan) -> Vec<u8> {
    plan.encode().unwrap()
}

fn receipt(epoch: Epoch, event: RecordEvent) -> Vec<u8> {
    let record = Record { at: 1_000_000, epoch, event }.encode();
    let claims = ReceiptClaims { sequence: 1, previous: ChainHead([0; 32]), record };
    claims.sign(&SigningKey::<Audit>::from_seed(&[7; 32].into()).unwrap())
}

/// The root half's receipt of a verdict by alice that expires at `expires_at`.
pub(crate) fn decided(
    plan: &[u8],
    kind: VerdictKind,
    reason: &str,
    epoch: Epoch,
    expires_at: u32,
) -> Vec<u8> {
    let digest = Digest([3; 32]);
    let evidence =
        Evidence { channel: "terminal".into(), messages: vec![], shown: digest, reply: digest };
    let claims = VerdictClaims {
        kind,
        plan: plan_digest(plan),
        epoch,
        issued_at: 1,
        expires_at,
        evidence,
        reason: reason.into(),
    };
    let key = SigningKey::<Approver>::from_seed(&[8; 32].into()).unwrap();
    let cti = (kind == VerdictKind::Approve).then_some(Cti([4; 16]));
    let verdict = claims.sign(&key).unwrap();
    let (plan, approver) = (plan.to_vec(), "alice".into());
    receipt(epoch, RecordEvent::Decided { plan, verdict, approver, approver_uid: 1000, cti })
}

/// The root half's receipt of a run.
pub(crate) fn ran(plan: PlanDigest, epoch: Epoch, outcome: Outcome) -> Vec<u8> {
    let stream = StreamSummary { bytes: 0, sha256: Digest([5; 32]) };
    let event = RecordEvent::Finished {
        plan,
        cti: Cti([4; 16]),
        outcome,
        stdout: stream,
        stderr: stream,
        cut_by: CutBy::Nobody,
        duration_ms: 1,
        usage: None,
    };
    receipt(epoch, event)
}
