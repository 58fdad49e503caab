//! What the architecture tests look at: the graph of dependencies as Cargo resolves it, and the
//! sources as the compiler reads them. The rules themselves are in `tests/`.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, reason = "to fail loudly is what a test is for")]

pub mod graph;
pub mod source;

use std::path::PathBuf;

/// The crates that run as root, from the bottom up.
pub const ROOT_HALF: [&str; 5] =
    ["olb-lease", "olb-sys", "olb-exec-api", "olb-ledger", "olb-execd"];

/// The top of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
