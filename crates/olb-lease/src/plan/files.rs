//! What a plan says about files: the executable, the working directory, the operands of which a
//! copy is bound, and those that stay unbound.

use crate::cbor::{Reader, Writer};
use crate::id::Digest;

use super::{Plan, PlanError, check_path, limit};

/// The executable and the identity that it had when it was asked for. Where its word is
/// [`Staged`], `path` is that of the copy, `size` is the copy's, and the other numbers are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Canonical absolute path.
    pub path: Vec<u8>,
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
    /// `st_size`, in bytes.
    pub size: u64,
    /// `st_ctime`, whole seconds since the epoch.
    pub ctime_secs: u64,
    /// `st_ctime`, the nanoseconds.
    pub ctime_nanos: u32,
}

/// A directory by canonical path and identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Canonical absolute path.
    pub path: Vec<u8>,
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// A file that is bound by its content: the requester's process read it before it asked, and what
/// runs gets a copy of what was read. [`crate::staging`] says where that copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The word, counted from 0, that names the file.
    pub word: u32,
    /// How many bytes of the typed word stand before the name (`--file=`, `@`, `-f`).
    pub prefix: u32,
    /// Canonical absolute path of the file that was read, as the requester's process saw it. Shown
    /// to the human, opened by nobody.
    pub path: Vec<u8>,
    /// How many bytes it had, at most [`limit::STAGED_BYTES`].
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// Whether the copy can be executed.
    pub executable: bool,
}

/// A file that others than root can change and that is not bound: the human is told so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    /// The word, counted from 0, that names the file.
    pub word: u32,
    /// Canonical absolute path, as the requester's process saw it.
    pub path: Vec<u8>,
}

impl Executable {
    pub(super) fn write(&self, cbor: &mut Writer) {
        cbor.array(6).bytes(&self.path).uint(self.dev).uint(self.ino).uint(self.size);
        cbor.uint(self.ctime_secs).uint(self.ctime_nanos.into());
    }

    pub(super) fn read(cbor: &mut Reader<'_>) -> Result<Self, PlanError> {
        cbor.array_len(6)?;
        Ok(Self {
            path: cbor.bytes()?.into(),
            dev: cbor.uint()?,
            ino: cbor.uint()?,
            size: cbor.uint()?,
            ctime_secs: cbor.uint()?,
            ctime_nanos: cbor.u32("nanoseconds")?,
        })
    }
}

pub(super) fn write_cwd(cbor: &mut Writer, cwd: &Directory, changeable: bool) {
    cbor.array(4).bytes(&cwd.path).uint(cwd.dev).uint(cwd.ino).bool(changeable);
}

pub(super) fn read_cwd(cbor: &mut Reader<'_>) -> Result<(Directory, bool), PlanError> {
    cbor.array_len(4)?;
    let cwd = Directory { path: cbor.bytes()?.into(), dev: cbor.uint()?, ino: cbor.uint()? };
    Ok((cwd, cbor.bool()?))
}

pub(super) fn write_staged(cbor: &mut Writer, staged: &[Staged]) {
    cbor.array(staged.len());
    for file in staged {
        cbor.array(6).uint(file.word.into()).uint(file.prefix.into()).bytes(&file.path);
        cbor.uint(file.size).bytes(file.sha256.as_bytes()).bool(file.executable);
    }
}

pub(super) fn read_staged(cbor: &mut Reader<'_>) -> Result<Vec<Staged>, PlanError> {
    let count = cbor.array()?;
    if count > limit::STAGED as u64 {
        return Err(PlanError::Limit("number of staged files"));
    }
    let one = |_| {
        cbor.array_len(6)?;
        Ok(Staged {
            word: cbor.u32("staged word")?,
            prefix: cbor.u32("staged word's prefix")?,
            path: cbor.bytes()?.into(),
            size: cbor.uint()?,
            sha256: Digest(cbor.array_of()?),
            executable: cbor.bool()?,
        })
    };
    (0..count).map(one).collect()
}

pub(super) fn write_unbound(cbor: &mut Writer, unbound: &[Unbound]) {
    cbor.array(unbound.len());
    for file in unbound {
        cbor.array(2).uint(file.word.into()).bytes(&file.path);
    }
}

pub(super) fn read_unbound(cbor: &mut Reader<'_>) -> Result<Vec<Unbound>, PlanError> {
    let count = cbor.array()?;
    if count > limit::UNBOUND as u64 {
        return Err(PlanError::Limit("number of unbound files"));
    }
    let one = |_| {
        cbor.array_len(2)?;
        Ok(Unbound { word: cbor.u32("unbound word")?, path: cbor.bytes()?.into() })
    };
    (0..count).map(one).collect()
}

impl Plan {
    /// What can be said of the staged and unbound files without a look at any of them.
    pub(super) fn check_files(&self) -> Result<(), PlanError> {
        let (staged, unbound) = (&self.staged, &self.unbound);
        for path in staged.iter().map(|file| &file.path).chain(unbound.iter().map(|u| &u.path)) {
            check_path("path of a staged or unbound file", path)?;
        }
        let sizes = || staged.iter().map(|file| file.size);
        let total = sizes().try_fold(0_u64, u64::checked_add);
        let is_word = |word: u32| word < u32::try_from(self.typed_argv.len()).unwrap_or(u32::MAX);
        let both = |word: u32| staged.iter().any(|file| file.word == word);
        let limits = [
            (staged.len() <= limit::STAGED, "number of staged files"),
            (staged.is_sorted_by(|a, b| a.word < b.word), "order of the staged files"),
            (staged.iter().all(|file| self.can_be_staged(file)), "staged word"),
            (total.is_some_and(|total| total <= limit::STAGED_BYTES), "size of the staged files"),
            (unbound.len() <= limit::UNBOUND, "number of unbound files"),
            (unbound.is_sorted_by(|a, b| a.word < b.word), "order of the unbound files"),
            (unbound.iter().all(|file| file.word > 0 && is_word(file.word)), "unbound word"),
            (!unbound.iter().any(|file| both(file.word)), "unbound word, which is staged"),
        ];
        match limits.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(PlanError::Limit(what)),
            None => Ok(()),
        }
    }

    /// Whether the word is there and names a file; what is executed is a whole word.
    fn can_be_staged(&self, file: &Staged) -> bool {
        let is_command = file.word == 0;
        crate::staging::name(&self.typed_argv, file).is_some()
            && (!is_command || (file.prefix == 0 && file.executable))
    }
}
