//! Why the ledger refuses.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why the ledger did not do what was asked. Whatever the variant, nothing was granted: the caller
/// refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// The ledger could not be re-opened after a failure; every call fails until it can be.
    #[error("the ledger refuses all work until its disk is repaired: {reason}")]
    Broken {
        /// What re-opening failed with.
        reason: String,
    },
    /// SQLite failed; the work was not recorded, as far as can be known.
    #[error("the ledger could not record it, check the disk and ask again: {0}")]
    Sqlite(String),
    /// No space for new work.
    #[error("the ledger's disk is full: free some space, then ask again")]
    Full,
    /// [`crate::Ledger::close`] was called.
    #[error("the ledger is closed because the broker is stopping: ask again when it is back")]
    Stopped,
    /// The burn counter could not be advanced, so nothing was burned.
    #[error("the burn counter cannot be written, check the runtime directory: {0}")]
    Counter(String),
    /// What the caller passed does not fit together.
    #[error("not recorded: {0}")]
    Input(&'static str),
    /// A stored value is not what was written.
    #[error("the ledger is damaged, restore it from a backup or remove it: {0}")]
    Damaged(String),
    /// The file was written by a newer version.
    #[error("the ledger has schema {found} and this version knows {known}: install the newer one")]
    Newer {
        /// The file's schema number.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The file was written by a build before the first release.
    #[error(
        "the ledger has schema {found}, of a build before the first release, and {first} is the first \
         that can be read: move it away; the broker then begins a new one, and a new epoch"
    )]
    Older {
        /// The file's schema number.
        found: u32,
        /// The oldest one that can be read.
        first: u32,
    },
    /// A file or directory that others can reach.
    #[error("{path} has mode {mode:03o} and others could reach it: set it to {wanted:03o}")]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they have to be.
        wanted: u32,
    },
    /// Directory and database belong to different users.
    #[error("{0} and its directory belong to different users: give both to the broker's user")]
    Owner(PathBuf),
    /// Another process has the ledger open.
    #[error("another process has {0} open: stop it first")]
    InUse(PathBuf),
    /// A file could not be opened, created or read.
    #[error("{path} cannot be used: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

impl LedgerError {
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::File { path: path.into(), reason: error.to_string() }
    }

    /// Whether the transaction it happened in cannot go on.
    pub(crate) fn ends_group(&self) -> bool {
        match self {
            Self::Sqlite(_) | Self::Full | Self::Damaged(_) | Self::Broken { .. } => true,
            Self::Stopped
            | Self::Counter(_)
            | Self::Input(_)
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Mode { .. }
            | Self::Owner(_)
            | Self::InUse(_)
            | Self::File { .. } => false,
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            Some(_) | None => Self::Sqlite(error.to_string()),
        }
    }
}
