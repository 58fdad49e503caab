//! The handle.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use olb_lease::{ChainHead, Cti, Epoch, Kid, PlanDigest, RecordEvent, VerifiedLease};
use rusqlite::params;

use crate::error::LedgerError;
use crate::job::{Class, Job, Message, Task};
use crate::queue::serve_queue;
use crate::tx::{Tx, to_db};
use crate::types::{
    BurnCheck, BurnError, BurnedLease, Decision, DecisionResult, Finish, FinishError, Issued,
    Opened, Options, RequestRow,
};

use crate::writer::Writer;
use crate::{burn, decide, open, read};

/// The reason of a recorded refusal is cut to so many bytes.
const REASON_BYTES: usize = 512;

/// A record of the trail: its sequence number, its bytes, and the receipt that signs the chain's
/// head after it, where there is one.
pub type TrailEntry = (u64, Vec<u8>, Option<Vec<u8>>);

/// A handle on the open ledger; clones share it. Every call waits for its answer, and what changes
/// something is answered after it is on the disk.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whoever holds it may write; none once the ledger is closed.
    writer: Arc<Mutex<Option<Writer>>>,
    /// For the thread that serves callers together.
    queue: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    epoch: Epoch,
}

impl Shared {
    /// Does a job in the caller's own thread while nobody else calls: to wake another thread and be
    /// woken by it takes longer than most jobs. Otherwise the job comes back.
    fn serve_alone(&self, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let Ok(mut held) = self.writer.try_lock() else { return Some(job) };
        let Some(writer) = held.as_mut().filter(|writer| writer.is_calm()) else {
            return Some(job);
        };
        writer.serve(vec![job]);
        let due = writer.is_checkpoint_due();
        drop(held);
        if due {
            // Fails only where the thread has ended, and the log with it.
            drop(self.queue.send(Message::Nudge));
        }
        None
    }

    fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Both fail only where the thread has ended already.
            drop(self.queue.send(Message::Stop));
            drop(thread.join());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ledger {
    /// Opens the ledger: checks it, begins a new epoch where the memory of burns may be incomplete,
    /// and records `outcome_unknown` for every burn without an outcome.
    ///
    /// # Errors
    /// The file or its directory is open to others, in use, damaged, from a newer version, or
    /// cannot be written.
    pub fn open(options: Options) -> Result<(Self, Opened), LedgerError> {
        let path = options.path.clone();
        let (writer, opened) = open::open(options)?;
        let (queue, jobs) = mpsc::channel();
        let writer = Arc::new(Mutex::new(Some(writer)));
        let shared_writer = Arc::clone(&writer);
        let thread = Builder::new()
            .name("ledger".into())
            .spawn(move || serve_queue(&shared_writer, &jobs))
            .map_err(|error| LedgerError::file(&path, &error))?;
        let thread = Mutex::new(Some(thread));
        let shared = Arc::new(Shared { writer, queue, thread, epoch: opened.epoch });
        Ok((Self { shared }, opened))
    }

    /// Records a verdict; for an approval that is the first of its request, issues the lease.
    ///
    /// # Errors
    /// The parts of the decision do not belong together, or the ledger failed.
    pub fn decide(&self, decision: Decision) -> Result<DecisionResult, LedgerError> {
        decide::check(&decision)?;
        self.call(Class::Change, move |tx| decide::decide(tx, &decision))
    }

    /// What the ledger holds on a request.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn peek(&self, plan: PlanDigest) -> Result<RequestRow, LedgerError> {
        self.call(Class::Read, move |tx| read::peek(tx, plan))
    }

    /// What the ledger holds on a lease; `None` if it never issued it. For checks before the burn,
    /// which repeats them.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn issued(&self, cti: Cti) -> Result<Option<Issued>, LedgerError> {
        self.call(Class::Read, move |tx| read::issued(tx, cti))
    }

    /// Burns a lease: after this has returned, and never before, its command may be started.
    ///
    /// # Errors
    /// See [`BurnError`]; the lease is gone, and nothing may be started.
    pub fn burn(&self, lease: VerifiedLease, check: BurnCheck) -> Result<BurnedLease, BurnError> {
        let (claims, digest) = (lease.claims().clone(), lease.digest());
        let burned =
            self.call(Class::Change, move |tx| match burn::burn(tx, &claims, digest, check) {
                Err(BurnError::Ledger(error)) => Err(error),
                decided => Ok(decided),
            });
        Ok(BurnedLease::new(lease, burned??))
    }

    /// Records how a run ended; returns the receipt. May be repeated after a failure.
    ///
    /// # Errors
    /// The ledger failed; the burned lease comes back.
    pub fn finish(&self, lease: BurnedLease, finish: Finish) -> Result<Vec<u8>, FinishError> {
        let (plan, cti, number) = (lease.claims().plan, lease.claims().cti, lease.number());
        let recorded = self
            .call(Class::Outcome, move |tx| burn::finish(tx, to_db(number)?, plan, cti, &finish));
        recorded.map_err(|error| FinishError { lease: Box::new(lease), error })
    }

    /// Records that a lease with a valid signature was refused, and why, at most 512 bytes of it.
    /// False when the lease has had its [`crate::REFUSALS_PER_LEASE`] already.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn refuse(
        &self,
        plan: PlanDigest,
        cti: Cti,
        reason: &str,
        now: u64,
    ) -> Result<bool, LedgerError> {
        let reason = shorten(reason).to_owned();
        self.call(Class::Change, move |tx| burn::refuse(tx, plan, cti, &reason, now))
    }

    /// The records of the trail from the sequence number `from` on, in order, as many as fit
    /// `max_bytes` when a receipt is counted instead of the record in it; at least one, if there is
    /// one.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn records(&self, from: u64, max_bytes: usize) -> Result<Vec<TrailEntry>, LedgerError> {
        self.call(Class::Read, move |tx| read::records(tx, from, max_bytes))
    }

    /// The last sequence number of the trail, 0 if it is empty, and the chain's head after it.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn head(&self) -> Result<(u64, ChainHead), LedgerError> {
        self.call(Class::Read, |tx| Ok((tx.tip.sequence, tx.tip.head)))
    }

    /// The last receipt about a request: of its outcome, else of its decision.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn receipt_of(&self, plan: PlanDigest) -> Result<Option<Vec<u8>>, LedgerError> {
        let row = self.peek(plan)?;
        let outcome = row.recorded.map(|recorded| recorded.receipt);
        Ok(outcome.or(row.decided.map(|(_, receipt)| receipt)))
    }

    /// Revokes an approver's key for ever: its verdicts and its live leases are refused. Returns the
    /// receipt; `None` where it was revoked before.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn revoke_key(&self, kid: Kid, now: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        self.call(Class::Change, move |tx| {
            let sql = "INSERT INTO revoked_keys (kid, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            if tx.execute(sql, params![kid.0, to_db(now)?])? == 0 {
                return Ok(None);
            }
            let (_, receipt) = tx.append_signed(now, RecordEvent::KeyEnded { kid })?;
            Ok(Some(receipt))
        })
    }

    /// Every approver's key that was revoked.
    ///
    /// # Errors
    /// The ledger failed.
    pub fn revoked_keys(&self) -> Result<BTreeSet<Kid>, LedgerError> {
        self.call(Class::Read, |tx| read::revoked_keys(tx))
    }

    /// The epoch in force.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Ends the writer after what is queued and waits for it. Calls on other handles fail with
    /// [`LedgerError::Stopped`] from then on.
    pub fn close(self) {
        self.shared.stop();
    }

    /// The writer's queue, for tests that decide what shares a transaction.
    #[cfg(test)]
    pub(crate) fn queue(&self) -> &Sender<Message> {
        &self.shared.queue
    }

    fn call<T: Send + 'static>(
        &self,
        class: Class,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let job = self.shared.serve_alone(Box::new(Task::new(class, work, reply)));
        if let Some(job) = job {
            self.shared.queue.send(Message::Job(job)).map_err(|_| LedgerError::Stopped)?;
        }
        answer.recv().map_err(|_| LedgerError::Stopped)?
    }
}

fn shorten(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    reason.get(..end).unwrap_or_default()
}
