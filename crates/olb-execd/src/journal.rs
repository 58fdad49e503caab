//! What the root half tells the administrator: lines on standard error, which systemd takes into
//! the journal. What a peer can cause at will is counted and summarised, never written line by
//! line, so that nobody can fill a disk by being refused.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use olb_exec_api::Reason;
use olb_lease::{ChainHead, Kid};
use olb_sys::clock::boottime_ms;

/// Between two summaries, and between two equal warnings, in milliseconds.
const QUIET_MS: u64 = 60_000;
/// Different warnings that are remembered for that.
const WARNINGS_MAX: usize = 64;

/// Counts refusals and writes lines.
#[derive(Debug, Default)]
pub struct Journal {
    state: Mutex<State>,
    /// The newest record whose head was written.
    anchored: Mutex<u64>,
}

#[derive(Debug, Default)]
struct State {
    refusals: BTreeMap<&'static str, u64>,
    summarised_at: Option<u64>,
    warned: BTreeMap<String, u64>,
}

impl Journal {
    /// One line, always.
    pub fn note(&self, line: &str) {
        // In one piece and on one line, whatever stands in a name: a line is never mixed with
        // another, and holds no second one.
        let odd = |sign: char| !sign.is_ascii_graphic() && sign != ' ';
        let line = format!("olb-execd: {}\n", line.replace(odd, "?"));
        // Nothing can be told where standard error is gone; the work goes on.
        std::io::stderr().write_all(line.as_bytes()).ok();
    }

    /// The trail's head after record `sequence`, which the key `kid` vouches for: kept here, it is
    /// out of reach of whoever can change or withhold the trail. An older head than one that is
    /// here already says nothing more.
    pub fn anchor(&self, sequence: u64, head: ChainHead, kid: Kid) {
        let mut newest = self.anchored.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest < sequence {
            *newest = sequence;
            let (head, kid) = (head.hex(), kid.hex());
            self.note(&format!("audit head sequence={sequence} head={head} kid={kid}"));
        }
    }

    /// One line, but the same one at most once a minute.
    pub fn warn(&self, line: &str) {
        let now = boottime_ms();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |at: &u64| now.saturating_sub(*at) < QUIET_MS;
        if state.warned.get(line).is_some_and(recent) {
            return;
        }
        state.warned.retain(|_, at| recent(at));
        if state.warned.len() < WARNINGS_MAX {
            state.warned.insert(line.to_owned(), now);
            drop(state);
            self.note(line);
        }
    }

    /// Counts a refusal; a summary is written at most once a minute.
    pub fn count(&self, reason: Reason) {
        if let Some(line) = self.tally(reason.name(), boottime_ms()) {
            self.note(&line);
        }
    }

    fn tally(&self, name: &'static str, now: u64) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.refusals.entry(name).or_default();
        *count = count.saturating_add(1);
        if state.summarised_at.is_some_and(|at| now.saturating_sub(at) < QUIET_MS) {
            return None;
        }
        state.summarised_at = Some(now);
        let counts = std::mem::take(&mut state.refusals);
        let words: Vec<_> = counts.iter().map(|(name, count)| format!("{name}={count}")).collect();
        Some(format!("refusals since the last summary: {}", words.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_a_minute() {
        let journal = Journal::default();
        assert!(journal.tally("denied", 0).is_some());
        let lines = (1..1000).filter_map(|at| journal.tally("denied", at)).count();
        assert_eq!(lines, 0);
        let line = journal.tally("malformed", QUIET_MS).unwrap();
        assert!(line.ends_with("denied=999 malformed=1"), "{line}");
    }
}
