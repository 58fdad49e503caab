//! Which words of a command line name a file that somebody untrusted can change.
//!
//! A human approves words; what matters is what they lead to when the command runs. This looks at
//! every word as a path, without knowing the program: the whole word, what follows a `=`, `@`, `,` or
//! `:` (`if=x`, `--file=x`, `--data=@x`, `--action=exec=x`), and what may be glued to short options
//! (`-fx`, `-sf/x`).
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

/// Of a word so many signs are looked behind, and so many letters of a cluster are passed over.
const SIGNS_MAX: usize = 64;
const CLUSTER_MAX: usize = 16;

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
        .rev() // of equals the first counts, which is the longest
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

/// The parts of a word that programs take for file names: what follows a sign that separates a name
/// from what it is the name of, and the ends of clustered short options. In a script, which is a word
/// with white space, only the first of these signs is one.
fn readings(word: &[u8]) -> Vec<&[u8]> {
    let after = |at: usize| word.get(at.saturating_add(1)..).unwrap_or_default();
    let mut names = vec![word];
    let mut signs = word.iter().enumerate().filter(|(_, byte)| b"=@,:".contains(byte));
    if word.iter().any(u8::is_ascii_whitespace) {
        names.extend(word.strip_prefix(b"@"));
        names.extend(word.iter().position(|byte| *byte == b'=').map(after));
    } else {
        for (at, _) in signs.by_ref().take(SIGNS_MAX) {
            let rest = after(at);
            names.push(rest);
            names.extend(rest.split(|byte| b",:".contains(byte)).next().filter(|one| *one != rest));
        }
        names.extend(option_ends(word));
    }
    names
}

/// What may be a value glued to the last of some short options: `x` of `-fx` and of `-sfx`, and a path
/// wherever it begins.
fn option_ends(word: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_short = matches!(word, [b'-', letter, ..] if *letter != b'-');
    let clusters = (2..word.len()).take(if is_short { CLUSTER_MAX } else { 0 });
    let slash = word.iter().position(|byte| *byte == b'/').filter(|_| is_short);
    clusters.chain(slash).filter_map(|at| word.get(at..))
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
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => return Ok(Operand::Harmless),
            Ok(_) | Err(_) => Walk::from_directory(cwd, trusted)?,
        }
    };
    let end = match start {
        End::Reached => match walk.go(name) {
            // As far as the walk came, and no further: who could go on from there?
            Err(error) if walk::can_appear(&error) && walk.is_changeable() => {
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

/// Whether `name`, as seen from `cwd`, leads to a file that somebody untrusted can change or put
/// there. Unlike a word of which nothing exists, this is known to be a name.
///
/// # Errors
/// It cannot be looked at, or leads somewhere else in every process.
pub fn is_theirs(cwd: BorrowedFd<'_>, name: &[u8], trusted: &[u32]) -> io::Result<bool> {
    let (mut walk, start) = if name.starts_with(b"/") {
        (Walk::from_root(trusted)?, End::Reached)
    } else {
        Walk::from_directory(cwd, trusted)?
    };
    match if start == End::Reached { walk.go(name) } else { Ok(start) } {
        Ok(End::Foreign) => Ok(true),
        Ok(End::MagicLink) => Err(Errno::ELOOP.into()),
        Ok(End::Reached) => Ok(!walk.is_directory() && walk.is_changeable()),
        Err(error) if walk::can_appear(&error) => Ok(walk.is_changeable()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
