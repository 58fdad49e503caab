//! What anybody can cause at will is counted and told in summaries, never line by line: nobody
//! fills a disk by being refused.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two summaries.
const QUIET: Duration = Duration::from_secs(60);

/// Counts by what was wanted and why it was not to be had: constants of the program both, so there
/// are few.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    counts: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    told: Cell<Option<Instant>>,
}

impl Journal {
    /// Counts one, and tells all since the last summary where one is due.
    pub(crate) fn count(&self, what: &'static str, why: &'static str, uid: Option<u32>) {
        if let Some(counts) = self.summary(what, why, Instant::now()) {
            tracing::info!(event = "counts", counts, last_uid = uid);
        }
    }

    /// Counts a failure of the host's in the same way; of each summary the last one is told in full.
    pub(crate) fn failed(&self, what: &'static str, why: &'static str, error: &str) {
        if let Some(counts) = self.summary(what, why, Instant::now()) {
            tracing::error!(event = "counts", counts, last_error = error);
        } else {
            tracing::debug!(event = "failed", what, why, error);
        }
    }

    fn summary(&self, what: &'static str, why: &'static str, now: Instant) -> Option<String> {
        let mut counts = self.counts.borrow_mut();
        *counts.entry((what, why)).or_default() += 1;
        if self.told.get().is_some_and(|told| now.duration_since(told) < QUIET) {
            return None;
        }
        self.told.set(Some(now));
        let counts = std::mem::take(&mut *counts);
        let words = counts.iter().map(|((what, why), count)| format!("{what}:{why}={count}"));
        Some(words.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_a_minute() {
        let journal = Journal::default();
        let start = Instant::now();
        assert_eq!(
            journal.summary("execute", "denied", start).as_deref(),
            Some("execute:denied=1")
        );
        for _ in 0..1000 {
            assert_eq!(journal.summary("execute", "denied", start + QUIET / 2), None);
        }
        let line = journal.summary("door", "busy", start + QUIET).unwrap();
        assert_eq!(line, "door:busy=1 execute:denied=1000");
        assert_eq!(journal.summary("door", "busy", start + QUIET), None);
    }
}
