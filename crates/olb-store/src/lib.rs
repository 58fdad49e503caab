//! `broker.db`: the front's memory of requests.
//!
//! It is written with `synchronous=NORMAL`: after a power cut the last transactions may be missing.
//! That is enough, because this file can only forget. What was decided and burned is in the root
//! half's `ledger.db`, and the front asks that one about every open request when it starts. A lost,
//! old or forged `broker.db` therefore brings no second run, only a request that is asked again.
//!
//! Of what is over it keeps so many requests and bytes, each uid's and all together; the oldest ones
//! are deleted, and the file becomes smaller again.
//!
//! Every call costs the same with a hundred thousand past requests as with none: each statement
//! reads through an index, and a test counts the steps that it takes.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

mod error;
mod open;
mod row;
mod store;
mod trim;

pub use error::StoreError;
pub use open::OpenReport;
pub use store::Store;
