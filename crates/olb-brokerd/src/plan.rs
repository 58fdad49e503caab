//! From what a client typed and what the front found out to the plan: pure, no look-ups here.

use olb_exec_api::Info;
use olb_lease::{Digest, Directory, Executable, Plan, PlanError, RunAs, Stdin, plan_limit, sha256};
use olb_wire::{Command, Submit};
use thiserror::Error;

use crate::account::Target;
use crate::environment::Environment;

/// Why a command cannot be asked for, whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ShapeError {
    #[error("there is no command; name one after the options")]
    NoCommand,
    #[error("the command's name is empty; name the command to run")]
    EmptyName,
    #[error("a command has at most {max} words; put the long list into a root-owned file", max = plan_limit::ARGV_WORDS)]
    TooManyWords,
    #[error("a word of the command is longer than {max} bytes; shorten it", max = plan_limit::ARGV_WORD_BYTES)]
    WordTooLong,
    #[error("the command holds a NUL byte, which no program can be passed; remove it")]
    Nul,
    #[error("the working directory is not a canonical absolute path; change into it and ask again")]
    Directory,
    #[error("the reason is longer than {max} bytes; shorten it", max = plan_limit::REASON_BYTES)]
    ReasonTooLong,
    #[error("the session key is longer than {max} bytes; shorten it", max = plan_limit::SESSION_BYTES)]
    SessionTooLong,
    #[error("standard input is longer than {max} bytes; use a root-owned file", max = plan_limit::STDIN_BYTES)]
    StdinTooLong,
    #[error("the time limit is outside 1 to {max} seconds; choose one within", max = plan_limit::WALL_CLOCK_SECS)]
    WallClock,
}

/// Checks everything about a command that needs no look-up.
pub(crate) fn check_command(command: &Command) -> Result<(), ShapeError> {
    let argv = &command.argv;
    let name = argv.first().ok_or(ShapeError::NoCommand)?;
    let holds_nul = argv.iter().chain([&command.cwd]).any(|word| word.contains(&0));
    let stdin = command.stdin.as_ref().map_or(0, |bytes| bytes.len() as u64);
    let rules = [
        (!name.is_empty(), ShapeError::EmptyName),
        (argv.len() <= plan_limit::ARGV_WORDS, ShapeError::TooManyWords),
        (
            argv.iter().all(|word| word.len() <= plan_limit::ARGV_WORD_BYTES),
            ShapeError::WordTooLong,
        ),
        (!holds_nul, ShapeError::Nul),
        (is_canonical(&command.cwd), ShapeError::Directory),
        (stdin <= plan_limit::STDIN_BYTES, ShapeError::StdinTooLong),
    ];
    first_broken(&rules)
}

/// Checks what a submit says beside its command.
pub(crate) fn check_submit(submit: &Submit) -> Result<(), ShapeError> {
    let wall_clock = submit.wall_clock_secs.unwrap_or(1);
    check_command(&submit.command)?;
    first_broken(&[
        (submit.reason.len() <= plan_limit::REASON_BYTES, ShapeError::ReasonTooLong),
        (submit.session.len() <= plan_limit::SESSION_BYTES, ShapeError::SessionTooLong),
        ((1..=plan_limit::WALL_CLOCK_SECS).contains(&wall_clock), ShapeError::WallClock),
    ])
}

fn first_broken(rules: &[(bool, ShapeError)]) -> Result<(), ShapeError> {
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, error)) => Err(*error),
        None => Ok(()),
    }
}

/// As the plan wants a path: absolute, no empty, `.` or `..` part.
fn is_canonical(path: &[u8]) -> bool {
    let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    let parts_are_plain = path.split(|byte| *byte == b'/').skip(1).all(plain);
    let absolute = path.starts_with(b"/");
    path.len() <= plan_limit::PATH_BYTES && (path == b"/" || (absolute && parts_are_plain))
}

/// What the front found out about a command.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) executable: Executable,
    pub(crate) environment: Environment,
    pub(crate) target: Target,
}

/// Size and digest of the bytes for standard input.
pub(crate) fn stdin_of(command: &Command) -> Option<Stdin> {
    command
        .stdin
        .as_ref()
        .map(|bytes| Stdin { size: bytes.len() as u64, sha256: Digest(sha256(bytes)) })
}

/// The working directory as the client states it.
pub(crate) fn cwd_of(command: &Command) -> Directory {
    Directory { path: command.cwd.to_vec(), dev: command.cwd_dev, ino: command.cwd_ino }
}

/// The words as typed.
pub(crate) fn argv_of(command: &Command) -> Vec<Vec<u8>> {
    command.argv.iter().map(|word| word.to_vec()).collect()
}

/// Builds the plan.
///
/// # Errors
/// The parts are within their limits but the whole is too long, or a limit of the plan is broken
/// that [`check_submit`] cannot see, for example too many groups of the target.
pub(crate) fn build(
    info: &Info,
    requester_uid: u32,
    submit: &Submit,
    resolved: Resolved,
    wall_clock_secs: u32,
    random: [u8; 16],
) -> Result<(Plan, Vec<u8>), PlanError> {
    let Resolved { executable, environment, target } = resolved;
    let argv = argv_of(&submit.command);
    let plan = Plan {
        random,
        host: info.host.clone(),
        audience: info.audience,
        requester_uid,
        typed_argv: argv.clone(),
        argv,
        executable,
        environment: environment.complete,
        environment_words: environment.words,
        cwd: cwd_of(&submit.command),
        run_as: RunAs {
            name: target.name,
            uid: target.uid,
            gid: target.gid,
            groups: target.groups,
        },
        stdin: stdin_of(&submit.command),
        wall_clock_secs,
        reason: submit.reason.clone(),
        session: submit.session.clone(),
    };
    let bytes = plan.encode()?;
    Ok((plan, bytes))
}
