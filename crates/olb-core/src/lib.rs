//! The request lifecycle, its limits and its matching rules. Pure: no I/O, clock or randomness.
//!
//! How it is meant to be driven by the front:
//!
//! * at start: [`Lifecycle::restore`] with what the store remembers, then one
//!   [`Lifecycle::reconcile`] for each of [`Lifecycle::unreconciled`], with the root half's answer;
//! * a submit: [`Lifecycle::admit`] before anything is resolved, then [`Lifecycle::submit`];
//! * everything that is handed to the root half begins with [`Lifecycle::begin_decide`] or
//!   [`Lifecycle::begin_execute`] and ends with exactly one of [`Lifecycle::decided`],
//!   [`Lifecycle::finished`], [`Lifecycle::refused`] and [`Lifecycle::lost`];
//!   [`Lifecycle::burned`] comes in between. While such an operation is under way the request does
//!   not expire here: the root half decides which of the two was first;
//! * time: [`Lifecycle::tick`] at [`Lifecycle::next_wakeup`].
//!
//! What has to happen is returned as [`Effect`]s, to be carried out in order: everything up to and
//! including an [`Effect::Persist`] is stored before anything after it happens.
//!
//! The root half's ledger enforces "approved by a human" and "once"; this crate keeps the front
//! honest and the requester informed. Where the two differ, [`Lifecycle::reconcile`] takes the
//! ledger's word.
//!
//! [`sudo`] and [`operands`] stand apart: they understand the command lines that agents type, and
//! which files those name.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

mod code;
mod cool_off;
mod decision;
mod lifecycle;
mod limits;
mod matching;
pub mod operands;
mod reject;
mod request;
#[cfg(test)]
mod sample;
mod selector;
mod state;
pub mod sudo;

pub use code::{CODE_CHARACTERS, Code, CodeError};
pub use decision::{Decision, Finish, LedgerView, ReceiptMismatch};
pub use lifecycle::{Admission, Effect, Lifecycle, Memory, Submitted, SubmittedAs, Viewer};
pub use limits::Limits;
pub use matching::{CoolOffKey, MatchKey};
pub use reject::Reject;
pub use request::{APPROVER_OUT, BROKER_RESTARTED, LEASE_UNUSED, Request, UNANSWERED};
pub use selector::{Selector, SelectorError};
pub use state::{Event, State, Step, next, transition_graph, transition_table};
