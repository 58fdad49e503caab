//! The root half of the OpenClaw Lease Broker.
//!
//! It does three things, for one peer, over one socket: DECIDE ([`decide`]), EXECUTE ([`execute`])
//! and READ ([`read`]). It decodes nothing that is not signed by a key it trusts, or equal to a
//! digest in something so signed; SPEC.md lists the exceptions. It has no network, no JSON, no
//! asynchronous runtime, and looks no name up.
//!
//! Reading order: [`server`] (what comes in), [`decide`], [`verify`] and [`bind`] (what is
//! checked), [`execute`] (the one place where a lease becomes a run), [`run`], then the rest.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

pub mod bind;
pub mod broker;
pub mod cgroup;
pub mod config;
pub mod connection;
pub mod counter;
pub mod decide;
pub mod enrolment;
pub mod execute;
pub mod journal;
pub mod keys;
pub mod read;
mod relay;
pub mod run;
pub mod server;
pub mod staging;
pub mod start;
mod supervise;
pub mod verify;
