//! A copy stands in for a file that others than root can change, and for nothing else: of what only
//! root can change, a requester has no copy to offer.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use olb_exec_api::Refusal;
use olb_lease::environment::SECURE_PATH;
use olb_lease::{Plan, Staged, staging};
use olb_sys::operand::is_theirs;
use olb_sys::path::Directory;

use super::{cannot_bind, shown};

/// Checks each staged file's word, and the path that the human is shown for it.
///
/// # Errors
/// A word, or a path that is shown, is that of a file that only root can change; or what stands before
/// the name in a word may itself be a name.
pub(super) fn check(cwd: &Directory, plan: &Plan, trusted: &[u32]) -> Result<(), Refusal> {
    for file in &plan.staged {
        let word = usize::try_from(file.word).ok().and_then(|at| plan.typed_argv.get(at));
        let word = word.map(Vec::as_slice).unwrap_or_default();
        check_prefix(plan, file, word)?;
        let prefix = usize::try_from(file.prefix).unwrap_or(usize::MAX);
        let typed = word.get(prefix..).unwrap_or_default();
        let name = found_on_path(file, typed).unwrap_or_else(|| typed.to_vec());
        for name in [&name, &file.path] {
            if !matches!(is_theirs(cwd.fd.as_fd(), name, trusted), Ok(true)) {
                return Err(cannot_bind(format!(
                    "{} is not a file that others than root can change, so no copy takes its place; \
                     ask again",
                    shown(name)
                )));
            }
        }
    }
    Ok(())
}

/// Where a program without a path in its name was found; `None` for every other word.
fn found_on_path(file: &Staged, name: &[u8]) -> Option<Vec<u8>> {
    if file.word != 0 || name.contains(&b'/') {
        return None;
    }
    let in_folder = |folder: &str| [folder.as_bytes(), b"/", name].concat();
    let exists = |path: &Vec<u8>| Path::new(OsStr::from_bytes(path)).symlink_metadata().is_ok();
    // A program that is nowhere is not theirs either.
    let found = SECURE_PATH.split(':').map(in_folder).find(exists);
    Some(found.unwrap_or_else(|| b"/".to_vec()))
}

/// The rule is the client's as well: it says so before anybody is asked.
fn check_prefix(plan: &Plan, file: &Staged, word: &[u8]) -> Result<(), Refusal> {
    if staging::is_no_name(&plan.typed_argv, file.word, file.prefix, plan.cwd_changeable) {
        return Ok(());
    }
    Err(cannot_bind(format!(
        "in the word {} something stands before the file's name that others could make a name of as \
         well; ask from a folder that only root can change (-C /)",
        shown(word)
    )))
}
