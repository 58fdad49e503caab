//! A command line taken apart by a rule: options, their values, positional words.

use std::collections::BTreeSet;

use super::rule::{Kind, Pattern, Rule, Use};

/// What a command line consists of.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Indexes of the positional words, without the subcommand.
    positional: Vec<usize>,
    /// The positional word that the rule takes for its subcommand.
    pub(super) subcommand: Option<usize>,
    /// Word, where in it the value begins, how it is used.
    values: Vec<(usize, usize, Use)>,
    /// Options that are there, with their dashes.
    pub(super) seen: BTreeSet<Vec<u8>>,
    /// One of them leaves no first and no last positional word.
    only_rest: bool,
    /// Where the command begins that this one runs.
    pub(super) command: Option<usize>,
}

/// Takes the words from `from` on apart; `base` is the rule that lends its tokens to `rule`.
pub(super) fn scan(words: &[&[u8]], from: usize, rule: &Rule, base: Option<&Rule>) -> Scan {
    let mut scanner = Scanner { words, rule, base, at: from, done: Scan::default() };
    if scanner.is(Kind::Bundle) {
        scanner.bundle();
    }
    let mut only_positional = false;
    while let Some(word) = scanner.word() {
        if only_positional || !word.starts_with(b"-") || word == b"-" {
            if scanner.positional(word) {
                break;
            }
            only_positional |= scanner.is(Kind::Script);
        } else if word == b"--" {
            only_positional = true;
        } else if word.starts_with(b"--") || scanner.is(Kind::Single) {
            scanner.long(word);
        } else {
            scanner.short(word, 1);
        }
        scanner.at = scanner.at.saturating_add(1);
    }
    scanner.done
}

impl Scan {
    /// Every value and positional word with its use.
    pub(super) fn uses(&self, rule: &Rule) -> Vec<(usize, usize, Use)> {
        let rest = rule.rest.unwrap_or(Use::NONE);
        let many = self.positional.len() > 1;
        let first = rule.first.filter(|_| !self.only_rest);
        let last = rule.last.filter(|_| !self.only_rest && many);
        let end = self.positional.len().saturating_sub(1);
        let of_positional = self.positional.iter().enumerate().map(|(place, word)| {
            let special = if place == 0 { first } else { None };
            let special = if place == end { special.or(last) } else { special };
            (*word, 0, special.unwrap_or(rest))
        });
        self.values.iter().copied().chain(of_positional).collect()
    }
}

struct Scanner<'a> {
    words: &'a [&'a [u8]],
    rule: &'a Rule,
    base: Option<&'a Rule>,
    at: usize,
    done: Scan,
}

impl<'a> Scanner<'a> {
    fn word(&self) -> Option<&'a [u8]> {
        self.words.get(self.at).copied()
    }

    fn is(&self, kind: Kind) -> bool {
        self.rule.is(kind) || self.base.is_some_and(|base| base.is(kind))
    }

    fn option(&self, name: &[u8]) -> Option<Use> {
        let of_base = || self.base.and_then(|base| base.options.get(name));
        self.rule.options.get(name).or_else(of_base).copied()
    }

    /// Takes note of an option; whether its value may be another word.
    fn see(&mut self, name: &[u8]) -> Option<Use> {
        let usage = self.option(name);
        self.done.seen.insert(name.to_vec());
        self.done.only_rest |= usage.is_some_and(|usage| usage.only_rest);
        usage
    }

    fn value(&mut self, prefix: usize, usage: Use) {
        if self.at < self.words.len() {
            self.done.values.push((self.at, prefix, usage));
        }
    }

    /// The value of an option is the next word.
    fn next_is_value(&mut self, usage: Use) {
        if !matches!(usage.pattern, Pattern::Flag | Pattern::Glued) {
            self.at = self.at.saturating_add(1);
            self.value(0, usage);
        }
    }

    /// `--name`, `--name=value`; `-name` where options have one dash.
    fn long(&mut self, word: &[u8]) {
        let end = word.iter().position(|byte| *byte == b'=');
        let name = word.get(..end.unwrap_or(word.len())).unwrap_or_default();
        let usage = self.see(name);
        match (usage, end) {
            (Some(usage), Some(end)) => self.value(end.saturating_add(1), usage),
            (Some(usage), None) => self.next_is_value(usage),
            (None, _) => {}
        }
    }

    /// Letters from `from` on, the last of which may have a value.
    fn short(&mut self, word: &[u8], from: usize) {
        for (place, letter) in word.iter().enumerate().skip(from) {
            let usage = self.see(&[b'-', *letter]);
            let Some(usage) = usage.filter(|usage| usage.pattern != Pattern::Flag) else {
                continue;
            };
            let value = place.saturating_add(1);
            if value < word.len() {
                self.value(value, usage);
            } else {
                self.next_is_value(usage);
            }
            return;
        }
    }

    /// Letters without a dash, each of which may have the next word for its value.
    fn bundle(&mut self) {
        let Some(word) = self.word().filter(|word| !word.starts_with(b"-")) else { return };
        for letter in word {
            if let Some(usage) = self.see(&[b'-', *letter]) {
                self.next_is_value(usage);
            }
        }
        self.at = self.at.saturating_add(1);
    }

    /// A word that is no option; whether another command begins with it.
    fn positional(&mut self, word: &[u8]) -> bool {
        let is_none_yet = self.done.positional.is_empty();
        if is_none_yet && self.is(Kind::Assignments) && word.contains(&b'=') {
            return false;
        }
        let command = self.rule.command.or_else(|| self.base.and_then(|base| base.command));
        if command == Some(self.done.positional.len()) {
            self.done.command = Some(self.at);
            return true;
        }
        if is_none_yet && self.done.subcommand.is_none() && !self.rule.subcommands.is_empty() {
            self.done.subcommand = Some(self.at);
            return false;
        }
        let of_base = self.base.map(|base| base.beginnings.as_slice()).unwrap_or_default();
        let mut beginnings = self.rule.beginnings.iter().chain(of_base);
        match beginnings.find(|(beginning, _)| word.starts_with(beginning)) {
            Some((beginning, usage)) => self.value(beginning.len(), *usage),
            None => self.done.positional.push(self.at),
        }
        false
    }
}
