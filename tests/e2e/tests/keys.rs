//! Ending a key and putting another in its place, with real processes: what was approved with a key
//! that is revoked never runs, whoever is down meanwhile, and no file that is put back changes that.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use olb_e2e_tests::{
    ExecSock, Half, Instance, Options, Ran, Recovery, Reply, Trail, append, lines, plan_for,
    refusal_of, wait_until,
};
use olb_exec_api::{ClientFrame, Op, Query, Reason, RecordPage};
use olb_lease::{Audit, Digest, Kid, PublicKey, Record, RecordEvent};
use serde_json::Value;

/// `olb keys` as root.
fn keys(instance: &Instance, words: &[&str]) -> Ran {
    instance.olb(0, &[&["keys"], words].concat())
}

fn revoked_file(instance: &Instance, kid: Kid) -> PathBuf {
    instance.path("approvers.d").join(format!("{}.revoked", kid.hex()))
}

/// The events of the whole trail, in order.
fn events(sock: &ExecSock) -> Vec<RecordEvent> {
    let mut events = Vec::new();
    loop {
        let from = events.len() as u64 + 1;
        let answer = sock.ask(Op::Read, &Query::Records { from }.encode(), &[], &[]).next();
        let Some(Reply::Done(page)) = answer else { panic!("{answer:?}") };
        let page = RecordPage::decode(&page).unwrap();
        if page.records.is_empty() {
            return events;
        }
        events.extend(page.records.iter().map(|one| Record::decode(&one.record).unwrap().event));
    }
}

fn ends_of(sock: &ExecSock, kid: Kid) -> usize {
    events(sock).iter().filter(|event| **event == RecordEvent::KeyEnded { kid }).count()
}

/// What a lease of a revoked key comes to: a refusal that says why, nothing runs, and who asks again
/// has a new request.
fn is_dead(at: &Recovery, id: &str, command: &[String; 3], file: &Path) {
    // The root half's word, or already the front's, which hears of it at the same time.
    let refused = at.exec(id, command);
    let why = match refused.code {
        77 => "was revoked",
        75 => "approver's key",
        _ => panic!("{refused:?}"),
    };
    assert!(refused.stderr.contains(why), "{refused:?}");
    assert!(refused.stderr.to_lowercase().contains("ask again"), "{refused:?}");
    wait_until("the front knows", || at.status(id)["state"] == "expired");
    at.exec(id, command).expect(75);
    assert_ne!(at.ask(command), id);
    assert_eq!(lines(file), 0);
}

// [F-9]
#[test]
fn what_a_revoked_key_approved_is_dead_at_once_and_it_decides_nothing_more() {
    let mut at = Recovery::start();
    let kid = at.alice.key().public().kid();
    let (command, file) = at.command();
    let id = at.approved(&command);
    let (other, other_file) = at.command();
    let pending = at.ask(&other);
    let words = ["revoke", "approver-0", "--reason", "lost laptop", "--json"];
    let done = keys(&at.instance, &words).expect(0).json();
    assert_eq!((&done["revoked"], &done["in_force"]), (&true.into(), &true.into()));
    assert_eq!((&done["kid"], &done["was_revoked"]), (&kid.hex().into(), &false.into()));
    is_dead(&at, &id, &command, &file);
    let refused = at.decide(&["approve", "--id", &pending]).expect(77);
    assert!(refused.stderr.contains("enrol"), "{refused:?}");
    // Nobody is told that something is denied without the root half's signature.
    at.decide(&["deny", "--id", &pending]).expect(69);
    assert_eq!(at.status(&pending)["state"], "pending", "undecided");
    assert!(!at.instance.enrolment("approver-0").exists());
    assert_eq!(ends_of(&at.sock, kid), 1);

    for name in ["approver-0", &kid.hex(), &at.alice.key().public().hex()] {
        let again = keys(&at.instance, &["revoke", name, "--json"]).expect(0).json();
        assert_eq!((&again["was_revoked"], &again["record"]), (&true.into(), &done["record"]));
    }
    assert_eq!(ends_of(&at.sock, kid), 1, "it ends once");
    let listed = keys(&at.instance, &["list", "--json"]).expect(0).json();
    let out = &listed["out"][0];
    assert_eq!((&out["state"], &out["kid"]), (&"revoked".into(), &kid.hex().into()));
    assert!(out["why"].as_str().unwrap().ends_with(": lost laptop"), "{out}");

    // Somebody else decides on.
    at.alice = at.instance.enrol(1);
    at.ran_once(&pending, &other, &other_file);
}

// [F-9]
#[test]
fn a_lease_of_a_revoked_key_is_called_valid_by_nobody_also_before_it_is_presented() {
    let at = Recovery::start();
    let (id, lease) = at.instance.approved(at.agent, &at.alice, &["id", "-u"]);
    let inspect = || at.instance.olb(at.agent, &["lease", "inspect", &lease]);
    assert_eq!(inspect().expect(0).json()["stage"], "valid");
    keys(&at.instance, &["revoke", "approver-0"]).expect(0);
    wait_until("the front knows", || at.status(&id)["state"] == "expired");
    let told = inspect().expect(77).json();
    assert_eq!((&told["stage"], &told["valid_signature"]), (&"expired".into(), &true.into()));
    assert!(told.to_string().contains("key counts no longer"), "{told}");
}

// [T-6]
#[test]
fn the_key_that_signs_the_trail_is_not_ended_as_an_approvers_is() {
    let mut at = Recovery::start();
    let info = at.sock.info();
    for (key, which) in [(info.audit_key, "audit"), (info.lease_key, "lease")] {
        let refused = keys(&at.instance, &["revoke", &Digest(key).hex()]).expect(64);
        assert!(refused.stderr.contains(&format!("rotate {which}")), "{refused:?}");
    }
    let kid = PublicKey::<Audit>::from_bytes(&info.audit_key).unwrap().kid();
    fs::write(revoked_file(&at.instance, kid), "").unwrap();
    let (command, file) = at.command();
    let id = at.ask(&command);
    at.ran_once(&id, &command, &file);
    assert_eq!(ends_of(&at.sock, kid), 0);
    at.instance.olb(at.alice.uid, &["audit", "verify", "--no-anchor"]).expect(0);
}

// [F-9]
#[test]
fn a_revoked_key_comes_back_neither_by_enrolment_nor_by_removing_the_file() {
    let mut at = Recovery::start();
    let (kid, hex) = (at.alice.key().public().kid(), at.alice.key().public().hex());
    let enrolment = fs::read_to_string(at.instance.enrolment("approver-0")).unwrap();
    let mut approved: Vec<_> = (0..3)
        .map(|_| {
            let (command, file) = at.command();
            (at.approved(&command), command, file)
        })
        .collect();
    let mut next_is_dead = |at: &Recovery| {
        let (id, command, file) = approved.pop().unwrap();
        is_dead(at, &id, &command, &file);
    };
    keys(&at.instance, &["revoke", "approver-0"]).expect(0);
    let words = ["enroll", "--user", "root", "--name", "again", "--key", &hex];
    let refused = keys(&at.instance, &words).expect(77);
    assert!(refused.stderr.contains("was revoked, for ever"), "{refused:?}");
    assert!(!at.instance.enrolment("again").exists());

    let (other, _) = at.command();
    let pending = at.ask(&other);
    fs::write(at.instance.enrolment("approver-0"), &enrolment).unwrap();
    at.decide(&["approve", "--id", &pending]).expect(77);
    next_is_dead(&at);
    fs::remove_file(revoked_file(&at.instance, kid)).unwrap();
    for _ in 0..2 {
        at.decide(&["approve", "--id", &pending]).expect(77);
        next_is_dead(&at);
        assert!(at.sock.info().enrolments.is_empty(), "nobody is told that it counts");
        at.instance.stop(Half::Root, "TERM");
        at.revive(Half::Root);
    }
    assert!(at.sock.info().enrolments.is_empty());
    assert_eq!(ends_of(&at.sock, kid), 1);
}

// [F-9]
#[test]
fn a_key_that_is_revoked_while_the_root_half_is_down_is_dead_before_anything_runs() {
    let mut at = Recovery::start();
    let kid = at.alice.key().public().kid();
    let (command, file) = at.command();
    let id = at.approved(&command);
    at.instance.stop(Half::Root, "TERM");
    let done = keys(&at.instance, &["revoke", "approver-0", "--json"]).expect(0).json();
    assert_eq!((&done["in_force"], &done["record"]), (&false.into(), &Value::Null));
    at.revive(Half::Root);
    assert_eq!(ends_of(&at.sock, kid), 1, "recorded by the start, before anybody asked for it");
    fs::remove_file(revoked_file(&at.instance, kid)).unwrap();
    is_dead(&at, &id, &command, &file);
    Trail::read(&at.sock);
}

// [F-9]
#[test]
fn who_keeps_the_root_half_busy_holds_up_its_answer_and_not_a_revocation() {
    let mut instance = Instance::with(Options { without_front: true, ..Options::default() });
    let kid = instance.enrol(0).key().public().kid();
    instance.stop(Half::Root, "TERM");
    let refusing = ExecSock::busy_once(&instance);
    let told = keys(&instance, &["revoke", "approver-0", "--json"]).expect(69);
    assert_eq!(told.json()["error"], "not_confirmed", "{told:?}");
    assert!(told.stderr.contains("too much is asked"), "{told:?}");
    refusing.join().unwrap();
    assert!(revoked_file(&instance, kid).exists() && !instance.enrolment("approver-0").exists());
    instance.start_half(Half::Root);
    assert_eq!(ends_of(&ExecSock::of(&instance), kid), 1);
}

#[test]
fn a_revocation_in_a_folder_that_the_broker_does_not_read_is_not_called_one() {
    let at = Recovery::start();
    let elsewhere = at.instance.state().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let (folder, key) = (elsewhere.to_str().unwrap(), at.alice.key().public().hex());
    let words = ["revoke", &key, "--approvers-dir", folder, "--json"];
    let told = keys(&at.instance, &words).expect(69);
    assert_eq!(told.json()["error"], "not_confirmed", "{told:?}");
    assert!(told.stderr.contains("its approvers_dir is another folder"), "{told:?}");
    assert_eq!(ends_of(&at.sock, at.alice.key().public().kid()), 0, "it still decides");
}

// [F-9]
#[test]
fn an_older_ledger_does_not_bring_a_revoked_key_back() {
    let mut at = Recovery::start();
    let kid = at.alice.key().public().kid();
    let enrolment = fs::read_to_string(at.instance.enrolment("approver-0")).unwrap();
    at.instance.stop(Half::Root, "TERM");
    let ledger = at.instance.state().join("ledger.db");
    let older = fs::read(&ledger).unwrap();
    at.revive(Half::Root);
    keys(&at.instance, &["revoke", "approver-0"]).expect(0);
    at.instance.stop(Half::Root, "TERM");
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        fs::remove_file(at.instance.state().join(name)).ok();
    }
    fs::write(&ledger, older).unwrap();
    fs::write(at.instance.enrolment("approver-0"), enrolment).unwrap();
    at.revive(Half::Root);
    assert_eq!(ends_of(&at.sock, kid), 1, "recorded anew");
    let (other, _) = at.command();
    let pending = at.ask(&other);
    at.decide(&["approve", "--id", &pending]).expect(77);
}

#[test]
fn only_root_ends_or_replaces_keys_and_only_those_that_it_names_without_doubt() {
    let instance = Instance::start();
    let alice = instance.enrol(0);
    let before = fs::read(instance.enrolment("approver-0")).unwrap();
    for uid in [alice.uid, instance.requester(0), instance.stranger()] {
        for words in [
            &["keys", "revoke", "approver-0"][..],
            &["keys", "rotate", "lease"],
            &["keys", "rotate", "audit"],
        ] {
            let refused = instance.olb(uid, words).expect(77);
            assert!(refused.stderr.contains("for root"), "{refused:?}");
        }
    }
    for wrong in ["approver", "approver-1", "approver-0.conf", "../approver-0", "0123456789abcdef"]
    {
        let refused = keys(&instance, &["revoke", wrong, "--json"]).expect(64);
        assert_eq!(refused.json()["error"], "usage");
    }
    keys(&instance, &["revoke", "approver-0", "--reason", "a\nuid = 0"]).expect(64);
    keys(&instance, &["rotate"]).expect(64);
    keys(&instance, &["rotate", "lease", "--finish"]).expect(64);
    assert_eq!(fs::read(instance.enrolment("approver-0")).unwrap(), before);
    assert_eq!(fs::read_dir(instance.path("approvers.d")).unwrap().count(), 1);
}

#[test]
fn everybody_sees_the_public_keys_and_root_also_what_is_out() {
    let instance = Instance::start();
    let alice = instance.enrol(0);
    instance.enrol_as(instance.stranger(), "late", "not_after = 1\n");
    fs::write(instance.enrolment("torn"), "name = torn\n").unwrap();
    let lists = [0, alice.uid, instance.requester(0)]
        .map(|uid| instance.olb(uid, &["keys", "list", "--json"]).expect(0).json());
    let public = fs::read_to_string(instance.runtime().join("keys.pub")).unwrap();
    for list in &lists {
        assert_eq!(list["keys"].as_array().unwrap().len(), 1);
        assert_eq!(list["keys"][0]["kid"], alice.key().public().kid().hex());
        for name in ["lease", "audit"] {
            let key = list["broker"][name]["key"].as_str().unwrap();
            assert!(public.contains(&format!("{name} {key}\n")), "{list}");
        }
    }
    assert!(lists[0]["broker"]["lease"]["since"].is_string(), "{}", lists[0]);
    assert!(lists[1]["broker"]["lease"]["since"].is_null(), "{}", lists[1]);
    assert!(lists.iter().all(|list| list["broker"]["running"] == true));
    let out = |list: &Value| list["out"].as_array().unwrap().clone();
    let states: Vec<_> = out(&lists[0])
        .iter()
        .map(|one| [&one["file"], &one["state"], &one["why"]].map(|one| one.to_string()))
        .collect();
    let want = [
        ["late.conf", "expired", "at 1970-01-01T00:00:01Z"],
        ["torn.conf", "left_out", "'uid' is missing"],
    ];
    assert_eq!(states, want.map(|row| row.map(|word| format!("\"{word}\""))));
    assert!(out(&lists[1]).is_empty() && out(&lists[2]).is_empty());
    assert!(lists[1]["broker"]["epoch_since"].is_string(), "{}", lists[1]);
    assert!(lists[2]["broker"]["epoch_since"].is_null(), "the trail is not for requesters");
}

// [F-9]
#[test]
fn while_fifty_present_leases_a_revocation_lets_none_begin_after_it() {
    const LEASES: usize = 50;
    let execd = "max_executions = 200\nmax_executions_per_uid = 200\n".into();
    let instance = Instance::with(Options { execd, without_front: true, ..Options::default() });
    let (alice, agent) = (instance.enrol(0), instance.requester(0));
    let kid = alice.key().public().kid();
    let sock = ExecSock::of(&instance);
    let file = instance.work().join("ran");
    let words = append(&file);
    let argv: Vec<&str> = words.iter().map(String::as_str).collect();
    let info = sock.info();
    let approved: Vec<_> = (0..LEASES)
        .map(|_| {
            let plan = plan_for(&instance, &info, agent, &argv).encode().unwrap();
            (sock.approve(&alice, &plan), plan)
        })
        .collect();
    let (start, is_over) = (Barrier::new(LEASES + 1), AtomicBool::new(false));
    let ran = thread::scope(|scope| {
        let presented: Vec<_> = approved
            .iter()
            .map(|(lease, plan)| {
                let (sock, start, is_over) = (sock.clone(), &start, &is_over);
                scope.spawn(move || {
                    start.wait();
                    let began_after = is_over.load(Ordering::SeqCst);
                    let (replies, mut client) = sock.execute(lease, plan, agent);
                    let ran = match client.frame() {
                        Some((ClientFrame::Started, _)) => replies.count() == 2,
                        Some((ClientFrame::Refused(refusal), _)) => {
                            assert_eq!(refusal.reason, Reason::NotEnrolled, "{refusal:?}");
                            assert!(refusal.text.contains("was revoked"), "{refusal:?}");
                            false
                        }
                        other => panic!("{other:?}"),
                    };
                    assert!(!(ran && began_after), "it began after the revocation");
                    ran
                })
            })
            .collect();
        start.wait();
        keys(&instance, &["revoke", "approver-0"]).expect(0);
        is_over.store(true, Ordering::SeqCst);
        presented.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let after = lines(&file);
    println!("{after} of {LEASES} began before the revocation");
    for ((lease, plan), ran) in approved.iter().zip(&ran) {
        let again = sock.execute(lease, plan, agent);
        let reason = if *ran { Reason::AlreadyBurned } else { Reason::NotEnrolled };
        assert_eq!(refusal_of(again), reason);
    }
    assert_eq!(lines(&file), after);
    assert_eq!(after, ran.iter().filter(|ran| **ran).count());
    let events = events(&sock);
    let end = events.iter().position(|event| *event == RecordEvent::KeyEnded { kid }).unwrap();
    let burns = |events: &[RecordEvent]| {
        events.iter().filter(|event| matches!(event, RecordEvent::Burned { .. })).count()
    };
    assert_eq!((burns(&events[..end]), burns(&events[end..])), (after, 0));
    Trail::read(&sock);
}

#[test]
fn a_person_gets_another_key_without_a_moment_in_which_none_counts() {
    let mut at = Recovery::start();
    let (uid, old) = (at.alice.uid, at.alice.key().public().clone());
    let home = at.instance.path("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(uid), Some(uid)).unwrap();
    let key = home.join("approver.key");
    fs::write(&key, at.alice.key_text()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&key, Some(uid), Some(uid)).unwrap();
    let key = key.to_str().unwrap();
    let rotate = |at: &Recovery, more: &[&str]| {
        at.instance.olb(uid, &[&["keys", "rotate", "--key", key, "--json"], more].concat())
    };
    let approve = |at: &mut Recovery, with: &str| {
        let (command, file) = at.command();
        let id = at.ask(&command);
        let decided = at.instance.olb(uid, &["approve", "--key", with, "--id", &id]);
        (decided, id, command, file)
    };
    let begun = rotate(&at, &[]).expect(0).json();
    let new = begun["key"].as_str().unwrap().to_owned();
    approve(&mut at, key).0.expect(0);
    assert_eq!(rotate(&at, &["--finish"]).expect(77).json()["error"], "not_enrolled");

    let (unused, id, command, file) = approve(&mut at, key);
    unused.expect(0);
    let words = ["enroll", "--replaces", &old.kid().hex(), "--key", &new];
    keys(&at.instance, &words).expect(0);
    let refused = at.exec(&id, &command).expect(77);
    assert!(refused.stderr.contains("is not enrolled"), "{refused:?}");
    assert_eq!(lines(&file), 0, "the old key's lease ended with its enrolment");
    approve(&mut at, key).0.expect(77);
    approve(&mut at, &format!("{key}.new")).0.expect(0);
    rotate(&at, &["--finish"]).expect(0);
    approve(&mut at, key).0.expect(0);
    approve(&mut at, &format!("{key}.old")).0.expect(77);

    let done = keys(&at.instance, &["revoke", &old.hex(), "--json"]).expect(0).json();
    assert_eq!((&done["revoked"], &done["in_force"]), (&true.into(), &true.into()));
    rotate(&at, &["--forget"]).expect(0);
    let names: Vec<_> = fs::read_dir(&home).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names, ["approver.key"]);
    approve(&mut at, key).0.expect(0);
}
