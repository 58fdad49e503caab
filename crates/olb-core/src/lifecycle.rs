//! The machine: every live request, and what may happen to it.

mod clock;
mod operation;
mod submit;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use olb_lease::{Audience, Epoch, Plan, PlanDigest};

use crate::code::{Code, Codes};
use crate::cool_off::Denials;
use crate::decision::Change;
use crate::limits::Limits;
use crate::matching::MatchKey;
use crate::reject::Reject;
use crate::request::{BROKER_RESTARTED, LEASE_UNUSED, Request, UNANSWERED};
use crate::selector::Selector;
use crate::state::{State, Step, next};
pub use submit::{Admission, Submitted, SubmittedAs};

/// Something that has to be done, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Store the request as it is here, before anything that follows.
    Persist(Arc<Request>),
    /// Tell those who wait for this request, and those who watch all.
    Changed(Arc<Request>),
    /// The request is over: delete the bytes kept for its standard input, and its files.
    ForgetInput(PlanDigest),
}

/// What is remembered from before a restart.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Every open request, every denied one that can still matter, and the last finished ones.
    pub requests: Vec<Request>,
    /// The codes of the last day with the time of each, in seconds since the Unix epoch.
    pub codes: Vec<(u64, Code)>,
}

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// A requester: sees its own requests.
    Requester(u32),
    /// An enrolled approver: sees all.
    Approver,
}

impl Viewer {
    /// Whether this viewer may see `request`.
    #[must_use]
    pub fn sees(self, request: &Request) -> bool {
        match self {
            Self::Requester(uid) => request.requester_uid == uid,
            Self::Approver => true,
        }
    }
}

/// A request and what is known of it only as long as this process lives.
#[derive(Debug, Clone)]
struct Entry {
    request: Arc<Request>,
    /// Operations on it that the root half has not answered to the end.
    under_way: u32,
    agreement: Agreement,
    /// The reason to give where the ledger has its lease no more.
    void_reason: &'static str,
}

/// Whether the ledger is known to hold the same about a request as this half does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreement {
    /// It does.
    Confirmed,
    /// It may hold more: an answer was lost, or this process is new.
    Doubted,
    /// It is being asked, and nothing happened to the request since.
    Asked,
}

impl Entry {
    fn new(request: Arc<Request>, agreement: Agreement) -> Self {
        Self { request, under_way: 0, agreement, void_reason: BROKER_RESTARTED }
    }

    /// Whether this half may end it: nothing is under way that could contradict.
    fn is_idle(&self) -> bool {
        self.agreement == Agreement::Confirmed && self.under_way == 0 && self.request.is_open()
    }

    /// Something happened: what the ledger was asked before says nothing about it.
    fn disturb(&mut self) {
        if self.agreement == Agreement::Asked {
            self.agreement = Agreement::Doubted;
        }
    }
}

/// Every live request. Times are seconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    limits: Limits,
    epoch: Option<Epoch>,
    audience: Option<Audience>,
    entries: BTreeMap<PlanDigest, Entry>,
    /// Those in a final state, the first to be forgotten first.
    finished: VecDeque<PlanDigest>,
    /// What these weigh together.
    finished_bytes: u64,
    codes: Codes,
    denials: Denials,
    submits: BTreeMap<u32, VecDeque<u64>>,
    /// The latest time that anything here was noted at.
    latest: u64,
}

impl Lifecycle {
    /// A machine that knows what `memory` holds. Open requests count as unreconciled.
    #[must_use]
    pub fn restore(limits: Limits, memory: Memory) -> Self {
        let mut requests = memory.requests;
        requests.sort_by_key(|request| request.finished_at);
        let mut this = Self {
            limits,
            epoch: None,
            audience: None,
            entries: BTreeMap::new(),
            finished: VecDeque::new(),
            finished_bytes: 0,
            codes: Codes::remember(memory.codes),
            denials: Denials::default(),
            submits: BTreeMap::new(),
            // Not known yet: the first tick looks at every time that was remembered.
            latest: u64::MAX,
        };
        for request in requests {
            let (digest, request) = (request.digest, Arc::new(request));
            if request.state == State::Denied {
                this.denials.note(Arc::clone(&request));
            }
            if !request.is_open() {
                this.finished.push_back(digest);
                this.finished_bytes = this.finished_bytes.saturating_add(request.weight());
            }
            this.entries.insert(digest, Entry::new(request, Agreement::Doubted));
        }
        this.forget_finished();
        this
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many requests are open.
    #[must_use]
    pub fn open_requests(&self) -> u64 {
        self.count(|request| request.is_open())
    }

    fn count(&self, counts: impl Fn(&Request) -> bool) -> u64 {
        self.entries.values().filter(|entry| counts(&entry.request)).count() as u64
    }

    /// The request for this plan, if it is in memory.
    #[must_use]
    pub fn by_plan(&self, plan: &PlanDigest) -> Option<&Arc<Request>> {
        self.entries.get(plan).map(|entry| &entry.request)
    }

    /// The request that `selector` names, if it is in memory and `viewer` may see it. `None` also
    /// where it is kept only in the store by now: look there next, and ask [`Viewer::sees`].
    #[must_use]
    pub fn find(&self, selector: &Selector, viewer: Viewer) -> Option<&Arc<Request>> {
        let named = |request: &Request| match selector {
            Selector::Id(id) => request.id() == *id,
            Selector::Code(code) => request.code == *code,
        };
        let seen = self.entries.values().map(|entry| &entry.request);
        let seen = seen.filter(|request| named(request) && viewer.sees(request));
        seen.max_by_key(|request| request.created_at)
    }

    /// The approved request of this key whose lease can be presented at `now`.
    #[must_use]
    pub fn approved(&self, key: MatchKey, now: u64) -> Option<&Arc<Request>> {
        let requests = self.entries.values().map(|entry| &entry.request);
        requests
            .filter(|request| request.match_key == key && self.usable(request, now))
            .max_by_key(|request| request.created_at)
    }

    /// The requests in memory that `viewer` may see, oldest first.
    #[must_use]
    pub fn list(&self, viewer: Viewer, open_only: bool) -> Vec<Arc<Request>> {
        let requests = self.entries.values().map(|entry| &entry.request);
        let wanted =
            |request: &&Arc<Request>| viewer.sees(request) && (request.is_open() || !open_only);
        let mut listed: Vec<_> = requests.filter(wanted).cloned().collect();
        listed.sort_by_key(|request| (request.created_at, request.digest));
        listed
    }

    /// Seconds until a request like this denied one may be made again; `None` where it may.
    #[must_use]
    pub fn retry_after(&self, request: &Request, now: u64) -> Option<u64> {
        let like = self.denials.like(request.cool_off_key, now, &self.limits);
        like.map(|(_, left)| left).filter(|_| request.state == State::Denied)
    }

    /// Whether the lease of `request` can be presented as far as this half knows.
    fn usable(&self, request: &Request, now: u64) -> bool {
        request.usable_lease(now).is_some() && !self.is_of_old_epoch(request)
    }

    fn is_of_old_epoch(&self, request: &Request) -> bool {
        let approved = request.state == State::Approved;
        approved && self.epoch.is_some_and(|epoch| request.epoch != Some(epoch))
    }

    /// The root half is in this epoch: leases of another one are void. To be called with every
    /// answer that tells the epoch.
    pub fn epoch_is(&mut self, now: u64, epoch: Epoch) -> Vec<Effect> {
        self.epoch = Some(epoch);
        self.tick(now)
    }

    /// The broker is this one: a request to one with another lease key or host name can never be
    /// approved, and has to be asked anew. To be called when that may have changed; requests that are
    /// in doubt by then follow when they are reconciled.
    pub fn audience_is(&mut self, now: u64, audience: Audience) -> Vec<Effect> {
        self.audience = Some(audience);
        let idle = self.entries.values().filter(|entry| entry.is_idle());
        let gone = idle.filter(|entry| self.is_for_another_broker(&entry.request));
        let gone = gone.map(|entry| entry.request.digest);
        let gone: Vec<_> = gone.collect();
        let end = |plan| self.end(now, plan, Change::Expire(BROKER_RESTARTED));
        gone.into_iter().flat_map(end).collect()
    }

    /// Whether it waits for a broker with another lease key or host name than ours has now, or its
    /// plan is of a form that this version does not read: nobody can decide on that either.
    fn is_for_another_broker(&self, request: &Request) -> bool {
        let Some(audience) = self.audience else { return false };
        request.state == State::Pending
            && Plan::decode(&request.plan).map_or(true, |plan| plan.audience != audience)
    }

    /// Ends what is over at `now`, and forgets what no longer matters. To be called before a submit
    /// and a list too: it is here that a wall clock that was set back is noticed.
    pub fn tick(&mut self, now: u64) -> Vec<Effect> {
        let mut effects = self.observe(now);
        self.codes.forget_before(now.saturating_sub(self.limits.code_reuse_secs));
        self.denials.forget(now, &self.limits);
        let due: Vec<_> = self.entries.values().filter_map(|entry| self.due(entry, now)).collect();
        effects.extend(due.into_iter().flat_map(|(plan, change)| self.end(now, plan, change)));
        effects
    }

    /// When [`Self::tick`] has something to do next; ask again after any other call.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<u64> {
        let idle = self.entries.values().filter(|entry| entry.is_idle());
        let deadlines = idle.filter_map(|entry| match self.is_of_old_epoch(&entry.request) {
            true => Some(0),
            false => entry.request.deadline(),
        });
        deadlines.min()
    }

    /// How this half has to end the request at `now`, where it has to.
    fn due(&self, entry: &Entry, now: u64) -> Option<(PlanDigest, Change)> {
        let request = &entry.request;
        if !entry.is_idle() {
            return None;
        }
        if self.is_of_old_epoch(request) {
            return Some((request.digest, Change::NewEpoch(BROKER_RESTARTED)));
        }
        let reason = if request.state == State::Pending { UNANSWERED } else { LEASE_UNUSED };
        let over = request.deadline().is_some_and(|deadline| deadline <= now);
        over.then_some((request.digest, Change::Expire(reason)))
    }

    fn end(&mut self, now: u64, plan: PlanDigest, change: Change) -> Vec<Effect> {
        // What is due can be ended: the table has the step, and a property test holds it to that
        // (tests/fuzz-replay).
        self.advance(now, plan, change).map(|_| self.report(plan)).unwrap_or_default()
    }

    /// Takes one step of the table and keeps what belongs to it; false where nothing changed.
    fn advance(&mut self, now: u64, plan: PlanDigest, change: Change) -> Result<bool, Reject> {
        let entry = self.entries.get_mut(&plan).ok_or(Reject::Mismatch)?;
        let (state, event) = (entry.request.state, change.event());
        let to = match next(state, event) {
            Step::To(to) => to,
            Step::Same => return Ok(false),
            Step::Refused => return Err(Reject::InvalidTransition { state, event }),
        };
        self.latest = self.latest.max(now);
        let request = Arc::make_mut(&mut entry.request);
        request.state = to;
        note(request, now, change);
        if to.is_final() {
            request.finished_at = Some(now);
            request.lease = None;
            self.finished.push_back(plan);
            self.finished_bytes = self.finished_bytes.saturating_add(request.weight());
        }
        if to == State::Denied {
            self.denials.note(Arc::clone(&entry.request));
        }
        Ok(true)
    }

    /// The effects of a change that was made.
    fn report(&mut self, plan: PlanDigest) -> Vec<Effect> {
        let Some(entry) = self.entries.get(&plan) else { return Vec::new() };
        let request = Arc::clone(&entry.request);
        let mut effects = vec![Effect::Persist(Arc::clone(&request))];
        if !request.is_open() {
            effects.push(Effect::ForgetInput(plan));
        }
        effects.push(Effect::Changed(request));
        self.forget_finished();
        effects
    }

    fn forget_finished(&mut self) {
        let keep = usize::try_from(self.limits.finished_in_memory).unwrap_or(usize::MAX);
        let bytes = self.limits.finished_in_memory_bytes;
        while self.finished.len() > keep || self.finished_bytes > bytes {
            let Some(plan) = self.finished.pop_front() else { break };
            let weight = self.entries.remove(&plan).map_or(0, |entry| entry.request.weight());
            self.finished_bytes = self.finished_bytes.saturating_sub(weight);
        }
    }
}

/// Keeps what belongs to a change.
fn note(request: &mut Request, now: u64, change: Change) {
    match change {
        Change::Decide(decision) => {
            request.decided_at = Some(now);
            request.decided_by = Some(decision.by);
            request.reason = decision.reason;
            request.receipt = Some(decision.receipt);
            if decision.kind == olb_lease::VerdictKind::Approve {
                request.lease = decision.lease;
                request.lease_expires_at = Some(decision.lease_expires_at);
                request.epoch = Some(decision.epoch);
            }
        }
        Change::Burn => {
            request.burned_at = Some(now);
            request.lease = None;
        }
        Change::Finish(finish) => {
            request.outcome = Some(finish.outcome);
            request.receipt = finish.receipt.or(request.receipt.take());
            request.stdout_tail = finish.stdout_tail;
            request.stderr_tail = finish.stderr_tail;
        }
        Change::Expire(reason) | Change::NewEpoch(reason) => {
            request.reason = Some(reason.to_owned());
        }
        Change::Cancel => {}
    }
}
