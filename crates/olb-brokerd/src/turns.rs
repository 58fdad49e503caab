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
    per_uid: usize,
    taken: RefCell<HashMap<u32, Arc<Semaphore>>>,
}

impl Turns {
    pub(crate) fn new(per_uid: u64) -> Self {
        let per_uid = usize::try_from(per_uid).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { per_uid, taken: RefCell::default() }
    }

    /// Waits for a turn of `uid`.
    pub(crate) async fn take(&self, uid: u32) -> Result<Turn, AcquireError> {
        let turns = {
            let mut taken = self.taken.borrow_mut();
            let new = || Arc::new(Semaphore::new(self.per_uid));
            Arc::clone(taken.entry(uid).or_insert_with(new))
        };
        turns.acquire_owned().await
    }
}
