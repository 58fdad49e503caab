//! The one writer of the database: groups of jobs, one transaction each.

use std::fmt;
use std::path::PathBuf;

use olb_lease::{Audit, ChainHead, Epoch, SigningKey};
use rusqlite::{Connection, OptionalExtension as _};

use crate::crash::crash_point;
use crate::error::LedgerError;
use crate::file::Ballast;
use crate::job::{Class, Group, Job};
use crate::open::disown;
use crate::schema;
use crate::tx::{Tip, Tx, from_db};
use crate::types::BurnCounter;

/// After so many groups the log is folded into the database, as soon as nobody waits.
const CHECKPOINT_AFTER: u32 = 256;

/// What is stored about the end of the trail and the burns.
pub(crate) struct Stored {
    pub(crate) tip: Tip,
    pub(crate) spent: u64,
}

pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) ballast: Ballast,
    /// The open database, or why there is none.
    pub(crate) database: Result<Connection, LedgerError>,
    /// As of the last commit.
    pub(crate) tip: Tip,
    pub(crate) spent: u64,
    /// The last number that was given in a transaction whose callers were told that it succeeded.
    pub(crate) answered: u64,
    pub(crate) epoch: Epoch,
    pub(crate) audit: SigningKey<Audit>,
    pub(crate) counter: Box<dyn BurnCounter>,
    pub(crate) groups: u32,
    /// Whether the last group was a single job.
    pub(crate) is_calm: bool,
}

/// Says nothing of what is in it, the audit key among it.
impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Whether the last jobs came one at a time. While they come in company, they are better served
    /// together.
    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm
    }

    /// Whether the log should be folded into the database as soon as nobody waits.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.groups >= CHECKPOINT_AFTER
    }

    /// Serves a group: every job of it is answered when this returns.
    pub(crate) fn serve(&mut self, mut group: Group) {
        self.is_calm = group.len() <= 1;
        if self.database.is_err() {
            self.reopen();
        }
        if let Err(error) = &self.database {
            return answer(group, Some(error));
        }
        // What is left of a disk without ballast is for outcomes.
        if group.iter().any(|job| job.class() == Class::Change)
            && let Err(error) = self.ballast.restore()
        {
            let (changes, rest) = split(group);
            answer(changes, Some(&error));
            group = rest;
        }
        match self.commit(&mut group) {
            Ok(()) => answer(group, None),
            Err(error) => self.recover(group, &error),
        }
    }

    /// After a failure: nothing new is tried again, but what already ran is recorded if it can be.
    fn recover(&mut self, group: Group, error: &LedgerError) {
        let (changes, mut rest) = split(group);
        answer(changes, Some(error));
        if *error == LedgerError::Full && rest.iter().any(|job| job.class() == Class::Outcome) {
            self.ballast.release();
        }
        match self.commit(&mut rest) {
            Ok(()) => answer(rest, None),
            Err(error) => answer(rest, Some(&error)),
        }
    }

    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), LedgerError> {
        if group.is_empty() {
            return Ok(());
        }
        self.groups = self.groups.saturating_add(1);
        self.transaction(|tx| group.iter_mut().try_for_each(|job| attempt(tx, job.as_mut())))
    }

    /// Runs `work` in a transaction of its own. When that fails for any reason but a full disk, the
    /// connection is not used again: pages that could not be synced may be lost to it.
    pub(crate) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let result = self.try_transaction(work);
        if let Err(error) = &result {
            let usable = self.database.as_ref().is_ok_and(is_rolled_back);
            if *error != LedgerError::Full || !usable {
                self.reopen();
            }
        }
        result
    }

    /// Runs `work` in a transaction; what a failure left behind is for the caller.
    fn try_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let db = self.database.as_ref().map_err(Clone::clone)?;
        let mut tip = self.tip;
        let mut tx = Tx {
            db,
            tip: &mut tip,
            spent: &mut self.spent,
            epoch: self.epoch,
            audit: &self.audit,
            counter: self.counter.as_mut(),
        };
        let value = begin_work_commit(&mut tx, work)?;
        self.tip = tip;
        self.answered = self.spent;
        Ok(value)
    }

    /// Closes the database, opens and checks it again, and makes sure that it is still the same.
    fn reopen(&mut self) {
        let closed = LedgerError::Broken { reason: "it is being re-opened".into() };
        drop(std::mem::replace(&mut self.database, Err(closed)));
        let opened = self.open_same().map_err(|error| match error {
            LedgerError::Broken { .. } => error,
            other => LedgerError::Broken { reason: other.to_string() },
        });
        self.database = opened;
        if self.database.is_err() {
            return;
        }
        // A commit that failed may have reached the disk all the same.
        let answered = self.answered;
        if let Err(error) = self.try_transaction(|tx| disown(tx, answered)) {
            self.database = Err(LedgerError::Broken { reason: error.to_string() });
        }
    }

    fn open_same(&mut self) -> Result<Connection, LedgerError> {
        let connection = schema::open(&self.path)?;
        let stored = load(&connection)?;
        let epoch = load_epoch(&connection)?;
        // A commit that failed may have reached the disk all the same, so the trail may be longer
        // than was answered; it cannot be shorter or another one.
        let same = match stored.tip.sequence.cmp(&self.tip.sequence) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => stored.tip == self.tip,
            std::cmp::Ordering::Greater => true,
        };
        if !same || epoch != Some(self.epoch) {
            let reason = "the file was replaced while it was open: restart the broker".into();
            return Err(LedgerError::Broken { reason });
        }
        self.tip = stored.tip;
        self.spent = self.spent.max(stored.spent);
        Ok(connection)
    }

    pub(crate) fn checkpoint_if_due(&mut self) {
        if !self.is_checkpoint_due() {
            return;
        }
        self.groups = 0;
        let Ok(db) = &self.database else { return };
        let folded = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        match folded.map_err(LedgerError::from) {
            // Without space the log simply goes on.
            Ok(()) | Err(LedgerError::Full) => {}
            Err(_) => self.reopen(),
        }
    }
}

/// Whether no transaction is open on the connection, or is no longer after this.
fn is_rolled_back(db: &Connection) -> bool {
    db.is_autocommit() || db.execute_batch("ROLLBACK").is_ok()
}

fn begin_work_commit<T>(
    tx: &mut Tx<'_>,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, LedgerError>,
) -> Result<T, LedgerError> {
    tx.execute("BEGIN IMMEDIATE", [])?;
    let value = work(tx)?;
    crash_point("ledger-before-commit");
    tx.execute("COMMIT", [])?;
    crash_point("ledger-after-commit");
    Ok(value)
}

/// One job of a group: when it fails by itself, what it wrote is undone and the others go on.
fn attempt(tx: &mut Tx<'_>, job: &mut dyn Job) -> Result<(), LedgerError> {
    let before = *tx.tip;
    tx.execute("SAVEPOINT job", [])?;
    if let Err(error) = job.attempt(tx) {
        if error.ends_group() {
            return Err(error);
        }
        tx.execute("ROLLBACK TO job", [])?;
        *tx.tip = before;
    }
    tx.execute("RELEASE job", [])?;
    Ok(())
}

/// Takes the changes out of a group.
fn split(group: Group) -> (Group, Group) {
    group.into_iter().partition(|job| job.class() == Class::Change)
}

fn answer(group: Group, failure: Option<&LedgerError>) {
    for job in group {
        job.answer(failure.cloned());
    }
}

/// Reads where the trail ends and how many burns and closings there were.
pub(crate) fn load(db: &Connection) -> Result<Stored, LedgerError> {
    let last: Option<(i64, [u8; 32])> = db
        .query_row("SELECT sequence, head FROM records ORDER BY sequence DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (sequence, head) = last.unwrap_or((0, [0; 32]));
    let spent: i64 = db.query_row(
        "SELECT max(coalesce((SELECT max(number) FROM burned), 0), \
                    coalesce((SELECT max(number) FROM closed), 0), \
                    coalesce((SELECT floor FROM state), 0))",
        [],
        |row| row.get(0),
    )?;
    let tip = Tip { sequence: from_db(sequence)?, head: ChainHead(head) };
    Ok(Stored { tip, spent: from_db(spent)? })
}

fn load_epoch(db: &Connection) -> Result<Option<Epoch>, LedgerError> {
    let epoch = db.query_row("SELECT epoch FROM state", [], |row| row.get(0)).optional()?;
    Ok(epoch.map(Epoch))
}
