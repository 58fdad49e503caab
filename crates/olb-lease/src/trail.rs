//! Checks an exported audit trail: the chain over its records and the signed heads in it.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::id::{ChainHead, Kid};
use crate::key::{Audit, PublicKey};
use crate::receipt::RawReceipt;
use crate::record::{Record, RecordEvent, chain};

/// A trail in which every record is where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intact {
    /// How many records were checked.
    pub records: u64,
    /// The chain's head after the last one.
    pub head: ChainHead,
    /// The last sequence number that a signed head vouches for. What follows could have been
    /// written, changed or cut off by whoever holds the file, as far as no anchor vouches for it.
    pub signed_upto: u64,
    /// The id of the key that signed there. One that was replaced since proves nothing: whoever has
    /// it can sign another end.
    pub signed_by: Option<Kid>,
}

/// Why a trail is not [`Intact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TrailError {
    /// It is not what the root half wrote.
    #[error("the trail is broken at record {at}: {why}")]
    Broken {
        /// The sequence number at which it shows.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// It may be whole, but that cannot be told with the keys at hand.
    #[error("the trail cannot be verified: record {at} is signed with audit key {}, which is not among the keys given", kid.hex())]
    CannotVerify {
        /// The record with the foreign signature.
        at: u64,
        /// The id of the missing key.
        kid: Kid,
    },
}

/// Where a whole trail begins: before record 1.
pub const BEGINNING: (u64, ChainHead) = (0, ChainHead([0; 32]));

/// Verifies `records`: tuples of sequence number, record and, where there is one, the receipt that
/// signs the chain's head after the record.
///
/// They have to go on right after `start`, a sequence number with the chain's head after it: for
/// a whole trail [`BEGINNING`], else what an earlier verification ended with. `anchors` are further
/// such heads, which the caller trusts because they were kept elsewhere: the trail has to reach and
/// to pass through each, so that one that was rewritten or cut off at its end is noticed.
/// `audit_keys` are the present and all retired keys.
///
/// # Errors
/// See [`TrailError`].
pub fn verify_trail<I, B>(
    records: I,
    audit_keys: &[PublicKey<Audit>],
    start: (u64, ChainHead),
    anchors: &BTreeMap<u64, ChainHead>,
) -> Result<Intact, TrailError>
where
    I: IntoIterator<Item = (u64, B, Option<B>)>,
    B: AsRef<[u8]>,
{
    let mut walk = Walk::after(start);
    for (sequence, record, receipt) in records {
        walk.step(sequence, record.as_ref(), receipt.as_ref().map(B::as_ref), audit_keys)?;
        if anchors.get(&sequence).is_some_and(|head| *head != walk.head) {
            return Err(broken(sequence, "it is not the record that the anchor vouches for"));
        }
    }
    match anchors.last_key_value() {
        Some((at, _)) if walk.last < *at => {
            Err(broken(walk.last.saturating_add(1), "the end was cut off from here on"))
        }
        Some(_) | None => Ok(walk.intact()),
    }
}

const FORM: &str = "its receipt is not in the one permitted form";

/// Where in the trail the check stands.
struct Walk {
    last: u64,
    head: ChainHead,
    signed_upto: u64,
    records: u64,
    /// The key that signed last.
    signed_by: Option<Kid>,
    /// The keys that have ended so far.
    ended: BTreeSet<Kid>,
}

impl Walk {
    fn after((last, head): (u64, ChainHead)) -> Self {
        Self { last, head, signed_upto: last, records: 0, signed_by: None, ended: BTreeSet::new() }
    }

    fn step(
        &mut self,
        sequence: u64,
        record: &[u8],
        receipt: Option<&[u8]>,
        keys: &[PublicKey<Audit>],
    ) -> Result<(), TrailError> {
        if self.last.checked_add(1) != Some(sequence) {
            return Err(broken(
                sequence,
                "records are missing, repeated or out of order before it",
            ));
        }
        let decoded = Record::decode(record).map_err(|_| broken(sequence, "it does not decode"))?;
        match receipt {
            Some(receipt) => {
                let kid = self.check_receipt(sequence, record, receipt, keys)?;
                self.check_signer(sequence, kid, &decoded.event)?;
                (self.signed_upto, self.signed_by) = (sequence, Some(kid));
            }
            // Whoever strips a signature to rewrite what follows is stopped by what must have one.
            None if must_be_signed(&decoded.event) => {
                return Err(broken(sequence, "its signature is missing"));
            }
            None => {}
        }
        if let RecordEvent::KeyEnded { kid } = decoded.event {
            self.ended.insert(kid);
        }
        self.head = chain(self.head, record);
        self.last = sequence;
        self.records = self.records.saturating_add(1);
        Ok(())
    }

    fn check_receipt(
        &self,
        sequence: u64,
        record: &[u8],
        receipt: &[u8],
        keys: &[PublicKey<Audit>],
    ) -> Result<Kid, TrailError> {
        let form = |_| broken(sequence, FORM);
        let claims = RawReceipt::parse(receipt).map_err(form)?.unverified_claims().map_err(form)?;
        // Compared before the signature: a receipt moved here from elsewhere is a broken trail, not
        // a missing key.
        if claims.sequence != sequence {
            return Err(broken(sequence, "its receipt belongs to another record"));
        }
        if claims.record != record || claims.previous != self.head {
            return Err(broken(sequence, "it or one before it is not what was signed"));
        }
        let raw = RawReceipt::parse(receipt).map_err(form)?;
        let kid = raw.kid();
        let Some(key) = keys.iter().find(|key| key.kid() == kid) else {
            return Err(TrailError::CannotVerify { at: sequence, kid });
        };
        let bad = |_| broken(sequence, "the signature of its receipt does not hold");
        raw.verify(key).map(|_| kid).map_err(bad)
    }

    /// Another key signs from a record on that says of the one before that it has ended, and none
    /// that has ended signs again.
    fn check_signer(&self, sequence: u64, kid: Kid, event: &RecordEvent) -> Result<(), TrailError> {
        if self.ended.contains(&kid) {
            return Err(broken(sequence, "it is signed with a key that had ended before it"));
        }
        let is_said = |before| before == kid || *event == RecordEvent::KeyEnded { kid: before };
        if self.signed_by.is_none_or(is_said) {
            Ok(())
        } else {
            Err(broken(sequence, "it is signed with another key than those before it"))
        }
    }

    fn intact(&self) -> Intact {
        Intact {
            records: self.records,
            head: self.head,
            signed_upto: self.signed_upto,
            signed_by: self.signed_by,
        }
    }
}

fn must_be_signed(event: &RecordEvent) -> bool {
    match event {
        RecordEvent::Decided { .. }
        | RecordEvent::Finished { .. }
        | RecordEvent::KeyEnded { .. } => true,
        RecordEvent::EpochBegan { .. }
        | RecordEvent::Burned { .. }
        | RecordEvent::Refused { .. } => false,
    }
}

fn broken(at: u64, why: &'static str) -> TrailError {
    TrailError::Broken { at, why }
}

#[cfg(test)]
mod tests {
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
        }
    }

    /// Begin, burned, finished (signed), burned, finished (signed), burned.
    fn trail(key: &SigningKey<Audit>) -> Vec<Entry> {
        let began =
            RecordEvent::EpochBegan { reason: EpochReason::NewLedger, lease_kid: Kid([1; 8]) };
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
}
