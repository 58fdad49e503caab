//! Short codes: six characters of upper-case Crockford base32, shown in two halves, as `7FK-3QX`.
//!
//! A code only selects a request. It is drawn at random, so that nobody can aim at one, and kept
//! well apart from every other code of the last day, so that a slip of the finger selects nothing.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Characters of a code, without the dash.
pub const CODE_CHARACTERS: usize = 6;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const BITS: u32 = 30;

/// Not a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a code is six letters or digits as in 7FK-3QX")]
pub struct CodeError;

/// A short code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u32);

/// What a character of human input stands for: case does not matter, I and L are 1, O is 0.
pub(crate) fn plain(character: u8) -> u8 {
    match character.to_ascii_uppercase() {
        b'I' | b'L' => b'1',
        b'O' => b'0',
        other => other,
    }
}

impl Code {
    /// The code that the top 30 bits of `random` give.
    #[must_use]
    pub fn from_random(random: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(random) >> (u32::BITS - BITS))
    }

    /// Random bytes that give this code.
    #[cfg(test)]
    pub(crate) fn random(self) -> [u8; 4] {
        (self.0 << (u32::BITS - BITS)).to_be_bytes()
    }

    /// The six digits, each 0 to 31, the first one first.
    fn digits(self) -> [u32; CODE_CHARACTERS] {
        [25, 20, 15, 10, 5, 0].map(|shift| (self.0 >> shift) & 31)
    }

    fn from_digits(digits: [u32; CODE_CHARACTERS]) -> Self {
        Self(digits.into_iter().fold(0, |sum, digit| (sum << 5) | (digit & 31)))
    }

    /// Every code that one wrong character or two swapped neighbours make of this one, and itself.
    fn neighbours(self) -> impl Iterator<Item = Self> {
        let digits = self.digits();
        let wrong = (0..CODE_CHARACTERS).flat_map(move |at| {
            (0..32).map(move |digit| {
                let mut changed = digits;
                changed.iter_mut().skip(at).take(1).for_each(|place| *place = digit);
                Self::from_digits(changed)
            })
        });
        let swapped = (1..CODE_CHARACTERS).map(move |at| {
            let mut changed = digits;
            changed.swap(at.saturating_sub(1), at);
            Self::from_digits(changed)
        });
        wrong.chain(swapped)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, digit) in self.digits().into_iter().enumerate() {
            if at == CODE_CHARACTERS / 2 {
                f.write_str("-")?;
            }
            let letter = usize::try_from(digit).ok().and_then(|digit| ALPHABET.get(digit));
            write!(f, "{}", char::from(letter.copied().unwrap_or(b'0')))?;
        }
        Ok(())
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Reads a code as people type it: in any case, with or without the dash in the middle.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let typed: Vec<u8> = match text.as_bytes() {
            [a, b, c, b'-', d, e, f] | [a, b, c, d, e, f] => vec![*a, *b, *c, *d, *e, *f],
            _ => return Err(CodeError),
        };
        let mut number = 0;
        for character in typed.into_iter().map(plain) {
            let digit = ALPHABET.iter().position(|letter| *letter == character);
            let digit = digit.and_then(|at| u32::try_from(at).ok()).ok_or(CodeError)?;
            number = (number << 5) | digit;
        }
        Ok(Self(number))
    }
}

/// The codes of the last day.
#[derive(Debug, Clone, Default)]
pub(crate) struct Codes {
    /// In the order in which they were given.
    given: VecDeque<(u64, Code)>,
    taken: BTreeSet<Code>,
}

impl Codes {
    /// Remembers codes given before, with the time of each in seconds.
    pub(crate) fn remember(mut given: Vec<(u64, Code)>) -> Self {
        given.sort_unstable();
        let taken = given.iter().map(|(_, code)| *code).collect();
        Self { given: given.into(), taken }
    }

    /// Forgets what was given before `horizon`, in seconds.
    pub(crate) fn forget_before(&mut self, horizon: u64) {
        while let Some((at, code)) = self.given.front().copied() {
            if at >= horizon {
                break;
            }
            self.given.pop_front();
            self.taken.remove(&code);
        }
    }

    /// Takes codes that were given at times ahead of `now` for given now.
    pub(crate) fn settle(&mut self, now: u64) {
        for (at, _) in &mut self.given {
            *at = now.min(*at);
        }
    }

    /// Gives the first of eight candidates that is well apart from all others; `None` where each
    /// one is too close to a code in use, and new random bytes are needed.
    pub(crate) fn give(&mut self, now: u64, random: &[u8; 32]) -> Option<Code> {
        let (candidates, _) = random.as_chunks::<4>();
        let apart = |code: &Code| code.neighbours().all(|near| !self.taken.contains(&near));
        let code = candidates.iter().map(|bytes| Code::from_random(*bytes)).find(apart)?;
        self.given.push_back((now, code));
        self.taken.insert(code);
        Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Code {
        text.parse().unwrap()
    }

    #[test]
    fn a_code_round_trips_in_every_spelling_people_use() {
        assert_eq!(code("7FK-3QX").to_string(), "7FK-3QX");
        assert_eq!(code("7fk3qx"), code("7FK-3QX"));
        assert_eq!(code("iLo-Il0"), code("110-110"));
        assert_eq!(Code::from_random([0xff; 4]).to_string(), "ZZZ-ZZZ");
    }

    #[test]
    fn other_texts_are_no_codes() {
        for text in ["", "7FK3Q", "7FK-3QXX", "7F-K3QX", "7FK 3QX", "7FK-3QU", "7FK-3Qé", "------"]
        {
            assert_eq!(text.parse::<Code>(), Err(CodeError), "{text}");
        }
    }

    #[test]
    fn codes_one_slip_apart_are_never_given_together() {
        let near = |a: &str, b: &str| code(a).neighbours().any(|other| other == code(b));
        assert!(near("7FK-3QX", "7FK-3QX"));
        assert!(near("7FK-3QX", "7FK-3QY"));
        assert!(near("7FK-3QX", "7KF-3QX"));
        assert!(!near("7FK-3QX", "8FK-3QY"));
    }

    #[test]
    fn a_taken_candidate_is_passed_over_and_none_left_is_said() {
        let mut codes = Codes::default();
        let mut random = [0; 32];
        random[28..].copy_from_slice(&[0xff; 4]);
        assert_eq!(codes.give(10, &random), Some(code("000-000")));
        assert_eq!(codes.give(11, &random), Some(code("ZZZ-ZZZ")));
        assert_eq!(codes.give(12, &random), None);
        codes.forget_before(11);
        assert_eq!(codes.give(13, &random), Some(code("000-000")));
    }

    #[test]
    fn remembered_codes_are_taken_whatever_their_order() {
        let mut codes = Codes::remember(vec![(9, code("ZZZ-ZZZ")), (5, code("000-000"))]);
        assert_eq!(codes.give(10, &[0; 32]), None);
        codes.forget_before(6);
        assert_eq!(codes.give(10, &[0; 32]), Some(code("000-000")));
        assert_eq!(codes.give(10, &[0xff; 32]), None);
    }
}
