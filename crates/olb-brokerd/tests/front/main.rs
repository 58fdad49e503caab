//! The front between real sockets: clients of the test on one side, on the other a root half that
//! the test plays. Needs no privileges, but for the one test that acts as a second account.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails where its helper does")]

mod execute;
mod harness;
mod hostile;
mod ledger;
mod review;
mod staged;
mod submit;
