//! Looking at files and accounts for a command, in a thread of its own and with a deadline: a path
//! of the requester's choice may lead to a file system that never answers.

use std::time::Duration;

use olb_wire::Command;
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::account::target;
use crate::environment::{Environment, Variables};
use crate::plan::{Resolved, argv_of, cwd_of};
use crate::refuse::Refuse;
use crate::resolve::{executable, operands};
use crate::turns::Turns;

/// Why a look-up has no result.
#[derive(Debug, Error)]
pub(crate) enum LookupError {
    #[error("looking at the command's files took longer than {} s; try again", .0.as_secs())]
    Late(Duration),
    #[error("looking at the command's files failed inside the broker; see its log")]
    Failed,
}

/// The look-ups under way, by the uid they are for.
#[derive(Debug)]
pub(crate) struct Lookups {
    limit: Duration,
    turns: Turns,
}

impl Lookups {
    pub(crate) fn new(per_uid: u64, limit: Duration) -> Self {
        Self { limit, turns: Turns::new(per_uid) }
    }

    /// Runs `look` for `uid`. A look-up that is given up keeps its turn until its thread ends, so
    /// that nobody can fill the process with stuck threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        uid: u32,
        look: impl FnOnce() -> Result<T, Refuse> + Send + 'static,
    ) -> Result<T, Refuse> {
        let work = async {
            let turn = self.turns.take(uid).await.map_err(|_| LookupError::Failed)?;
            let thread = spawn_blocking(move || {
                let _turn = turn;
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
    let bound_otherwise: Vec<u32> = command.staged.iter().map(|file| file.word).collect();
    let executable = if bound_otherwise.first() == Some(&0) {
        None
    } else {
        let name = argv.first().map(Vec::as_slice).unwrap_or_default();
        Some(executable(name, &command.cwd, &trusted)?)
    };
    let unbound = command.unbound.iter().map(|file| file.word);
    let is_bound: Vec<u32> = bound_otherwise.into_iter().chain(unbound).collect();
    operands(&argv, &is_bound, &cwd_of(command), &trusted)?;
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
