//! Why a command line is refused, and what to type instead.

use std::fmt;

use thiserror::Error;

/// Characters of the caller's own words that a message repeats.
const SHOWN_MAX: usize = 40;

/// The caller's own words as a message repeats them: printable ASCII, quotes and everything else
/// escaped, at most 40 characters and an ellipsis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// How `word` is repeated.
    #[must_use]
    pub(super) fn of(word: &[u8]) -> Self {
        let mut text: String = word.escape_ascii().take(SHOWN_MAX).map(char::from).collect();
        if word.escape_ascii().count() > SHOWN_MAX {
            text.push_str("...");
        }
        Self(text)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a command line is refused: one sentence each, in printable ASCII, which says what to type
/// instead. Options are named by their short form unless the long one is what was typed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// An abbreviation that fits several options.
    #[error("'{option}' can mean {candidates}; type the one you mean in full")]
    Ambiguous {
        /// As typed.
        option: Shown,
        /// What it can mean.
        candidates: String,
    },
    /// `-b`.
    #[error("'-b' hides how the command ends; leave it out, and put '&' behind the command")]
    Background,
    /// `-R`.
    #[error("'-R' changes the root directory, which is not offered; ask for 'chroot DIRECTORY'")]
    Chroot,
    /// `-C` with anything but 3.
    #[error(
        "'-C {value}' cannot be had, as no descriptor above 2 reaches the command; leave it out"
    )]
    CloseFrom {
        /// As typed.
        value: Shown,
    },
    /// Two options that sudo does not take together, or that contradict one another.
    #[error("'{one}' and '{other}' do not go together; type only one of them")]
    Conflict {
        /// Short form.
        one: String,
        /// Short form.
        other: String,
    },
    /// Not an absolute path behind `-D`.
    #[error("'{value}' is not an absolute path; type '-D /PATH'")]
    Directory {
        /// As typed.
        value: Shown,
    },
    /// `-h HOST`.
    #[error("'-h HOST' names another host and this broker is for its own; leave it out")]
    Host,
    /// `-l` with a target and without a command.
    #[error("'-l' takes '{option}' only before a command; type that too, or leave '{option}' out")]
    ListTarget {
        /// Short form.
        option: String,
    },
    /// More words or bytes than a request can have.
    #[error(
        "the command line is too long for one request; put its input into a file and name that"
    )]
    Long,
    /// An option that only counts alone.
    #[error("'{option}' does not go with anything else; type it alone")]
    NotAlone {
        /// Short form.
        option: String,
    },
    /// Not the name or number of an account or group.
    #[error("'{value}' is no user or group; type {option} NAME or {option} '#NUMBER'")]
    NotAnAccount {
        /// Short form.
        option: String,
        /// As typed.
        value: Shown,
    },
    /// A name in `--preserve-env=NAME,NAME` that no variable has.
    #[error("'{name}' is no name of a variable; type '--preserve-env=NAME,NAME'")]
    NotAName {
        /// As typed.
        name: Shown,
    },
    /// A word with `=` whose left side is no name of a variable.
    #[error("'{word}' is not NAME=value; type '--' before a command that has '=' in its name")]
    NotAVariable {
        /// As typed.
        word: Shown,
    },
    /// An empty name, or none at all, where the command should be.
    #[error("no command is given; type it after sudo, as in 'sudo systemctl restart nginx'")]
    NothingToDo,
    /// A NUL byte, which no word from the kernel holds.
    #[error("a word holds a NUL byte; type the command without it")]
    Nul,
    /// `-U` without `-l`.
    #[error("'-U' only goes with '-l'; to run a command as that user type '-u USER'")]
    OtherUser,
    /// `-P`.
    #[error("'-P' keeps your own groups, which no approved command gets; leave it out")]
    PreserveGroups,
    /// `-r` and `-t`.
    #[error("'{option}' chooses an SELinux context, which is not offered; ask for 'runcon ...'")]
    Selinux {
        /// Short form.
        option: String,
    },
    /// Not a time limit that a command can have.
    #[error("'{value}' is no time from 1 second to 24 hours; type one like '-T 90s' or '-T 1h30m'")]
    Time {
        /// As typed.
        value: Shown,
    },
    /// An option with a value, or a variable, is given again. sudo refuses the first itself.
    #[error("'{name}' is given twice; type it once")]
    Twice {
        /// The option in its short form, or the variable.
        name: Shown,
    },
    /// Not an option of sudo on Linux.
    #[error("sudo has no option '{option}'; type '--' before a command that begins with a dash")]
    Unknown {
        /// As typed.
        option: Shown,
    },
    /// A value behind an option that takes none.
    #[error("'{option}' takes no value; type it without '=' and what follows")]
    UnwantedValue {
        /// Long form.
        option: String,
    },
    /// No value, or an empty one, for an option that takes one.
    #[error("'{option}' needs a value; type '{option} {value}'")]
    ValueMissing {
        /// As people know it.
        option: String,
        /// What belongs there.
        value: &'static str,
    },
    /// A command or variable where sudo's mode takes none.
    #[error("'{option}' takes no {what}; to run a command leave '{option}' out")]
    WithoutCommand {
        /// Short form.
        option: String,
        /// What it does not take.
        what: &'static str,
    },
}

/// Why something that was understood is still not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// `-e`.
    #[error(
        "'sudo -e' opens an editor that no human can review; type 'sudo tee FILE' and give it the \
         new content on standard input"
    )]
    Edit,
    /// `-i` or `-s` without a command. Holds the switch.
    #[error("'sudo {0}' opens a shell that no human can review; ask for the one command you need")]
    Shell(&'static str),
    /// `-i` or `-s` with a command. Holds the switch.
    #[error(
        "'sudo {0}' has a shell read the command once more; leave '{0}' out, and name the shell \
         where you need one, as in 'sudo sh -c SCRIPT'"
    )]
    ShellCommand(&'static str),
}
