//! The language of the rules: see the head of `operands.rules`.

use super::rule::{Kind, Pattern, Program, Rule, Use};
use super::{Problem, RULES_BYTES_MAX, RuleError};

/// Reads all rules of a file.
pub(super) fn rules(file: &str, text: &str) -> Result<Vec<Rule>, RuleError> {
    let error = |line, problem| RuleError { file: file.to_owned(), line, problem };
    if text.len() > RULES_BYTES_MAX {
        return Err(error(1, Problem::TooLong));
    }
    let lines = text.lines().enumerate().map(|(at, line)| (at.saturating_add(1), line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| rule(line).map_err(|problem| error(at, problem))).collect()
}

fn rule(line: &str) -> Result<Rule, Problem> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let (head, tokens, advice) = match fields.as_slice() {
        [head, tokens] => (*head, *tokens, ""),
        [head, tokens, advice] => (*head, *tokens, *advice),
        _ => return Err(Problem::Fields),
    };
    let mut rule = Rule { advice: advice.to_owned(), ..Rule::default() };
    read_head(head, &mut rule)?;
    for token in tokens.split_whitespace() {
        read_token(token, &mut rule)?;
    }
    let uses = [rule.first, rule.rest, rule.last].into_iter().flatten();
    let mut uses = uses.chain(rule.options.values().copied());
    let refuses = uses.any(|usage| usage.pattern == Pattern::Refuse);
    if refuses && advice.is_empty() { Err(Problem::NoAdvice) } else { Ok(rule) }
}

/// `PROGRAM... [> SUBCOMMAND...] [? OPTION...]`
fn read_head(head: &str, rule: &mut Rule) -> Result<(), Problem> {
    let mut part = Part::Programs;
    for word in head.split_whitespace() {
        match (part, word) {
            (Part::Programs, ">") => part = Part::Subcommands,
            (Part::Programs | Part::Subcommands, "?") => part = Part::Conditions,
            (_, ">" | "?") => return Err(Problem::Condition),
            (Part::Programs, name) => rule.programs.push(program(name)?),
            (Part::Subcommands, name) => rule.subcommands.push(name.into()),
            (Part::Conditions, option) if option.starts_with('-') => {
                rule.conditions.push(option.into());
            }
            (Part::Conditions, word) => return Err(Problem::NoOption(word.to_owned())),
        }
    }
    let has_words = |mark: &str, words: &[Vec<u8>]| {
        words.is_empty() != head.split_whitespace().any(|word| word == mark)
    };
    if rule.programs.is_empty() {
        Err(Problem::NoProgram)
    } else if !has_words(">", &rule.subcommands) || !has_words("?", &rule.conditions) {
        Err(Problem::Condition)
    } else {
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Part {
    Programs,
    Subcommands,
    Conditions,
}

fn program(name: &str) -> Result<Program, Problem> {
    match name.strip_suffix('*') {
        Some(beginning) if !beginning.contains('*') => Ok(Program::BeginsWith(beginning.into())),
        None if !name.contains('*') => Ok(Program::Exactly(name.into())),
        Some(_) | None => Err(Problem::Star(name.to_owned())),
    }
}

fn read_token(token: &str, rule: &mut Rule) -> Result<(), Problem> {
    let unknown = || Problem::Token(token.to_owned());
    let Some((what, how)) = token.rsplit_once(':') else {
        rule.kinds.push(kind(token).ok_or_else(unknown)?);
        return Ok(());
    };
    if what == "command" {
        rule.command = Some(how.parse().map_err(|_| unknown())?);
        return Ok(());
    }
    let usage = usage(how).ok_or_else(unknown)?;
    let is_option = what.starts_with('-') && what.len() > 1 && !what.contains('=');
    let takes_value = !matches!(usage.pattern, Pattern::Flag | Pattern::Glued);
    // What only options can be.
    if !is_option && (usage.only_rest || !takes_value) {
        return Err(unknown());
    }
    match what {
        "all" => (rule.first, rule.rest, rule.last) = (None, Some(usage), None),
        "first" => rule.first = Some(usage),
        "rest" => rule.rest = Some(usage),
        "last" => rule.last = Some(usage),
        option if is_option => drop(rule.options.insert(option.into(), usage)),
        beginning if beginning == "@" || beginning.ends_with('=') => {
            rule.beginnings.push((beginning.into(), usage));
        }
        _ => return Err(unknown()),
    }
    Ok(())
}

fn kind(token: &str) -> Option<Kind> {
    Some(match token {
        "script" => Kind::Script,
        "single" => Kind::Single,
        "bundle" => Kind::Bundle,
        "assignments" => Kind::Assignments,
        "whole" => Kind::Whole,
        _ => return None,
    })
}

/// A use with its marks.
fn usage(text: &str) -> Option<Use> {
    let (text, only_rest) = strip(text, '!');
    let (text, only_if_there) = strip(text, '?');
    let (text, only_with_slash) = strip(text, '/');
    let pattern = match text {
        "read" => Pattern::Read,
        "named" => Pattern::Named,
        "refuse" => Pattern::Refuse,
        "data" => Pattern::Data,
        "none" => Pattern::None,
        "glued" => Pattern::Glued,
        "flag" => Pattern::Flag,
        _ => return None,
    };
    Some(Use { pattern, only_with_slash, only_if_there, only_rest })
}

fn strip(text: &str, mark: char) -> (&str, bool) {
    text.strip_suffix(mark).map_or((text, false), |text| (text, true))
}
