//! Presenting a lease, up to and after the hand-over.

use std::io::{Read as _, Write as _};

use olb_exec_api::{ClientFrame, Reason};
use olb_sys::memfd::read_all_at_most;
use olb_sys::socket::{recv_now, send_now};
use olb_wire::{ByteBuf, Execute, RequestView, Submit};

use crate::harness::{Stage, ask_for, by_id, command, view};
use crate::ledger::{Play, TAIL};

fn approved(stage: &Stage, submit: Submit) -> RequestView {
    let held = stage.submitted(submit.clone());
    stage.approved(&held);
    stage.submitted(submit)
}

#[test]
fn the_socket_is_handed_over_and_the_outcome_comes_back() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let request = approved(&stage, ask_for(&["id"]));
    let execute =
        Execute { lease: request.lease.clone(), id: None, command: Some(command(&["id"])) };
    let mut client = stage.execute(execute);
    assert_eq!(client.frame(), ClientFrame::Started);
    assert!(matches!(client.frame(), ClientFrame::Outcome { .. }));
    let presented = seen.presented.recv().unwrap();
    assert_eq!(Some(ByteBuf::from(presented.lease)), request.lease);
    assert!(presented.stdin.is_none());
    let over = stage.wait_until_over(&request.request_id);
    assert_eq!((over.state.as_str(), over.exit_code), ("exited", Some(3)));
    assert_eq!((over.stdout_tail.as_slice(), over.lease), (TAIL, None));
}

#[test]
fn after_the_hand_over_nobody_but_the_root_half_holds_the_connection() {
    let stage = Stage::new();
    let (execd, seen) = stage.execd();
    let _front = stage.front();
    let request = approved(&stage, ask_for(&["id"]));
    execd.play(Play::CrashAfterTheBurn);
    let mut client = stage.execute(by_id(&request));
    assert_eq!(client.frame(), ClientFrame::Started);
    let presented = seen.presented.recv().unwrap();
    client.0.write_all(b"T").unwrap();
    let mut byte = [0];
    assert_eq!(recv_now(&presented.client, &mut byte).unwrap(), 1);
    assert_eq!(&byte, b"T");
    send_now(&presented.client, b"x").unwrap();
    client.0.read_exact(&mut byte).unwrap();
    // The front closed its copy, or this would wait for ever.
    drop(presented);
    assert_eq!(client.0.read(&mut byte).unwrap(), 0);
}

#[test]
fn a_lease_presented_again_gets_the_recorded_outcome() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let request = approved(&stage, ask_for(&["id"]));
    stage.execute(by_id(&request)).frame();
    stage.wait_until_over(&request.request_id);
    let again = Execute { lease: request.lease.clone(), id: None, command: None };
    let refusal = stage.execute(again).refusal();
    assert_eq!(refusal.reason, Reason::AlreadyBurned);
    assert!(refusal.text.contains("exited with 3"), "{}", refusal.text);
    assert_eq!(refusal.recorded.unwrap().stdout_tail, TAIL);
}

#[test]
fn the_front_finds_the_lease_for_a_command_that_is_typed_again() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let request = approved(&stage, ask_for(&["id", "-u"]));
    let typed = |argv: &[&str]| Execute { lease: None, id: None, command: Some(command(argv)) };
    let refusal = stage.execute(typed(&["id", "-g"])).refusal();
    assert_eq!(refusal.reason, Reason::NotYours);
    assert_eq!(stage.execute(typed(&["id", "-u"])).frame(), ClientFrame::Started);
    let presented = seen.presented.recv().unwrap();
    assert_eq!(Some(ByteBuf::from(presented.lease)), request.lease);
}

#[test]
fn a_command_that_differs_from_the_approved_one_is_refused_in_words() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let request = approved(&stage, ask_for(&["id", "-u"]));
    let other = |change: fn(&mut olb_wire::Command)| {
        let mut command = command(&["id", "-u"]);
        change(&mut command);
        let execute = Execute { lease: request.lease.clone(), id: None, command: Some(command) };
        stage.execute(execute).refusal()
    };
    let cases = [
        (other(|command| command.argv.push(ByteBuf::from(b"x".as_slice()))), "the command"),
        (other(|command| command.cwd_ino += 1), "the working directory"),
        (
            other(|command| command.environment_words.push(ByteBuf::from(b"TZ=UTC".as_slice()))),
            "the environment",
        ),
        (
            other(|command| command.stdin = Some(ByteBuf::from(b"x".as_slice()))),
            "the standard input",
        ),
    ];
    for (refusal, what) in cases {
        assert_eq!(refusal.reason, Reason::Mismatch);
        assert!(refusal.text.starts_with(what), "{}", refusal.text);
    }
    assert!(seen.presented.try_recv().is_err(), "the root half was asked");
}

#[test]
fn bound_input_is_handed_over_sealed_and_forgotten_afterwards() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let mut submit = ask_for(&["cat"]);
    submit.command.stdin = Some(ByteBuf::from(b"to be bound".as_slice()));
    let request = approved(&stage, submit);
    stage.execute(by_id(&request)).frame();
    let stdin = seen.presented.recv().unwrap().stdin.unwrap();
    assert_eq!(read_all_at_most(&stdin, 64).unwrap(), b"to be bound");
    assert!(std::fs::File::from(stdin).write_all(b"x").is_err(), "the file is not sealed");
}

#[test]
fn what_cannot_run_is_refused_without_the_root_half() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let held = stage.submitted(ask_for(&["id"]));
    let pending = stage.execute(by_id(&held)).refusal();
    assert_eq!(pending.reason, Reason::Pending);
    assert!(pending.text.contains(&held.code) && pending.text.contains("(id)"));
    let nothing = Execute { lease: None, id: None, command: None };
    assert_eq!(stage.execute(nothing).refusal().reason, Reason::Malformed);
    let junk = Execute { lease: Some(ByteBuf::from(vec![0; 369])), id: None, command: None };
    assert_eq!(stage.execute(junk).refusal().reason, Reason::Malformed);
    assert!(seen.presented.try_recv().is_err(), "the root half was asked");
}

#[test]
fn a_refusal_before_the_burn_leaves_the_lease_usable() {
    let stage = Stage::new();
    let (execd, _seen) = stage.execd();
    let _front = stage.front();
    let request = approved(&stage, ask_for(&["id"]));
    execd.play(Play::Refuse(Reason::Busy));
    assert_eq!(stage.execute(by_id(&request)).refusal().reason, Reason::Busy);
    execd.play(Play::RunToTheEnd);
    assert_eq!(stage.execute(by_id(&request)).frame(), ClientFrame::Started);
    assert_eq!(stage.wait_until_over(&request.request_id).state, "exited");
}

#[test]
fn an_outcome_that_the_front_did_not_hear_is_read_from_the_ledger() {
    let stage = Stage::new();
    let (execd, seen) = stage.execd();
    let _front = stage.front();
    let request = approved(&stage, ask_for(&["id"]));
    execd.play(Play::CrashAfterTheBurn);
    let _client = stage.execute(by_id(&request));
    seen.presented.recv().unwrap();
    let over = stage.wait_until_over(&request.request_id);
    assert_eq!((over.state.as_str(), over.exit_code), ("exited", Some(3)));
}

#[test]
fn a_front_that_was_restarted_learns_what_happened_meanwhile() {
    let stage = Stage::new();
    let (execd, seen) = stage.execd();
    let front = stage.front();
    let request = approved(&stage, ask_for(&["id"]));
    execd.play(Play::CrashAfterTheBurn);
    let _client = stage.execute(by_id(&request));
    seen.presented.recv().unwrap();
    drop(front);
    let _front = stage.front();
    assert_eq!(view(stage.show(&request.request_id)).state, "exited");
}
