//! Another reading of sudo's command line, which checks nothing: what is an option, what is its
//! value, what is a variable, and where the command begins. It shares no code and no table with
//! the one that is judged.

use std::collections::BTreeSet;

/// What sudo passes to `getopt_long`: `:` says that the letter has a value. `h` has none that
/// matters: an accepted line names no host.
const LETTERS: &str = "Aa:BbC:c:D:Eeg:HhiKklNnPp:R:r:SsT:t:U:u:Vv";
/// Long names, and the letter for each.
const NAMES: &str = "askpass=A auth-type=a background=b bell=B close-from=C login-class=c chdir=D \
    preserve-env=E edit=e group=g set-home=H help=h host=h login=i remove-timestamp=K \
    reset-timestamp=k list=l no-update=N non-interactive=n preserve-groups=P prompt=p chroot=R \
    role=r stdin=S shell=s type=t command-timeout=T other-user=U user=u version=V validate=v";

/// A line, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    /// Letters with their values. How often a switch was given says nothing, except for `-l`.
    options: BTreeSet<(char, Option<Vec<u8>>)>,
    lists: usize,
    assignments: Vec<&'a [u8]>,
    pub(super) command: Vec<&'a [u8]>,
}

impl<'a> Reading<'a> {
    /// `None` where an option is not known or lacks its value.
    pub(super) fn of(words: &[&'a [u8]]) -> Option<Self> {
        let (options, assignments) = (BTreeSet::new(), Vec::new());
        let mut reading = Self { options, lists: 0, assignments, command: Vec::new() };
        let mut at = 0;
        while at < words.len() {
            let word = words[at];
            if word == b"--" {
                at += 1;
                break;
            } else if word.starts_with(b"--") {
                at += reading.long(&word[2..], words.get(at + 1).copied())?;
            } else if word.len() > 1 && word[0] == b'-' {
                at += reading.short(&word[1..], words.get(at + 1).copied())?;
            } else if word.contains(&b'=') && !b"/=".contains(&word[0]) {
                reading.assignments.push(word);
                at += 1;
            } else {
                break;
            }
        }
        reading.lists = reading.lists.min(2);
        reading.command = words[at..].to_vec();
        Some(reading)
    }

    /// Returns how many words it took.
    fn long(&mut self, word: &[u8], next: Option<&[u8]>) -> Option<usize> {
        let text = String::from_utf8_lossy(word);
        let name = text.split('=').next()?;
        let value = word.get(name.len() + 1..).filter(|_| word.contains(&b'='));
        let names = || NAMES.split(' ').filter_map(|one| one.split_once('='));
        let exact = names().find(|(full, _)| *full == name);
        let mut fits = names().filter(|(full, _)| full.starts_with(name));
        let (_, letter) = exact.or_else(|| fits.next().filter(|_| fits.next().is_none()))?;
        let letter = letter.chars().next()?;
        if value.is_none() && takes_value(letter) {
            self.add(letter, Some(next?));
            return Some(2);
        }
        self.add(letter, value);
        Some(1)
    }

    /// Returns how many words it took.
    fn short(&mut self, letters: &[u8], next: Option<&[u8]>) -> Option<usize> {
        for (at, letter) in letters.iter().enumerate() {
            let letter = char::from(*letter);
            if letter == ':' || !LETTERS.contains(letter) {
                return None;
            }
            if takes_value(letter) {
                let attached = Some(&letters[at + 1..]).filter(|value| !value.is_empty());
                self.add(letter, Some(attached.or(next)?));
                return Some(if attached.is_some() { 1 } else { 2 });
            }
            self.add(letter, None);
        }
        Some(1)
    }

    fn add(&mut self, letter: char, value: Option<&[u8]>) {
        self.lists += usize::from(letter == 'l');
        match (letter, value) {
            ('E', Some(list)) => {
                let names = list.split(|byte| *byte == b',');
                self.options.extend(names.map(|name| (letter, Some(name.to_vec()))));
            }
            // Numbers, which have several spellings.
            ('C' | 'T', Some(_)) => drop(self.options.insert((letter, None))),
            ('u' | 'g' | 'U', Some(value)) => {
                self.options.insert((letter, Some(without_zeros(value))));
            }
            (_, value) => drop(self.options.insert((letter, value.map(<[u8]>::to_vec)))),
        }
    }
}

fn takes_value(letter: char) -> bool {
    LETTERS.contains(&format!("{letter}:"))
}

/// `#007` is `#7`.
fn without_zeros(account: &[u8]) -> Vec<u8> {
    let Some(digits) = account.strip_prefix(b"#") else { return account.to_vec() };
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    let kept = &digits[zeros.min(digits.len().saturating_sub(1))..];
    [b"#", kept].concat()
}
