//! Ways around a no, and around what a human reads: asking the same a little differently, joining
//! with other words, cancelling what was decided.

use olb_e2e_tests::{Door, Scene, refused, submit_of, view};
use olb_exec_api::Reason;
use olb_lease::{Plan, VerdictKind};
use olb_wire::{ByteBuf, Request, Response, Submit};

/// A denied request for `argv`.
fn denied(scene: &mut Scene, argv: &[&str]) {
    let asked = scene.ask(argv);
    assert_eq!(view(scene.decide(VerdictKind::Deny, &asked.plan)).state, "denied");
}

/// The same wish in other clothes.
fn variants(scene: &Scene) -> Vec<(&'static str, Submit)> {
    let plain = || submit_of(&scene.instance, &["chmod", "u+s", "/bin/bash"]);
    let with = |change: &dyn Fn(&mut Submit)| {
        let mut submit = plain();
        change(&mut submit);
        submit
    };
    let argv = |words: &[&str]| submit_of(&scene.instance, words);
    let elsewhere = std::fs::metadata("/").unwrap();
    let (dev, ino) = {
        use std::os::unix::fs::MetadataExt as _;
        (elsewhere.dev(), elsewhere.ino())
    };
    vec![
        ("as it was", plain()),
        ("another reason", with(&|submit| submit.reason = "it is really needed".into())),
        ("another session", with(&|submit| submit.session = "new".into())),
        ("another time limit", with(&|submit| submit.wall_clock_secs = Some(7))),
        (
            "another directory",
            with(&|submit| {
                submit.command.cwd = ByteBuf::from(b"/".to_vec());
                (submit.command.cwd_dev, submit.command.cwd_ino) = (dev, ino);
            }),
        ),
        (
            "a variable",
            with(&|submit| {
                submit.command.environment_words = vec![ByteBuf::from(b"LANG=C".to_vec())];
            }),
        ),
        (
            "standard input",
            with(&|submit| submit.command.stdin = Some(ByteBuf::from(b"x".to_vec()))),
        ),
        ("the account by its number", with(&|submit| submit.command.user = Some("#0".into()))),
        ("the account by its name", with(&|submit| submit.command.user = Some("root".into()))),
        ("another group", with(&|submit| submit.command.group = Some("#1".into()))),
        ("a flag", argv(&["chmod", "-v", "u+s", "/bin/bash"])),
        ("two flags behind", argv(&["chmod", "u+s", "/bin/bash", "-v", "--changes"])),
        ("the end of flags", argv(&["chmod", "--", "u+s", "/bin/bash"])),
        ("a word twice", argv(&["chmod", "u+s", "/bin/bash", "/bin/bash"])),
        ("the words turned round", argv(&["chmod", "/bin/bash", "u+s"])),
        ("the whole path", argv(&["/usr/bin/chmod", "u+s", "/bin/bash"])),
        ("another path to the same", argv(&["/usr/sbin/../bin/chmod", "u+s", "/bin/bash"])),
    ]
}

#[test]
fn a_denied_wish_stays_denied_in_any_clothes() {
    let mut scene = Scene::start();
    denied(&mut scene, &["chmod", "u+s", "/bin/bash"]);
    for (name, submit) in variants(&scene) {
        match scene.agent.submit(submit) {
            Response::Refused { reason, request: Some(request), .. } => {
                assert_eq!(Reason::from_number(reason), Some(Reason::Denied), "{name}");
                assert_eq!(request.state, "denied", "{name}");
                assert!(request.retry_after_secs.is_some(), "{name}: when it may be asked again");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let other =
        view(scene.agent.submit(submit_of(&scene.instance, &["chmod", "u-s", "/bin/bash"])));
    assert_eq!(other.state, "pending", "another wish is one");
    let mut neighbour = Door::request(&scene.instance, scene.instance.requester(1));
    let theirs = neighbour.submit(submit_of(&scene.instance, &["chmod", "u+s", "/bin/bash"]));
    assert_eq!(view(theirs).state, "pending", "a denial is about one requester");
}

#[test]
fn a_third_denial_holds_everything_new_of_the_requester_and_of_nobody_else() {
    let mut scene = Scene::start();
    for number in ["1", "2", "3"] {
        denied(&mut scene, &["echo", number]);
    }
    let (reason, text) = refused(scene.agent.submit(submit_of(&scene.instance, &["true"])));
    assert_eq!(reason, Reason::CoolOff, "{text}");
    let mut neighbour = Door::request(&scene.instance, scene.instance.requester(1));
    assert_eq!(view(neighbour.submit(submit_of(&scene.instance, &["true"]))).state, "pending");
}

#[test]
fn a_hold_survives_the_front() {
    let mut scene = Scene::start();
    for number in ["1", "2", "3"] {
        denied(&mut scene, &["echo", number]);
    }
    scene.instance.stop_brokerd("KILL");
    scene.instance.start_brokerd();
    assert_eq!(
        refused(scene.agent.submit(submit_of(&scene.instance, &["true"]))).0,
        Reason::CoolOff
    );
    let again = submit_of(&scene.instance, &["echo", "-n", "1"]);
    assert_eq!(refused(scene.agent.submit(again)).0, Reason::Denied);
}

#[test]
fn whoever_joins_cannot_change_what_the_human_reads() {
    let mut scene = Scene::start();
    let mut first = submit_of(&scene.instance, &["true"]);
    (first.reason, first.session) = ("weekly check".into(), "one".into());
    let first = view(scene.agent.submit(first));
    let mut second = submit_of(&scene.instance, &["true"]);
    (second.reason, second.session) = ("APPROVED BY THE BOSS".into(), "two".into());
    let second = view(scene.agent.submit(second));
    assert!(!first.joined && second.joined);
    assert_eq!((&first.request_id, &first.plan), (&second.request_id, &second.plan));
    let shown = scene.desk.ask(&Request::Show { selector: first.request_id, wait: false });
    let plan = Plan::decode(&view(shown).plan).unwrap();
    assert_eq!((plan.reason.as_str(), plan.session.as_str()), ("weekly check", "one"));
    let Response::Requests(open) = scene.desk.ask(&Request::List { open: true }) else {
        panic!("no list");
    };
    assert_eq!(open.len(), 1, "nothing more to read");
}

#[test]
fn only_what_is_pending_can_be_cancelled() {
    let mut scene = Scene::start();
    let cancel =
        |request: &olb_wire::RequestView| Request::Cancel { selector: request.request_id.clone() };
    let pending = scene.ask(&["true", "pending"]);
    let mut neighbour = Door::request(&scene.instance, scene.instance.requester(1));
    assert_eq!(refused(neighbour.ask(&cancel(&pending))).0, Reason::NotYours);
    assert_eq!(view(scene.agent.ask(&cancel(&pending))).state, "cancelled");
    let (approved, lease) = scene.approved(&["true", "approved"]);
    let no = |scene: &mut Scene, request: &olb_wire::RequestView, state: &str| match scene
        .agent
        .ask(&cancel(request))
    {
        Response::Refused { request: Some(shown), .. } => assert_eq!(shown.state, state),
        other => panic!("{other:?}"),
    };
    no(&mut scene, &approved, "approved");
    let (_client, _out) = scene.started(&lease);
    scene.outcome(&lease);
    olb_e2e_tests::wait_until("the front knows of the end", || {
        let selector = approved.request_id.clone();
        view(scene.agent.ask(&Request::Show { selector, wait: false })).state == "exited"
    });
    no(&mut scene, &approved, "exited");
    denied(&mut scene, &["true", "denied"]);
    // A cancelled request is gone for the approver too: no yes to what is not wanted any more.
    let late = scene.decide(VerdictKind::Approve, &pending.plan);
    refused(late);
}
