//! An approver that does not behave, and whoever pretends to be one: a verdict counts only whole,
//! fresh, by an enrolled key, from that key's uid, and once.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};

use olb_e2e_tests::{
    Approver, Door, ExecSock, Scene, message, open_files, refused, resident_kib, submit_of, view,
    wait_until,
};
use olb_exec_api::{ClientFrame, Reason};
use olb_lease::{VerdictKind, plan_digest};
use olb_wire::{ByteBuf, Request, Response};

/// How many things were recorded so far.
fn sequence(scene: &Scene) -> u64 {
    ExecSock::of(&scene.instance).info().sequence
}

/// Presents a lease and expects a refusal.
fn refusal(scene: &mut Scene, lease: &[u8]) -> Reason {
    match scene.agent.execute(lease).frame() {
        Some((ClientFrame::Refused(refusal), _)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

/// Presents a lease and sees its run to the end.
fn run(scene: &mut Scene, lease: &[u8]) {
    let (mut client, _out) = scene.started(lease);
    assert!(matches!(client.frame(), Some((ClientFrame::Outcome { .. }, _))));
}

#[test]
fn a_verdict_with_any_byte_changed_is_nothing() {
    let mut scene = Scene::start();
    let asked = scene.ask(&["true"]);
    let good = scene.alice.sign(VerdictKind::Approve, plan_digest(&asked.plan), scene.epoch);
    let before = sequence(&scene);
    for at in 0..good.len() {
        let mut verdict = good.clone();
        verdict[at] ^= 1 << (at % 8);
        refused(scene.desk.ask(&Request::Decide { verdict: ByteBuf::from(verdict) }));
    }
    for length in (0..good.len()).chain([good.len() + 1]) {
        let mut verdict = good.clone();
        verdict.resize(length, 0);
        refused(scene.desk.ask(&Request::Decide { verdict: ByteBuf::from(verdict) }));
    }
    assert_eq!(sequence(&scene), before, "nothing was recorded");
    let decided = scene.desk.ask(&Request::Decide { verdict: ByteBuf::from(good) });
    assert_eq!(view(decided).state, "approved");
}

#[test]
fn a_key_that_is_not_ones_own_or_nobodys_decides_nothing() {
    let mut scene = Scene::start();
    let bob = scene.instance.enrol(1);
    let asked = scene.ask(&["true"]);
    let before = sequence(&scene);
    let digest = plan_digest(&asked.plan);
    let nobody = Approver::new(scene.alice.uid, "nobody");
    // A key by the enrolled name, and another person's key.
    for (key, wanted) in [(&nobody, Reason::NotEnrolled), (&bob, Reason::WrongApprover)] {
        for kind in [VerdictKind::Approve, VerdictKind::Deny, VerdictKind::Revoke] {
            let claims = key.claims(kind, digest, scene.epoch);
            assert_eq!(refused(scene.desk.decide(key, &claims)).0, wanted, "{kind:?}");
        }
    }
    assert_eq!(sequence(&scene), before);
    let mut bobs = Door::review(&scene.instance, bob.uid);
    let claims = bob.claims(VerdictKind::Approve, digest, scene.epoch);
    assert_eq!(view(bobs.decide(&bob, &claims)).decided_by.as_deref(), Some("approver-1"));
}

#[test]
fn an_old_future_expired_or_foreign_verdict_decides_nothing() {
    let mut scene = Scene::start();
    let asked = scene.ask(&["true"]);
    let before = sequence(&scene);
    let claims = scene.alice.claims(VerdictKind::Approve, plan_digest(&asked.plan), scene.epoch);
    let mut variants = vec![claims.clone(); 5];
    variants[0].issued_at -= 180;
    variants[1].issued_at += 300;
    variants[2].issued_at -= 60;
    variants[2].expires_at = claims.issued_at - 30;
    variants[3].epoch.0[0] ^= 1;
    variants[4].plan.0[0] ^= 1;
    let wanted = [[Reason::StaleVerdict; 4].as_slice(), &[Reason::NotYours]].concat();
    for (claims, wanted) in variants.iter().zip(wanted) {
        assert_eq!(refused(scene.desk.decide(&scene.alice, claims)).0, wanted, "{claims:?}");
    }
    assert_eq!(sequence(&scene), before);
    assert_eq!(view(scene.desk.decide(&scene.alice, &claims)).state, "approved");
}

#[test]
fn a_verdict_sent_again_gives_the_same_lease_and_never_a_second_run() {
    let mut scene = Scene::start();
    let asked = scene.ask(&["true"]);
    let verdict = scene.alice.sign(VerdictKind::Approve, plan_digest(&asked.plan), scene.epoch);
    let verdict = Request::Decide { verdict: ByteBuf::from(verdict) };
    let receipt = |response| match response {
        Response::Decided { receipt, .. } => receipt,
        other => panic!("{other:?}"),
    };
    let first = receipt(scene.desk.ask(&verdict));
    let recorded = sequence(&scene);
    for _ in 0..20 {
        assert_eq!(receipt(scene.desk.ask(&verdict)), first);
    }
    assert_eq!(sequence(&scene), recorded, "once recorded");
    let lease = view(scene.agent.submit(submit_of(&scene.instance, &["true"]))).lease.unwrap();
    run(&mut scene, &lease);
    // After the run the same yes, a new yes, and a no all come too late.
    assert_eq!(refused(scene.desk.ask(&verdict)).0, Reason::AlreadyBurned);
    for kind in [VerdictKind::Approve, VerdictKind::Deny, VerdictKind::Revoke] {
        let late = scene.decide(kind, &asked.plan);
        assert_eq!(refused(late).0, Reason::AlreadyBurned, "{kind:?}");
    }
    assert_eq!(refusal(&mut scene, &lease), Reason::AlreadyBurned);
}

#[test]
fn two_yeses_by_two_people_are_one_lease() {
    let mut scene = Scene::start();
    let bob = scene.instance.enrol(1);
    let asked = scene.ask(&["true"]);
    view(scene.decide(VerdictKind::Approve, &asked.plan));
    let mut bobs = Door::review(&scene.instance, bob.uid);
    let claims = bob.claims(VerdictKind::Approve, plan_digest(&asked.plan), scene.epoch);
    let second = view(bobs.decide(&bob, &claims));
    assert_eq!(second.decided_by.as_deref(), Some("approver-0"), "the first yes stands");
    let lease = view(scene.agent.submit(submit_of(&scene.instance, &["true"]))).lease.unwrap();
    run(&mut scene, &lease);
    assert_eq!(refusal(&mut scene, &lease), Reason::AlreadyBurned);
}

#[test]
fn no_stands_against_a_later_yes_and_revokes_an_earlier_one() {
    let mut scene = Scene::start();
    let denied = scene.ask(&["true", "denied"]);
    assert_eq!(view(scene.decide(VerdictKind::Deny, &denied.plan)).state, "denied");
    for kind in [VerdictKind::Approve, VerdictKind::Revoke] {
        let late = scene.decide(kind, &denied.plan);
        let (reason, _) = refused(late);
        assert!([Reason::Denied, Reason::AlreadyDecided].contains(&reason), "{kind:?}: {reason:?}");
    }
    let words = [(VerdictKind::Deny, Reason::Denied), (VerdictKind::Revoke, Reason::Revoked)];
    for (kind, word) in words {
        let (approved, lease) = scene.approved(&["true", &format!("{kind:?}")]);
        assert_eq!(view(scene.decide(kind, &approved.plan)).state, "revoked");
        assert_eq!(refusal(&mut scene, &lease), Reason::Revoked);
        // Not by the front's word only: the root half refuses it too.
        let sock = ExecSock::of(&scene.instance);
        let uid = scene.instance.requester(0);
        let (mut replies, _client) = sock.execute(&lease, &approved.plan, uid);
        let Some(olb_e2e_tests::Reply::Refused(refused)) = replies.next() else { panic!("it ran") };
        assert_eq!(refused.reason, word);
    }
}

#[test]
fn an_enrolment_that_is_removed_ends_leases_and_watching() {
    let mut scene = Scene::start();
    let (_, lease) = scene.approved(&["true"]);
    let asked = scene.ask(&["true", "later"]);
    let enrolment = scene.instance.enrolment(&scene.alice.name);
    let kept = fs::read(&enrolment).unwrap();
    let mut watcher = scene.desk.connect();
    watcher.send(&message(&Request::Watch)).unwrap();
    let (mut waiting, _) =
        scene.desk.ask_and_stay(&Request::Show { selector: asked.request_id.clone(), wait: true });
    fs::remove_file(&enrolment).unwrap();
    assert_eq!(refusal(&mut scene, &lease), Reason::NotEnrolled);
    // The front may know of the removal a second late, the root half does not.
    let refusal = refused(scene.decide(VerdictKind::Approve, &asked.plan));
    assert_eq!(refusal.0, Reason::NotEnrolled);
    wait_until("the door is closed", || {
        matches!(scene.desk.ask(&Request::Status), Response::Refused { reason, .. }
            if Reason::from_number(reason) == Some(Reason::NotEnrolled))
    });
    // Those who were in before are sent away as well, without another word about requests.
    for open in [&mut watcher, &mut waiting] {
        assert_eq!(refused(open.answer().unwrap()).0, Reason::NotEnrolled);
        assert!(open.answer().is_none());
    }
    fs::write(&enrolment, kept).unwrap();
    wait_until("the door is open", || {
        matches!(scene.desk.ask(&Request::Status), Response::Status(_))
    });
    run(&mut scene, &lease);
}

#[test]
fn a_requester_with_an_enrolled_key_approves_nothing() {
    let mut scene = Scene::start();
    let other = scene.instance.requester(1);
    for (uid, name) in [(scene.instance.requester(0), "own"), (other, "other")] {
        let key = scene.instance.enrol_as(uid, name, "");
        let asked = scene.ask(&["true", name]);
        let mut door = Door::review(&scene.instance, uid);
        let claims = key.claims(VerdictKind::Approve, plan_digest(&asked.plan), scene.epoch);
        assert_eq!(refused(door.decide(&key, &claims)).0, Reason::NotEnrolled, "at the door");
        // Past the door, by a front that lets everybody in.
        let sock = ExecSock::of(&scene.instance);
        let refused = sock.decide_as(&key, VerdictKind::Approve, &asked.plan, scene.epoch);
        assert_eq!(refused.unwrap_err().reason, Reason::SelfApproval);
    }
}

#[test]
fn a_key_file_that_others_can_read_or_that_is_somebody_elses_is_not_used() {
    let scene = Scene::start();
    let id = scene.instance.request(scene.instance.requester(0), &["true"]);
    let key = scene.instance.key_file(&scene.alice.name);
    let mode = |bits| fs::set_permissions(&key, fs::Permissions::from_mode(bits)).unwrap();
    let before = sequence(&scene);
    for bits in [0o644, 0o640, 0o660, 0o606] {
        mode(bits);
        let ran = scene.instance.olb_as(&scene.alice, &["approve", "--id", &id]);
        assert_ne!(ran.code, 0, "{bits:o}: {ran:?}");
        assert!(ran.stderr.contains("chmod") || ran.stderr.contains("0600"), "{bits:o}: {ran:?}");
    }
    mode(0o600);
    chown(&key, Some(scene.instance.requester(1)), None).unwrap();
    let ran = scene.instance.olb_as(&scene.alice, &["approve", "--id", &id]);
    assert_ne!(ran.code, 0, "{ran:?}");
    chown(&key, Some(scene.alice.uid), None).unwrap();
    let longer = fs::File::options().append(true).open(&key).unwrap();
    (&longer).write_all(b"more\n").unwrap();
    assert_ne!(scene.instance.olb_as(&scene.alice, &["approve", "--id", &id]).code, 0);
    assert_eq!(sequence(&scene), before);
    fs::write(&key, scene.alice.key_text()).unwrap();
    scene.instance.olb_as(&scene.alice, &["approve", "--id", &id]).expect(0);
}

#[test]
fn a_watcher_that_never_reads_is_let_go_and_costs_little() {
    let mut scene = Scene::with(&format!("{}response_write_secs = 1\n", olb_e2e_tests::ROOMY), "");
    let front = scene.instance.brokerd_pid();
    // From here on the front knows that this uid is an approver.
    assert!(matches!(scene.desk.ask(&Request::Status), Response::Status(_)));
    let places = open_files(front);
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut raw = scene.desk.connect();
        raw.send(&message(&Request::Watch)).unwrap();
        deaf.push(raw);
    }
    let before = resident_kib(front);
    let mut taken = 0;
    for number in 0..500 {
        let submit = submit_of(&scene.instance, &["true", &number.to_string(), &"x".repeat(8000)]);
        taken += usize::from(matches!(scene.agent.submit(submit), Response::Request(_)));
    }
    assert_eq!(taken, 500);
    let after = resident_kib(front);
    println!("20 watchers that never read, 500 changes: KiB {before} before, {after} after");
    assert!(after < before + 64 * 1024);
    wait_until("they are let go", || open_files(front) <= places);
    for raw in &mut deaf {
        let mut seen = 0;
        while raw.answer_or_end().is_some() {
            seen += 1;
        }
        assert!(seen < 500, "{seen}");
    }
    let last = scene.ask(&["true", "last"]);
    assert_eq!(view(scene.decide(VerdictKind::Approve, &last.plan)).state, "approved");
}
