//! The files: permissions of the database, and the ballast.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::LedgerError;

/// Creates the database file if there is none, and refuses one that others could reach. The caller
/// is answerable for the directories above.
///
/// To be called while no connection is open: closing any descriptor of the file drops the locks
/// that this process holds on it.
pub(crate) fn prepare(path: &Path) -> Result<(), LedgerError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let failed = |error: io::Error| LedgerError::file(path, &error);
    let above = fs::metadata(directory).map_err(|error| LedgerError::file(directory, &error))?;
    check_mode(directory, above.mode(), 0o700)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(failed)?.metadata().map_err(failed)?;
    check_mode(path, file.mode(), 0o600)?;
    if file.uid() != above.uid() {
        return Err(LedgerError::Owner(path.into()));
    }
    Ok(())
}

fn check_mode(path: &Path, mode: u32, wanted: u32) -> Result<(), LedgerError> {
    if mode & 0o077 != 0 {
        return Err(LedgerError::Mode { path: path.into(), mode: mode & 0o777, wanted });
    }
    Ok(())
}

/// A file that takes up space so that it can be given up when the disk is full: what already ran
/// must be recorded even then.
pub(crate) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub(crate) fn new(database: &Path, bytes: u64) -> Self {
        Self { path: database.with_extension("ballast"), bytes }
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes == 0 || fs::metadata(&self.path).is_ok_and(|file| file.len() == self.bytes)
    }

    /// Makes it whole; what could be written is taken back when that fails.
    pub(crate) fn restore(&self) -> Result<(), LedgerError> {
        if self.is_whole() {
            return Ok(());
        }
        self.write().map_err(|error| {
            self.release();
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LedgerError::Full,
                _ => LedgerError::file(&self.path, &error),
            }
        })
    }

    /// Gives the space back; false if there was none to give.
    pub(crate) fn release(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }

    fn write(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut left = self.bytes;
        while left > 0 {
            let chunk = noise.chunk();
            let length = left.min(chunk.len() as u64);
            let part = usize::try_from(length).ok().and_then(|length| chunk.get(..length));
            file.write_all(part.unwrap_or(&chunk))?;
            left = left.saturating_sub(length);
        }
        File::sync_all(&file)
    }
}

/// Bytes that a compressing file system cannot shrink (xorshift; nothing here is secret).
struct Noise(u64);

impl Noise {
    fn chunk(&mut self) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(64 * 1024);
        for _ in 0..8 * 1024 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.extend_from_slice(&self.0.to_le_bytes());
        }
        chunk
    }
}
