//! What a job works with inside the writer's transaction: the trail's end, the burn counter, and
//! the lookups that more than one job needs. Every lookup is by a primary key or a unique index.

use olb_lease::{
    Audit, ChainHead, Cti, Digest, Epoch, Kid, PlanDigest, RECORD_BYTES_MAX, ReceiptClaims, Record,
    RecordEvent, SigningKey, VerdictDigest, VerdictKind, chain,
};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use crate::crash::crash_point;
use crate::error::LedgerError;
use crate::types::{BurnCounter, Recorded, StoredLease};

/// The end of the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) sequence: u64,
    pub(crate) head: ChainHead,
}

/// A running transaction.
pub(crate) struct Tx<'a> {
    pub(crate) db: &'a Connection,
    pub(crate) tip: &'a mut Tip,
    /// The number of the last burn or closing. Never goes back, not even with the transaction.
    pub(crate) spent: &'a mut u64,
    pub(crate) epoch: Epoch,
    pub(crate) audit: &'a SigningKey<Audit>,
    pub(crate) counter: &'a mut dyn BurnCounter,
}

/// A row of `issued`.
pub(crate) struct IssuedRow {
    pub(crate) plan: PlanDigest,
    pub(crate) verdict: VerdictDigest,
    pub(crate) cti: Cti,
    pub(crate) digest: Digest,
    pub(crate) kid: Kid,
    pub(crate) approver_uid: u32,
    pub(crate) requester_uid: u32,
    pub(crate) epoch: Epoch,
    pub(crate) decided: i64,
    pub(crate) stored: StoredLease,
}

const ISSUED_BY_PLAN: &str = "SELECT plan, verdict, cti, digest, kid, approver_uid, requester_uid, \
     epoch, decided, lease, expires_at, deadline_boot_ms FROM issued WHERE plan = ?1";
const ISSUED_BY_CTI: &str = "SELECT plan, verdict, cti, digest, kid, approver_uid, requester_uid, \
     epoch, decided, lease, expires_at, deadline_boot_ms FROM issued WHERE cti = ?1";

impl Tx<'_> {
    /// Appends a record to the trail; returns its sequence number.
    pub(crate) fn append(&mut self, at: u64, event: RecordEvent) -> Result<i64, LedgerError> {
        let (sequence, record) = self.next_record(at, event)?;
        let head = chain(self.tip.head, &record);
        let number = to_db(sequence)?;
        self.execute(
            "INSERT INTO records (sequence, head, record) VALUES (?1, ?2, ?3)",
            params![number, head.0, record],
        )?;
        *self.tip = Tip { sequence, head };
        Ok(number)
    }

    /// Appends a record and signs the chain's head after it; returns its sequence number and the
    /// receipt.
    pub(crate) fn append_signed(
        &mut self,
        at: u64,
        event: RecordEvent,
    ) -> Result<(i64, Vec<u8>), LedgerError> {
        let (sequence, record) = self.next_record(at, event)?;
        let claims = ReceiptClaims { sequence, previous: self.tip.head, record };
        let (head, receipt) = (claims.head(), claims.sign(self.audit));
        let number = to_db(sequence)?;
        self.execute(
            "INSERT INTO records (sequence, head, receipt) VALUES (?1, ?2, ?3)",
            params![number, head.0, receipt],
        )?;
        *self.tip = Tip { sequence, head };
        Ok((number, receipt))
    }

    fn next_record(&self, at: u64, event: RecordEvent) -> Result<(u64, Vec<u8>), LedgerError> {
        let record = Record { at, epoch: self.epoch, event }.encode();
        // What cannot be read again must not be written.
        if record.len() > RECORD_BYTES_MAX || Record::decode(&record).is_err() {
            return Err(LedgerError::Input("the record is outside its limits"));
        }
        let sequence = self.tip.sequence.checked_add(1);
        Ok((sequence.ok_or(LedgerError::Input("the trail is full"))?, record))
    }

    /// Takes the next number for something that cannot be undone. The counter outside the ledger
    /// is advanced first: if the commit is then lost, an epoch ends too early, never too late.
    pub(crate) fn spend(&mut self) -> Result<u64, LedgerError> {
        let next = self.spent.checked_add(1).ok_or(LedgerError::Input("no numbers are left"))?;
        self.counter.advance(next).map_err(|error| LedgerError::Counter(error.to_string()))?;
        crash_point("ledger-after-counter");
        *self.spent = next;
        Ok(next)
    }

    pub(crate) fn execute(&self, sql: &str, values: impl Params) -> Result<usize, LedgerError> {
        Ok(self.db.prepare_cached(sql)?.execute(values)?)
    }

    pub(crate) fn find<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, LedgerError> {
        Ok(self.db.prepare_cached(sql)?.query_row(values, read).optional()?)
    }

    pub(crate) fn issued_for(&self, plan: PlanDigest) -> Result<Option<IssuedRow>, LedgerError> {
        self.find(ISSUED_BY_PLAN, [plan.0], read_issued)
    }

    pub(crate) fn issued_as(&self, cti: Cti) -> Result<Option<IssuedRow>, LedgerError> {
        self.find(ISSUED_BY_CTI, [cti.0], read_issued)
    }

    /// How a request was closed, and the number of the record that says so.
    pub(crate) fn closed(
        &self,
        plan: PlanDigest,
    ) -> Result<Option<(VerdictKind, i64)>, LedgerError> {
        let row: Option<(i64, i64)> =
            self.find("SELECT kind, decided FROM closed WHERE plan = ?1", [plan.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        row.map(|(kind, decided)| match kind {
            2 => Ok((VerdictKind::Deny, decided)),
            3 => Ok((VerdictKind::Revoke, decided)),
            other => Err(LedgerError::Damaged(format!("a request closed in the way {other}"))),
        })
        .transpose()
    }

    /// The number of a lease's burn.
    pub(crate) fn burned(&self, cti: Cti) -> Result<Option<i64>, LedgerError> {
        self.find("SELECT number FROM burned WHERE cti = ?1", [cti.0], |row| row.get(0))
    }

    /// The recorded outcome of a burn.
    pub(crate) fn recorded(&self, number: i64) -> Result<Option<Recorded>, LedgerError> {
        let row: Option<(i64, Vec<u8>, Vec<u8>)> = self.find(
            "SELECT finished, stdout_tail, stderr_tail FROM outcomes WHERE number = ?1",
            [number],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        row.map(|(finished, stdout_tail, stderr_tail)| {
            Ok(Recorded { receipt: self.receipt(finished)?, stdout_tail, stderr_tail })
        })
        .transpose()
    }

    /// The receipt that a row of another table refers to.
    pub(crate) fn receipt(&self, sequence: i64) -> Result<Vec<u8>, LedgerError> {
        let receipt: Option<Option<Vec<u8>>> =
            self.find("SELECT receipt FROM records WHERE sequence = ?1", [sequence], |row| {
                row.get(0)
            })?;
        let missing = || LedgerError::Damaged(format!("record {sequence} has no receipt"));
        receipt.flatten().ok_or_else(missing)
    }

    pub(crate) fn is_key_revoked(&self, kid: Kid) -> Result<bool, LedgerError> {
        let found = self.find("SELECT 1 FROM revoked_keys WHERE kid = ?1", [kid.0], |_| Ok(()))?;
        Ok(found.is_some())
    }
}

fn read_issued(row: &Row<'_>) -> rusqlite::Result<IssuedRow> {
    let deadline: i64 = row.get(11)?;
    Ok(IssuedRow {
        plan: PlanDigest(row.get(0)?),
        verdict: VerdictDigest(row.get(1)?),
        cti: Cti(row.get(2)?),
        digest: Digest(row.get(3)?),
        kid: Kid(row.get(4)?),
        approver_uid: row.get(5)?,
        requester_uid: row.get(6)?,
        epoch: Epoch(row.get(7)?),
        decided: row.get(8)?,
        stored: StoredLease {
            bytes: row.get(9)?,
            expires_at: row.get(10)?,
            // Never negative: a deadline that is not a time is one that has passed.
            deadline_boot_ms: u64::try_from(deadline).unwrap_or(0),
        },
    })
}

/// SQLite's integers are signed.
pub(crate) fn to_db(number: u64) -> Result<i64, LedgerError> {
    i64::try_from(number).map_err(|_| LedgerError::Input("a number is too large"))
}

pub(crate) fn from_db(number: i64) -> Result<u64, LedgerError> {
    u64::try_from(number).map_err(|_| LedgerError::Damaged(format!("the number {number}")))
}
