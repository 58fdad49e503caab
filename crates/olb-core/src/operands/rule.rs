//! One rule, as it was read.

use std::collections::BTreeMap;

use super::scan::Scan;

/// How a value or word is used, without its conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    Read,
    Named,
    Refuse,
    Data,
    None,
    /// A value that is only ever part of the option's own word.
    Glued,
    /// An option without a value.
    Flag,
}

/// How a value or word is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) pattern: Pattern,
    /// It is a file only where it has a slash in it.
    pub(super) only_with_slash: bool,
    /// Where no such file is there, it may be no name of a file.
    pub(super) only_if_there: bool,
    /// With this option there is no first and no last positional word.
    pub(super) only_rest: bool,
}

impl Use {
    /// No file.
    pub(super) const NONE: Self = Self {
        pattern: Pattern::None,
        only_with_slash: false,
        only_if_there: false,
        only_rest: false,
    };
}

/// A rule's properties that are there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Script,
    Single,
    Bundle,
    Assignments,
    Whole,
}

/// Name of a program, or the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    Exactly(Vec<u8>),
    BeginsWith(Vec<u8>),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rule {
    pub(super) programs: Vec<Program>,
    /// Empty: whatever the subcommand.
    pub(super) subcommands: Vec<Vec<u8>>,
    /// Empty: whatever the options.
    pub(super) conditions: Vec<Vec<u8>>,
    pub(super) kinds: Vec<Kind>,
    pub(super) first: Option<Use>,
    pub(super) rest: Option<Use>,
    pub(super) last: Option<Use>,
    /// By option with its dashes.
    pub(super) options: BTreeMap<Vec<u8>, Use>,
    /// By what a positional word begins with.
    pub(super) beginnings: Vec<(Vec<u8>, Use)>,
    /// A command begins after so many positional words.
    pub(super) command: Option<usize>,
    /// What to do instead of what is refused.
    pub(super) advice: String,
}

impl Rule {
    pub(super) fn is_for(&self, name: &[u8]) -> bool {
        self.programs.iter().any(|program| match program {
            Program::Exactly(exact) => exact == name,
            Program::BeginsWith(beginning) => name.starts_with(beginning),
        })
    }

    /// Whether it counts for the program whatever its subcommand and options.
    pub(super) fn is_base(&self) -> bool {
        self.subcommands.is_empty() && self.conditions.is_empty()
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether it counts for a command line that was taken apart by it.
    pub(super) fn holds(&self, words: &[&[u8]], scan: &Scan) -> bool {
        let subcommand = scan.subcommand.and_then(|at| words.get(at));
        let is_it = |name: &Vec<u8>| subcommand.is_some_and(|typed| typed == name);
        let is_there = |option: &Vec<u8>| scan.seen.contains(option);
        (self.subcommands.is_empty() || self.subcommands.iter().any(is_it))
            && (self.conditions.is_empty() || self.conditions.iter().any(is_there))
    }
}
