//! What options, variables and command mean together.

use super::draft::{Draft, Mode, conflict};
use super::options::Opt;
use super::refusal::Refusal;
use super::scan::{Item, Scanned, missing};
use super::{Edit, Invocation, Listing, Probe, Run, Shell};

/// Options that go with everything for which sudo could ask for a password.
const ASKING: [Opt; 9] = [
    Opt::Askpass,
    Opt::Bell,
    Opt::Group,
    Opt::NoUpdate,
    Opt::NonInteractive,
    Opt::Prompt,
    Opt::ResetTimestamp,
    Opt::Stdin,
    Opt::User,
];

/// What was scanned, understood.
pub(super) fn understand<W: AsRef<[u8]>>(scanned: &Scanned<'_, W>) -> Result<Invocation, Refusal> {
    let mut draft = Draft::default();
    for item in &scanned.items {
        match item {
            Item::Switch(opt) => draft.switch(*opt)?,
            Item::Value(opt, value) => draft.value(*opt, value)?,
            Item::Assignment(word) => draft.assign(word)?,
        }
    }
    let command: Vec<Vec<u8>> = scanned.command.iter().map(|word| word.as_ref().into()).collect();
    check_pairs(&draft)?;
    if command.first().is_some_and(Vec::is_empty) {
        return Err(Refusal::NothingToDo);
    }
    match draft.mode {
        None => run(draft, command),
        Some(mode) => other_than_run(draft, mode, command),
    }
}

/// What sudo refuses in combination, whatever is to be done.
fn check_pairs(draft: &Draft) -> Result<(), Refusal> {
    let seen = |opt: Opt| draft.seen.contains(&opt);
    if seen(Opt::Askpass) && seen(Opt::Stdin) {
        return Err(conflict(Opt::Askpass, Opt::Stdin));
    }
    if seen(Opt::Login) && seen(Opt::Shell) {
        return Err(conflict(Opt::Login, Opt::Shell));
    }
    if seen(Opt::Login) && draft.surroundings.preserve_all {
        return Err(conflict(Opt::Login, Opt::PreserveEnv));
    }
    if seen(Opt::ResetTimestamp) && seen(Opt::NoUpdate) {
        return Err(conflict(Opt::ResetTimestamp, Opt::NoUpdate));
    }
    if draft.other_user.is_some() && draft.mode != Some(Mode::List) {
        return Err(Refusal::OtherUser);
    }
    Ok(())
}

/// A command, a shell, or `-k` alone.
fn run(draft: Draft, command: Vec<Vec<u8>>) -> Result<Invocation, Refusal> {
    let login = draft.seen.contains(&Opt::Login);
    if login || draft.seen.contains(&Opt::Shell) {
        let Draft { options, surroundings, .. } = draft;
        return Ok(Invocation::Shell(Shell { login, options, surroundings, command }));
    }
    if command.is_empty() {
        if draft.seen.contains(&Opt::ResetTimestamp) {
            return alone(&draft, Opt::ResetTimestamp, &command, Invocation::ResetTimestamp);
        }
        return Err(Refusal::NothingToDo);
    }
    let Draft { options, surroundings, .. } = draft;
    let run = Run { options, surroundings, command };
    Ok(if run.does_nothing() {
        Invocation::Probe(Probe::Nothing(run))
    } else {
        Invocation::Run(run)
    })
}

fn other_than_run(draft: Draft, mode: Mode, command: Vec<Vec<u8>>) -> Result<Invocation, Refusal> {
    match mode {
        Mode::Help => alone(&draft, mode.opt(), &command, Invocation::Help),
        Mode::Version => alone(&draft, mode.opt(), &command, Invocation::Version),
        Mode::RemoveTimestamp => alone(&draft, mode.opt(), &command, Invocation::RemoveTimestamp),
        Mode::Edit => {
            only(&draft, mode, &[Opt::Chdir, Opt::CloseFrom, Opt::Timeout])?;
            if command.is_empty() {
                return Err(missing(Opt::Edit));
            }
            let Draft { options, surroundings, .. } = draft;
            let (chdir, timeout_secs) = (surroundings.chdir, surroundings.timeout_secs);
            Ok(Invocation::Edit(Edit { options, chdir, timeout_secs, files: command }))
        }
        Mode::List => {
            only(&draft, mode, &[Opt::OtherUser])?;
            let target = |opt: &&Opt| matches!(opt, Opt::User | Opt::Group);
            if let (true, Some(opt)) = (command.is_empty(), draft.seen.iter().find(target)) {
                return Err(Refusal::ListTarget { option: opt.short() });
            }
            let Draft { options, long_list: long, other_user, .. } = draft;
            Ok(Invocation::Probe(Probe::List(Listing { options, long, other_user, command })))
        }
        Mode::Validate => {
            only(&draft, mode, &[])?;
            if !command.is_empty() {
                return Err(takes_no(mode, "command"));
            }
            Ok(Invocation::Probe(Probe::Validate(draft.options)))
        }
    }
}

/// `opt` and nothing else.
fn alone(
    draft: &Draft,
    opt: Opt,
    command: &[Vec<u8>],
    invocation: Invocation,
) -> Result<Invocation, Refusal> {
    let bare = draft.seen.len() == 1 && draft.surroundings.assignments.is_empty();
    if bare && command.is_empty() {
        Ok(invocation)
    } else {
        Err(Refusal::NotAlone { option: opt.short() })
    }
}

/// No variables, and no options but those that go with `mode`. (sudo drops the variables silently
/// in two of the modes.)
fn only(draft: &Draft, mode: Mode, further: &[Opt]) -> Result<(), Refusal> {
    if !draft.surroundings.assignments.is_empty() {
        return Err(takes_no(mode, "variable"));
    }
    let fits = |opt: &Opt| *opt == mode.opt() || ASKING.contains(opt) || further.contains(opt);
    match draft.seen.iter().find(|opt| !fits(opt)) {
        Some(opt) => Err(conflict(mode.opt(), *opt)),
        None => Ok(()),
    }
}

fn takes_no(mode: Mode, what: &'static str) -> Refusal {
    Refusal::WithoutCommand { option: mode.opt().short(), what }
}
