//! Turns: so many things of a kind at once for each uid, its others wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// A turn, over when dropped.
pub(crate) type Turn = OwnedSemaphorePermit;

/// Who has how many turns. Only listed requesters and approvers get here, so the map stays as small
/// as their lists.
#[derive(Debug)]
pub(crate) struct Turns {
    per_uid: u64,
    taken: RefCell<HashMap<u32, Arc<Semaphore>>>,
}

/// So many turns for all together.
pub(crate) fn semaphore(turns: u64) -> Arc<Semaphore> {
    let turns = usize::try_from(turns).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(turns))
}

impl Turns {
    pub(crate) fn new(per_uid: u64) -> Self {
        Self { per_uid, taken: RefCell::default() }
    }

    /// Waits for a turn of `uid`.
    pub(crate) async fn take(&self, uid: u32) -> Result<Turn, AcquireError> {
        let turns = {
            let mut taken = self.taken.borrow_mut();
            Arc::clone(taken.entry(uid).or_insert_with(|| semaphore(self.per_uid)))
        };
        turns.acquire_owned().await
    }
}
