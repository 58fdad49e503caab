//! What waits in the writer's queue.

use std::sync::mpsc::SyncSender;

use crate::error::LedgerError;
use crate::tx::Tx;

/// What a job is to the rest when the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Changes nothing.
    Read,
    /// Something new, which can as well be refused.
    Change,
    /// The outcome of a command that ran: worth the ballast.
    Outcome,
}

/// Jobs that share a transaction.
pub(crate) type Group = Vec<Box<dyn Job>>;

/// One call, waiting for its answer.
pub(crate) trait Job: Send {
    fn class(&self) -> Class;
    /// Does the work; may be called again after a transaction that failed.
    fn attempt(&mut self, tx: &mut Tx<'_>) -> Result<(), LedgerError>;
    /// Answers the caller: with what the work gave, or with why its transaction failed.
    fn answer(self: Box<Self>, failure: Option<LedgerError>);
}

pub(crate) struct Task<F, T> {
    class: Class,
    work: F,
    result: Result<T, LedgerError>,
    reply: SyncSender<Result<T, LedgerError>>,
}

impl<F, T> Task<F, T> {
    pub(crate) fn new(class: Class, work: F, reply: SyncSender<Result<T, LedgerError>>) -> Self {
        Self { class, work, result: Err(LedgerError::Stopped), reply }
    }
}

impl<F, T> Job for Task<F, T>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, LedgerError> + Send,
    T: Send,
{
    fn class(&self) -> Class {
        self.class
    }

    fn attempt(&mut self, tx: &mut Tx<'_>) -> Result<(), LedgerError> {
        self.result = (self.work)(tx);
        self.result.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn answer(self: Box<Self>, failure: Option<LedgerError>) {
        // A caller that no longer waits has nothing to be told.
        drop(self.reply.send(failure.map_or(self.result, Err)));
    }
}

pub(crate) enum Message {
    Job(Box<dyn Job>),
    /// There may be something to do that nobody waits for.
    Nudge,
    Stop,
}
