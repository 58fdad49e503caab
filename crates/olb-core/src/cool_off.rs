//! Recent denials: what they answer, and when they hold everything new of a requester.

use std::sync::Arc;

use crate::limits::Limits;
use crate::matching::CoolOffKey;
use crate::request::Request;

/// Denied requests of the last minutes, in the order in which they were denied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denials {
    denied: Vec<Arc<Request>>,
}

fn denied_at(request: &Request) -> u64 {
    request.decided_at.unwrap_or(0)
}

impl Denials {
    /// Takes note of a denied request.
    pub(crate) fn note(&mut self, request: Arc<Request>) {
        self.denied.push(request);
        self.denied.sort_by_key(|request| denied_at(request));
    }

    /// Takes denials that are ahead of `now` for denials of now, and returns these.
    pub(crate) fn settle(&mut self, now: u64) -> Vec<Arc<Request>> {
        let ahead = self.denied.iter_mut().filter(|request| request.is_ahead_of(now));
        let settled = ahead.map(|request| {
            Arc::make_mut(request).settle(now);
            Arc::clone(request)
        });
        settled.collect()
    }

    /// Forgets what can no longer matter at `now`.
    pub(crate) fn forget(&mut self, now: u64, limits: &Limits) {
        let memory = limits.denial_memory_secs();
        self.denied.retain(|request| now < denied_at(request).saturating_add(memory));
    }

    /// The last denial with this key that still counts, and the seconds until it no longer does.
    pub(crate) fn like(
        &self,
        key: CoolOffKey,
        now: u64,
        limits: &Limits,
    ) -> Option<(&Arc<Request>, u64)> {
        let last = self.denied.iter().rev().find(|request| request.cool_off_key == key)?;
        let at = denied_at(last).min(now);
        let left = at.saturating_add(limits.cool_off_secs).saturating_sub(now);
        (left > 0).then_some((last, left))
    }

    /// Seconds for which new requests of `uid` are held, where they are.
    pub(crate) fn hold(&self, uid: u32, now: u64, limits: &Limits) -> Option<u64> {
        let count = usize::try_from(limits.denials_before_hold).ok().filter(|count| *count > 0)?;
        let of_uid = self.denied.iter().filter(|request| request.requester_uid == uid);
        let times: Vec<u64> = of_uid.map(|request| denied_at(request).min(now)).collect();
        let holds = times.windows(count).filter_map(|window| {
            let (first, last) = (window.first()?, window.last()?);
            let close = last.saturating_sub(*first) <= limits.hold_window_secs;
            close.then(|| last.saturating_add(limits.hold_secs).saturating_sub(now))
        });
        holds.max().filter(|left| *left > 0)
    }
}
