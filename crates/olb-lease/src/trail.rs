//! Checks an exported audit trail: the chain over its records and the signed heads in it.

use thiserror::Error;

use crate::cose::Envelope;
use crate::id::{ChainHead, Kid};
use crate::key::{Audit, PublicKey};
use crate::receipt::{RECEIPT_BYTES_MAX, RawReceipt};
use crate::record::{Record, RecordEvent, chain};

/// A trail in which every record is where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intact {
    /// How many records were checked.
    pub records: u64,
    /// The chain's head after the last one.
    pub head: ChainHead,
    /// The last sequence number that a signed head vouches for. What follows could have been
    /// written, changed or cut off by whoever holds the file.
    pub signed_upto: u64,
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

/// Verifies `records`: tuples of sequence number, record and, where there is one, the receipt that
/// signs the chain's head after the record.
///
/// `anchor` is a sequence number with the chain's head after it that the caller trusts, for example
/// from a receipt kept elsewhere. A trail that starts right after the anchor is continued from it;
/// any other has to start with record 1 and to pass through the anchor, so that one that was cut
/// off or rewritten before it is noticed. `audit_keys` are the present and all retired keys.
///
/// # Errors
/// See [`TrailError`].
pub fn verify_trail<I, B>(
    records: I,
    audit_keys: &[PublicKey<Audit>],
    anchor: Option<(u64, ChainHead)>,
) -> Result<Intact, TrailError>
where
    I: IntoIterator<Item = (u64, B, Option<B>)>,
    B: AsRef<[u8]>,
{
    let mut walk = Walk { last: 0, head: ChainHead([0; 32]), signed_upto: 0, records: 0 };
    for (sequence, record, receipt) in records {
        match anchor {
            Some((at, head)) if walk.records == 0 && at.checked_add(1) == Some(sequence) => {
                walk = Walk { last: at, head, signed_upto: at, records: 0 };
            }
            Some(_) | None => {}
        }
        walk.step(sequence, record.as_ref(), receipt.as_ref().map(B::as_ref), audit_keys)?;
        match anchor {
            Some((at, head)) if at == sequence && head != walk.head => {
                return Err(broken(at, "it is not the record that the trusted head vouches for"));
            }
            Some(_) | None => {}
        }
    }
    match anchor {
        Some((at, _)) if walk.last < at => {
            Err(broken(walk.last.saturating_add(1), "the trail ends before the trusted head"))
        }
        Some((at, _)) => Ok(walk.intact(walk.signed_upto.max(at))),
        None => Ok(walk.intact(walk.signed_upto)),
    }
}

const FORM: &str = "its receipt is not in the one permitted form";

/// Where in the trail the check stands.
struct Walk {
    last: u64,
    head: ChainHead,
    signed_upto: u64,
    records: u64,
}

impl Walk {
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
                self.check_receipt(sequence, record, receipt, keys)?;
                self.signed_upto = sequence;
            }
            // Whoever strips a signature to rewrite what follows is stopped by what must have one.
            None if must_be_signed(&decoded.event) => {
                return Err(broken(sequence, "its signature is missing"));
            }
            None => {}
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
    ) -> Result<(), TrailError> {
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
        let envelope = Envelope::parse(receipt, RECEIPT_BYTES_MAX);
        let kid = envelope.map_err(|_| broken(sequence, FORM))?.kid;
        let Some(key) = keys.iter().find(|key| key.kid() == kid) else {
            return Err(TrailError::CannotVerify { at: sequence, kid });
        };
        let bad = |_| broken(sequence, "the signature of its receipt does not hold");
        raw.verify(key).map(|_| ()).map_err(bad)
    }

    fn intact(&self, signed_upto: u64) -> Intact {
        Intact { records: self.records, head: self.head, signed_upto }
    }
}

fn must_be_signed(event: &RecordEvent) -> bool {
    match event {
        RecordEvent::Decided { .. } | RecordEvent::Finished { .. } => true,
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
        verify_trail(entries.iter().cloned(), &[key(2).public().clone()], anchor)
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
        assert_eq!(verify(&entries, None), Ok(Intact { records: 6, head, signed_upto: 5 }));
        let empty = Intact { records: 0, head: ChainHead([0; 32]), signed_upto: 0 };
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
    fn an_unsigned_end_cut_off_shows_only_against_an_anchor() {
        let entries = trail(&key(2));
        let anchor = (6, head_after(&entries, 6));
        assert!(verify(&entries[..5], None).is_ok());
        assert_eq!(broken_at(verify(&entries[..5], Some(anchor))), 6);
        assert_eq!(verify(&entries, Some(anchor)).map(|whole| whole.signed_upto), Ok(6));
        assert_eq!(broken_at(verify(&entries, Some((6, ChainHead([1; 32]))))), 6);
    }

    #[test]
    fn a_trail_is_continued_from_the_anchor_before_it() {
        let entries = trail(&key(2));
        let anchor = (3, head_after(&entries, 3));
        let rest = Intact { records: 3, head: head_after(&entries, 6), signed_upto: 5 };
        assert_eq!(verify(&entries[3..], Some(anchor)), Ok(rest));
        assert_eq!(broken_at(verify(&entries[3..], Some((3, ChainHead([1; 32]))))), 5);
        assert_eq!(broken_at(verify(&entries[4..], Some(anchor))), 5);
    }
}
