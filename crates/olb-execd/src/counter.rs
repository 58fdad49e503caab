//! The burn counter of this boot: a small file on tmpfs that is written before each burn commits.
//! A ledger that is behind it was put back from a copy; see SPEC.md, "Epochs".

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use olb_ledger::BurnCounter;

/// The open counter file.
#[derive(Debug)]
pub struct CounterFile {
    file: File,
}

impl CounterFile {
    /// Opens or makes the file; also says what it holds, `None` for a new one or one that does not
    /// read.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut digits = [0; 8];
        let held = file.read_exact_at(&mut digits, 0).ok().map(|()| u64::from_be_bytes(digits));
        Ok((Self { file }, held))
    }
}

impl BurnCounter for CounterFile {
    fn advance(&mut self, next: u64) -> io::Result<()> {
        self.file.write_all_at(&next.to_be_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("burn.seq");
        let (mut counter, held) = CounterFile::open(&path).unwrap();
        assert_eq!(held, None);
        counter.advance(7).unwrap();
        assert_eq!(CounterFile::open(&path).unwrap().1, Some(7));
    }
}
