//! A submit: admitted, joined to what is there, answered by a recent denial, or made new.

use std::sync::Arc;

use olb_lease::Plan;

use super::{Agreement, Effect, Entry, Lifecycle};
use crate::matching::{CoolOffKey, MatchKey};
use crate::reject::Reject;
use crate::request::Request;
use crate::state::State;

/// One submit counted against its uid's rate. Consumed by [`Lifecycle::submit`].
#[derive(Debug)]
#[must_use]
pub struct Admission {
    uid: u32,
}

/// What became of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmittedAs {
    /// A new request.
    New,
    /// The same was asked before and waits for a human; the plan handed in is not kept.
    Joined,
    /// The same was asked before and approved: the request holds the lease.
    Approved,
    /// The request was denied a short time ago, or one like it.
    DeniedBefore {
        /// Seconds after which it may be asked for again.
        retry_after_secs: u64,
        /// True where exactly this was denied, false where it was something like it.
        same: bool,
    },
}

/// The answer to a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The request: new, joined, approved or denied.
    pub request: Arc<Request>,
    /// Which of these.
    pub how: SubmittedAs,
    /// What has to be done before the answer is sent.
    pub effects: Vec<Effect>,
}

impl Submitted {
    fn as_before(request: &Arc<Request>, how: SubmittedAs) -> Self {
        Self { request: Arc::clone(request), how, effects: Vec::new() }
    }
}

impl Lifecycle {
    /// Counts a submit of `uid` at `uptime`, in seconds of a clock that nobody sets. To be asked
    /// before anything is resolved for it.
    ///
    /// # Errors
    /// [`Reject::TooMany`] above `submits_per_uid_per_minute`.
    pub fn admit(&mut self, uptime: u64, uid: u32) -> Result<Admission, Reject> {
        let max = self.limits.submits_per_uid_per_minute;
        self.submits.retain(|_, times| times.back().is_some_and(|last| is_recent(uptime, *last)));
        let times = self.submits.entry(uid).or_default();
        while times.front().is_some_and(|first| !is_recent(uptime, *first)) {
            times.pop_front();
        }
        if times.len() as u64 >= max {
            return Err(Reject::TooMany { limit: "submits_per_uid_per_minute", max });
        }
        times.push_back(uptime);
        Ok(Admission { uid })
    }

    /// Takes in a plan's bytes; `random` gives eight candidates for the code. The bytes of standard
    /// input have to be stored before the effects are carried out.
    ///
    /// # Errors
    /// The bytes are no plan of the admitted uid, new requests of the uid are held, a limit is
    /// reached, or every candidate for the code is taken.
    pub fn submit(
        &mut self,
        now: u64,
        admission: Admission,
        bytes: Vec<u8>,
        random: &[u8; 32],
    ) -> Result<Submitted, Reject> {
        let plan = Plan::decode(&bytes)?;
        if plan.requester_uid != admission.uid {
            return Err(Reject::NotYours);
        }
        let key = MatchKey::of(&plan);
        if let Some(submitted) = self.join(now, key) {
            return Ok(submitted);
        }
        if let Some(submitted) = self.denied_before(now, key, CoolOffKey::of(&plan)) {
            return Ok(submitted);
        }
        if let Some(retry_after_secs) = self.denials.hold(admission.uid, now, &self.limits) {
            return Err(Reject::Held { retry_after_secs });
        }
        self.check_limits(admission.uid)?;
        self.create(now, &plan, bytes, random)
    }

    fn join(&self, now: u64, key: MatchKey) -> Option<Submitted> {
        if let Some(request) = self.approved(key, now) {
            return Some(Submitted::as_before(request, SubmittedAs::Approved));
        }
        let waits = |entry: &&Entry| {
            let request = &entry.request;
            let pending = request.state == State::Pending && request.match_key == key;
            pending && self.due(entry, now).is_none()
        };
        let entry = self.entries.values().find(waits)?;
        Some(Submitted::as_before(&entry.request, SubmittedAs::Joined))
    }

    fn denied_before(&self, now: u64, key: MatchKey, like: CoolOffKey) -> Option<Submitted> {
        let (request, retry_after_secs) = self.denials.like(like, now, &self.limits)?;
        let same = request.match_key == key;
        let how = SubmittedAs::DeniedBefore { retry_after_secs, same };
        Some(Submitted::as_before(request, how))
    }

    fn check_limits(&self, uid: u32) -> Result<(), Reject> {
        let limits = &self.limits;
        let pending = |request: &Request| request.state == State::Pending;
        let own = |request: &Request| request.requester_uid == uid;
        let reached = [
            (
                "pending_per_uid",
                limits.pending_per_uid,
                self.count(|request| pending(request) && own(request)),
            ),
            ("pending_total", limits.pending_total, self.count(pending)),
            (
                "open_per_uid",
                limits.open_per_uid,
                self.count(|request| request.is_open() && own(request)),
            ),
            ("open_total", limits.open_total, self.open_requests()),
        ];
        match reached.into_iter().find(|(_, max, count)| count >= max) {
            Some((limit, max, _)) => Err(Reject::TooMany { limit, max }),
            None => Ok(()),
        }
    }

    fn create(
        &mut self,
        now: u64,
        plan: &Plan,
        bytes: Vec<u8>,
        random: &[u8; 32],
    ) -> Result<Submitted, Reject> {
        // A plan holds 16 random bytes; the same one twice is the caller's mistake.
        if self.entries.contains_key(&olb_lease::plan_digest(&bytes)) {
            return Err(Reject::Mismatch);
        }
        self.codes.forget_before(now.saturating_sub(self.limits.code_reuse_secs));
        let code = self.codes.give(now, random).ok_or(Reject::NoCode)?;
        let expires_at = now.saturating_add(self.limits.pending_secs);
        let request = Arc::new(Request::new(plan, bytes, code, now, expires_at));
        let digest = request.digest;
        let entry = Entry::new(Arc::clone(&request), Agreement::Confirmed);
        self.entries.insert(digest, entry);
        self.latest = self.latest.max(now);
        Ok(Submitted { request, how: SubmittedAs::New, effects: self.report(digest) })
    }
}

/// Whether `then` is within the minute that ends at `now`; what is ahead of `now` is not.
fn is_recent(now: u64, then: u64) -> bool {
    now.checked_sub(then).is_some_and(|age| age < 60)
}
