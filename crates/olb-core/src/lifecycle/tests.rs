mod clock;

use olb_lease::{Audience, Outcome, VerdictKind};

use super::*;
use crate::decision::{Decision, Finish, LedgerView};
use crate::request::{APPROVER_OUT, Request};
use crate::sample::{self, EPOCH};

const AGENT: u32 = 1001;
const OTHER: u32 = 1002;
const NOW: u64 = 1_000_000;
const NGINX: &[&str] = &["systemctl", "restart", "nginx"];

/// A machine whose random bytes count up.
struct Bench {
    core: Lifecycle,
    drawn: u8,
}

impl Bench {
    fn with(limits: Limits) -> Self {
        let mut core = Lifecycle::restore(limits, Memory::default());
        assert_eq!(core.epoch_is(NOW, EPOCH), []);
        Self { core, drawn: 0 }
    }

    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn submit(&mut self, now: u64, uid: u32, words: &[&str]) -> Result<Submitted, Reject> {
        self.drawn += 1;
        let bytes = sample::bytes(&sample::plan(uid, words, self.drawn));
        let random = olb_lease::sha256(&[self.drawn]);
        let admission = self.core.admit(now, uid)?;
        self.core.submit(now, admission, bytes, &random)
    }

    fn pending(&mut self, words: &[&str]) -> Arc<Request> {
        let submitted = self.submit(NOW, AGENT, words).unwrap();
        assert_eq!(submitted.how, SubmittedAs::New);
        submitted.request
    }

    fn decide(&mut self, now: u64, request: &Request, kind: VerdictKind) -> Vec<Effect> {
        self.core.begin_decide(request.digest, kind).unwrap();
        self.core.decided(now, request.digest, decision(request, kind, now)).unwrap()
    }

    fn approved(&mut self, words: &[&str]) -> Arc<Request> {
        let request = self.pending(words);
        self.decide(NOW, &request, VerdictKind::Approve);
        Arc::clone(self.core.by_plan(&request.digest).unwrap())
    }

    fn state(&self, request: &Request) -> State {
        self.core.by_plan(&request.digest).unwrap().state
    }

    fn reason(&self, request: &Request) -> Option<&str> {
        self.core.by_plan(&request.digest).unwrap().reason.as_deref()
    }
}

/// A decision taken at `now`, whose lease lives 15 minutes.
fn decision(request: &Request, kind: VerdictKind, now: u64) -> Decision {
    let expires_at = u32::try_from(now + 900).unwrap();
    let receipt = sample::decided(&request.plan, kind, "use reload", EPOCH, expires_at);
    let lease = (kind == VerdictKind::Approve).then(|| vec![7; 369]);
    Decision::read(receipt, lease, expires_at).unwrap()
}

fn finish(request: &Request, outcome: Outcome) -> Finish {
    let receipt = sample::ran(request.digest, EPOCH, outcome);
    Finish::read(receipt, b"0\n".to_vec(), Vec::new()).unwrap()
}

#[test]
fn a_request_is_asked_approved_presented_burned_and_finished() {
    let mut bench = Bench::new();
    let request = bench.pending(NGINX);
    assert_eq!(request.expires_at, NOW + 1800);
    bench.decide(NOW + 5, &request, VerdictKind::Approve);
    let approved = bench.core.begin_execute(NOW + 6, request.digest, AGENT).unwrap();
    assert_eq!(approved.lease.as_deref(), Some([7; 369].as_slice()));
    assert_eq!(approved.decided_by.as_deref(), Some("alice"));
    bench.core.burned(NOW + 7, request.digest).unwrap();
    let effects =
        bench.core.finished(NOW + 8, request.digest, finish(&request, Outcome::Exited(3))).unwrap();
    let done = Arc::clone(bench.core.by_plan(&request.digest).unwrap());
    assert_eq!((done.state, done.outcome), (State::Exited, Some(Outcome::Exited(3))));
    assert_eq!((done.burned_at, done.finished_at), (Some(NOW + 7), Some(NOW + 8)));
    assert_eq!((&done.lease, done.stdout_tail.as_slice()), (&None, b"0\n".as_slice()));
    let want = [
        Effect::Persist(Arc::clone(&done)),
        Effect::ForgetInput(request.digest),
        Effect::Changed(done),
    ];
    assert_eq!(effects, want);
}

#[test]
fn the_same_command_joins_a_pending_request_and_keeps_its_first_words() {
    let mut bench = Bench::new();
    let first = bench.pending(NGINX);
    let second = bench.submit(NOW + 9, AGENT, NGINX).unwrap();
    assert_eq!((second.how, &second.request), (SubmittedAs::Joined, &first));
    assert_eq!(second.effects, []);
    let third = bench.submit(NOW + 9, OTHER, NGINX).unwrap();
    assert_eq!(third.how, SubmittedAs::New);
}

#[test]
fn the_same_command_receives_the_lease_of_an_approved_request_until_it_is_over() {
    let mut bench = Bench::new();
    let first = bench.approved(NGINX);
    let again = bench.submit(NOW + 899, AGENT, NGINX).unwrap();
    assert_eq!((again.how, &again.request), (SubmittedAs::Approved, &first));
    assert_eq!(bench.submit(NOW + 900, AGENT, NGINX).unwrap().how, SubmittedAs::New);
}

#[test]
fn a_command_that_runs_already_is_asked_for_anew() {
    let mut bench = Bench::new();
    let first = bench.approved(NGINX);
    bench.core.begin_execute(NOW, first.digest, AGENT).unwrap();
    bench.core.burned(NOW, first.digest).unwrap();
    assert_eq!(bench.submit(NOW, AGENT, NGINX).unwrap().how, SubmittedAs::New);
}

#[test]
fn a_denial_answers_what_is_like_it_for_ten_minutes() {
    let mut bench = Bench::new();
    let denied = bench.pending(NGINX);
    bench.decide(NOW, &denied, VerdictKind::Deny);
    assert_eq!(bench.reason(&denied), Some("use reload"));
    let again = bench.submit(NOW + 60, AGENT, NGINX).unwrap();
    assert_eq!(again.how, SubmittedAs::DeniedBefore { retry_after_secs: 540, same: true });
    assert_eq!(again.request.digest, denied.digest);
    let evasion = ["systemctl", "--no-block", "restart", "nginx"];
    let evaded = bench.submit(NOW + 599, AGENT, &evasion).unwrap();
    assert_eq!(evaded.how, SubmittedAs::DeniedBefore { retry_after_secs: 1, same: false });
    assert_eq!(bench.core.retry_after(&evaded.request, NOW + 599), Some(1));
    assert_eq!(bench.submit(NOW + 600, AGENT, NGINX).unwrap().how, SubmittedAs::New);
}

#[test]
fn three_denials_in_ten_minutes_hold_everything_new_of_that_requester() {
    let mut bench = Bench::new();
    let waiting = bench.pending(&["id"]);
    for (at, word) in ["a", "b", "c"].into_iter().enumerate() {
        let request = bench.submit(NOW, AGENT, &["rm", word]).unwrap().request;
        bench.decide(NOW + 300 * at as u64, &request, VerdictKind::Deny);
    }
    let held = bench.submit(NOW + 601, AGENT, &["ls"]);
    assert_eq!(held, Err(Reject::Held { retry_after_secs: 599 }));
    let joined = bench.submit(NOW + 601, AGENT, &["id"]).unwrap();
    assert_eq!((joined.how, joined.request.digest), (SubmittedAs::Joined, waiting.digest));
    assert_eq!(bench.submit(NOW + 601, OTHER, &["ls"]).unwrap().how, SubmittedAs::New);
    assert_eq!(bench.submit(NOW + 1200, AGENT, &["ls"]).unwrap().how, SubmittedAs::New);
}

#[test]
fn denials_far_apart_hold_nothing() {
    let mut bench = Bench::new();
    for (at, word) in ["a", "b", "c"].into_iter().enumerate() {
        let request = bench.submit(NOW, AGENT, &["rm", word]).unwrap().request;
        bench.decide(NOW + 301 * at as u64, &request, VerdictKind::Deny);
    }
    assert_eq!(bench.submit(NOW + 603, AGENT, &["ls"]).unwrap().how, SubmittedAs::New);
}

#[test]
fn each_limit_is_refused_by_its_name() {
    for limit in ["pending_per_uid", "pending_total", "open_per_uid", "open_total"] {
        let mut limits = Limits::default();
        assert!(limits.set(limit, 2));
        let mut bench = Bench::with(limits);
        bench.pending(&["a"]);
        bench.pending(&["b"]);
        let refused = bench.submit(NOW, AGENT, &["c"]);
        assert_eq!(refused, Err(Reject::TooMany { limit, max: 2 }));
        let other = bench.submit(NOW, OTHER, &["c"]).is_ok();
        assert_eq!(other, limit.ends_with("_per_uid"), "{limit}");
    }
}

#[test]
fn submits_of_one_uid_are_counted_over_a_minute() {
    let mut bench = Bench::with(Limits { submits_per_uid_per_minute: 2, ..Limits::default() });
    bench.submit(NOW, AGENT, NGINX).unwrap();
    bench.submit(NOW + 30, AGENT, NGINX).unwrap();
    let refused = Reject::TooMany { limit: "submits_per_uid_per_minute", max: 2 };
    assert_eq!(bench.submit(NOW + 59, AGENT, NGINX), Err(refused));
    assert!(bench.submit(NOW + 59, OTHER, NGINX).is_ok());
    assert!(bench.submit(NOW + 60, AGENT, NGINX).is_ok());
}

#[test]
fn an_admission_of_one_uid_is_no_good_for_another() {
    let mut bench = Bench::new();
    let admission = bench.core.admit(NOW, OTHER).unwrap();
    let plan = sample::bytes(&sample::plan(AGENT, NGINX, 1));
    assert_eq!(bench.core.submit(NOW, admission, plan, &[0; 32]), Err(Reject::NotYours));
}

#[test]
fn only_its_owner_presents_cancels_or_sees_a_request() {
    let mut bench = Bench::new();
    let approved = bench.approved(NGINX);
    let pending = bench.pending(&["id"]);
    let not_yours = Some(Reject::NotYours);
    assert_eq!(bench.core.begin_execute(NOW, approved.digest, OTHER).err(), not_yours);
    let by_code = Selector::Code(pending.code);
    assert_eq!(bench.core.cancel(NOW, &by_code, OTHER).err(), not_yours);
    assert_eq!(bench.core.find(&by_code, Viewer::Requester(OTHER)), None);
    assert_eq!(bench.core.find(&by_code, Viewer::Approver), Some(&pending));
    let by_id = Selector::Id(approved.id());
    assert_eq!(bench.core.find(&by_id, Viewer::Requester(AGENT)), Some(&approved));
    assert_eq!(bench.core.list(Viewer::Requester(OTHER), false), []);
    assert_eq!(bench.core.list(Viewer::Approver, true).len(), 2);
    assert!(bench.core.cancel(NOW, &by_code, AGENT).is_ok());
    assert_eq!(bench.core.list(Viewer::Approver, true), [approved]);
}

#[test]
fn only_a_pending_request_is_cancelled_and_twice_is_once() {
    let mut bench = Bench::new();
    let request = bench.pending(NGINX);
    let by_code = Selector::Code(request.code);
    bench.core.begin_decide(request.digest, VerdictKind::Approve).unwrap();
    assert_eq!(bench.core.cancel(NOW, &by_code, AGENT).err(), Some(Reject::BeingDecided));
    bench.core.refused(request.digest);
    bench.core.begin_decide(request.digest, VerdictKind::Approve).unwrap();
    bench.core.lost(request.digest);
    // The lost answer may have been that it is approved: only the ledger knows.
    assert_eq!(bench.core.cancel(NOW, &by_code, AGENT).err(), Some(Reject::Unconfirmed));
    assert_eq!(bench.core.unreconciled(), [request.digest]);
    assert_eq!(bench.core.cancel(NOW, &by_code, AGENT).err(), Some(Reject::Unconfirmed));
    bench.core.reconcile(NOW, request.digest, LedgerView::default()).unwrap();
    let (cancelled, effects) = bench.core.cancel(NOW, &by_code, AGENT).unwrap();
    assert_eq!((cancelled.state, effects.len()), (State::Cancelled, 3));
    assert_eq!(bench.core.cancel(NOW, &by_code, AGENT), Ok((cancelled, Vec::new())));
    let approved = bench.approved(&["id"]);
    let refused = bench.core.cancel(NOW, &Selector::Code(approved.code), AGENT);
    assert_eq!(refused, Err(Reject::NotCancellable { request: approved }));
}

#[test]
fn time_ends_what_waits_and_says_why() {
    let mut bench = Bench::new();
    let approved = bench.approved(&["id"]);
    let pending = bench.pending(NGINX);
    assert_eq!(bench.core.next_wakeup(), Some(NOW + 900));
    assert_eq!(bench.core.tick(NOW + 899), []);
    assert_eq!(bench.core.tick(NOW + 900).len(), 3);
    assert_eq!(
        (bench.state(&approved), bench.reason(&approved)),
        (State::Expired, Some(LEASE_UNUSED))
    );
    assert_eq!(bench.core.next_wakeup(), Some(NOW + 1800));
    assert_eq!(bench.core.tick(NOW + 1800).len(), 3);
    assert_eq!((bench.state(&pending), bench.reason(&pending)), (State::Expired, Some(UNANSWERED)));
    assert_eq!(bench.core.next_wakeup(), None);
}

#[test]
fn what_is_with_the_root_half_does_not_expire_under_it() {
    let mut bench = Bench::new();
    let request = bench.approved(NGINX);
    bench.core.begin_execute(NOW + 899, request.digest, AGENT).unwrap();
    assert_eq!(bench.core.tick(NOW + 5000), []);
    bench.core.burned(NOW + 5000, request.digest).unwrap();
    assert_eq!(bench.state(&request), State::Executing);
    let pending = bench.pending(&["id"]);
    bench.core.begin_decide(pending.digest, VerdictKind::Deny).unwrap();
    assert_eq!(bench.core.tick(NOW + 5000), []);
    bench.core.refused(pending.digest);
    assert_eq!(bench.core.next_wakeup(), Some(NOW + 1800));
    assert_eq!(bench.core.tick(NOW + 5000).len(), 3);
}

#[test]
fn a_new_epoch_voids_leases_but_leaves_pending_requests_approvable() {
    let mut bench = Bench::new();
    let approved = bench.approved(NGINX);
    let pending = bench.pending(&["id"]);
    assert_eq!(bench.core.epoch_is(NOW, Epoch([2; 16])).len(), 3);
    assert_eq!(bench.state(&approved), State::Expired);
    assert_eq!(bench.reason(&approved), Some(BROKER_RESTARTED));
    assert_eq!(bench.state(&pending), State::Pending);
    assert_eq!(bench.core.epoch_is(NOW, Epoch([2; 16])), []);
}

#[test]
fn a_request_to_the_broker_under_another_key_or_name_is_over() {
    let mut bench = Bench::new();
    let pending = bench.pending(&["id"]);
    assert_eq!(bench.core.audience_is(NOW, Audience([2; 32])), []);
    assert_eq!(bench.state(&pending), State::Pending);
    assert_ne!(bench.core.audience_is(NOW, Audience([3; 32])), []);
    assert_eq!(bench.state(&pending), State::Expired);
    assert_eq!(bench.reason(&pending), Some(BROKER_RESTARTED));
    assert_eq!(bench.core.audience_is(NOW, Audience([3; 32])), []);
}

#[test]
fn a_remembered_request_to_the_broker_under_another_key_is_over_once_the_ledger_was_asked() {
    let mut before = Bench::new();
    let pending = before.pending(&["id"]);
    for (audience, state) in
        [(Audience([2; 32]), State::Pending), (Audience([3; 32]), State::Expired)]
    {
        let memory = Memory { requests: vec![Request::clone(&pending)], ..Memory::default() };
        let mut bench = Bench { core: Lifecycle::restore(Limits::default(), memory), drawn: 9 };
        bench.core.audience_is(NOW, audience);
        assert_eq!(bench.state(&pending), State::Pending, "it may have been decided");
        assert_eq!(bench.core.unreconciled(), [pending.digest]);
        bench.core.reconcile(NOW, pending.digest, LedgerView::default()).unwrap();
        assert_eq!(bench.state(&pending), state);
    }
}

#[test]
fn a_remembered_request_whose_plan_no_longer_reads_is_over_once_the_ledger_was_asked() {
    let pending = Bench::new().pending(&["id"]);
    let mut old = Request::clone(&pending);
    old.plan = b"a plan of an older form".to_vec().into();
    let memory = Memory { requests: vec![old], ..Memory::default() };
    let mut bench = Bench { core: Lifecycle::restore(Limits::default(), memory), drawn: 9 };
    bench.core.audience_is(NOW, Audience([2; 32]));
    assert_eq!(bench.core.unreconciled(), [pending.digest]);
    bench.core.reconcile(NOW, pending.digest, LedgerView::default()).unwrap();
    assert_eq!(bench.state(&pending), State::Expired);
    assert_eq!(bench.reason(&pending), Some(BROKER_RESTARTED));
}

#[test]
fn when_approvers_change_the_ledger_is_asked_about_leases_that_wait() {
    let mut bench = Bench::new();
    let (approved, _pending) = (bench.approved(NGINX), bench.pending(&["id"]));
    let approval = decision(&approved, VerdictKind::Approve, NOW);
    let gone = Decision { lease: None, ..approval.clone() };
    for (decision, state) in [(approval, State::Approved), (gone, State::Expired)] {
        for _ in 0..2 {
            bench.core.approvers_changed();
            assert_eq!(bench.core.unreconciled(), [approved.digest], "also while it is asked");
        }
        let view = LedgerView { decision: Some(decision), ..LedgerView::default() };
        bench.core.reconcile(NOW, approved.digest, view).unwrap();
        assert_eq!(bench.state(&approved), state);
    }
    assert_eq!(bench.reason(&approved), Some(APPROVER_OUT));
}

#[test]
fn a_lease_of_a_revoked_key_makes_room_for_a_new_request_and_one_of_a_key_that_may_come_back_waits()
{
    let mut bench = Bench::new();
    let approved = bench.approved(NGINX);
    let approval = decision(&approved, VerdictKind::Approve, NOW);
    let gone = Decision { lease: None, ..approval.clone() };
    for (decision, state) in [(approval, State::Approved), (gone, State::Expired)] {
        bench.core.begin_execute(NOW, approved.digest, AGENT).unwrap();
        bench.core.approver_is_out(approved.digest);
        assert_eq!(bench.core.unreconciled(), [approved.digest]);
        let view = LedgerView { decision: Some(decision), ..LedgerView::default() };
        bench.core.reconcile(NOW, approved.digest, view).unwrap();
        assert_eq!(bench.state(&approved), state);
    }
    assert_eq!(bench.reason(&approved), Some(APPROVER_OUT));
    assert_ne!(bench.pending(NGINX).digest, approved.digest);
}

#[test]
fn a_revocation_or_a_late_no_takes_the_lease_away() {
    for kind in [VerdictKind::Revoke, VerdictKind::Deny] {
        let mut bench = Bench::new();
        let request = bench.approved(NGINX);
        bench.decide(NOW + 1, &request, kind);
        let revoked = Arc::clone(bench.core.by_plan(&request.digest).unwrap());
        assert_eq!((revoked.state, &revoked.lease), (State::Revoked, &None));
        let refused = bench.core.begin_execute(NOW + 1, request.digest, AGENT);
        assert_eq!(refused, Err(Reject::NotPresentable { request: revoked }));
    }
}

#[test]
fn an_answer_about_another_plan_changes_nothing() {
    let mut bench = Bench::new();
    let (one, two) = (bench.pending(NGINX), bench.pending(&["id"]));
    let approval = decision(&two, VerdictKind::Approve, NOW);
    bench.core.begin_decide(one.digest, VerdictKind::Approve).unwrap();
    assert_eq!(bench.core.decided(NOW, one.digest, approval.clone()), Err(Reject::Mismatch));
    let leaseless = Decision { lease: None, ..approval.clone() };
    assert_eq!(bench.core.decided(NOW, two.digest, leaseless), Err(Reject::Mismatch));
    let view = LedgerView { decision: Some(approval), ..LedgerView::default() };
    assert_eq!(bench.core.reconcile(NOW, one.digest, view), Err(Reject::Mismatch));
    assert_eq!((bench.state(&one), bench.state(&two)), (State::Pending, State::Pending));
}

#[test]
fn old_finished_requests_leave_the_memory_but_their_codes_stay_taken() {
    let mut bench = Bench::with(Limits { finished_in_memory: 1, ..Limits::default() });
    let (one, two) = (bench.pending(NGINX), bench.pending(&["id"]));
    for request in [&one, &two] {
        bench.core.cancel(NOW, &Selector::Code(request.code), AGENT).unwrap();
    }
    assert_eq!(bench.core.by_plan(&one.digest), None);
    assert_eq!(bench.state(&two), State::Cancelled);
    let admission = bench.core.admit(NOW, AGENT).unwrap();
    let plan = sample::bytes(&sample::plan(AGENT, NGINX, 77));
    let random = one.code.random().repeat(8);
    let refused = bench.core.submit(NOW, admission, plan, &random.try_into().unwrap());
    assert_eq!(refused, Err(Reject::NoCode));
}

#[test]
fn finished_requests_leave_the_memory_by_their_bytes_too() {
    let mut bench = Bench::new();
    let requests = ["a", "b", "c"].map(|word| bench.pending(&["id", word]));
    let two = 2 * requests[0].weight();
    let mut bench = Bench::with(Limits { finished_in_memory_bytes: two, ..Limits::default() });
    let requests = ["a", "b", "c"].map(|word| bench.pending(&["id", word]));
    for request in &requests {
        bench.core.cancel(NOW, &Selector::Code(request.code), AGENT).unwrap();
    }
    let kept = requests.each_ref().map(|one| bench.core.by_plan(&one.digest).is_some());
    assert_eq!(kept, [false, true, true]);
    let memory =
        Memory { requests: requests.iter().map(|one| ended(one)).collect(), ..Memory::default() };
    let restored = Lifecycle::restore(bench.core.limits().clone(), memory);
    assert_eq!(restored.list(Viewer::Approver, false).len(), 2);
}

fn ended(request: &Request) -> Request {
    Request { state: State::Cancelled, finished_at: Some(NOW), ..request.clone() }
}

#[test]
fn a_run_that_a_replaced_ledger_does_not_know_ends_as_unknown() {
    let mut bench = Bench::new();
    let request = bench.approved(NGINX);
    bench.core.begin_execute(NOW, request.digest, AGENT).unwrap();
    bench.core.burned(NOW, request.digest).unwrap();
    bench.core.lost(request.digest);
    assert_eq!(bench.core.unreconciled(), [request.digest]);
    let running = LedgerView { burned: true, ..LedgerView::default() };
    assert_eq!(bench.core.reconcile(NOW, request.digest, running), Ok(Vec::new()));
    assert_eq!(bench.core.unreconciled(), [request.digest]);
    assert_eq!(bench.core.reconcile(NOW, request.digest, LedgerView::default()).unwrap().len(), 3);
    let lost = Arc::clone(bench.core.by_plan(&request.digest).unwrap());
    assert_eq!(lost.outcome, Some(Outcome::Unknown { may_be_running: true }));
    assert_eq!(lost.state, State::OutcomeUnknown);
    assert_eq!(bench.core.unreconciled(), []);
}

#[test]
fn a_view_from_before_a_decision_does_not_undo_it() {
    let mut bench = Bench::new();
    let request = bench.pending(NGINX);
    bench.core.begin_decide(request.digest, VerdictKind::Approve).unwrap();
    bench.core.lost(request.digest);
    assert_eq!(bench.core.unreconciled(), [request.digest]);
    bench.decide(NOW, &request, VerdictKind::Approve);
    let stale = LedgerView::default();
    assert_eq!(bench.core.reconcile(NOW, request.digest, stale), Ok(Vec::new()));
    assert_eq!(bench.state(&request), State::Approved);
    assert_eq!(bench.core.unreconciled(), [request.digest]);
}

#[test]
fn an_answer_does_not_hide_that_another_one_was_lost() {
    let mut bench = Bench::new();
    let request = bench.pending(NGINX);
    bench.core.begin_decide(request.digest, VerdictKind::Revoke).unwrap();
    bench.core.begin_decide(request.digest, VerdictKind::Approve).unwrap();
    bench.core.lost(request.digest);
    let approval = decision(&request, VerdictKind::Approve, NOW);
    bench.core.decided(NOW, request.digest, approval).unwrap();
    assert_eq!(bench.core.unreconciled(), [request.digest]);
    let revoked = decision(&request, VerdictKind::Revoke, NOW);
    let view = LedgerView { decision: Some(revoked), ..LedgerView::default() };
    bench.core.reconcile(NOW, request.digest, view).unwrap();
    assert_eq!(bench.state(&request), State::Revoked);
}
