//! Options and variables, taken in one after another.

use std::collections::BTreeSet;

use super::options::Opt;
use super::refusal::{Refusal, Shown};
use super::scan::missing;
use super::value::{Account, Assignment, decimal, seconds, variable};
use super::{Accepted, Options, Surroundings};

/// The one number that `-C` may name: the first descriptor that no command gets.
const FIRST_CLOSED: u64 = 3;

/// What sudo does where it does not run a command; one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Edit,
    Help,
    List,
    RemoveTimestamp,
    Validate,
    Version,
}

impl Mode {
    /// The option that chooses it.
    pub(super) fn opt(self) -> Opt {
        match self {
            Self::Edit => Opt::Edit,
            Self::Help => Opt::Help,
            Self::List => Opt::List,
            Self::RemoveTimestamp => Opt::RemoveTimestamp,
            Self::Validate => Opt::Validate,
            Self::Version => Opt::Version,
        }
    }
}

/// Everything before the command, taken in.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) seen: BTreeSet<Opt>,
    /// Absent where a command or a shell is to run.
    pub(super) mode: Option<Mode>,
    pub(super) options: Options,
    pub(super) surroundings: Surroundings,
    pub(super) other_user: Option<Account>,
    pub(super) long_list: bool,
}

impl Draft {
    pub(super) fn switch(&mut self, opt: Opt) -> Result<(), Refusal> {
        let again = !self.seen.insert(opt);
        match opt {
            Opt::Askpass => self.accept(Accepted::Askpass),
            Opt::Bell => self.accept(Accepted::Bell),
            Opt::NoUpdate => self.accept(Accepted::NoUpdate),
            Opt::NonInteractive => self.accept(Accepted::NonInteractive),
            Opt::ResetTimestamp => self.accept(Accepted::IgnoreCached),
            Opt::SetHome => self.accept(Accepted::SetHome),
            Opt::Stdin => self.accept(Accepted::PasswordOnStdin),
            Opt::PreserveEnv => self.surroundings.preserve_all = true,
            Opt::List => {
                self.long_list = again;
                return self.enter(Mode::List);
            }
            Opt::Edit => return self.enter(Mode::Edit),
            Opt::Help => return self.enter(Mode::Help),
            Opt::RemoveTimestamp => return self.enter(Mode::RemoveTimestamp),
            Opt::Validate => return self.enter(Mode::Validate),
            Opt::Version => return self.enter(Mode::Version),
            Opt::Login | Opt::Shell => {}
            Opt::Background => return Err(Refusal::Background),
            Opt::PreserveGroups => return Err(Refusal::PreserveGroups),
            Opt::AuthType | Opt::LoginClass => return Err(not_here(opt)),
            Opt::Chdir
            | Opt::Chroot
            | Opt::CloseFrom
            | Opt::Group
            | Opt::Host
            | Opt::OtherUser
            | Opt::Prompt
            | Opt::Role
            | Opt::Timeout
            | Opt::Type
            | Opt::User => return Err(missing(opt)),
        }
        Ok(())
    }

    pub(super) fn value(&mut self, opt: Opt, value: &[u8]) -> Result<(), Refusal> {
        if !self.seen.insert(opt) && opt != Opt::PreserveEnv {
            return Err(Refusal::Twice { name: Shown::of(opt.short().as_bytes()) });
        }
        if value.is_empty() && opt != Opt::Prompt && opt != Opt::PreserveEnv {
            return Err(missing(opt));
        }
        match opt {
            Opt::User => self.options.user = Some(account(opt, value)?),
            Opt::Group => self.options.group = Some(account(opt, value)?),
            Opt::OtherUser => self.other_user = Some(account(opt, value)?),
            Opt::Prompt => self.options.prompt = Some(value.into()),
            Opt::Chdir if value.starts_with(b"/") => self.surroundings.chdir = Some(value.into()),
            Opt::Chdir => return Err(Refusal::Directory { value: Shown::of(value) }),
            Opt::Timeout => {
                let refusal = || Refusal::Time { value: Shown::of(value) };
                self.surroundings.timeout_secs = Some(seconds(value).ok_or_else(refusal)?);
            }
            Opt::CloseFrom => self.close_from(value)?,
            Opt::PreserveEnv => self.preserve(value)?,
            Opt::Chroot => return Err(Refusal::Chroot),
            Opt::Host => return Err(Refusal::Host),
            Opt::Role | Opt::Type => return Err(Refusal::Selinux { option: opt.short() }),
            Opt::AuthType | Opt::LoginClass => return Err(not_here(opt)),
            Opt::Askpass
            | Opt::Background
            | Opt::Bell
            | Opt::Edit
            | Opt::Help
            | Opt::List
            | Opt::Login
            | Opt::NoUpdate
            | Opt::NonInteractive
            | Opt::PreserveGroups
            | Opt::RemoveTimestamp
            | Opt::ResetTimestamp
            | Opt::SetHome
            | Opt::Shell
            | Opt::Stdin
            | Opt::Validate
            | Opt::Version => return Err(Refusal::UnwantedValue { option: opt.long() }),
        }
        Ok(())
    }

    /// sudo takes the last of two equal names, and `--preserve-env=` gives one too. A human would have
    /// to know that.
    pub(super) fn assign(&mut self, word: &[u8]) -> Result<(), Refusal> {
        let one = Assignment::read(word)?;
        if self.is_assigned(&one.name) || self.surroundings.preserve.contains(&one.name) {
            return Err(Refusal::Twice { name: Shown::of(one.name.as_bytes()) });
        }
        self.surroundings.assignments.push(one);
        Ok(())
    }

    fn is_assigned(&self, name: &str) -> bool {
        self.surroundings.assignments.iter().any(|one| one.name == name)
    }

    fn accept(&mut self, accepted: Accepted) {
        self.options.accepted.insert(accepted);
    }

    fn enter(&mut self, mode: Mode) -> Result<(), Refusal> {
        match self.mode.replace(mode) {
            Some(other) if other != mode => Err(conflict(other.opt(), mode.opt())),
            Some(_) | None => Ok(()),
        }
    }

    fn close_from(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let number = std::str::from_utf8(value).ok().and_then(decimal);
        if number != Some(FIRST_CLOSED) {
            return Err(Refusal::CloseFrom { value: Shown::of(value) });
        }
        self.accept(Accepted::CloseFrom3);
        Ok(())
    }

    fn preserve(&mut self, list: &[u8]) -> Result<(), Refusal> {
        for name in list.split(|byte| *byte == b',') {
            let refusal = || Refusal::NotAName { name: Shown::of(name) };
            let name = variable(name).ok_or_else(refusal)?;
            if self.is_assigned(&name) {
                return Err(Refusal::Twice { name: Shown::of(name.as_bytes()) });
            }
            self.surroundings.preserve.insert(name);
        }
        Ok(())
    }
}

/// Options that sudo has on other systems only.
fn not_here(opt: Opt) -> Refusal {
    Refusal::Unknown { option: Shown::of(opt.short().as_bytes()) }
}

fn account(opt: Opt, value: &[u8]) -> Result<Account, Refusal> {
    let refusal = || Refusal::NotAnAccount { option: opt.short(), value: Shown::of(value) };
    Account::read(value).ok_or_else(refusal)
}

/// Two options of which sudo takes one.
pub(super) fn conflict(one: Opt, other: Opt) -> Refusal {
    Refusal::Conflict { one: one.short(), other: other.short() }
}
