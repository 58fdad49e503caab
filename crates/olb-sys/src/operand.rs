//! Which words of a command line name a file that somebody untrusted can change.
//!
//! A human approves words; what matters is what they lead to when the command runs. This looks at
//! every word as a path, without knowing the program: the whole word, the part after the first
//! `=` (`if=x`, `--file=x`), the part after a leading `@` (`@x`, `--data=@x`), and a path glued to a
//! short option (`-f/x`).
//!
//! Directories are harmless here: what a program reads inside them is a matter of its own, told to
//! the human with the working directory. A name that does not exist counts as the file that somebody
//! untrusted can put there, if the part of it that exists leads to a place where they can; a relative
//! one of which nothing exists is taken for no name at all, as nearly every word would be one.

use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat;

use crate::walk::{self, End, Walk};

/// What a word turned out to be, the worst of its possible readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// No name, a directory, or a file that only trusted users can change or put there.
    Harmless,
    /// An existing file that cannot be examined; do not run the command.
    Unreadable(io::ErrorKind),
    /// This file (as the word names it) can be changed, or put there, by somebody untrusted.
    Changeable(Vec<u8>),
    /// This name means something else in every process (`/proc/1/root`, `/dev/stdin`).
    MagicLink(Vec<u8>),
}

/// Examines one word as seen from the working directory `cwd`.
///
/// Only names are opened (`O_PATH`), never contents. The walk stops in front of FUSE and network
/// file systems and calls them changeable.
#[must_use]
pub fn check_word(cwd: BorrowedFd<'_>, word: &[u8], trusted: &[u32]) -> Operand {
    readings(word)
        .into_iter()
        .map(|name| check_name(cwd, name, trusted))
        .max_by_key(severity)
        .unwrap_or(Operand::Harmless)
}

fn severity(operand: &Operand) -> u8 {
    match operand {
        Operand::Harmless => 0,
        Operand::Unreadable(_) => 1,
        Operand::Changeable(_) => 2,
        Operand::MagicLink(_) => 3,
    }
}

/// The parts of a word that programs take for file names.
fn readings(word: &[u8]) -> Vec<&[u8]> {
    let mut names = vec![word];
    names.extend(word.strip_prefix(b"@"));
    if let Some(position) = word.iter().position(|byte| *byte == b'=') {
        let value = word.get(position.saturating_add(1)..).unwrap_or_default();
        names.push(value);
        names.extend(value.strip_prefix(b"@"));
    }
    if let [b'-', letter, path @ ..] = word
        && *letter != b'-'
        && path.contains(&b'/')
    {
        names.push(path);
    }
    names
}

fn check_name(cwd: BorrowedFd<'_>, name: &[u8], trusted: &[u32]) -> Operand {
    if name.is_empty() {
        return Operand::Harmless;
    }
    match walk_to(cwd, name, trusted) {
        Ok(verdict) => verdict,
        Err(error) if walk::is_absent(&error) => Operand::Harmless,
        Err(error) => Operand::Unreadable(error.kind()),
    }
}

fn walk_to(cwd: BorrowedFd<'_>, name: &[u8], trusted: &[u32]) -> io::Result<Operand> {
    let (mut walk, start) = if name.starts_with(b"/") {
        (Walk::from_root(trusted)?, End::Reached)
    } else {
        // Most words name nothing: see that at once.
        let first = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        match stat::fstatat(cwd, first, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(Operand::Harmless),
            Ok(_) | Err(_) => Walk::from_directory(cwd, trusted)?,
        }
    };
    let end = match start {
        End::Reached => match walk.go(name) {
            // As far as the walk came, and no further: who could go on from there?
            Err(error) if walk::is_absent(&error) && walk.is_changeable() => {
                return Ok(Operand::Changeable(name.to_vec()));
            }
            end => end?,
        },
        End::MagicLink | End::Foreign => start,
    };
    Ok(match end {
        End::MagicLink => Operand::MagicLink(name.to_vec()),
        End::Foreign => Operand::Changeable(name.to_vec()),
        End::Reached if walk.is_directory() || !walk.is_changeable() => Operand::Harmless,
        End::Reached => Operand::Changeable(name.to_vec()),
    })
}

#[cfg(test)]
mod tests;
