//! The front's state, and the one place where the lifecycle's effects are carried out.
//!
//! Everything runs on one thread: a borrow is never held across an await, so what is written
//! between two awaits happens at once.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use olb_core::operands::Rules;
use olb_core::{Effect, Lifecycle, Reject, Request, Selector, State, Viewer};
use olb_exec_api::Info;
use olb_lease::PlanDigest;
use olb_store::{Store, StoreError};
use olb_sys::clock::{boottime_ms, unix_secs};
use olb_wire::RequestView;
use tokio::sync::{Mutex, Notify, Semaphore, broadcast, watch};

use crate::admission::{Door, Doors, Peer, check};
use crate::blobs::Blobs;
use crate::config::Config;
use crate::execd::Execd;
use crate::journal::Journal;
use crate::lookup::Lookups;
use crate::refuse::Refuse;
use crate::room::Room;
use crate::turns::{Turn, Turns, semaphore};
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
/// A message above this, in bytes, waits for its uid's turn.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

struct Known {
    info: Rc<Info>,
    asked: Instant,
}

/// The front.
pub(crate) struct Front {
    pub(crate) config: Config,
    pub(crate) execd: Execd,
    pub(crate) lookups: Lookups,
    pub(crate) places: Doors<Room>,
    pub(crate) strangers: Doors<Room>,
    large_messages: Turns,
    /// Files under way, from clients or to the root half.
    pub(crate) transfers: Turns,
    /// Those that are in memory for it.
    pub(crate) handovers: Arc<Semaphore>,
    pub(crate) blobs: Blobs,
    pub(crate) rules: Rules,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) lifecycle: RefCell<Lifecycle>,
    /// The next deadline may have moved.
    pub(crate) deadlines: Notify,
    /// There may be something to ask the ledger about.
    pub(crate) in_doubt: Notify,
    /// Held while the ledger is asked: one round at a time.
    pub(crate) round: Mutex<()>,
    problem: RefCell<Option<String>>,
    /// Who may pass has changed.
    lists: watch::Sender<()>,
    changes: broadcast::Sender<Arc<Request>>,
    known: RefCell<Option<Known>>,
    asking: Mutex<()>,
}

impl Front {
    /// A front with what is remembered below `state_dir`; `problem` is shown to operators.
    pub(crate) fn new(
        config: Config,
        execd: Execd,
        (state_dir, store): (&Path, Store),
        rules: Rules,
        problem: Option<String>,
    ) -> anyhow::Result<Self> {
        let memory = store.load_memory(unix_secs(), &config.requests)?;
        let lifecycle = Lifecycle::restore(config.requests.clone(), memory);
        let limits = &config.connections;
        let (stranger, strangers) = STRANGERS;
        let strangers = || Room::new(("strangers_per_uid", stranger), ("strangers", strangers));
        let places = |total| Room::new(("connections_per_uid", limits.connections_per_uid), total);
        let front = Self {
            lookups: Lookups::new(limits.lookups_per_uid, limits.lookup()),
            places: Doors {
                request: places(("connections_total", limits.connections_total)),
                review: places(("review_connections_total", limits.review_connections_total)),
            },
            strangers: Doors { request: strangers(), review: strangers() },
            large_messages: Turns::new(limits.large_messages_per_uid),
            transfers: Turns::new(limits.transfers_per_uid),
            handovers: semaphore(limits.handovers_total),
            blobs: Blobs::of(limits, state_dir, &lifecycle)?,
            rules,
            journal: Journal::default(),
            lifecycle: RefCell::new(lifecycle),
            deadlines: Notify::new(),
            in_doubt: Notify::new(),
            round: Mutex::new(()),
            problem: RefCell::new(problem),
            lists: watch::Sender::new(()),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            known: RefCell::new(None),
            asking: Mutex::new(()),
            config,
            execd,
            store,
        };
        while front.trim() {}
        Ok(front)
    }

    /// Seconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        unix_secs()
    }

    /// Seconds since boot, by a clock that nobody can set.
    pub(crate) fn uptime(&self) -> u64 {
        boottime_ms() / 1000
    }

    /// Carries out effects in their order. Where the store fails the change stands in memory and is
    /// announced all the same: `broker.db` can only forget.
    pub(crate) fn apply(&self, effects: Vec<Effect>) -> Result<(), StoreError> {
        let mut result = Ok(());
        let mut is_over = false;
        for effect in effects {
            let stored = match effect {
                Effect::Persist(request) => self.store.save(&request),
                Effect::ForgetInput(plan) => {
                    is_over = true;
                    self.forget_files(&plan);
                    self.store.delete_stdin(&plan)
                }
                Effect::Changed(request) => {
                    self.announce(request);
                    Ok(())
                }
            };
            if let Err(error) = &stored {
                self.store_failed(error);
            }
            result = result.and(stored);
        }
        if is_over {
            self.trim();
        }
        self.deadlines.notify_one();
        result
    }

    /// Deletes the files of a request that is over, beside everything else.
    fn forget_files(&self, plan: &PlanDigest) {
        if let Some(folder) = self.blobs.forget(plan) {
            let delete = move || {
                if let Err(error) = std::fs::remove_dir_all(folder) {
                    tracing::warn!(event = "files_not_deleted", %error);
                }
            };
            drop(tokio::task::spawn_blocking(delete));
        }
    }

    /// Deletes a few of the oldest requests where there are too many; whether there may be more.
    fn trim(&self) -> bool {
        self.store.trim(self.now(), &self.config.requests).unwrap_or_else(|error| {
            self.store_failed(&error);
            false
        })
    }

    fn store_failed(&self, error: &StoreError) {
        let error = error.to_string();
        self.journal.failed("store", "failed", &error);
        *self.problem.borrow_mut() = Some(error);
    }

    fn announce(&self, request: Arc<Request>) {
        let uid = request.requester_uid;
        match request.state {
            // These take a requester and nobody else: as many as it likes.
            State::Pending | State::Cancelled | State::Expired => {
                self.journal.count("state", request.state.name(), Some(uid));
            }
            State::Approved
            | State::Executing
            | State::Exited
            | State::Killed
            | State::SpawnFailed
            | State::OutcomeUnknown
            | State::Denied
            | State::Revoked => {
                tracing::info!(event = "request", id = %request.id(), state = %request.state, uid);
            }
        }
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
        let known = self.known.replace(Some(Known { info: Rc::clone(&info), asked }));
        let is_same_broker = known.as_ref().is_some_and(|one| one.info.audience == info.audience);
        if known.as_ref().is_some_and(|known| !same_keys(&known.info, &info)) {
            self.lifecycle.borrow_mut().approvers_changed();
        }
        if known.is_some_and(|known| !same_lists(&known.info, &info)) {
            self.lists.send_replace(());
        }
        if !is_same_broker {
            let effects = self.lifecycle.borrow_mut().audience_is(self.now(), info.audience);
            self.apply(effects)?;
        }
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

    /// Whether a peer that was let in is still welcome, as far as the root half says or said last.
    pub(crate) async fn is_welcome(&self, peer: Peer) -> bool {
        if let Err(error) = self.info().await {
            self.journal.count("lists", error.reason().name(), None);
        }
        self.is_listed(peer.door, peer.uid)
    }

    /// Tells whenever who may pass has changed.
    pub(crate) fn lists(&self) -> watch::Receiver<()> {
        self.lists.subscribe()
    }

    /// Waits for a turn of `uid` where a message of so many bytes needs one; `turn` is one that it
    /// has already.
    pub(crate) async fn turn(&self, uid: u32, bytes: u64, turn: Option<Turn>) -> Option<Turn> {
        match turn {
            None if bytes > LARGE_BYTES as u64 => self.large_messages.take(uid).await.ok(),
            turn => turn,
        }
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
        Ok(self.find_plan(plan)?.ok_or(Reject::NotYours)?)
    }

    /// The same; `None` where it is in neither.
    pub(crate) fn find_plan(&self, plan: &PlanDigest) -> Result<Option<Arc<Request>>, StoreError> {
        if let Some(request) = self.lifecycle.borrow().by_plan(plan) {
            return Ok(Some(Arc::clone(request)));
        }
        Ok(self.store.find_by_plan(plan)?.map(Arc::new))
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

/// Whether the same uids may pass.
fn same_lists(one: &Info, other: &Info) -> bool {
    let approvers = |info: &Info| info.enrolments.iter().map(|one| one.uid).collect::<Vec<_>>();
    one.requesters == other.requesters && approvers(one) == approvers(other)
}

fn same_keys(one: &Info, other: &Info) -> bool {
    let keys = |info: &Info| info.enrolments.iter().map(|one| one.kid).collect::<Vec<_>>();
    keys(one) == keys(other)
}
