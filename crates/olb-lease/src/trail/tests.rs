use super::*;
use crate::{
    Cti, CutBy, Digest, Epoch, EpochReason, Outcome, PlanDigest, ReceiptClaims, SigningKey,
    StreamSummary,
};

type Entry = (u64, Vec<u8>, Option<Vec<u8>>);

fn key(seed: u8) -> SigningKey<Audit> {
    SigningKey::from_seed(&[seed; 32].into()).unwrap()
}

fn burned(number: u8) -> RecordEvent {
    RecordEvent::Burned { plan: PlanDigest([number; 32]), cti: Cti([number; 16]) }
}

fn finished(number: u8) -> RecordEvent {
    let nothing = StreamSummary { bytes: 0, sha256: Digest(crate::sha256(&[])) };
    RecordEvent::Finished {
        plan: PlanDigest([number; 32]),
        cti: Cti([number; 16]),
        outcome: Outcome::Exited(0),
        stdout: nothing,
        stderr: nothing,
        cut_by: CutBy::Nobody,
        duration_ms: 1,
        usage: None,
    }
}

/// Begin, burned, finished (signed), burned, finished (signed), burned.
fn trail(key: &SigningKey<Audit>) -> Vec<Entry> {
    let began = RecordEvent::EpochBegan { reason: EpochReason::NewLedger, lease_kid: Kid([1; 8]) };
    let events = [began, burned(1), finished(1), burned(2), finished(2), burned(3)];
    let mut head = ChainHead([0; 32]);
    let mut entries = Vec::new();
    for (sequence, event) in (1..).zip(events) {
        let signed = must_be_signed(&event);
        let record = Record { at: 1_000 + sequence, epoch: Epoch([9; 16]), event }.encode();
        let claims = ReceiptClaims { sequence, previous: head, record: record.clone() };
        head = claims.head();
        entries.push((sequence, record, signed.then(|| claims.sign(key))));
    }
    entries
}

fn head_after(entries: &[Entry], count: usize) -> ChainHead {
    entries[..count].iter().fold(ChainHead([0; 32]), |head, (_, record, _)| chain(head, record))
}

fn verify(entries: &[Entry], anchor: Option<(u64, ChainHead)>) -> Result<Intact, TrailError> {
    let anchors = anchor.into_iter().collect();
    let keys = [key(2).public().clone()];
    verify_trail(entries.iter().cloned(), &keys, BEGINNING, &anchors)
}

fn broken_at(result: Result<Intact, TrailError>) -> u64 {
    match result {
        Err(TrailError::Broken { at, .. }) => at,
        other => panic!("not broken: {other:?}"),
    }
}

#[test]
fn a_whole_trail_is_intact_up_to_its_last_signature() {
    let entries = trail(&key(2));
    let head = head_after(&entries, 6);
    let signed_by = Some(key(2).public().kid());
    let whole = Intact { records: 6, head, signed_upto: 5, signed_by };
    assert_eq!(verify(&entries, None), Ok(whole));
    let head = ChainHead([0; 32]);
    let empty = Intact { records: 0, head, signed_upto: 0, signed_by: None };
    assert_eq!(verify(&[], None), Ok(empty));
}

// [T-4]
#[test]
fn every_changed_byte_of_a_signed_stretch_is_noticed() {
    let entries = trail(&key(2));
    for at in 0..5 {
        for byte in 0..entries[at].1.len() {
            let mut changed = entries.clone();
            changed[at].1[byte] ^= 1;
            assert!(verify(&changed, None).is_err(), "record {at} byte {byte}");
        }
    }
}

// [T-4]
#[test]
fn every_changed_byte_of_a_receipt_is_noticed() {
    let entries = trail(&key(2));
    for byte in 0..entries[2].2.as_ref().unwrap().len() {
        let mut changed = entries.clone();
        changed[2].2.as_mut().unwrap()[byte] ^= 1;
        assert!(verify(&changed, None).is_err(), "byte {byte}");
    }
}

// [T-4]
#[test]
fn a_receipt_that_says_another_number_than_its_record_has_is_broken() {
    let entries = trail(&key(2));
    for sequence in [2, 4] {
        let previous = head_after(&entries, 2);
        let claims = ReceiptClaims { sequence, previous, record: entries[2].1.clone() };
        let mut renumbered = entries.clone();
        renumbered[2].2 = Some(claims.sign(&key(2)));
        assert_eq!(broken_at(verify(&renumbered, None)), 3);
    }
}

// [T-1]
#[test]
fn missing_repeated_and_swapped_records_are_noticed_where_they_are() {
    let entries = trail(&key(2));
    let mut cut = entries.clone();
    cut.remove(3);
    assert_eq!(broken_at(verify(&cut, None)), 5);
    let mut renumbered = cut;
    for (sequence, entry) in (1..).zip(&mut renumbered) {
        entry.0 = sequence;
    }
    assert_eq!(broken_at(verify(&renumbered, None)), 4);
    let mut twice = entries.clone();
    twice.insert(1, entries[1].clone());
    assert_eq!(broken_at(verify(&twice, None)), 2);
    assert_eq!(broken_at(verify(&entries[1..], None)), 2);
}

// [T-3]
#[test]
fn a_decision_or_an_outcome_without_its_signature_is_broken() {
    let mut entries = trail(&key(2));
    entries[4].2 = None;
    assert_eq!(broken_at(verify(&entries, None)), 5);
    let event = RecordEvent::Decided {
        plan: vec![1],
        verdict: vec![2],
        approver: "alice".into(),
        approver_uid: 1000,
        cti: None,
    };
    let record = Record { at: 1_006, epoch: Epoch([9; 16]), event }.encode();
    entries = trail(&key(2));
    entries[5].1 = record;
    assert_eq!(broken_at(verify(&entries, None)), 6);
}

// [T-2]
#[test]
fn a_record_that_does_not_decode_is_broken_even_where_nothing_signs_it() {
    let mut entries = trail(&key(2));
    for record in [&b""[..], b"\xff", b"\x85\x01\x00\x40\x00\x80"] {
        entries[5].1 = record.to_vec();
        assert_eq!(broken_at(verify(&entries, None)), 6, "{record:?}");
    }
}

#[test]
fn a_trail_rewritten_with_another_key_cannot_be_verified() {
    let kid = key(3).public().kid();
    assert_eq!(verify(&trail(&key(3)), None), Err(TrailError::CannotVerify { at: 3, kid }));
}

// [T-5]
#[test]
fn an_end_cut_off_shows_only_against_an_anchor() {
    let entries = trail(&key(2));
    let anchor = (6, head_after(&entries, 6));
    for end in 0..6 {
        assert_eq!(broken_at(verify(&entries[..end], Some(anchor))), 1 + end as u64);
        // Behind its last signature, and before it too: each prefix was a whole trail once.
        assert!(verify(&entries[..end], None).is_ok());
    }
    assert_eq!(verify(&entries, Some(anchor)).map(|whole| whole.records), Ok(6));
    assert!(verify(&entries, Some((3, head_after(&entries, 3)))).is_ok());
}

// [T-5]
#[test]
fn a_trail_passes_through_every_anchor_or_is_broken_where_it_does_not() {
    let entries = trail(&key(2));
    let good: BTreeMap<u64, ChainHead> =
        (1..=6).map(|at| (at, head_after(&entries, usize::try_from(at).unwrap()))).collect();
    let verify = |anchors: &BTreeMap<_, _>| {
        verify_trail(entries.iter().cloned(), &[key(2).public().clone()], BEGINNING, anchors)
    };
    assert!(verify(&good).is_ok());
    for at in 1..=6 {
        let mut other = good.clone();
        other.insert(at, ChainHead([1; 32]));
        assert_eq!(broken_at(verify(&other)), at);
    }
}

#[test]
fn a_trail_goes_on_from_its_start_only() {
    let entries = trail(&key(2));
    let keys = [key(2).public().clone()];
    let verify = |from: usize, start| {
        verify_trail(entries[from..].iter().cloned(), &keys, start, &BTreeMap::new())
    };
    let start = (3, head_after(&entries, 3));
    let signed_by = Some(key(2).public().kid());
    let rest = Intact { records: 3, head: head_after(&entries, 6), signed_upto: 5, signed_by };
    assert_eq!(verify(3, start), Ok(rest));
    assert_eq!(verify(6, (6, rest.head)).map(|none| none.signed_upto), Ok(6), "all of it");
    assert_eq!(broken_at(verify(3, (3, ChainHead([1; 32])))), 5);
    assert_eq!(broken_at(verify(4, start)), 5);
    assert_eq!(broken_at(verify(0, start)), 1);
    // An anchor is no start: that the records before it are missing is noticed.
    let anchors = [start].into();
    let cut = verify_trail(entries[3..].iter().cloned(), &keys, BEGINNING, &anchors);
    assert_eq!(broken_at(cut), 4);
}

/// A trail of these events, each signed with the key of its seed where it has one.
fn signed_with(events: &[(RecordEvent, Option<u8>)]) -> Vec<Entry> {
    let mut head = ChainHead([0; 32]);
    let mut entries = Vec::new();
    for (sequence, (event, seed)) in (1..).zip(events) {
        let record = Record { at: 1, epoch: Epoch([9; 16]), event: event.clone() }.encode();
        let claims = ReceiptClaims { sequence, previous: head, record: record.clone() };
        head = claims.head();
        entries.push((sequence, record, seed.map(|seed| claims.sign(&key(seed)))));
    }
    entries
}

fn ended(seed: u8) -> RecordEvent {
    RecordEvent::KeyEnded { kid: key(seed).public().kid() }
}

fn verify_with_all_keys(events: &[(RecordEvent, Option<u8>)]) -> Result<Intact, TrailError> {
    let keys = [2, 3, 4].map(|seed| key(seed).public().clone());
    verify_trail(signed_with(events), &keys, BEGINNING, &BTreeMap::new())
}

// [T-6]
#[test]
fn the_key_changes_where_a_record_says_so_and_nowhere_else() {
    let change = (ended(2), Some(3));
    let changed = [(finished(1), Some(2)), change.clone(), (finished(2), Some(3))];
    let whole = verify_with_all_keys(&changed).unwrap();
    assert_eq!((whole.signed_upto, whole.signed_by), (3, Some(key(3).public().kid())));
    let silently = [(finished(1), Some(2)), (finished(2), Some(3))];
    assert_eq!(broken_at(verify_with_all_keys(&silently)), 2);
    let of_another = [(finished(1), Some(2)), (ended(4), Some(3))];
    assert_eq!(broken_at(verify_with_all_keys(&of_another)), 2);
    let an_approvers = [(finished(1), Some(2)), (ended(9), Some(2)), (finished(2), Some(2))];
    assert!(verify_with_all_keys(&an_approvers).is_ok());
}

// [T-6]
#[test]
fn a_key_that_has_ended_signs_nothing_more() {
    let back = |event| [(finished(1), Some(2)), (ended(2), Some(3)), (event, Some(2))];
    assert_eq!(broken_at(verify_with_all_keys(&back(finished(2)))), 3);
    assert_eq!(broken_at(verify_with_all_keys(&back(ended(3)))), 3, "not by its own word");
    let itself = [(finished(1), Some(2)), (ended(2), Some(2)), (finished(2), Some(2))];
    assert!(verify_with_all_keys(&itself[..2]).is_ok());
    assert_eq!(broken_at(verify_with_all_keys(&itself)), 3);
    let unused = [(ended(3), Some(2)), (ended(2), Some(3))];
    assert_eq!(broken_at(verify_with_all_keys(&unused)), 2, "it ended before it signed");
}

// [T-3]
#[test]
fn the_end_of_a_key_without_its_signature_is_broken() {
    assert_eq!(broken_at(verify_with_all_keys(&[(ended(2), None)])), 1);
}
