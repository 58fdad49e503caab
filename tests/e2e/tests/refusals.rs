//! What is refused, in the form that other programs are built against: with `--json` one object with
//! `error` and `message`, over the fields of the request where there is one. And what only a client
//! of its own can send, because no program can be given it as an argument.

use olb_e2e_tests::{Approver, Door, Instance, Options, Ran, refused, submit_of};
use olb_exec_api::Reason;
use olb_wire::{ByteBuf, Submit};
use serde_json::{Value, json};

fn instance() -> (Instance, Approver, u32) {
    let instance = Instance::start();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    (instance, alice, agent)
}

/// The object of a refusal: alone on standard output, in one line, its sentence also for people.
#[track_caller]
fn object(ran: Ran, code: i32, error: &str) -> Value {
    let ran = ran.expect(code);
    assert_eq!(ran.stdout.matches('\n').count(), 1, "{ran:?}");
    let object = ran.json();
    assert_eq!(object["error"], error, "{ran:?}");
    let message = object["message"].as_str().expect("a sentence");
    assert!(ran.stderr.ends_with(&format!("olb: {message}\n")), "{ran:?}");
    object
}

#[track_caller]
fn is_about_no_request(object: &Value) {
    let names: Vec<&String> = object.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["error", "message"]);
}

#[track_caller]
fn is_about(object: &Value, id: &str, state: &str) {
    assert_eq!((&object["request_id"], &object["state"]), (&json!(id), &json!(state)), "{object}");
    assert_eq!(object["code"].as_str().map(str::len), Some(7), "{object}");
    assert!(object["lease"].is_null(), "{object}");
}

#[test]
fn what_cannot_be_asked_for_is_an_object_without_a_request() {
    let (instance, _, agent) = instance();
    let script = instance.path("agent.sh");
    std::fs::write(&script, "#!/bin/sh\nid\n").unwrap();
    std::os::unix::fs::chown(&script, Some(agent), Some(agent)).unwrap();
    let script = script.to_str().unwrap();
    for (words, code, error) in [
        (vec!["-C", "/no/such/folder", "--", "id"], 64, "usage"),
        (vec!["--", "id", script], 64, "cannot_bind"),
        (vec!["--", "LD_PRELOAD=/x", "id"], 64, "unsupported"),
        (vec!["-u", "no-such-user", "--", "id"], 64, "unsupported"),
        (vec!["--", "/etc/passwd"], 126, "not_executable"),
        (vec!["--", "no-such-command-anywhere"], 127, "no_such_command"),
    ] {
        let ran = instance.olb(agent, &[&["request", "--json"], &words[..]].concat());
        is_about_no_request(&object(ran, code, error));
    }
    let ran = instance.olb(instance.stranger(), &["request", "--json", "--", "id"]);
    is_about_no_request(&object(ran, 77, "not_listed"));
}

#[test]
fn what_is_not_the_callers_is_an_object_that_tells_nothing() {
    let (instance, _, agent) = instance();
    let id = instance.request(instance.requester(1), &["id"]);
    for command in ["status", "result", "cancel"] {
        let theirs = object(instance.olb(agent, &[command, "--json", &id]), 77, "not_yours");
        is_about_no_request(&theirs);
    }
}

#[test]
fn a_request_that_waits_is_an_object_without_an_error() {
    let (instance, _, agent) = instance();
    let waits = instance.olb(agent, &["request", "--json", "--", "id"]).expect(75).json();
    assert_eq!(waits["state"], "pending");
    assert!(waits["error"].is_null() && waits["message"].is_null(), "{waits}");
    let id = waits["request_id"].as_str().unwrap();
    let over = instance.olb(agent, &["request", "--json", "--wait", "1s", "--", "id"]);
    is_about(&object(over, 124, "wait_over"), id, "pending");
}

#[test]
fn a_denial_is_an_object_over_its_request() {
    let (instance, alice, agent) = instance();
    let id = instance.request(agent, &["id"]);
    let reason = "use \"reload\",\nnot restart";
    instance.olb_as(&alice, &["deny", "--id", &id, "--reason", reason]).expect(0);
    let denied = object(instance.olb(agent, &["request", "--json", "--", "id"]), 77, "denied");
    is_about(&denied, &id, "denied");
    assert_eq!(denied["reason"], reason);
    assert_eq!(denied["decided_by"], "approver-0");
    assert!(denied["retry_after_secs"].as_u64().is_some_and(|seconds| seconds > 0), "{denied}");
}

#[test]
fn an_end_without_a_run_is_told_by_its_state() {
    let (instance, alice, agent) = instance();
    let cancelled = instance.request(agent, &["id"]);
    instance.olb(agent, &["cancel", &cancelled]).expect(0);
    let (revoked, _) = instance.approved(agent, &alice, &["id", "-u"]);
    instance.olb_as(&alice, &["revoke", "--id", &revoked]).expect(0);
    for (id, state) in [(&cancelled, "cancelled"), (&revoked, "revoked")] {
        // Asked for and answered: the state says it, and nothing is refused.
        let told = instance.olb(agent, &["result", "--json", id]).expect(77).json();
        is_about(&told, id, state);
        assert!(told["error"].is_null(), "{told}");
    }
    let again = object(instance.olb(agent, &["cancel", "--json", &revoked]), 77, "revoked");
    is_about(&again, &revoked, "revoked");
}

#[test]
fn nobody_at_the_other_end_is_an_object_too() {
    let (mut instance, _, agent) = instance();
    instance.stop_brokerd("TERM");
    for words in [vec!["request", "--json", "--", "id"], vec!["status", "--json"]] {
        is_about_no_request(&object(instance.olb(agent, &words), 69, "unavailable"));
    }
}

#[test]
fn a_nul_byte_from_a_client_of_its_own_is_refused_wherever_it_is() {
    let options = Options { brokerd: olb_e2e_tests::ROOMY.into(), ..Options::default() };
    let instance = Instance::with(options);
    let agent = instance.requester(0);
    let mut door = Door::request(&instance, agent);
    let honest = || submit_of(&instance, &["printf", "%s", "x"]);
    let places: [fn(&mut Submit); 8] = [
        |submit| submit.command.argv[0] = ByteBuf::from(&b"printf\0"[..]),
        |submit| submit.command.argv[2] = ByteBuf::from(&b"shown\0hidden"[..]),
        |submit| submit.command.argv[2] = ByteBuf::from(&b"\0"[..]),
        |submit| submit.command.cwd = ByteBuf::from(&b"/tmp\0/x"[..]),
        |submit| submit.command.environment_words = vec![ByteBuf::from(&b"TZ=UTC\0LD_A=b"[..])],
        |submit| submit.command.environment_words = vec![ByteBuf::from(&b"T\0Z=UTC"[..])],
        |submit| submit.command.user = Some("root\0x".into()),
        |submit| submit.command.group = Some("root\0x".into()),
    ];
    for (at, change) in places.into_iter().enumerate() {
        let mut submit = honest();
        change(&mut submit);
        let (reason, text) = refused(door.submit(submit));
        let of_the_command = [Reason::Malformed, Reason::CannotBind, Reason::Unsupported];
        assert!(of_the_command.contains(&reason), "place {at}: {reason:?} {text}");
        assert_eq!(reason.exit_code(), 64, "place {at}");
    }
    let status = instance.olb(agent, &["status", "--json"]).expect(0).json();
    assert_eq!(status["requests"], json!([]), "none of them is held");
    let asked = olb_e2e_tests::view(door.submit(honest()));
    assert_eq!(asked.state, "pending", "the same request without it is");
}
