//! The front's state, and the one place where the lifecycle's effects are carried out.
//!
//! Everything runs on one thread: a borrow is never held across an await, so what is written
//! between two awaits happens at once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use olb_core::{Effect, Lifecycle, Reject, Request, Selector, Viewer};
use olb_exec_api::Info;
use olb_lease::PlanDigest;
use olb_store::{Store, StoreError};
use olb_sys::clock::unix_secs;
use olb_wire::RequestView;
use tokio::sync::{Mutex, Notify, broadcast};

use crate::admission::{Door, Places, check};
use crate::config::Config;
use crate::execd::Execd;
use crate::journal::Journal;
use crate::lookup::Lookups;
use crate::refuse::Refuse;
use crate::turns::Turns;
use crate::view::{Beside, view};

/// Changes that a slow watcher may fall behind by before it has to start over.
const CHANGES_KEPT: usize = 1024;
/// What is known of the root half is asked again when it is older than this.
const INFO_FRESH: Duration = Duration::from_secs(1);
/// Peers that are on no list make the front ask the root half at most this often.
const STRANGERS_GAP: Duration = Duration::from_millis(50);
/// Connections of uids that are on no list as far as is known, each and in all, while the root half
/// is asked about them.
const STRANGERS: (u64, u64) = (2, 32);

struct Known {
    info: Rc<Info>,
    asked: Instant,
}

/// The front.
pub(crate) struct Front {
    pub(crate) config: Config,
    pub(crate) execd: Execd,
    pub(crate) lookups: Lookups,
    pub(crate) places: Places,
    pub(crate) strangers: Places,
    pub(crate) large_messages: Turns,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) lifecycle: RefCell<Lifecycle>,
    /// The next deadline may have moved.
    pub(crate) deadlines: Notify,
    /// There may be something to ask the ledger about.
    pub(crate) in_doubt: Notify,
    problem: RefCell<Option<String>>,
    changes: broadcast::Sender<Arc<Request>>,
    known: RefCell<Option<Known>>,
    asking: Mutex<()>,
}

impl Front {
    /// A front with what `store` remembers; `problem` is shown to operators.
    pub(crate) fn new(
        config: Config,
        execd: Execd,
        store: Store,
        problem: Option<String>,
    ) -> Result<Self, StoreError> {
        let memory = store.load_memory(unix_secs(), &config.requests)?;
        let limits = &config.connections;
        let (stranger, strangers) = STRANGERS;
        Ok(Self {
            lookups: Lookups::new(limits.lookups_per_uid, limits.lookup()),
            places: Places::new(
                ("connections_per_uid", limits.connections_per_uid),
                ("connections_total", limits.connections_total),
            ),
            strangers: Places::new(("strangers_per_uid", stranger), ("strangers", strangers)),
            large_messages: Turns::new(limits.large_messages_per_uid),
            journal: Journal::default(),
            lifecycle: RefCell::new(Lifecycle::restore(config.requests.clone(), memory)),
            deadlines: Notify::new(),
            in_doubt: Notify::new(),
            problem: RefCell::new(problem),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            known: RefCell::new(None),
            asking: Mutex::new(()),
            config,
            execd,
            store,
        })
    }

    /// Seconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        unix_secs()
    }

    /// Carries out effects in their order. Where the store fails the change stands in memory and is
    /// announced all the same: `broker.db` can only forget.
    pub(crate) fn apply(&self, effects: Vec<Effect>) -> Result<(), StoreError> {
        let mut result = Ok(());
        for effect in effects {
            let stored = match effect {
                Effect::Persist(request) => self.store.save(&request),
                Effect::ForgetStdin(plan) => self.store.delete_stdin(&plan),
                Effect::Changed(request) => {
                    self.announce(request);
                    Ok(())
                }
            };
            if let Err(error) = &stored {
                tracing::error!(event = "store_failed", %error);
                *self.problem.borrow_mut() = Some(error.to_string());
            }
            result = result.and(stored);
        }
        self.deadlines.notify_one();
        result
    }

    fn announce(&self, request: Arc<Request>) {
        tracing::info!(
            event = "request",
            id = %request.id(),
            state = %request.state,
            uid = request.requester_uid,
        );
        // Nobody listening is fine.
        let _listeners = self.changes.send(request);
    }

    /// Every change from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Arc<Request>> {
        self.changes.subscribe()
    }

    /// What operators should know is wrong.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Who and what the root half is, asked not before `since`.
    pub(crate) async fn info_since(&self, since: Instant) -> Result<Rc<Info>, Refuse> {
        // One asks, the others wait and share the answer.
        let _asking = self.asking.lock().await;
        if let Some(known) = &*self.known.borrow()
            && known.asked >= since
        {
            return Ok(Rc::clone(&known.info));
        }
        let asked = Instant::now();
        let info = Rc::new(self.execd.info().await?);
        self.check_uid_map(&info)?;
        *self.known.borrow_mut() = Some(Known { info: Rc::clone(&info), asked });
        let effects = self.lifecycle.borrow_mut().epoch_is(self.now(), info.epoch);
        self.apply(effects)?;
        // The root half answers: whatever was in doubt can be asked about.
        self.in_doubt.notify_one();
        Ok(info)
    }

    /// Who and what the root half is, at most a second old.
    pub(crate) async fn info(&self) -> Result<Rc<Info>, Refuse> {
        let now = Instant::now();
        self.info_since(now.checked_sub(INFO_FRESH).unwrap_or(now)).await
    }

    /// What was learnt last, however old: for decisions that the root half makes again.
    pub(crate) fn known_info(&self) -> Option<Rc<Info>> {
        self.known.borrow().as_ref().map(|known| Rc::clone(&known.info))
    }

    /// In a user namespace that does not map them, everybody looks like nobody.
    fn check_uid_map(&self, info: &Info) -> Result<(), Refuse> {
        let approvers = info.enrolments.iter().map(|enrolment| enrolment.uid);
        let uids: Vec<u32> = info.requesters.iter().copied().chain(approvers).collect();
        Ok(olb_sys::peer::require_identity_uid_map(&uids)?)
    }

    /// Whether `uid` may pass, as far as is known without asking.
    pub(crate) fn is_listed(&self, door: Door, uid: u32) -> bool {
        self.known_info().is_some_and(|info| check(&info, door, uid).is_ok())
    }

    /// Whether `uid` may pass. Requesters known to be listed pass at once: what they ask for is
    /// checked again with newer knowledge, here and by the root half.
    pub(crate) async fn admit(&self, door: Door, uid: u32) -> Result<(), Refuse> {
        let listed = self.is_listed(door, uid);
        let info = match door {
            Door::Request if listed => return Ok(()),
            Door::Review if listed => self.info().await?,
            Door::Request | Door::Review => {
                let since = Instant::now();
                tokio::time::sleep(self.gap_for_strangers(since)).await;
                self.info_since(since).await?
            }
        };
        Ok(check(&info, door, uid)?)
    }

    fn gap_for_strangers(&self, now: Instant) -> Duration {
        let known = self.known.borrow();
        let age = known.as_ref().map_or(STRANGERS_GAP, |known| now.duration_since(known.asked));
        STRANGERS_GAP.saturating_sub(age)
    }

    /// The request for this plan, from memory or from the store.
    pub(crate) fn by_plan(&self, plan: &PlanDigest) -> Result<Arc<Request>, Refuse> {
        if let Some(request) = self.lifecycle.borrow().by_plan(plan) {
            return Ok(Arc::clone(request));
        }
        let stored = self.store.find_by_plan(plan)?;
        Ok(stored.map(Arc::new).ok_or(Reject::NotYours)?)
    }

    /// The request that a person named, if `viewer` may see it. Not found and not theirs are one.
    pub(crate) fn select(&self, text: &str, viewer: Viewer) -> Result<Arc<Request>, Refuse> {
        let selector: Selector = text.parse()?;
        let held = self.lifecycle.borrow().find(&selector, viewer).cloned();
        if let Some(request) = held {
            return Ok(self.up_to_date(request));
        }
        let stored = self.store.find(&selector)?.filter(|request| viewer.sees(request));
        Ok(stored.map(Arc::new).ok_or(Reject::NotYours)?)
    }

    /// Ends what is over by the wall clock. Timers follow another clock: when the wall clock was
    /// set, they are late.
    pub(crate) fn expire(&self) {
        let effects = self.lifecycle.borrow_mut().tick(self.now());
        // A store that fails is reported where it fails; the expiry stands.
        self.apply(effects).ok();
    }

    fn up_to_date(&self, request: Arc<Request>) -> Arc<Request> {
        if request.deadline().is_none_or(|deadline| deadline > self.now()) {
            return request;
        }
        self.expire();
        self.lifecycle.borrow().by_plan(&request.digest).cloned().unwrap_or(request)
    }

    /// How `viewer` sees the request now.
    pub(crate) fn view(&self, request: &Request, viewer: Viewer, joined: bool) -> RequestView {
        let now = self.now();
        let retry_after_secs = self.lifecycle.borrow().retry_after(request, now);
        view(request, viewer, now, Beside { joined, retry_after_secs })
    }

    /// The refusal for somebody who wants to run the request where it stands.
    pub(crate) fn standing(&self, request: Arc<Request>) -> Refuse {
        let retry_after_secs = self.lifecycle.borrow().retry_after(&request, self.now());
        Refuse::Standing { request, retry_after_secs }
    }
}
