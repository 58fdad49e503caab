//! Asking: new, joined, refused, remembered.

use olb_exec_api::Reason;
use olb_lease::{Plan, VerdictKind, plan_digest};
use olb_sys::harden::effective_uid;
use olb_wire::{ByteBuf, Request};

use crate::harness::{Stage, ask_for, refused, view};

#[test]
fn a_request_is_held_with_the_plan_that_was_asked_for() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let mut submit = ask_for(&["id", "-u"]);
    submit.command.environment_words = vec![ByteBuf::from(b"LANG=de_DE.UTF-8".as_slice())];
    let held = stage.submitted(submit);
    assert_eq!((held.state.as_str(), held.joined), ("pending", false));
    assert_eq!(held.expires_at, held.created_at + 1800);
    let plan = Plan::decode(&held.plan).unwrap();
    assert_eq!(plan_digest(&held.plan).request_id().to_string(), held.request_id);
    assert_eq!(plan.requester_uid, effective_uid());
    assert_eq!(plan.run_as.uid, effective_uid());
    assert_eq!(plan.argv, [b"id".to_vec(), b"-u".to_vec()]);
    assert!(plan.executable.path.starts_with(b"/") && plan.executable.path.ends_with(b"/id"));
    assert_eq!((plan.host.as_str(), plan.reason.as_str()), ("web-1", "config changed"));
    assert_eq!(plan.environment.get(&b"LANG"[..]), Some(&b"de_DE.UTF-8".to_vec()));
    assert_eq!(plan.environment_words.len(), 1);
    olb_lease::environment::check(&plan).unwrap();
}

#[test]
fn the_same_command_joins_and_another_one_does_not() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let first = stage.submitted(ask_for(&["id", "-u"]));
    let mut again = ask_for(&["id", "-u"]);
    again.reason = "other words".into();
    let joined = stage.submitted(again);
    assert!(joined.joined);
    assert_eq!((&joined.request_id, &joined.plan), (&first.request_id, &first.plan));
    let other = stage.submitted(ask_for(&["id", "-g"]));
    assert!(!other.joined);
    assert_ne!(other.code, first.code);
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_its_reason_and_one_sentence() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let script = stage.path("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let script = script.to_str().unwrap().to_owned();
    let change = |argv: &[&str], change: fn(&mut olb_wire::Submit)| {
        let mut submit = ask_for(argv);
        change(&mut submit);
        submit
    };
    let cases = [
        (ask_for(&[]), Reason::Malformed, "no command"),
        (ask_for(&[""]), Reason::Malformed, "name is empty"),
        (ask_for(&["id", "a\0b"]), Reason::Malformed, "NUL"),
        (ask_for(&["no-such-command-here"]), Reason::NoSuchCommand, "no-such-command-here"),
        (ask_for(&["/etc/passwd"]), Reason::NotExecutable, "/etc/passwd"),
        (ask_for(&["cat", &script]), Reason::CannotBind, "cannot be bound"),
        (ask_for(&["cat", "/proc/self/environ"]), Reason::CannotBind, "cannot be bound"),
        (
            change(&["id"], |submit| {
                submit.command.environment_words =
                    vec![ByteBuf::from(b"LD_PRELOAD=/tmp/x.so".as_slice())];
            }),
            Reason::Unsupported,
            "LD_PRELOAD",
        ),
        (
            change(&["id"], |submit| submit.command.user = Some("no-such-account".into())),
            Reason::Unsupported,
            "no-such-account",
        ),
        (
            change(&["id"], |submit| submit.command.cwd = ByteBuf::from(b"etc".as_slice())),
            Reason::Malformed,
            "working directory",
        ),
        (
            change(&["id"], |submit| submit.wall_clock_secs = Some(0)),
            Reason::Malformed,
            "time limit",
        ),
        (
            change(&["id"], |submit| submit.reason = "x".repeat(1025)),
            Reason::Malformed,
            "reason is longer",
        ),
    ];
    for (submit, reason, part) in cases {
        let argv = submit.command.argv.clone();
        let (got, text) = refused(stage.submit(submit));
        assert_eq!(got, reason, "{argv:?}: {text}");
        assert!(text.contains(part) && !text.contains('\n'), "{argv:?}: {text}");
    }
}

#[test]
fn pending_requests_of_one_uid_are_limited() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("pending_per_uid = 2");
    stage.submitted(ask_for(&["id", "1"]));
    stage.submitted(ask_for(&["id", "2"]));
    let (reason, text) = refused(stage.submit(ask_for(&["id", "3"])));
    assert_eq!(reason, Reason::Busy);
    assert!(text.contains("pending_per_uid = 2"), "{text}");
}

#[test]
fn a_cancelled_request_is_over_and_cannot_be_cancelled_into_anything_else() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let held = stage.submitted(ask_for(&["id"]));
    let cancel = Request::Cancel { selector: held.code.to_lowercase() };
    assert_eq!(view(stage.ask("request.sock", &cancel).1).state, "cancelled");
    let (reason, _) = refused(stage.decide(&held, VerdictKind::Approve, ""));
    assert_eq!(reason, Reason::Cancelled);
    assert_eq!(view(stage.show(&held.request_id)).state, "cancelled");
}

#[test]
fn unknown_ids_and_texts_that_are_none_are_told_apart() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let nobody_has_it = format!("req_{}", "0".repeat(26));
    assert_eq!(refused(stage.show(&nobody_has_it)).0, Reason::NotYours);
    assert_eq!(refused(stage.show("../x")).0, Reason::Malformed);
}

#[test]
fn a_restarted_front_remembers_its_requests() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let front = stage.front();
    let held = stage.submitted(ask_for(&["id"]));
    drop(front);
    let _front = stage.front();
    let again = view(stage.show(&held.code));
    assert_eq!(again, held);
    assert!(stage.submitted(ask_for(&["id"])).joined);
    assert_eq!(stage.pages("request.sock", true), [[held.clone()]]);
    assert_eq!(stage.pages("request.sock", false), [[held]]);
}

#[test]
fn a_list_comes_in_pages_of_a_mebibyte_with_the_newest_last() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("pending_per_uid = 100");
    assert!(stage.pages("request.sock", true).is_empty());
    let long = "x".repeat(60_000);
    let held: Vec<_> = (0..40)
        .map(|number| stage.submitted(ask_for(&["id", &long, &number.to_string()])))
        .collect();
    for (socket, open) in [("request.sock", true), ("request.sock", false), ("review.sock", true)] {
        let pages = stage.pages(socket, open);
        assert_eq!(pages.len(), 5, "{socket}");
        for page in &pages {
            assert!(page.iter().map(|one| one.plan.len()).sum::<usize>() <= 1 << 20);
        }
        // Of one second the order is open.
        let mut listed: Vec<_> = pages.into_iter().flatten().collect();
        assert!(listed.is_sorted_by_key(|one| one.created_at));
        listed.sort_by_key(|one| held.iter().position(|other| other == one));
        assert_eq!(listed, held);
    }
    let cancel = Request::Cancel { selector: held[0].code.clone() };
    stage.ask("request.sock", &cancel);
    assert_eq!(stage.pages("request.sock", true).concat().len(), 39);
    assert_eq!(stage.pages("request.sock", false).concat().len(), 40);
}

#[test]
fn a_command_that_is_too_long_as_a_whole_is_told_so_with_the_limit() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let long = "x".repeat(90_000);
    let (reason, text) = refused(stage.submit(ask_for(&["id", &long, &long])));
    assert_eq!(reason, Reason::Malformed);
    assert!(text.contains("longer than 131072 bytes as a whole"), "{text}");
}

#[test]
fn what_was_decided_behind_the_fronts_back_cannot_be_cancelled() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let front = stage.front();
    let held = stage.submitted(ask_for(&["id"]));
    drop(front);
    let [database, copy] = ["state/broker.db", "copy"].map(|name| stage.path(name));
    std::fs::copy(&database, &copy).unwrap();
    let front = stage.front();
    stage.approved(&held);
    drop(front);
    std::fs::copy(&copy, &database).unwrap();
    // This front starts without an answer, and does not know of the approval.
    let [socket, away] = ["run/exec.sock", "run/away"].map(|name| stage.path(name));
    std::fs::rename(&socket, &away).unwrap();
    let _front = stage.front();
    let cancel = Request::Cancel { selector: held.code.clone() };
    std::fs::rename(&away, &socket).unwrap();
    let (reason, text) = refused(stage.ask("request.sock", &cancel).1);
    assert_eq!(reason, Reason::AlreadyDecided, "{text}");
    assert_eq!(view(stage.show(&held.code)).state, "approved");
}

#[test]
fn without_the_root_half_the_broker_is_unavailable_until_it_is_back() {
    let stage = Stage::new();
    let _front = stage.front();
    let (reason, text) = refused(stage.submit(ask_for(&["id"])));
    assert_eq!(reason, Reason::Unavailable);
    assert_eq!(text, "broker unavailable; host bootstrap required (see 'olb doctor')");
    let (_execd, _seen) = stage.execd();
    assert_eq!(stage.submitted(ask_for(&["id"])).state, "pending");
    assert!(stage.health().execd);
}

#[test]
fn health_shows_every_limit_by_name() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("pending_per_uid = 7");
    stage.submitted(ask_for(&["id"]));
    let health = stage.health();
    assert_eq!((health.open_requests, health.problem), (1, None));
    assert!(health.limits.contains(&("pending_per_uid".into(), 7)));
    assert!(health.limits.contains(&("connections_total".into(), 512)));
    let info = olb_exec_api::decode_info(&health.info.unwrap()).unwrap();
    assert_eq!(info.host, "web-1");
}

#[test]
fn a_damaged_database_is_set_aside_and_said_to_be() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let database = stage.path("state").join("broker.db");
    std::fs::write(&database, [0xff; 8192]).unwrap();
    let _front = stage.front();
    let problem = stage.health().problem.unwrap();
    assert!(problem.contains("older requests are forgotten"), "{problem}");
    assert_eq!(stage.submitted(ask_for(&["id"])).state, "pending");
}
