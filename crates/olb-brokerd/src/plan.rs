//! From what a client typed and what the front found out to the plan: pure, no look-ups here.

use olb_exec_api::Info;
use olb_lease::{
    Digest, Directory, Executable, Plan, PlanError, RunAs, Staged, Stdin, Unbound, plan_limit,
    sha256, staging,
};
use olb_wire::{Command, StagedWord, Submit};
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
    #[error("a command has at most {max} files of which copies are bound; put them into one", max = plan_limit::STAGED)]
    TooManyFiles,
    #[error("the files of the command are larger than {max} bytes together; put them where only root can write", max = plan_limit::STAGED_BYTES)]
    FilesTooLarge,
    #[error("a command has at most {max} names that stay unbound; name their folder", max = plan_limit::UNBOUND)]
    TooManyUnbound,
    #[error("a file of the command is announced with no SHA-256 of 32 bytes; send its digest")]
    FileDigest,
    #[error(
        "the files of the command are not announced as what its words name; announce each word once, \
         in their order, with a canonical path"
    )]
    FileWords,
    #[error("the time limit is outside 1 to {max} seconds; choose one within", max = plan_limit::WALL_CLOCK_SECS)]
    WallClock,
}

/// Checks everything about a command that needs no look-up.
pub(crate) fn check_command(command: &Command) -> Result<(), ShapeError> {
    let argv = &command.argv;
    let name = argv.first().ok_or(ShapeError::NoCommand)?;
    let holds_nul = argv.iter().chain([&command.cwd]).any(|word| word.contains(&0));
    let bytes = command.staged.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size));
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
        (command.staged.len() <= plan_limit::STAGED, ShapeError::TooManyFiles),
        (bytes.is_some_and(|sum| sum <= plan_limit::STAGED_BYTES), ShapeError::FilesTooLarge),
        (command.unbound.len() <= plan_limit::UNBOUND, ShapeError::TooManyUnbound),
        (command.staged.iter().all(|file| digest_of(file).is_some()), ShapeError::FileDigest),
        (are_words(command), ShapeError::FileWords),
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

/// Whether each file is announced once, for a word that names one.
fn are_words(command: &Command) -> bool {
    let typed = argv_of(command);
    let (staged, unbound) = (staged_of(command), unbound_of(command));
    let is_word = |word: u32| usize::try_from(word).is_ok_and(|at| (1..typed.len()).contains(&at));
    let is_staged = |word: u32| staged.iter().any(|file| file.word == word);
    let mut paths = staged.iter().map(|f| &f.path).chain(unbound.iter().map(|f| &f.path));
    paths.all(|path| is_canonical(path) && !path.contains(&0))
        && staged.is_sorted_by(|a, b| a.word < b.word)
        && unbound.is_sorted_by(|a, b| a.word < b.word)
        && unbound.iter().all(|file| is_word(file.word) && !is_staged(file.word))
        && staged.iter().all(|file| {
            let is_program = file.prefix == 0 && file.executable;
            staging::name(&typed, file).is_some() && (file.word > 0 || is_program)
        })
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
    /// `None` where a copy of it will be run.
    pub(crate) executable: Option<Executable>,
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

/// The files of which copies are bound; [`check_command`] has seen to it that there is none without
/// a digest.
pub(crate) fn staged_of(command: &Command) -> Vec<Staged> {
    let staged = command.staged.iter().filter_map(|file| {
        Some(Staged {
            word: file.word,
            prefix: file.prefix,
            path: file.path.to_vec(),
            size: file.size,
            sha256: digest_of(file)?,
            executable: file.executable,
        })
    });
    staged.collect()
}

fn digest_of(file: &StagedWord) -> Option<Digest> {
    Some(Digest(file.sha256.as_slice().try_into().ok()?))
}

fn unbound_of(command: &Command) -> Vec<Unbound> {
    let unbound = command.unbound.iter();
    unbound.map(|file| Unbound { word: file.word, path: file.path.to_vec() }).collect()
}

/// What is run of the files that are copied: the first of them, where that is the command itself.
fn staged_executable(place: &[u8], file: &Staged) -> Executable {
    let path = place.to_vec();
    Executable { path, dev: 0, ino: 0, size: file.size, ctime_secs: 0, ctime_nanos: 0 }
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
    whole: bool,
    random: [u8; 16],
) -> Result<(Plan, Vec<u8>), PlanError> {
    let Resolved { executable, environment, target } = resolved;
    let typed_argv = argv_of(&submit.command);
    let staged = staged_of(&submit.command);
    let no_name = PlanError::Limit("staged word");
    let places = staging::places(&info.staging, &random, &typed_argv, &staged).ok_or(no_name)?;
    let argv = staging::argv(&info.staging, &random, &typed_argv, &staged).ok_or(no_name)?;
    let copy = || Some(staged_executable(places.first()?, staged.first()?));
    let executable = executable.or_else(copy).ok_or(no_name)?;
    let plan = Plan {
        random,
        host: info.host.clone(),
        audience: info.audience,
        requester_uid,
        typed_argv,
        argv,
        executable,
        environment: environment.complete,
        environment_words: environment.words,
        cwd: cwd_of(&submit.command),
        cwd_changeable: submit.command.cwd_changeable,
        run_as: RunAs {
            name: target.name,
            uid: target.uid,
            gid: target.gid,
            groups: target.groups,
        },
        stdin: stdin_of(&submit.command),
        staged,
        unbound: unbound_of(&submit.command),
        wall_clock_secs,
        whole,
        reason: submit.reason.clone(),
        session: submit.session.clone(),
    };
    let bytes = plan.encode()?;
    Ok((plan, bytes))
}

#[cfg(test)]
mod tests {
    use olb_wire::ByteBuf;

    use super::*;

    fn command(words: &[&[u8]]) -> Command {
        Command {
            argv: words.iter().map(|word| ByteBuf::from(*word)).collect(),
            cwd: ByteBuf::from(b"/srv/app".as_slice()),
            cwd_dev: 1,
            cwd_ino: 2,
            environment_words: Vec::new(),
            user: None,
            group: None,
            stdin: None,
            cwd_changeable: false,
            staged: Vec::new(),
            unbound: Vec::new(),
        }
    }

    #[test]
    fn an_ordinary_command_and_odd_bytes_pass() {
        assert_eq!(check_command(&command(&[b"systemctl", b"restart", b"nginx"])), Ok(()));
        assert_eq!(check_command(&command(&[b"printf", b"\xff\x1b", b""])), Ok(()));
    }

    #[test]
    fn each_shape_that_no_plan_can_have_has_its_own_sentence() {
        let longest = vec![b'x'; plan_limit::ARGV_WORD_BYTES + 1];
        let many = vec![b"x".as_slice(); plan_limit::ARGV_WORDS + 1];
        for (words, want) in [
            (&[][..], ShapeError::NoCommand),
            (&[b"".as_slice()], ShapeError::EmptyName),
            (&[b"id", b"a\0b"], ShapeError::Nul),
            (&[b"id", longest.as_slice()], ShapeError::WordTooLong),
            (many.as_slice(), ShapeError::TooManyWords),
        ] {
            assert_eq!(check_command(&command(words)), Err(want));
        }
    }

    #[test]
    fn a_working_directory_has_one_spelling() {
        for path in ["", "srv", "/srv/", "//srv", "/srv/../etc", "/srv/./app", "/srv\0x"] {
            let mut command = command(&[b"id"]);
            command.cwd = ByteBuf::from(path.as_bytes());
            assert!(check_command(&command).is_err(), "{path:?}");
        }
        let mut command = command(&[b"id"]);
        command.cwd = ByteBuf::from(b"/".as_slice());
        assert_eq!(check_command(&command), Ok(()));
    }

    #[test]
    fn input_reason_session_and_time_have_limits() {
        let submit = |change: fn(&mut Submit)| {
            let mut submit = Submit {
                command: command(&[b"id"]),
                reason: String::new(),
                session: String::new(),
                wall_clock_secs: None,
                wait: false,
            };
            change(&mut submit);
            check_submit(&submit)
        };
        assert_eq!(submit(|_| {}), Ok(()));
        let input = |length: u64| Some(ByteBuf::from(vec![0; usize::try_from(length).unwrap()]));
        let mut command = command(&[b"cat"]);
        command.stdin = input(plan_limit::STDIN_BYTES);
        assert_eq!(check_command(&command), Ok(()));
        command.stdin = input(plan_limit::STDIN_BYTES + 1);
        assert_eq!(check_command(&command), Err(ShapeError::StdinTooLong));
        let long = |submit: &mut Submit| submit.reason = "é".repeat(513);
        assert_eq!(submit(long), Err(ShapeError::ReasonTooLong));
        let long = |submit: &mut Submit| submit.session = "x".repeat(257);
        assert_eq!(submit(long), Err(ShapeError::SessionTooLong));
        assert_eq!(
            submit(|submit| submit.wall_clock_secs = Some(86_401)),
            Err(ShapeError::WallClock)
        );
        assert_eq!(submit(|submit| submit.wall_clock_secs = Some(86_400)), Ok(()));
    }
}
