//! Before anything is approved and again before anything is burned: is what the plan names still
//! what the human saw, and can nobody but root change it?

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use olb_exec_api::{Reason, Refusal};
use olb_lease::{Executable, Plan, Staged, environment, staging};
use olb_sys::operand::{Operand, check_word};
use olb_sys::path::{self, Directory};

use crate::broker::Broker;

mod staged;

/// How many scripts may be each other's interpreters (Linux allows 4 rewrites).
const INTERPRETERS_MAX: usize = 4;
/// How much of a script the kernel reads to find its interpreter.
const SHEBANG_BYTES: usize = 256;

/// The plan's working directory, opened and compared; everything else about the plan holds too.
#[derive(Debug)]
pub struct Bound {
    /// Opened in the root half's own namespace.
    pub cwd: Directory,
}

/// Checks everything that a plan binds outside itself.
///
/// # Errors
/// The first thing that does not hold, as one sentence for the requester.
pub fn bind(broker: &Broker, plan: &Plan) -> Result<Bound, Refusal> {
    check_plan(broker, plan)?;
    let cwd = open_cwd(plan)?;
    let trusted = broker.trusted_uids();
    check_cwd(plan, &trusted)?;
    let is_staged = |word: u32| plan.staged.iter().any(|file| file.word == word);
    // Of a copy all of this holds; its interpreters are checked when it is made.
    if !is_staged(0) {
        check_executable(plan, &trusted)?;
        check_interpreters(&cwd, &plan.executable.path, &trusted)?;
    }
    staged::check(&cwd, plan, &trusted)?;
    for (number, word) in (0..).zip(&plan.argv).skip(1) {
        // A copy's place is root's alone; but what stands before it in the word could lead elsewhere.
        // Without a boundary the place may be in a folder such as /tmp.
        if broker.has_boundary() || !is_staged(number) {
            let is_unbound = plan.unbound.iter().any(|file| file.word == number);
            check_operand(&cwd, word, is_unbound, &trusted)?;
        }
    }
    Ok(Bound { cwd })
}

/// What can be judged from the plan and the configuration alone.
fn check_plan(broker: &Broker, plan: &Plan) -> Result<(), Refusal> {
    check_broker(broker, plan)?;
    check_words(broker, plan)?;
    environment::check(plan).map_err(|error| {
        Refusal::new(Reason::Unsupported, format!("the environment is refused: {error}"))
    })?;
    if !broker.has_boundary() && plan.run_as.uid != broker.own_uid {
        let text = "this broker does not run as root, so it can run commands only as its own user";
        return Err(Refusal::new(Reason::Unsupported, text));
    }
    Ok(())
}

/// What runs is what was typed, with the places of our copies for the names of staged files.
fn check_words(broker: &Broker, plan: &Plan) -> Result<(), Refusal> {
    let dir = match &broker.staging {
        Some(staging) => staging.dir(),
        None if plan.staged.is_empty() => b"",
        None => {
            let text = "this broker keeps no copies of files (staging_dir in execd.conf): put the \
                        file where only root can write, and name that";
            return Err(Refusal::new(Reason::Unsupported, text));
        }
    };
    let (random, typed, staged) = (&plan.random, &plan.typed_argv, &plan.staged);
    let argv_holds = staging::argv(dir, random, typed, staged).as_ref() == Some(&plan.argv);
    let places = staging::places(dir, random, typed, staged).unwrap_or_default();
    let executable_holds = match (staged.first(), places.into_iter().next()) {
        (Some(Staged { word: 0, size, .. }), Some(path)) => {
            let size = *size;
            plan.executable
                == Executable { path, size, dev: 0, ino: 0, ctime_secs: 0, ctime_nanos: 0 }
        }
        (Some(_) | None, _) => true,
    };
    if argv_holds && executable_holds {
        return Ok(());
    }
    let text = "the arguments to run are not the arguments that were typed";
    Err(Refusal::new(Reason::Mismatch, text))
}

/// Whether the plan is for this broker, by somebody who may ask it.
///
/// # Errors
/// It is not.
pub fn check_broker(broker: &Broker, plan: &Plan) -> Result<(), Refusal> {
    if plan.audience != broker.audience || plan.host != broker.config.host {
        let text = "the request was made for another broker; ask again";
        return Err(Refusal::new(Reason::WrongAudience, text));
    }
    let requester = plan.requester_uid;
    let listed = broker.may_request(requester) && !(broker.has_boundary() && requester == 0);
    if !listed {
        let text = format!("uid {requester} is not on the list of requesters (execd.conf)");
        return Err(Refusal::new(Reason::NotListed, text));
    }
    Ok(())
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

fn cannot_bind(text: String) -> Refusal {
    Refusal::new(Reason::CannotBind, text)
}

fn open_cwd(plan: &Plan) -> Result<Directory, Refusal> {
    let path = Path::new(OsStr::from_bytes(&plan.cwd.path));
    let cwd = path::open_directory(path).map_err(|error| {
        cannot_bind(format!("the working directory {} is refused: {error}", shown(&plan.cwd.path)))
    })?;
    if (cwd.dev, cwd.ino) != (plan.cwd.dev, plan.cwd.ino) {
        let text = format!(
            "working directory differs: {} is not the directory that the request was made in; ask \
             again from there",
            shown(&plan.cwd.path)
        );
        return Err(Refusal::new(Reason::IdentityChanged, text));
    }
    Ok(cwd)
}

/// A human who is not told that others can change what is there is told the truth.
fn check_cwd(plan: &Plan, trusted: &[u32]) -> Result<(), Refusal> {
    let path = Path::new(OsStr::from_bytes(&plan.cwd.path));
    if plan.cwd_changeable || path::only_trusted_can_change(path, trusted).unwrap_or(false) {
        return Ok(());
    }
    let text = format!(
        "others than root can change the working directory {}, and the request says they cannot; \
         ask again",
        shown(&plan.cwd.path)
    );
    Err(Refusal::new(Reason::IdentityChanged, text))
}

fn check_executable(plan: &Plan, trusted: &[u32]) -> Result<(), Refusal> {
    let file = &plan.executable;
    let path = Path::new(OsStr::from_bytes(&file.path));
    let found = path::identify(path).map_err(|error| {
        let text = format!("{} cannot be looked at: {error}", shown(&file.path));
        Refusal::new(Reason::IdentityChanged, text)
    })?;
    let same = (found.dev, found.ino, found.size) == (file.dev, file.ino, file.size)
        && (found.ctime_secs, found.ctime_nanos) == (file.ctime_secs, file.ctime_nanos);
    if !same {
        let text = format!(
            "{} is not the file it was when the request was made; ask again",
            shown(&file.path)
        );
        return Err(Refusal::new(Reason::IdentityChanged, text));
    }
    require_unchangeable(path, trusted)
}

fn require_unchangeable(path: &Path, trusted: &[u32]) -> Result<(), Refusal> {
    let name = shown(path.as_os_str().as_bytes());
    match path::only_trusted_can_change(path, trusted) {
        Ok(true) => Ok(()),
        Ok(false) => Err(cannot_bind(format!(
            "{name} cannot be bound: somebody other than root can change it; put it where only root \
             can write"
        ))),
        Err(error) => Err(cannot_bind(format!("{name} cannot be bound: {error}"))),
    }
}

/// A script is only as unchangeable as the program that its first line names.
///
/// The kernel follows the links of that name when it starts the script, so every one of them
/// counts, not only the file at the end.
///
/// # Errors
/// Others than root can change one of them, or it is not named by a full path.
pub fn check_interpreters(
    cwd: &Directory,
    executable: &[u8],
    trusted: &[u32],
) -> Result<(), Refusal> {
    let mut path = PathBuf::from(OsStr::from_bytes(executable));
    for _ in 0..INTERPRETERS_MAX {
        let Some(interpreter) = interpreter_of(&path)? else {
            return Ok(());
        };
        let name = interpreter.as_os_str().as_bytes();
        let found = check_word(cwd.fd.as_fd(), name, trusted);
        path = path::canonicalize(&interpreter)
            .ok()
            .filter(|_| found == Operand::Harmless)
            .ok_or_else(|| {
                let text = "cannot be bound: somebody other than root can change where it leads";
                cannot_bind(format!("the script's interpreter {} {text}", shown(name)))
            })?;
        require_unchangeable(&path, trusted)?;
    }
    Err(cannot_bind(format!("{} has too many interpreters", shown(executable))))
}

/// The interpreter that the first line of `path` names, if it is a script. The file was found to be
/// changeable by nobody but root before it is opened.
fn interpreter_of(path: &Path) -> Result<Option<PathBuf>, Refusal> {
    let name = || shown(path.as_os_str().as_bytes());
    let mut head = Vec::with_capacity(SHEBANG_BYTES);
    File::open(path)
        .and_then(|file| file.take(SHEBANG_BYTES as u64).read_to_end(&mut head))
        .map_err(|error| cannot_bind(format!("{} cannot be read: {error}", name())))?;
    let Some(line) = head.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let word = line.split(blank).find(|word| !word.is_empty()).unwrap_or_default();
    if word.starts_with(b"/") {
        Ok(Some(PathBuf::from(OsStr::from_bytes(word))))
    } else {
        Err(cannot_bind(format!("{} does not name its interpreter by a full path", name())))
    }
}

fn check_operand(
    cwd: &Directory,
    word: &[u8],
    is_unbound: bool,
    trusted: &[u32],
) -> Result<(), Refusal> {
    match check_word(cwd.fd.as_fd(), word, trusted) {
        Operand::Harmless => Ok(()),
        // The human was told.
        Operand::Changeable(_) if is_unbound => Ok(()),
        Operand::Changeable(file) => Err(cannot_bind(format!(
            "the argument {} names a file that somebody other than root can change or put there \
             ({}); such a file has to be copied or called unbound when the command is asked for: ask \
             again, or put it where only root can write",
            shown(word),
            shown(&file)
        ))),
        Operand::MagicLink(_) => Err(cannot_bind(format!(
            "the argument {} means another file in every process; name the file itself",
            shown(word)
        ))),
        Operand::Unreadable(kind) => Err(cannot_bind(format!(
            "the argument {} cannot be looked at ({kind}), so it cannot be bound",
            shown(word)
        ))),
    }
}
