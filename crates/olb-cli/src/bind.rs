//! Which files a command names, and what is done about those that others can change: a copy of what
//! this process reads now is bound, or the human is told that the name is not, or it is refused.
//!
//! A courtesy to the human and a service to the requester; the root half looks at every word itself.

mod read;
mod rules;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use olb_core::operands::{self, Reading, Role};
use olb_lease::environment::SECURE_PATH;
use olb_lease::{plan_limit, staging};
use olb_review::display::safe;
use olb_sys::operand::{Operand, check_word};
use olb_sys::path::only_trusted_can_change;
use olb_wire::{Command, UnboundWord};

use crate::client::Runtime;
use crate::failure::{Failure, code};
use crate::trust::BrokerKeys;

pub(crate) use read::digest_again;

/// Completes `command` with its files; with the bytes of those of which copies are bound.
/// `allow_unbound`: what no rule knows is listed as unbound instead of refused.
///
/// # Errors
/// A file that others can change and that can be neither bound nor listed; the sentence names it.
pub(crate) fn bind(
    runtime: &Runtime,
    command: &mut Command,
    allow_unbound: bool,
) -> Result<Vec<Vec<u8>>, Failure> {
    let trusted = trusted(runtime);
    let cwd = PathBuf::from(OsStr::from_bytes(&command.cwd));
    command.cwd_changeable = is_changeable(&cwd, &trusted);
    let folder = open_folder(&command.cwd).map_err(|error| {
        let shown = safe(&command.cwd);
        Failure::usage(format!("the folder {shown} cannot be used ({error}); give another with -C"))
    })?;
    let rules = rules::load(runtime);
    let reading = rules.examine(&command.argv);
    let look = Look { folder, cwd, trusted, reading: &reading, allow_unbound };
    let (mut files, mut unbound) = (read::Files::default(), Vec::new());
    for (at, typed) in command.argv.iter().enumerate() {
        let word = u32::try_from(at).unwrap_or(u32::MAX);
        match look.word(at, typed)? {
            Found::Nothing => {}
            Found::File { prefix, path } => {
                check_prefix(command, word, prefix)?;
                files.announce(word, prefix, path)?;
            }
            Found::Unbound(path) => {
                unbound.push(UnboundWord { word, path: path.into_os_string().into_vec().into() });
            }
        }
    }
    if unbound.len() > plan_limit::UNBOUND {
        return Err(cannot_bind(format!(
            "more than {} of the words name files that others can change; name their folder",
            plan_limit::UNBOUND
        )));
    }
    command.unbound = unbound;
    let (staged, bytes) = files.read()?;
    command.staged = staged;
    Ok(bytes)
}

/// As the root half does, which would refuse the approval.
fn check_prefix(command: &Command, word: u32, prefix: usize) -> Result<(), Failure> {
    let typed: Vec<_> = command.argv.iter().map(|word| word.to_vec()).collect();
    let length = u32::try_from(prefix).unwrap_or(u32::MAX);
    if staging::is_no_name(&typed, word, length, command.cwd_changeable) {
        return Ok(());
    }
    let shown = typed.get(word as usize).map(|word| safe(word)).unwrap_or_default();
    Err(cannot_bind(format!(
        "in {shown} something stands before the file's name that others could make a name of as well, \
         because they can change this folder; ask from one that only root can change (-C /), with the \
         file's whole path"
    )))
}

/// Whether one of the first `count` words of `command` names a file that others can change, or put
/// there. Without the rules, whose reading costs every `exec` half a millisecond: the root half looks at
/// words without them, too.
pub(crate) fn names_files_of_others(runtime: &Runtime, command: &Command, count: usize) -> bool {
    let Ok(folder) = open_folder(&command.cwd) else {
        return true; // as far as can be seen
    };
    let is_theirs = |word: &[u8], trusted: &[u32]| {
        matches!(check_word(folder.as_fd(), word, trusted), Operand::Changeable(_))
    };
    let mut words = command.argv.iter().take(count).enumerate();
    words.any(|(at, word)| {
        // A program without a slash is searched for, and no file in this folder.
        let is_program = at == 0 && !word.contains(&b'/');
        // Who else is trusted takes a file to find out, and is seldom asked.
        !is_program && is_theirs(word, &[0]) && is_theirs(word, &trusted(runtime))
    })
}

/// What `word` turns out to be: as everybody has to read it, and as the rules do.
fn look_at(
    folder: &File,
    word: &[u8],
    name: Option<&operands::Operand<'_>>,
    trusted: &[u32],
) -> Operand {
    let found = check_word(folder.as_fd(), word, trusted);
    match (&found, name.and_then(|name| word.get(name.prefix..))) {
        (Operand::Harmless, Some(name)) if name.len() < word.len() => {
            check_word(folder.as_fd(), name, trusted)
        }
        _ => found,
    }
}

/// By its name only: it need not be readable.
fn open_folder(path: &[u8]) -> std::io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(OsStr::from_bytes(path))
}

/// Whom files may belong to without anything being done about them.
fn trusted(runtime: &Runtime) -> Vec<u32> {
    let mut trusted = vec![0];
    if BrokerKeys::of(runtime).is_ok_and(|keys| !keys.is_from_root) {
        trusted.push(olb_sys::harden::effective_uid());
    }
    trusted
}

/// What cannot be looked at counts as changeable.
fn is_changeable(path: &Path, trusted: &[u32]) -> bool {
    !only_trusted_can_change(path, trusted).unwrap_or(false)
}

/// What is done about a word.
enum Found {
    Nothing,
    /// A copy of this file is bound; its name begins after so many bytes of the word.
    File {
        prefix: usize,
        path: PathBuf,
    },
    Unbound(PathBuf),
}

struct Look<'a> {
    folder: File,
    cwd: PathBuf,
    trusted: Vec<u32>,
    reading: &'a Reading<'a>,
    allow_unbound: bool,
}

impl Look<'_> {
    fn word(&self, at: usize, word: &[u8]) -> Result<Found, Failure> {
        if at == 0 {
            return Ok(self.program(word));
        }
        let operand = self.reading.operands.iter().find(|operand| operand.word == at);
        let known = operand.map(|operand| {
            let name = word.get(operand.prefix..).unwrap_or_default();
            (operand.prefix, self.path(name), operand.role)
        });
        let is_name = operand.is_some_and(|operand| !operand.may_be_no_name);
        let found = look_at(&self.folder, word, operand, &self.trusted);
        let (file, known) = match (found, known) {
            (Operand::Changeable(file), known) => (file, known),
            (Operand::MagicLink(file), _) => return Err(magic_link(&file)),
            (
                Operand::Harmless | Operand::Unreadable(_),
                Some((_, path, Role::Read | Role::Named)),
            ) => {
                return Ok(self
                    .folder_or_absent(&path, is_name)
                    .map_or(Found::Nothing, Found::Unbound));
            }
            (Operand::Harmless | Operand::Unreadable(_), _) => return Ok(Found::Nothing),
        };
        match known {
            Some((prefix, path, Role::Read)) if path.is_file() => {
                Ok(Found::File { prefix, path: canonical(&path) })
            }
            // Whatever is there when the command runs.
            Some((_, path, Role::Read)) if fs::symlink_metadata(&path).is_err() => {
                Ok(Found::Unbound(canonical(&path)))
            }
            Some((_, path, Role::Named)) => Ok(Found::Unbound(canonical(&path))),
            Some((_, _, Role::Refused(advice))) => Err(cannot_bind(format!(
                "{} can be changed by somebody other than root, and {advice}",
                safe(&file)
            ))),
            Some(_) | None if self.allow_unbound => {
                Ok(Found::Unbound(canonical(&self.path(&file))))
            }
            Some((_, _, Role::Read)) => Err(not_regular(&file)),
            None => Err(no_rule(&file)),
        }
    }

    /// The file to run, where others can change it.
    fn program(&self, name: &[u8]) -> Found {
        let path = if name.contains(&b'/') {
            Some(self.path(name))
        } else {
            let folders = SECURE_PATH
                .split(':')
                .map(|folder| Path::new(folder).join(OsStr::from_bytes(name)));
            folders.into_iter().find(|path| is_executable(path))
        };
        // What is not there is for the broker to say.
        let path =
            path.filter(|path| is_executable(path)).and_then(|path| path.canonicalize().ok());
        match path {
            Some(path) if is_changeable(&path, &self.trusted) => Found::File { prefix: 0, path },
            Some(_) | None => Found::Nothing,
        }
    }

    /// Where a name leads that means a folder that others can change, or, if it `is_name` of a file
    /// in any case, a file that others can make.
    fn folder_or_absent(&self, path: &Path, is_name: bool) -> Option<PathBuf> {
        let changeable = |path: &PathBuf| is_changeable(path, &self.trusted);
        if fs::symlink_metadata(path).is_ok() {
            return path.canonicalize().ok().filter(|path| path.is_dir()).filter(changeable);
        }
        let parent = path.parent().filter(|_| is_name)?.canonicalize().ok().filter(changeable)?;
        path.file_name().map(|name| parent.join(name))
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.cwd.join(OsStr::from_bytes(name))
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The canonical path, also of a link that leads nowhere.
fn canonical(path: &Path) -> PathBuf {
    let of_parent = || {
        let (parent, name) = (path.parent()?, path.file_name()?);
        Some(parent.canonicalize().ok()?.join(name))
    };
    path.canonicalize().ok().or_else(of_parent).unwrap_or_else(|| path.to_owned())
}

fn magic_link(file: &[u8]) -> Failure {
    cannot_bind(format!(
        "{} means something else in each process; name the file itself",
        safe(file)
    ))
}

fn not_regular(file: &[u8]) -> Failure {
    cannot_bind(format!(
        "{} is not a regular file, so no copy of it can be bound; name a file, or list it as unbound \
         with --allow-unbound",
        safe(file)
    ))
}

fn no_rule(file: &[u8]) -> Failure {
    cannot_bind(format!(
        "{} can be changed by somebody other than root, and there is no rule that says what the \
         command does with it; put a copy where only root can write and name that, ask from another \
         folder (-C) if the word means no file, or list it as unbound with --allow-unbound",
        safe(file)
    ))
}

fn cannot_bind(text: String) -> Failure {
    Failure::new(code::USAGE, "cannot_bind", text)
}

#[cfg(test)]
mod tests;
