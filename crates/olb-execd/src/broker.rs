//! What every operation of the root half works with.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use std::collections::{BTreeMap, BTreeSet};

use olb_exec_api::{Enrolled, Reason, Refusal};
use olb_lease::{Audience, Audit, Epoch, Kid, LeaseIssuer, PublicKey, RawReceipt, SigningKey};
use olb_ledger::{Ledger, LedgerError};

use crate::cgroup::RunGroups;
use crate::config::Config;
use crate::enrolment::{Known, read_all};
use crate::journal::Journal;
use crate::staging::Staging;

/// The root half: its configuration, keys, ledger and what runs at the moment.
pub struct Broker {
    /// Configuration, read once at start.
    pub config: Config,
    /// Signs leases.
    pub lease_key: SigningKey<LeaseIssuer>,
    /// Public half of the key that signs receipts; the ledger holds the private one.
    pub audit_key: PublicKey<Audit>,
    /// ledger.db.
    pub ledger: Ledger,
    /// The ledger's epoch.
    pub epoch: Epoch,
    /// Audience of this broker.
    pub audience: Audience,
    /// The uid this process runs as; 0 where there is a privilege boundary.
    pub own_uid: u32,
    /// Keeps a second root half from starting.
    pub lock: std::fs::File,
    /// Where runs get cgroups of their own, if they do.
    pub run_groups: Option<RunGroups>,
    /// Where copies of staged files are kept, if they are.
    pub staging: Option<Staging>,
    /// Warnings and summaries.
    pub journal: Journal,
    /// What the enrolment files said last.
    pub known: Known,
    /// Approvers' keys that the ledger has as revoked.
    pub revoked: Mutex<BTreeSet<Kid>>,
    /// What runs at the moment.
    pub slots: Slots,
    /// Set when the process is to end: no new work is taken.
    pub stopping: AtomicBool,
}

impl Broker {
    /// Whether this process is root, so that there is a privilege boundary to hold.
    #[must_use]
    pub fn has_boundary(&self) -> bool {
        self.own_uid == 0
    }

    /// Whether the process is to end as soon as what runs has ended.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The users whose files count as unchangeable by others: root, and without a boundary the one
    /// user that everything runs as.
    #[must_use]
    pub fn trusted_uids(&self) -> [u32; 2] {
        [0, self.own_uid]
    }

    /// The enrolments that are in force at `now` (seconds since the Unix epoch). Revocations that
    /// are new in their folder are recorded first.
    #[must_use]
    pub fn enrolments(&self, now: u64) -> Vec<Enrolled> {
        let mut report = |path: &Path, error: &str| {
            self.journal.warn(&format!("enrolment {} is out: {error}", path.display()));
        };
        let dir = &self.config.approvers_dir;
        let (mut enrolled, revoked) = read_all(dir, self.own_uid, now, &self.known, &mut report);
        enrolled.retain(|one| !revoked.contains(&one.key.kid()));
        let mut recorded = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        for kid in revoked {
            // The key that signs the trail is replaced, not revoked: a trail ends with its key.
            if recorded.contains(&kid) || kid == self.audit_key.kid() {
                continue;
            }
            match self.ledger.revoke_key(kid, now) {
                Ok(receipt) => {
                    recorded.insert(kid);
                    receipt.iter().for_each(|receipt| self.anchor(receipt));
                }
                // The file holds all the same, and the next reading tries again.
                Err(error) => drop(self.ledger_refusal(&error)),
            }
        }
        // Also where the file that revoked it is gone.
        enrolled.retain(|one| !recorded.contains(&one.key.kid()));
        enrolled
    }

    /// The enrolment in force at `now` of this key, for this uid where one is given.
    ///
    /// # Errors
    /// There is none.
    pub fn enrolled(&self, kid: Kid, uid: Option<u32>, now: u64) -> Result<Enrolled, Refusal> {
        let is_it = |one: &Enrolled| one.key.kid() == kid && uid.is_none_or(|uid| one.uid == uid);
        self.enrolments(now).into_iter().find(is_it).ok_or_else(|| {
            let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
            let why = if revoked.contains(&kid) { "was revoked" } else { "is not enrolled" };
            let text = format!(
                "the approver's key {} {why}: it decides nothing and its leases are void; have \
                 another enrolled, then ask again",
                kid.hex()
            );
            Refusal::new(Reason::NotEnrolled, text)
        })
    }

    /// Whether `uid` is on the list of requesters.
    #[must_use]
    pub fn may_request(&self, uid: u32) -> bool {
        self.config.requesters.contains(&uid)
    }

    /// Has the journal keep the signed head that is in a receipt of our own. For after the answer:
    /// nobody waits for it.
    pub fn anchor(&self, receipt: &[u8]) {
        let claims = RawReceipt::parse(receipt).and_then(|raw| raw.unverified_claims());
        if let Ok(claims) = claims {
            self.journal.anchor(claims.sequence, claims.head(), self.audit_key.kid());
        }
    }

    /// What a ledger that cannot be used means for the peer: a refusal that says so. The details
    /// are for the journal.
    #[must_use]
    pub fn ledger_refusal(&self, error: &LedgerError) -> Refusal {
        self.journal.warn(&format!("the ledger refused: {error}"));
        Refusal::new(
            Reason::LedgerFailed,
            "the broker cannot record in its ledger, so nothing ran; tell the administrator \
             (journal of olb-execd)",
        )
    }
}

/// Counts running commands against their limits.
#[derive(Debug, Default)]
pub struct Slots {
    total: AtomicU32,
    by_uid: Mutex<BTreeMap<u32, u32>>,
}

/// Room for one command; gives it back when dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    slots: &'a Slots,
    uid: u32,
}

impl Slots {
    /// Takes room for one command of `uid`, if both limits leave any.
    #[must_use]
    pub fn take(&self, uid: u32, total_max: u32, per_uid_max: u32) -> Option<Slot<'_>> {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = by_uid.entry(uid).or_default();
        if *mine >= per_uid_max || self.total.load(Ordering::Relaxed) >= total_max {
            return None;
        }
        *mine = mine.saturating_add(1);
        self.total.fetch_add(1, Ordering::Relaxed);
        Some(Slot { slots: self, uid })
    }

    /// Commands that run at the moment.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut by_uid = self.slots.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = by_uid.get_mut(&self.uid) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                by_uid.remove(&self.uid);
            }
        }
        self.slots.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted_per_uid_and_in_all_and_come_back() {
        let slots = Slots::default();
        let first = slots.take(1, 3, 2).unwrap();
        let second = slots.take(1, 3, 2).unwrap();
        assert!(slots.take(1, 3, 2).is_none(), "per uid");
        let third = slots.take(2, 3, 2).unwrap();
        assert!(slots.take(3, 3, 2).is_none(), "in all");
        drop((first, second, third));
        assert_eq!(slots.running(), 0);
        assert!(slots.take(1, 3, 2).is_some());
    }
}
