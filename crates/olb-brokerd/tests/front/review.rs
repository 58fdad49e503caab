//! Deciding, and what is pushed to those who wait.

use std::io::Read as _;

use olb_exec_api::Reason;
use olb_lease::{Epoch, VerdictKind};
use olb_sys::harden::effective_uid;
use olb_wire::{ByteBuf, Request, Response};

use crate::harness::{Client, Stage, ask_for, by_id, refused, verdict, view};

#[test]
fn an_approval_reaches_the_waiting_requester_with_the_lease() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let mut submit = ask_for(&["id"]);
    submit.wait = true;
    let (mut waiting, first) = stage.ask("request.sock", &Request::Submit(Box::new(submit)));
    let held = view(first);
    let decided = stage.approved(&held);
    assert_eq!(seen.approvers.recv().unwrap(), effective_uid());
    assert_eq!((decided.state.as_str(), decided.lease), ("approved", None));
    let pushed = view(waiting.receive());
    assert_eq!((pushed.state.as_str(), pushed.decided_by.as_deref()), ("approved", Some("alice")));
    let lease = pushed.lease.clone().unwrap();
    let joined = stage.submitted(ask_for(&["id"]));
    assert_eq!((joined.state.as_str(), joined.lease), ("approved", Some(lease)));
}

#[test]
fn a_denial_carries_the_reason_and_answers_the_same_request_for_a_while() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let held = stage.submitted(ask_for(&["id", "nginx"]));
    stage.decide(&held, VerdictKind::Deny, "use reload");
    let denied = view(stage.show(&held.code));
    assert_eq!((denied.state.as_str(), denied.reason.as_deref()), ("denied", Some("use reload")));
    let like_it = stage.submit(ask_for(&["id", "--verbose", "nginx"]));
    let Response::Refused { reason, text, request } = like_it else { panic!("{like_it:?}") };
    assert_eq!(reason, Reason::Denied as u16);
    assert!(text.contains("denied by alice: \"use reload\"") && text.contains("10 minutes"));
    let request = request.unwrap();
    assert_eq!(request.request_id, held.request_id);
    assert!((1..=600).contains(&request.retry_after_secs.unwrap()));
    let refusal = stage.execute(by_id(&held)).refusal();
    assert_eq!(refusal.reason, Reason::Denied);
}

#[test]
fn a_revoked_approval_leaves_no_lease() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let held = stage.submitted(ask_for(&["id"]));
    stage.approved(&held);
    stage.decide(&held, VerdictKind::Revoke, "changed my mind");
    let revoked = view(stage.show(&held.code));
    assert_eq!((revoked.state.as_str(), revoked.lease), ("revoked", None));
    assert_eq!(stage.execute(by_id(&held)).refusal().reason, Reason::Revoked);
}

#[test]
fn a_verdict_that_the_root_half_refuses_changes_nothing() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let held = stage.submitted(ask_for(&["id"]));
    let mut forged = verdict(&held, VerdictKind::Approve, "");
    *forged.last_mut().unwrap() ^= 1;
    let decide = Request::Decide { verdict: ByteBuf::from(forged) };
    assert_eq!(refused(stage.ask("review.sock", &decide).1).0, Reason::BadSignature);
    assert_eq!(view(stage.show(&held.code)).state, "pending");
    assert_eq!(stage.approved(&held).state, "approved");
}

#[test]
fn a_verdict_on_an_unknown_plan_is_refused() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let mut held = stage.submitted(ask_for(&["id"]));
    held.plan.push(0);
    assert_eq!(refused(stage.decide(&held, VerdictKind::Approve, "")).0, Reason::NotYours);
}

#[test]
fn watchers_are_pushed_every_change() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let mut watcher = stage.connect("review.sock");
    watcher.send(&Request::Watch);
    // Served in order on one thread: when this answer is there, the watcher is listening.
    stage.ask("review.sock", &Request::Status);
    let held = stage.submitted(ask_for(&["id"]));
    assert_eq!(view(watcher.receive()), held);
    stage.approved(&held);
    assert_eq!(view(watcher.receive()).state, "approved");
}

/// What a connection is told that is sent away, up to its end.
fn sent_away(mut client: Client) -> Reason {
    let reason = refused(client.receive()).0;
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    reason
}

#[test]
fn who_leaves_the_lists_is_sent_away_from_open_connections() {
    let stage = Stage::new();
    let (execd, _seen) = stage.execd();
    let _front = stage.front();
    let mut submit = ask_for(&["id"]);
    submit.wait = true;
    let waiting = stage.ask("request.sock", &Request::Submit(Box::new(submit))).0;
    let held = stage.submitted(ask_for(&["id"]));
    let show = Request::Show { selector: held.code, wait: true };
    let showing = stage.ask("review.sock", &show).0;
    let mut watcher = stage.connect("review.sock");
    watcher.send(&Request::Watch);
    stage.ask("review.sock", &Request::Status);
    execd.enrol_nobody();
    // Whoever makes the front ask again: nothing changes for those who watch, but the list.
    assert!(stage.health().execd);
    assert_eq!(sent_away(watcher), Reason::NotEnrolled);
    assert_eq!(sent_away(showing), Reason::NotEnrolled);
    execd.list_requesters(&[]);
    assert_eq!(refused(stage.connect("review.sock").receive()).0, Reason::NotEnrolled);
    assert_eq!(sent_away(waiting), Reason::NotListed);
}

#[test]
fn a_change_is_not_sent_before_the_lists_are_looked_at_again() {
    let stage = Stage::new();
    let (execd, _seen) = stage.execd();
    let _front = stage.front_with("pending_secs = 2");
    stage.submitted(ask_for(&["id"]));
    let mut watcher = stage.connect("review.sock");
    watcher.send(&Request::Watch);
    stage.ask("review.sock", &Request::Status);
    execd.enrol_nobody();
    // Nobody asks anything: the request expires, and what is known is older than a second by then.
    assert_eq!(sent_away(watcher), Reason::NotEnrolled);
}

#[test]
fn a_new_epoch_ends_what_was_approved_and_keeps_what_is_pending() {
    let stage = Stage::new();
    let (execd, _seen) = stage.execd();
    let _front = stage.front();
    let held = stage.submitted(ask_for(&["id", "1"]));
    stage.approved(&held);
    let pending = stage.submitted(ask_for(&["id", "2"]));
    execd.begin_epoch(Epoch([2; 16]));
    assert!(stage.health().execd);
    let expired = view(stage.show(&held.code));
    assert_eq!(expired.state, "expired");
    assert_eq!(expired.reason.as_deref(), Some("broker restarted"));
    let refusal = stage.execute(by_id(&held)).refusal();
    assert_eq!(refusal.reason, Reason::BrokerRestarted);
    assert_eq!(view(stage.show(&pending.code)).state, "pending");
}

#[test]
fn records_are_passed_on_as_a_page() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let response = stage.ask("review.sock", &Request::Records { from: 1 }).1;
    let Response::Records(page) = response else { panic!("{response:?}") };
    assert_eq!(olb_exec_api::RecordPage::decode(&page), Ok(olb_exec_api::RecordPage::default()));
}
