//! Records, each inside a receipt that is otherwise good: what fails is the record.

use crate::{
    ChainHead, Cti, CutBy, Digest, EpochReason, Kid, Outcome, ReceiptClaims, Record, RecordEvent,
    StreamSummary, plan_digest, sha256,
};

use super::case::{Case, Kind, Stage};
use super::fixture::{EPOCH, NOW, approver, audit, issuer, lease, plan, receipt, record, verdict};
use super::raw::{array, bytes, items, null, replaced, text, uint};

fn around(record: Vec<u8>) -> Vec<u8> {
    ReceiptClaims { record, ..receipt() }.sign(&audit())
}

/// One record of every kind, numbered as in the trail of one request.
fn trail() -> Vec<(&'static str, &'static str, RecordEvent)> {
    let plan_bytes = plan().encode().unwrap();
    let digest = plan_digest(&plan_bytes);
    let cti = lease().cti;
    let nothing = StreamSummary { bytes: 0, sha256: Digest(sha256(b"")) };
    let unknown = RecordEvent::Finished {
        plan: digest,
        cti,
        outcome: Outcome::Unknown { may_be_running: true },
        stdout: nothing,
        stderr: nothing,
        cut_by: CutBy::Nobody,
        duration_ms: 0,
        usage: None,
    };
    let decided = |cti: Option<Cti>| RecordEvent::Decided {
        plan: plan_bytes.clone(),
        verdict: verdict().sign(&approver()).unwrap(),
        approver: "alice".into(),
        approver_uid: 1000,
        cti,
    };
    let lease_kid: Kid = issuer().public().kid();
    let reason = EpochReason::NewLedger;
    vec![
        ("valid_epoch_began", "The first record.", RecordEvent::EpochBegan { reason, lease_kid }),
        ("valid_decided_lease", "An approval; a lease was minted.", decided(Some(cti))),
        ("valid_decided_no_lease", "A decision without a lease.", decided(None)),
        ("valid_burned", "A lease was burned.", RecordEvent::Burned { plan: digest, cti }),
        (
            "valid_refused",
            "A lease with a good signature was refused.",
            RecordEvent::Refused { plan: digest, cti, reason: "it is burned".into() },
        ),
        ("valid_unknown", "The outcome is not known.", unknown),
        (
            "valid_key_ended",
            "An approver's key was revoked.",
            RecordEvent::KeyEnded { kid: approver().public().kid() },
        ),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let mut previous = ChainHead([0; 32]);
    let valid = (1..).zip(trail()).map(|(sequence, (name, comment, event))| {
        let record = Record { at: u64::from(NOW), epoch: EPOCH, event }.encode();
        let claims = ReceiptClaims { sequence, previous, record };
        previous = claims.head();
        Case::new(Kind::Receipt, name, &[], Stage::Accept, comment, claims.sign(&audit()))
            .named(&[("head", previous.hex())])
    });
    valid.collect::<Vec<_>>().into_iter().chain(frame()).chain(finished()).chain(others()).collect()
}

fn refused(
    name: &'static str,
    spec: &'static [&'static str],
    comment: &'static str,
    record: Vec<u8>,
) -> Case {
    Case::new(Kind::Receipt, name, spec, Stage::Record, comment, around(record))
}

/// Defects of what every record has.
#[rustfmt::skip]
fn frame() -> Vec<Case> {
    let parts = items(&record().encode());
    let with = |at, value| replaced(&parts, at, value);
    vec![
        refused("record_empty", &["R-5"], "The record is empty.", Vec::new()),
        refused("record_time_not_shortest", &["R-5", "C-3"],
            "The record's time takes nine bytes where five do.",
            with(1, [&[0x1b][..], &u64::from(NOW).to_be_bytes()].concat())),
        refused("record_bytes_after", &["R-5", "C-2"], "A byte follows the record.",
            [record().encode(), vec![0]].concat()),
        refused("record_longer_than_limit", &["R-5"],
            "A record of 136193 bytes; the receipt around it is within its own limit.",
            vec![0x61; crate::RECORD_BYTES_MAX + 1]),
        refused("record_array_of_4", &["R-6"], "No event.", array(&parts[..4])),
        refused("record_version_2", &["R-6"], "The record's version is 2.", with(0, uint(2))),
        refused("record_epoch_15_bytes", &["R-6"], "The epoch is one byte short.",
            with(2, bytes(&[1; 15]))),
        refused("record_time_text", &["R-6"], "The time is text.", with(1, text("now"))),
        refused("record_kind_6", &["R-7"], "No kind has the number 6.", with(3, uint(6))),
        refused("record_kind_of_other_event", &["R-8"],
            "The kind says burned, the event is that of finished.", with(3, uint(2))),
    ]
}

/// Defects of the event of kind finished.
#[rustfmt::skip]
fn finished() -> Vec<Case> {
    let parts = items(&record().encode());
    let event = items(&parts[4]);
    let with = |at, value| replaced(&parts, 4, replaced(&event, at, value));
    let outcome = |kind, value| with(2, array(&[uint(kind), uint(value)]));
    let digest = bytes(&[1; 32]);
    vec![
        refused("finished_plan_31_bytes", &["R-8"], "The plan digest is one byte short.",
            with(0, bytes(&[1; 31]))),
        refused("finished_cti_text", &["R-8"], "The lease's nonce is text.",
            with(1, text("nonce, 16 bytes."))),
        refused("finished_stdout_1_item", &["R-8"], "Standard output without its digest.",
            with(3, array(&[uint(0)]))),
        refused("finished_stderr_negative", &["R-8"], "A negative count of bytes.",
            with(4, array(&[vec![0x20], digest]))),
        refused("outcome_kind_4", &["R-9"], "No outcome has the number 4.", outcome(4, 0)),
        refused("outcome_exit_256", &["R-9"], "An exit code of 256.", outcome(0, 256)),
        refused("outcome_signal_256", &["R-9"], "A signal of 256.", outcome(1, 256)),
        refused("outcome_errno_65536", &["R-9"], "An errno of 65536.", outcome(2, 65_536)),
        refused("outcome_unknown_2", &["R-9"], "Neither may nor may not be running.",
            outcome(3, 2)),
        refused("finished_7_items", &["R-8"], "Nothing is said of what the command used.",
            replaced(&parts, 4, array(&event[..7]))),
        refused("usage_2_items", &["R-8"], "The memory is missing.",
            with(7, array(&[uint(1), uint(2)]))),
        refused("usage_negative", &["R-8"], "A negative processor time.",
            with(7, array(&[vec![0x20], uint(2), uint(3)]))),
        refused("cut_by_4", &["R-9"], "Nobody has the number 4.", with(5, uint(4))),
    ]
}

/// Defects of the other events.
#[rustfmt::skip]
fn others() -> Vec<Case> {
    let frame = items(&record().encode());
    let event = |kind, event: &[Vec<u8>]| {
        let mut parts = frame.clone(); parts[3] = uint(kind); parts[4] = array(event);
        array(&parts)
    };
    let (digest, cti) = (bytes(&[1; 32]), bytes(&[2; 16]));
    let (kid, bstr) = (bytes(&[3; 8]), bytes(b"x"));
    vec![
        refused("epoch_reason_4", &["R-9"], "No reason has the number 4.",
            event(0, &[uint(4), kid])),
        refused("epoch_kid_9_bytes", &["R-8"], "A key id of nine bytes.",
            event(0, &[uint(0), bytes(&[3; 9])])),
        refused("decided_uid_64_bits", &["R-8"], "The approver's uid does not fit 32 bits.",
            event(1, &[bstr.clone(), bstr.clone(), text("alice"), uint(1 << 32), null()])),
        refused("decided_without_cti", &["R-8"], "Neither a nonce nor null.",
            event(1, &[bstr.clone(), bstr.clone(), text("alice"), uint(1000)])),
        refused("decided_cti_15_bytes", &["R-8"], "A nonce of 15 bytes.",
            event(1, &[bstr.clone(), bstr, text("alice"), uint(1000), bytes(&[2; 15])])),
        refused("burned_3_items", &["R-8"], "A third item.",
            event(2, &[digest.clone(), cti.clone(), null()])),
        refused("key_ended_7_bytes", &["R-8"], "A key id of seven bytes.",
            event(5, &[bytes(&[3; 7])])),
        refused("key_ended_2_items", &["R-8"], "A second item.",
            event(5, &[bytes(&[3; 8]), null()])),
        refused("refused_reason_513_bytes", &["R-10"], "The reason is one byte too long.",
            event(3, &[digest, cti, text(&"a".repeat(513))])),
    ]
}
