//! `ledger.db`: what was issued, burned and closed, every outcome, and the audit chain.
//!
//! The rule of the house is a positive list: a lease can be burned only if a row says that it was
//! issued, and the burn is on the disk before anybody learns of it. An empty, replaced or restored
//! database therefore lets nothing run; see [`Opened::epoch_reason`].
//!
//! There is one writer. A caller who is alone does its job as the writer itself; when there are more
//! at once they queue up for a thread that runs them in groups, each group in one transaction. All
//! are answered after their commit. When a commit fails, all of its group fail, the database is
//! closed, re-opened and checked; while that does not succeed, everything is refused.
//!
//! No clock is read and no random number drawn here: times, epoch and keys are arguments.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

mod burn;
mod crash;
mod decide;
mod error;
mod file;
mod job;
mod ledger;
mod open;
mod queue;
mod read;
mod schema;
mod tx;
mod types;
mod writer;

#[cfg(test)]
mod tests;

pub use error::LedgerError;
pub use ledger::{Ledger, TrailEntry};
pub use types::{
    BurnCheck, BurnCounter, BurnError, BurnedLease, Decision, DecisionResult, Finish, FinishError,
    Issued, NewLease, Opened, Options, REFUSALS_PER_LEASE, Recorded, RequestRow, StoredLease,
    TAIL_BYTES_MAX,
};
