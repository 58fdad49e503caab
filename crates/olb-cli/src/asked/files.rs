//! Whether the files in a plan are those that this process handed in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use olb_lease::{Digest, Plan, Staged, Unbound, staging};
use olb_review::display::safe;
use olb_wire::{ByteBuf, Command, StagedWord};

use super::argv_of;
use crate::bind::digest_again;
use crate::failure::Failure;

/// Whether `plan` runs the words of `command`, with copies of its files in the place of their names
/// and nothing else changed.
pub(super) fn is_for(command: &Command, plan: &Plan) -> bool {
    let typed = argv_of(command);
    let staged: Option<Vec<_>> = command.staged.iter().map(staged_of).collect();
    let is_rewritten = || {
        let folder = folder(plan)?;
        let argv = staging::argv(&folder, &plan.random, &typed, &plan.staged)?;
        let places = staging::places(&folder, &plan.random, &typed, &plan.staged)?;
        let program = plan.staged.first().filter(|file| file.word == 0);
        let runs = program.is_none() || places.first() == Some(&plan.executable.path);
        Some(argv == plan.argv && runs)
    };
    let same_words =
        if plan.staged.is_empty() { plan.argv == typed } else { is_rewritten().unwrap_or(false) };
    plan.typed_argv == typed && staged.as_ref() == Some(&plan.staged) && same_words
}

/// The folder of all copies, as the first of them is placed.
fn folder(plan: &Plan) -> Option<Vec<u8>> {
    let first = plan.staged.first()?;
    let word = plan.argv.get(usize::try_from(first.word).ok()?)?;
    let place = match first.word {
        0 => &plan.executable.path,
        _ => word.get(usize::try_from(first.prefix).ok()?..)?,
    };
    let places = staging::places(b"", &plan.random, &plan.typed_argv, &plan.staged)?;
    Some(place.strip_suffix(places.first()?.as_slice())?.to_vec())
}

fn staged_of(file: &StagedWord) -> Option<Staged> {
    Some(Staged {
        word: file.word,
        prefix: file.prefix,
        path: file.path.to_vec(),
        size: file.size,
        sha256: Digest(file.sha256.as_slice().try_into().ok()?),
        executable: file.executable,
    })
}

/// What the command says of names that stay unbound, as a plan has it.
pub(super) fn unbound_of(command: &Command) -> Vec<Unbound> {
    let unbound = command.unbound.iter();
    unbound.map(|file| Unbound { word: file.word, path: file.path.to_vec() }).collect()
}

/// Reads the files of `plan` as they are now.
///
/// # Errors
/// One cannot be read, or is not what was approved.
pub(super) fn read_again(plan: &Plan) -> Result<Vec<StagedWord>, Failure> {
    plan.staged.iter().map(|file| read_one_again(plan, file)).collect()
}

/// What the name of `file` leads to now.
fn path_now(plan: &Plan, file: &Staged) -> Option<PathBuf> {
    let word = plan.typed_argv.get(usize::try_from(file.word).ok()?)?;
    let name = word.get(usize::try_from(file.prefix).ok()?..)?;
    if file.word == 0 && !name.contains(&b'/') {
        // It was searched for; a new search could only find the same name.
        return Some(OsStr::from_bytes(&file.path).into());
    }
    let cwd = Path::new(OsStr::from_bytes(&plan.cwd.path));
    cwd.join(OsStr::from_bytes(name)).canonicalize().ok()
}

fn read_one_again(plan: &Plan, file: &Staged) -> Result<StagedWord, Failure> {
    let changed = || {
        let text = format!("{} changed since it was approved; ask again", safe(&file.path));
        Failure::refused("mismatch", text)
    };
    let path = path_now(plan, file).ok_or_else(changed)?;
    let (sha256, size) = digest_again(&path)?;
    if path.as_os_str().as_bytes() != file.path || sha256 != *file.sha256.as_bytes() {
        return Err(changed());
    }
    Ok(StagedWord {
        word: file.word,
        prefix: file.prefix,
        path: ByteBuf::from(file.path.clone()),
        size,
        sha256: ByteBuf::from(sha256),
        executable: file.executable,
    })
}
