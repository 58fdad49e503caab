//! Looking at files and accounts for a command, in a thread of its own and with a deadline: a path
//! of the requester's choice may lead to a file system that never answers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use olb_wire::Command;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::account::target;
use crate::environment::{Environment, Variables};
use crate::plan::{Resolved, argv_of, cwd_of};
use crate::refuse::Refuse;
use crate::resolve::{executable, operands};

/// Why a look-up has no result.
#[derive(Debug, Error)]
pub(crate) enum LookupError {
    #[error("looking at the command's files took longer than {} s; try again", .0.as_secs())]
    Late(Duration),
    #[error("looking at the command's files failed inside the broker; see its log")]
    Failed,
}

/// The look-ups under way, by the uid they are for. Only listed requesters get here, so the map
/// stays as small as that list.
#[derive(Debug)]
pub(crate) struct Lookups {
    per_uid: usize,
    limit: Duration,
    under_way: RefCell<HashMap<u32, Arc<Semaphore>>>,
}

impl Lookups {
    pub(crate) fn new(per_uid: u64, limit: Duration) -> Self {
        let per_uid = usize::try_from(per_uid).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { per_uid, limit, under_way: RefCell::default() }
    }

    /// Runs `look` for `uid`. A look-up that is given up keeps its place until its thread ends, so
    /// that nobody can fill the process with stuck threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        uid: u32,
        look: impl FnOnce() -> Result<T, Refuse> + Send + 'static,
    ) -> Result<T, Refuse> {
        let places = {
            let mut under_way = self.under_way.borrow_mut();
            let new = || Arc::new(Semaphore::new(self.per_uid));
            Arc::clone(under_way.entry(uid).or_insert_with(new))
        };
        let work = async {
            let place = places.acquire_owned().await.map_err(|_| LookupError::Failed)?;
            let thread = spawn_blocking(move || {
                let _place = place;
                look()
            });
            thread.await.map_err(|_| LookupError::Failed)
        };
        timeout(self.limit, work).await.map_err(|_| LookupError::Late(self.limit))??
    }
}

/// Everything about a command that has to be looked up. Blocks.
pub(crate) fn resolve(
    command: &Command,
    words: Variables,
    own_only: Option<u32>,
) -> Result<Resolved, Refuse> {
    let target = target(command.user.as_deref(), command.group.as_deref(), own_only)?;
    // Without a boundary the caller's own files are as good as its account.
    let trusted: Vec<u32> = [0].into_iter().chain(own_only).collect();
    let argv = argv_of(command);
    let name = argv.first().map(Vec::as_slice).unwrap_or_default();
    let executable = executable(name, &command.cwd, &trusted)?;
    operands(&argv, &cwd_of(command), &trusted)?;
    Ok(Resolved { executable, environment: Environment::new(&target, words), target })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_look_up_that_hangs_is_given_up_and_keeps_its_place() {
        let lookups = Lookups::new(1, Duration::from_millis(20));
        let (release, hangs) = mpsc::channel::<()>();
        let stuck = lookups.run(7, move || Ok(hangs.recv().is_err())).await;
        assert!(matches!(stuck, Err(Refuse::Lookup(LookupError::Late(_)))));
        let behind = lookups.run(7, || Ok(())).await;
        assert!(matches!(behind, Err(Refuse::Lookup(LookupError::Late(_)))));
        lookups.run(8, || Ok(())).await.unwrap();
        drop(release);
    }
}
