//! Opening: which epoch it is, and what became of the runs of an earlier process.

use olb_lease::{
    Cti, CutBy, Digest, Epoch, EpochReason, Outcome, PlanDigest, RecordEvent, StreamSummary, sha256,
};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::burn::finish;
use crate::error::LedgerError;
use crate::file::{Ballast, prepare};
use crate::read::last_signer;
use crate::schema;
use crate::tx::{Tx, from_db, to_db};
use crate::types::{Finish, Opened, Options};
use crate::writer::{Writer, load};

/// `EIO`: what is recorded as the reason where a failing disk kept a run from being started.
const EIO: u16 = 5;

/// Opens the database and brings it up to the present, in one transaction.
pub(crate) fn open(options: Options) -> Result<(Writer, Opened), LedgerError> {
    prepare(&options.path)?;
    let ballast = Ballast::new(&options.path, options.ballast_bytes);
    let connection = match schema::open(&options.path) {
        Err(LedgerError::Full) if ballast.release() => schema::open(&options.path)?,
        result => result?,
    };
    let stored = load(&connection)?;
    let (epoch, reason) = epoch_of(&connection, &options, stored.spent)?;
    let start = Start {
        boot_id: options.boot_id,
        lease_kid: options.lease_kid,
        now: options.now,
        // What an earlier boot started is not running any more.
        may_be_running: options.may_be_running && reason != Some(EpochReason::Boot),
        reason,
    };
    let mut writer = Writer {
        ballast,
        path: options.path,
        database: Ok(connection),
        tip: stored.tip,
        // Numbers go on after the highest that was ever given, also where the ledger forgot it.
        spent: stored.spent.max(options.burn_counter.unwrap_or(0)),
        answered: stored.spent,
        epoch,
        audit: options.audit_key,
        counter: options.counter,
        groups: 0,
        is_calm: true,
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
        // Where another audit key signed so far, the first thing that the new one signs says so.
        let replaced = last_signer(tx)?.filter(|kid| *kid != tx.audit.public().kid());
        if let Some(kid) = replaced {
            tx.append_signed(self.now, RecordEvent::KeyEnded { kid })?;
        }
        let outcome = Outcome::Unknown { may_be_running: self.may_be_running };
        let open = unfinished(tx, 0)?;
        for run in &open {
            finish(tx, run.number, run.plan, run.cti, &nothing_known(self.now, outcome))?;
        }
        Ok(open.into_iter().map(|run| run.plan).collect())
    }
}

/// Records that nothing was started on account of the burns after the one with the number
/// `answered`: their commit failed, so that they were answered with a failure, and yet they are here.
pub(crate) fn disown(tx: &mut Tx<'_>, answered: u64) -> Result<(), LedgerError> {
    for run in unfinished(tx, to_db(answered)?)? {
        let outcome = Outcome::SpawnFailed(EIO);
        finish(tx, run.number, run.plan, run.cti, &nothing_known(from_db(run.at)?, outcome))?;
    }
    Ok(())
}

/// An outcome of which there is nothing more to say.
fn nothing_known(now: u64, outcome: Outcome) -> Finish {
    let nothing = StreamSummary { bytes: 0, sha256: Digest(sha256(&[])) };
    Finish {
        now,
        outcome,
        stdout: nothing,
        stderr: nothing,
        cut_by: CutBy::Nobody,
        duration_ms: 0,
        usage: None,
        stdout_tail: Vec::new(),
        stderr_tail: Vec::new(),
    }
}

/// A burn without an outcome.
struct Unfinished {
    number: i64,
    plan: PlanDigest,
    cti: Cti,
    at: i64,
}

/// Those with a number above `after`.
fn unfinished(tx: &Tx<'_>, after: i64) -> Result<Vec<Unfinished>, LedgerError> {
    let mut statement = tx.db.prepare(
        "SELECT burned.number, issued.plan, burned.cti, burned.at \
         FROM burned JOIN issued USING (cti) WHERE burned.number > ?1 \
         AND NOT EXISTS (SELECT 1 FROM outcomes WHERE outcomes.number = burned.number) \
         ORDER BY burned.number",
    )?;
    let rows = statement.query_map([after], |row| {
        let (plan, cti) = (PlanDigest(row.get(1)?), Cti(row.get(2)?));
        Ok(Unfinished { number: row.get(0)?, plan, cti, at: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
