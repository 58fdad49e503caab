//! Which words of a command line name files, and what the command does with them.
//!
//! A table of [`Rules`] says it for the programs that agents ask for; `operands.rules` beside this
//! file is the built-in part and documents the language. The requester's process uses it to choose
//! between binding a copy, listing a name as unbound, and refusing. It is no boundary: the root half
//! looks at every word itself, whatever it is told.

mod parse;
mod rule;
mod scan;

use thiserror::Error;

use rule::{Kind, Pattern, Rule, Use};

/// The built-in rules.
const BUILT_IN: &str = include_str!("operands/operands.rules");
/// A file of rules is at most this long, in bytes.
pub const RULES_BYTES_MAX: usize = 256 * 1024;

/// What a command does with the file that a part of a word names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// Its content is what matters: a copy will do.
    Read,
    /// It is written, removed, or matters by its place: a copy will not do.
    Named,
    /// It may not be a file that others can change; with what to do instead.
    Refused(&'a str),
}

/// A part of a word that names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand<'a> {
    /// Index of the word.
    pub word: usize,
    /// The name begins after so many bytes of it; there is at least one more.
    pub prefix: usize,
    /// What happens to the file.
    pub role: Role<'a>,
    /// Where there is no such file, it may be no name of one either.
    pub may_be_no_name: bool,
}

/// What the rules say about a command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading<'a> {
    /// The names of files in it, ascending by word, at most one in a word.
    pub operands: Vec<Operand<'a>>,
    /// The command must not be cut off once it runs.
    pub whole: bool,
}

/// A line that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}, line {line}: {problem}")]
pub struct RuleError {
    /// Name of the file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// No bar, or more than two.
    #[error("write 'PROGRAM | TOKEN...', and after a second bar the advice of a refusal")]
    Fields,
    /// Nothing before the bar.
    #[error("no program is named before the bar; name one")]
    NoProgram,
    /// A star that is not at the end.
    #[error("{0} has a star that is not its last character; end the name with it or leave it out")]
    Star(String),
    /// `>` or `?` without words, or in another order.
    #[error("write '> SUBCOMMAND...' and then '? OPTION...', each once and with a word at least")]
    Condition,
    /// A condition that is no option.
    #[error("{0} after the question mark is no option; it has to begin with a dash")]
    NoOption(String),
    /// A token that is not known.
    #[error("{0} is no token; see the head of the built-in rules for those that are")]
    Token(String),
    /// `refuse` without advice.
    #[error("a refusal needs advice; write after a second bar what to do instead")]
    NoAdvice,
    /// Not UTF-8.
    #[error("the file is not UTF-8 text; write it anew")]
    NotText,
    /// Too long a file.
    #[error("the file is longer than {RULES_BYTES_MAX} bytes; split it")]
    TooLong,
}

/// Rules for programs. Where several are for one command the last one counts.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// The built-in rules.
    ///
    /// # Panics
    /// Never: a test reads the same text.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the text is a constant, and a test reads it")]
    pub fn built_in() -> Self {
        let rules = parse::rules("operands.rules", BUILT_IN);
        Self { rules: rules.expect("the built-in rules read") }
    }

    /// Adds the rules in `text`, which comes from `file`; they count before those that are there.
    ///
    /// # Errors
    /// A line is no rule: then none of them is added.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), RuleError> {
        self.rules.append(&mut parse::rules(file, text)?);
        Ok(())
    }

    /// The built-in rules and those in `files`, each with its name, in the order of the names; with
    /// what is wrong with files that were left out.
    #[must_use]
    pub fn with_files(mut files: Vec<(String, Vec<u8>)>) -> (Self, Vec<RuleError>) {
        let mut rules = Self::built_in();
        files.sort();
        let mut add = |(name, bytes): (String, Vec<u8>)| match String::from_utf8(bytes) {
            Ok(text) => rules.add(&name, &text).err(),
            Err(_) => Some(RuleError { file: name, line: 1, problem: Problem::NotText }),
        };
        let errors = files.into_iter().filter_map(&mut add).collect();
        (rules, errors)
    }

    /// What the rules say about `argv`. The first word is always read: it is the program.
    #[must_use]
    pub fn examine<W: AsRef<[u8]>>(&self, argv: &[W]) -> Reading<'_> {
        let words: Vec<&[u8]> = argv.iter().map(AsRef::as_ref).collect();
        let mut reading = Reading::default();
        let mut begins = words.first().map(|_| 0);
        while let Some(at) = begins {
            let name = words.get(at).copied().unwrap_or_default();
            if !name.is_empty() && (at == 0 || name.contains(&b'/')) {
                let (role, may_be_no_name) = (Role::Read, false);
                reading.operands.push(Operand { word: at, prefix: 0, role, may_be_no_name });
            }
            begins = self.examine_program(&words, at, &mut reading);
        }
        reading.operands.sort_by_key(|operand| operand.word);
        reading.operands.dedup_by_key(|operand| operand.word);
        reading
    }

    /// Looks at the program whose name is the word `at`; where the next one begins, if it runs one.
    fn examine_program<'r>(
        &'r self,
        words: &[&[u8]],
        at: usize,
        reading: &mut Reading<'r>,
    ) -> Option<usize> {
        let name = words.get(at).copied().unwrap_or_default();
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let of_program: Vec<&Rule> = self.rules.iter().filter(|rule| rule.is_for(name)).collect();
        let base = of_program.iter().rev().find(|rule| rule.is_base()).copied();
        let mut chosen = None;
        for rule in of_program.into_iter().rev() {
            let scan = scan::scan(words, at.saturating_add(1), rule, base);
            if rule.holds(words, &scan) {
                chosen = Some((rule, scan));
                break;
            }
        }
        let (rule, scan) = chosen?;
        reading.whole |= rule.is(Kind::Whole) || base.is_some_and(|base| base.is(Kind::Whole));
        for (word, prefix, usage) in scan.uses(rule) {
            let text = words.get(word).copied().unwrap_or_default();
            let found = named(text, prefix, usage);
            if let Some((prefix, what)) = found {
                let role = match what {
                    What::Read => Role::Read,
                    What::Named => Role::Named,
                    What::Refused => Role::Refused(&rule.advice),
                };
                let may_be_no_name = usage.only_if_there;
                reading.operands.push(Operand { word, prefix, role, may_be_no_name });
            }
        }
        scan.command
    }
}

/// A use that is about a file.
enum What {
    Read,
    Named,
    Refused,
}

/// Where in `word` behind `prefix` a name begins, and what is done with what it names.
fn named(word: &[u8], prefix: usize, usage: Use) -> Option<(usize, What)> {
    let value = word.get(prefix..)?;
    if usage.only_with_slash && !value.contains(&b'/') {
        return None;
    }
    let (skip, what) = match usage.pattern {
        Pattern::Read => (0, What::Read),
        Pattern::Named => (0, What::Named),
        Pattern::Refuse => (0, What::Refused),
        Pattern::Data => (after_at_sign(value)?, What::Read),
        Pattern::None | Pattern::Glued | Pattern::Flag => return None,
    };
    // A single dash is standard input or output.
    let name = value.get(skip..).filter(|name| !name.is_empty() && *name != b"-")?;
    Some((word.len().saturating_sub(name.len()), what))
}

/// Bytes of `@` or `NAME=@` at the beginning of a value.
fn after_at_sign(value: &[u8]) -> Option<usize> {
    if value.starts_with(b"@") {
        return Some(1);
    }
    let at = value.windows(2).position(|pair| pair == b"=@")?;
    Some(at.saturating_add(2))
}

#[cfg(test)]
mod tests;
