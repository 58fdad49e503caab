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
mod tests;
