//! The command line of sudo 1.9: words to a typed value, or one sentence that says what to type
//! instead. Nothing is looked up and nothing is done here; who calls decides what is offered.
//!
//! A command line that sudo refuses is refused. What is accepted means what it means to sudo,
//! whole: each option, value and variable is in the [`Invocation`], and nothing from the command's
//! name on is read. Of what sudo takes, refused is
//!
//! * what a human could misread: a variable given twice, a name that no shell could set, `--` as the
//!   value of an option, `-u '#+5'`, `-T 0`, a relative `-D ~`;
//! * what sudo itself would drop: variables, `-D`, `-T` and `-C` beside `-l` or `-v`, anything beside
//!   a lone `-k`, `-K`, `-V` or `-h`;
//! * what an approved command cannot have: `-b`, `-C` above 3, `-h HOST`, `-P`, `-R`, `-r`, `-t`, and
//!   more than 24 hours of `-T`.
//!
//! What needs leave in sudo's rules (`-C 3`, `-D`, `-E`, `-T`, variables) is taken in; who calls
//! decides. Accounts are read, not looked up. `tests.rs` holds all this against a table of what sudo
//! was observed to do.
//!
//! Long names may be shortened as long as they fit one option, as `getopt_long` allows. Names of
//! options that sudo has on other systems only count as candidates, and are refused when meant.

mod draft;
mod meaning;
mod options;
mod refusal;
mod render;
mod scan;
mod value;

use std::collections::BTreeSet;

use olb_lease::{PLAN_BYTES_MAX, plan_limit};

pub use refusal::{Refusal, Shown, Unsupported};
pub use value::{Account, Assignment};

/// Words of a command line: what a plan can hold of arguments and of variables.
pub const WORDS_MAX: usize = plan_limit::ARGV_WORDS + plan_limit::ENV_VARS;
/// Bytes of all words together: what a plan can hold.
pub const BYTES_MAX: usize = PLAN_BYTES_MAX;

/// Commands that do nothing, as scripts type them to learn whether sudo would ask for a password.
const NOTHING: [&[u8]; 3] = [b"true", b"/bin/true", b"/usr/bin/true"];

/// A command line of sudo, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Run a command.
    Run(Run),
    /// `-s` or `-i`.
    Shell(Shell),
    /// `-e`.
    Edit(Edit),
    /// A question about what would be allowed.
    Probe(Probe),
    /// `-k` alone. No credentials are ever kept, so it is done at once.
    ResetTimestamp,
    /// `-K` alone. No credentials are ever kept, so it is done at once.
    RemoveTimestamp,
    /// `-V`.
    Version,
    /// `-h` or `--help`.
    Help,
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Who as, and how to ask.
    pub options: Options,
    /// Where and with what.
    pub surroundings: Surroundings,
    /// The command's name, which is not empty, and its arguments, as they were typed.
    pub command: Vec<Vec<u8>>,
}

/// A shell to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// `-i`, otherwise `-s`.
    pub login: bool,
    /// Who as, and how to ask.
    pub options: Options,
    /// Where and with what.
    pub surroundings: Surroundings,
    /// What the shell is told to run, by `-c` and quoted by sudo; empty for a session.
    pub command: Vec<Vec<u8>>,
}

/// Files to edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Who as, and how to ask.
    pub options: Options,
    /// `-D`, absolute.
    pub chdir: Option<Vec<u8>>,
    /// `-T`, in seconds, 1 to 86,400.
    pub timeout_secs: Option<u32>,
    /// At least one.
    pub files: Vec<Vec<u8>>,
}

/// A question that runs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `-v`: would a password be asked for?
    Validate(Options),
    /// `-l`: what is allowed, or is this command?
    List(Listing),
    /// `-n` before `true`: would it be asked for now?
    Nothing(Run),
}

/// `-l`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Who as, and how to ask.
    pub options: Options,
    /// `-l` more than once.
    pub long: bool,
    /// `-U`.
    pub other_user: Option<Account>,
    /// The command that is asked about, with its arguments; empty for everything.
    pub command: Vec<Vec<u8>>,
}

/// Who a command runs as, and how sudo would ask for a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `-u`; if absent root, and the caller where there is a group.
    pub user: Option<Account>,
    /// `-g`; the target user's own if absent.
    pub group: Option<Account>,
    /// `-p`: nobody is asked for a password. May be empty.
    pub prompt: Option<Vec<u8>>,
    /// What needs nothing done.
    pub accepted: BTreeSet<Accepted>,
}

/// Where a command runs, and with which variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `-D`, absolute.
    pub chdir: Option<Vec<u8>>,
    /// `-T`, in seconds, 1 to 86,400.
    pub timeout_secs: Option<u32>,
    /// `-E`: all of the caller's variables that may be kept; assignments win over them.
    pub preserve_all: bool,
    /// `--preserve-env=`: these of the caller's variables; none that is assigned.
    pub preserve: BTreeSet<String>,
    /// `NAME=value` words in their order, no name twice.
    pub assignments: Vec<Assignment>,
}

/// Switches that ask for what is so anyway, or are about passwords, which nobody is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accepted {
    /// `-A`
    Askpass,
    /// `-B`
    Bell,
    /// `-C 3`: no command gets a descriptor above 2.
    CloseFrom3,
    /// `-k` with something to do: nothing is remembered from one command to the next.
    IgnoreCached,
    /// `-N`
    NoUpdate,
    /// `-n`: nobody is asked on this terminal.
    NonInteractive,
    /// `-S`: what comes on standard input may begin with a password, so it must not be taken for
    /// the command's input.
    PasswordOnStdin,
    /// `-H`: `HOME` is always the target user's.
    SetHome,
}

impl Accepted {
    /// The word that says it.
    fn word(self) -> &'static [u8] {
        match self {
            Self::Askpass => b"-A",
            Self::Bell => b"-B",
            Self::CloseFrom3 => b"-C3",
            Self::IgnoreCached => b"-k",
            Self::NoUpdate => b"-N",
            Self::NonInteractive => b"-n",
            Self::PasswordOnStdin => b"-S",
            Self::SetHome => b"-H",
        }
    }
}

impl Run {
    /// Whether it only asks if a command would run: `-n` and a `true` without arguments.
    fn does_nothing(&self) -> bool {
        let only = match self.command.as_slice() {
            [name] => NOTHING.contains(&name.as_slice()),
            [] | [_, _, ..] => false,
        };
        only && self.options.accepted.contains(&Accepted::NonInteractive)
    }
}

impl Shell {
    /// `-i` or `-s`.
    fn switch(&self) -> &'static str {
        if self.login { "-i" } else { "-s" }
    }
}

impl Invocation {
    /// Why this is not done although it was understood; `None` for everything else.
    #[must_use]
    pub fn unsupported(&self) -> Option<Unsupported> {
        match self {
            Self::Shell(shell) if shell.command.is_empty() => {
                Some(Unsupported::Shell(shell.switch()))
            }
            Self::Shell(shell) => Some(Unsupported::ShellCommand(shell.switch())),
            Self::Edit(_) => Some(Unsupported::Edit),
            Self::Run(_)
            | Self::Probe(_)
            | Self::ResetTimestamp
            | Self::RemoveTimestamp
            | Self::Version
            | Self::Help => None,
        }
    }
}

/// Understands `words`, which is everything behind the program's own name.
///
/// # Errors
/// One sentence that says what to type instead.
pub fn parse<W: AsRef<[u8]>>(words: &[W]) -> Result<Invocation, Refusal> {
    let bytes = words.iter().fold(0_usize, |sum, word| sum.saturating_add(word.as_ref().len()));
    if words.len() > WORDS_MAX || bytes > BYTES_MAX {
        return Err(Refusal::Long);
    }
    if words.iter().any(|word| word.as_ref().contains(&0)) {
        return Err(Refusal::Nul);
    }
    meaning::understand(&scan::scan(words)?)
}

#[cfg(test)]
mod tests;
