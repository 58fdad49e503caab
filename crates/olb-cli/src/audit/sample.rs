//! A trail for tests: one record of every kind, signed where it has to be.

use std::fmt::Write as _;
use std::sync::LazyLock;

use olb_exec_api::SequencedRecord;
use olb_lease::{
    Approver, ChainHead, Cti, Digest, Epoch, EpochReason, Evidence, Kid, Outcome, Plan, PlanDigest,
    ReceiptClaims, Record, RecordEvent, SigningKey, VerdictClaims, VerdictKind, plan_digest,
};

use super::line::export;
use crate::json;
use crate::testing::plan;
use crate::trust::tests::{audit_key, finished, run_of};

/// Begun, approved, burned, finished, denied, burned, refused, finished, refused.
pub(super) fn events() -> Vec<RecordEvent> {
    let other = PlanDigest([8; 32]);
    let burned = |plan| RecordEvent::Burned { plan, cti: run_of(plan).cti };
    let refused = |plan, reason: &str| RecordEvent::Refused {
        plan,
        cti: run_of(plan).cti,
        reason: reason.into(),
    };
    let first = plan_digest(&plan().encode().unwrap());
    vec![
        RecordEvent::EpochBegan { reason: EpochReason::NewLedger, lease_kid: Kid([1; 8]) },
        decided(&plan(), VerdictKind::Approve, "alice"),
        burned(first),
        finished(first, Outcome::Exited(0), b"x"),
        decided(&Plan { reason: "again".into(), ..plan() }, VerdictKind::Deny, "bob"),
        burned(other),
        refused(first, "already_burned"),
        finished(other, Outcome::Killed(9), b""),
        refused(first, "expired"),
    ]
}

/// A decision of `name` on `plan`.
pub(super) fn decided(plan: &Plan, kind: VerdictKind, name: &str) -> RecordEvent {
    let plan = plan.encode().unwrap();
    let claims = VerdictClaims {
        kind,
        plan: plan_digest(&plan),
        epoch: Epoch([1; 16]),
        issued_at: 1_795_363_100,
        expires_at: 1_795_363_500,
        evidence: Evidence {
            channel: "test".into(),
            messages: Vec::new(),
            shown: Digest([1; 32]),
            reply: Digest([2; 32]),
        },
        reason: String::new(),
    };
    let key: SigningKey<Approver> = SigningKey::from_seed(&[7; 32].into()).unwrap();
    let verdict = claims.sign(&key).unwrap();
    let cti = (kind == VerdictKind::Approve).then_some(Cti([2; 16]));
    RecordEvent::Decided { plan, verdict, approver: name.into(), approver_uid: 1000, cti }
}

/// A trail of `events`, signed with `key` where `is_signed` says so.
pub(super) fn trail_of(
    events: Vec<RecordEvent>,
    key: &SigningKey<olb_lease::Audit>,
    is_signed: impl Fn(&RecordEvent) -> bool,
) -> Vec<SequencedRecord> {
    let mut previous = ChainHead([0; 32]);
    let mut trail = Vec::new();
    for (sequence, event) in (1..).zip(events) {
        let signed = is_signed(&event);
        let record = Record { at: 1_795_363_199 + sequence, epoch: Epoch([1; 16]), event }.encode();
        let claims = ReceiptClaims { sequence, previous, record: record.clone() };
        previous = claims.head();
        trail.push(SequencedRecord { sequence, record, receipt: signed.then(|| claims.sign(key)) });
    }
    trail
}

/// Whether the root half signs records of this kind.
pub(super) fn has_receipt(event: &RecordEvent) -> bool {
    matches!(event, RecordEvent::Decided { .. } | RecordEvent::Finished { .. })
}

/// The trail of [`events`].
pub(super) fn trail() -> Vec<SequencedRecord> {
    static TRAIL: LazyLock<Vec<SequencedRecord>> =
        LazyLock::new(|| trail_of(events(), &audit_key(), has_receipt));
    TRAIL.clone()
}

/// The chain's head after the first `count` records.
pub(super) fn head_after(trail: &[SequencedRecord], count: usize) -> ChainHead {
    let start = ChainHead([0; 32]);
    trail[..count].iter().fold(start, |head, one| olb_lease::chain(head, &one.record))
}

/// The line that the root half logs after the first `count` records.
pub(super) fn anchor_line(trail: &[SequencedRecord], count: usize) -> String {
    let (head, kid) = (head_after(trail, count).hex(), audit_key().public().kid().hex());
    format!("olb-execd: audit head sequence={count} head={head} kid={kid}")
}

/// An export.
pub(super) fn text(trail: &[SequencedRecord]) -> String {
    trail.iter().fold(String::new(), |mut text, one| {
        writeln!(text, "{}", json::line(&export(one))).unwrap();
        text
    })
}
