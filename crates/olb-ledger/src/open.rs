//! Opening: which epoch it is, and what became of the runs of an earlier process.

use olb_lease::{
    Cti, CutBy, Digest, Epoch, EpochReason, Outcome, PlanDigest, RecordEvent, StreamSummary, sha256,
};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::burn::finish;
use crate::error::LedgerError;
use crate::file::{Ballast, prepare};
use crate::schema;
use crate::tx::{Tx, to_db};
use crate::types::{Finish, Opened, Options};
use crate::writer::{Writer, load};

/// Opens the database and brings it up to the present, in one transaction.
pub(crate) fn open(options: Options) -> Result<(Writer, Opened), LedgerError> {
    prepare(&options.path)?;
    let connection = schema::open(&options.path)?;
    let stored = load(&connection)?;
    let (epoch, reason) = epoch_of(&connection, &options, stored.spent)?;
    let start = Start {
        boot_id: options.boot_id,
        lease_kid: options.lease_kid,
        now: options.now,
        may_be_running: options.may_be_running,
        reason,
    };
    let mut writer = Writer {
        ballast: Ballast::new(&options.path, options.ballast_bytes),
        path: options.path,
        database: Ok(connection),
        tip: stored.tip,
        // Numbers go on after the highest that was ever given, also where the ledger forgot it.
        spent: stored.spent.max(options.burn_counter.unwrap_or(0)),
        epoch,
        audit: options.audit_key,
        counter: options.counter,
        groups: 0,
    };
    let unknown = match writer.transaction(|tx| start.record(tx)) {
        Err(LedgerError::Full) if writer.ballast.release() => {
            writer.transaction(|tx| start.record(tx))?
        }
        result => result?,
    };
    match writer.ballast.restore() {
        // Questions and outcomes are served all the same; anything new is refused.
        Ok(()) | Err(LedgerError::Full) => {}
        Err(error) => return Err(error),
    }
    let opened = Opened { epoch, epoch_reason: reason, unknown, burns: writer.spent };
    Ok((writer, opened))
}

/// The epoch in force, and why it is a new one if it is. In doubt it is: a new epoch costs an
/// approval that has to be asked for again, an old one could run something twice.
fn epoch_of(
    db: &Connection,
    options: &Options,
    spent: u64,
) -> Result<(Epoch, Option<EpochReason>), LedgerError> {
    let state: Option<([u8; 16], [u8; 16], [u8; 8])> = db
        .query_row("SELECT epoch, boot_id, lease_kid FROM state", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((epoch, boot_id, lease_kid)) = state else {
        return Ok((options.fresh_epoch, Some(EpochReason::NewLedger)));
    };
    let reason = if boot_id != options.boot_id {
        EpochReason::Boot
    } else if options.burn_counter != Some(spent) {
        // Ahead of the ledger: an older copy was put back. Missing or behind: the counter itself
        // was, and vouches for nothing.
        EpochReason::Restored
    } else if lease_kid != options.lease_kid.0 {
        EpochReason::NewKey
    } else {
        return Ok((Epoch(epoch), None));
    };
    Ok((options.fresh_epoch, Some(reason)))
}

/// What the opening transaction records.
struct Start {
    boot_id: [u8; 16],
    lease_kid: olb_lease::Kid,
    now: u64,
    may_be_running: bool,
    reason: Option<EpochReason>,
}

impl Start {
    fn record(&self, tx: &mut Tx<'_>) -> Result<Vec<PlanDigest>, LedgerError> {
        // Written even where nothing was burned yet: from now on a missing counter means something.
        let spent = *tx.spent;
        tx.counter.advance(spent).map_err(|error| LedgerError::Counter(error.to_string()))?;
        if let Some(reason) = self.reason {
            tx.execute(
                "INSERT OR REPLACE INTO state (id, epoch, boot_id, lease_kid, floor) \
                 VALUES (1, ?1, ?2, ?3, ?4)",
                params![tx.epoch.0, self.boot_id, self.lease_kid.0, to_db(spent)?],
            )?;
            let lease_kid = self.lease_kid;
            tx.append(self.now, RecordEvent::EpochBegan { reason, lease_kid })?;
        }
        let open = unfinished(tx)?;
        for (number, plan, cti) in &open {
            finish(tx, *number, *plan, *cti, &self.unknown())?;
        }
        Ok(open.into_iter().map(|(_, plan, _)| plan).collect())
    }

    fn unknown(&self) -> Finish {
        let nothing = StreamSummary { bytes: 0, sha256: Digest(sha256(&[])) };
        Finish {
            now: self.now,
            outcome: Outcome::Unknown { may_be_running: self.may_be_running },
            stdout: nothing,
            stderr: nothing,
            cut_by: CutBy::Nobody,
            duration_ms: 0,
            stdout_tail: Vec::new(),
            stderr_tail: Vec::new(),
        }
    }
}

fn unfinished(tx: &Tx<'_>) -> Result<Vec<(i64, PlanDigest, Cti)>, LedgerError> {
    let mut statement = tx.db.prepare(
        "SELECT burned.number, issued.plan, burned.cti FROM burned JOIN issued USING (cti) \
         WHERE NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.number = burned.number) \
         ORDER BY burned.number",
    )?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, PlanDigest(row.get(1)?), Cti(row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
