//! What can go wrong with `broker.db`.

use std::path::PathBuf;

use thiserror::Error;

/// Why the store cannot be opened or used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A row holds what this crate does not write.
    #[error(
        "broker.db holds a request whose {column} does not decode; stop the broker, move broker.db away and start it again"
    )]
    Column {
        /// The column.
        column: &'static str,
    },
    /// The directory is open to others.
    #[error("{} is open to other accounts; set its mode to 0700", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// The directory or the file cannot be used.
    #[error("{} cannot be used: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Written by a newer version of this program.
    #[error(
        "broker.db has schema {found}, this version knows {known}; install the newer version again"
    )]
    Newer {
        /// The file's schema.
        found: u32,
        /// The newest one known.
        known: u32,
    },
    /// SQLite refuses.
    #[error("broker.db cannot be used: {0}; see whether the disk is full or read-only")]
    Sqlite(#[from] rusqlite::Error),
    /// A number does not fit the database.
    #[error("{what} is too large for broker.db")]
    TooLarge {
        /// The field.
        what: &'static str,
    },
}
