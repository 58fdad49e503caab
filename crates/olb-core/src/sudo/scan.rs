//! Words to options, assignments and the command: what `getopt_long` and sudo's loop around it do.

use super::options::{Opt, Takes};
use super::refusal::{Refusal, Shown};

/// What one or two words before the command say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Switch(Opt),
    Value(Opt, &'a [u8]),
    /// A word with `=` in it, whole.
    Assignment(&'a [u8]),
}

/// Everything before the command, and the words from its name on.
#[derive(Debug)]
pub(super) struct Scanned<'a, W> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) command: &'a [W],
}

/// Splits `words`. Nothing from the command's name on is looked at.
pub(super) fn scan<W: AsRef<[u8]>>(words: &[W]) -> Result<Scanned<'_, W>, Refusal> {
    let mut items = Vec::new();
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        let word = first.as_ref();
        match word {
            b"--" => return Ok(Scanned { items, command: after }),
            [b'-', b'-', long @ ..] => rest = long_option(long, after, &mut items)?,
            [b'-', letters @ ..] if !letters.is_empty() => {
                rest = cluster(letters, after, &mut items)?;
            }
            _ if is_assignment(word) => {
                items.push(Item::Assignment(word));
                rest = after;
            }
            _ => break,
        }
    }
    Ok(Scanned { items, command: rest })
}

/// A word that sudo takes as a variable: `=` in it, and not as a command's path begins.
fn is_assignment(word: &[u8]) -> bool {
    word.contains(&b'=') && !word.starts_with(b"/") && !word.starts_with(b"=")
}

/// `--name`, `--name=value` or `--name value`; returns the words behind it.
fn long_option<'a, W: AsRef<[u8]>>(
    typed: &'a [u8],
    after: &'a [W],
    items: &mut Vec<Item<'a>>,
) -> Result<&'a [W], Refusal> {
    let (name, value) = match typed.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = typed.split_at(at);
            (name, value.strip_prefix(b"="))
        }
        None => (typed, None),
    };
    let opt = Opt::of_long(name)?;
    match (opt.takes(), value) {
        (Takes::Nothing, None) | (Takes::Optional, None) => items.push(Item::Switch(opt)),
        (Takes::Nothing, Some(_)) => return Err(Refusal::UnwantedValue { option: opt.long() }),
        (Takes::Value(_), Some(value)) | (Takes::Optional, Some(value)) => {
            items.push(Item::Value(opt, value));
        }
        (Takes::Value(_), None) => return next_word(opt, after, items),
    }
    Ok(after)
}

/// Letters behind one dash, the last of which may have a value; returns the words behind it.
fn cluster<'a, W: AsRef<[u8]>>(
    letters: &'a [u8],
    after: &'a [W],
    items: &mut Vec<Item<'a>>,
) -> Result<&'a [W], Refusal> {
    let mut rest = letters;
    while let Some((letter, behind)) = rest.split_first() {
        let unknown = || Refusal::Unknown { option: Shown::of(&[b'-', *letter]) };
        let opt = Opt::of_letter(*letter).ok_or_else(unknown)?;
        rest = behind;
        match opt.takes() {
            // `-hHOST` and `-h HOST` name a host, a bare `-h` asks for help.
            Takes::Nothing if opt == Opt::Help && !behind.is_empty() => return Err(Refusal::Host),
            Takes::Nothing if opt == Opt::Help && names_host(after) => return Err(Refusal::Host),
            Takes::Nothing | Takes::Optional => items.push(Item::Switch(opt)),
            Takes::Value(_) if behind.is_empty() => return next_word(opt, after, items),
            Takes::Value(_) => {
                items.push(Item::Value(opt, behind));
                return Ok(after);
            }
        }
    }
    Ok(after)
}

fn names_host<W: AsRef<[u8]>>(after: &[W]) -> bool {
    after.first().is_some_and(|word| !word.as_ref().starts_with(b"-"))
}

/// The next word is the value, whatever it begins with. `--` is refused there: sudo takes it for the
/// value and for the end of the options, both at once.
fn next_word<'a, W: AsRef<[u8]>>(
    opt: Opt,
    after: &'a [W],
    items: &mut Vec<Item<'a>>,
) -> Result<&'a [W], Refusal> {
    match after.split_first() {
        Some((value, after)) if value.as_ref() != b"--" => {
            items.push(Item::Value(opt, value.as_ref()));
            Ok(after)
        }
        Some(_) | None => Err(missing(opt)),
    }
}

/// An option without the value that it needs.
pub(super) fn missing(opt: Opt) -> Refusal {
    Refusal::ValueMissing { option: opt.short(), value: opt.placeholder() }
}
