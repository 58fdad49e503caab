//! Reading the files of which copies are bound, as the requester, and nothing but regular files.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use olb_lease::{plan_limit, sha256};
use olb_review::display::safe;
use olb_wire::{ByteBuf, StagedWord};

use super::cannot_bind;
use crate::failure::Failure;

/// Files that are going to be read, each known by its size first.
#[derive(Debug, Default)]
pub(super) struct Files {
    announced: Vec<Announced>,
    bytes: u64,
}

#[derive(Debug)]
struct Announced {
    word: u32,
    prefix: u32,
    path: PathBuf,
}

impl Files {
    /// Adds one, if all are within the limits with it. None is opened before.
    pub(super) fn announce(
        &mut self,
        word: u32,
        prefix: usize,
        path: PathBuf,
    ) -> Result<(), Failure> {
        let size = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > plan_limit::STAGED_BYTES {
            return Err(too_large(&path));
        }
        if self.announced.len() >= plan_limit::STAGED {
            return Err(cannot_bind(format!(
                "a command has at most {} files of which copies are bound, and {} is one more; put \
                 them into one, or where only root can write",
                plan_limit::STAGED,
                shown(&path)
            )));
        }
        let prefix = u32::try_from(prefix).unwrap_or(u32::MAX);
        self.announced.push(Announced { word, prefix, path });
        Ok(())
    }

    /// Reads them all.
    pub(super) fn read(self) -> Result<(Vec<StagedWord>, Vec<Vec<u8>>), Failure> {
        let mut left = plan_limit::STAGED_BYTES;
        let mut all = (Vec::new(), Vec::new());
        for Announced { word, prefix, path } in self.announced {
            let (bytes, meta) = read(&path, left)?;
            left = left.saturating_sub(bytes.len() as u64);
            all.0.push(StagedWord {
                word,
                prefix,
                path: path.into_os_string().into_vec().into(),
                size: bytes.len() as u64,
                sha256: ByteBuf::from(sha256(&bytes)),
                executable: word == 0 || meta.permissions().mode() & 0o111 != 0,
            });
            all.1.push(bytes);
        }
        Ok(all)
    }
}

/// SHA-256 and size of a file as it is now.
///
/// # Errors
/// It cannot be read, or not be bound.
pub(crate) fn digest_again(path: &Path) -> Result<([u8; 32], u64), Failure> {
    let (bytes, _) = read(path, plan_limit::STAGED_BYTES)?;
    Ok((sha256(&bytes), bytes.len() as u64))
}

/// The content of a regular file of at most `max` bytes. Never waits for whoever serves a pipe, and
/// reads no byte of what is too large.
fn read(path: &Path, max: u64) -> Result<(Vec<u8>, Metadata), Failure> {
    let mut file = open(path).map_err(|error| unreadable(path, &error))?;
    let before = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !before.is_file() {
        return Err(cannot_bind(format!(
            "{} is not a regular file, so no copy of it can be bound; name a file",
            shown(path)
        )));
    }
    if before.len() > max {
        return Err(too_large(path));
    }
    let mut bytes = Vec::new();
    // One byte more than there should be shows that it grows.
    let limit = before.len().saturating_add(1);
    io::Read::by_ref(&mut file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    let after = file.metadata().map_err(|error| unreadable(path, &error))?;
    let stamp = |meta: &Metadata| {
        (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
    };
    if bytes.len() as u64 != before.len() || stamp(&before) != stamp(&after) {
        return Err(cannot_bind(format!(
            "{} changed while it was read; ask again when nobody writes to it",
            shown(path)
        )));
    }
    Ok((bytes, before))
}

/// The last part is no link any more: its path was resolved.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn too_large(path: &Path) -> Failure {
    cannot_bind(format!(
        "{} makes the files of the command larger than {} MiB together, of which no copies can be \
         bound; put it where only root can write, and name that",
        shown(path),
        plan_limit::STAGED_BYTES / 1024 / 1024
    ))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    cannot_bind(format!(
        "{} can be changed by somebody other than root, and you cannot read it ({error}), so no copy \
         of it can be bound; put a copy where only root can write",
        shown(path)
    ))
}

fn shown(path: &Path) -> String {
    safe(path.as_os_str().as_encoded_bytes())
}
