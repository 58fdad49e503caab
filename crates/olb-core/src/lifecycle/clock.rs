//! A wall clock that was set back: what was noted at a time that has not come yet counts as noted now.
//! Otherwise a clock that was wrong for a minute could hold a request, or a requester, for years.

use std::sync::Arc;

use super::{Effect, Lifecycle};

impl Lifecycle {
    /// Takes note of the time. Looks at what was noted before only where the clock went back.
    pub(super) fn observe(&mut self, now: u64) -> Vec<Effect> {
        let went_back = now < self.latest;
        self.latest = now;
        if !went_back {
            return Vec::new();
        }
        self.codes.settle(now);
        let mut effects = Vec::new();
        for entry in self.entries.values_mut().filter(|entry| entry.request.is_ahead_of(now)) {
            Arc::make_mut(&mut entry.request).settle(now);
            let request = Arc::clone(&entry.request);
            effects.push(Effect::Persist(Arc::clone(&request)));
            if request.is_open() {
                effects.push(Effect::Changed(request));
            }
        }
        // Denied requests count for longer than they are kept in memory otherwise.
        let denied = self.denials.settle(now).into_iter();
        let only_denied = denied.filter(|request| !self.entries.contains_key(&request.digest));
        effects.extend(only_denied.map(Effect::Persist));
        effects
    }
}
