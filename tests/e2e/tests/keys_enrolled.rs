//! What root and a person are told about an approver's key, with real processes: who is enrolled is
//! said to be only where the root half takes the key, and who was revoked hears that.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use olb_e2e_tests::{Instance, Ran, Recovery, Scene, refused};
use olb_exec_api::Reason;
use olb_lease::{Approver, SigningKey, VerdictKind};

/// `olb keys` as root.
fn keys(instance: &Instance, words: &[&str]) -> Ran {
    instance.olb(0, &[&["keys"], words].concat())
}

fn fresh_key(seed: u8) -> String {
    SigningKey::<Approver>::from_seed(&[seed; 32].into()).unwrap().public().hex()
}

// [F-9]
#[test]
fn a_key_that_only_the_ledger_has_as_revoked_is_not_said_to_approve() {
    let at = Recovery::start();
    let (kid, hex) = (at.alice.key().public().kid().hex(), at.alice.key().public().hex());
    keys(&at.instance, &["revoke", "approver-0"]).expect(0);
    fs::remove_file(at.instance.path("approvers.d").join(format!("{kid}.revoked"))).unwrap();
    let enroll = |name: &str, hex: &str| {
        keys(&at.instance, &["enroll", "--user", "root", "--name", name, "--key", hex])
    };
    let refused = enroll("again", &hex).expect(77);
    assert!(refused.stderr.contains("revoked in the ledger"), "{refused:?}");
    assert!(refused.stderr.contains("cannot approve"), "{refused:?}");
    assert!(!at.instance.enrolment("again").exists(), "it says nothing that is not so");

    let taken = enroll("desk", &fresh_key(5)).expect(0);
    assert!(taken.stdout.contains("may approve"), "{taken:?}");
    let before = fs::read(at.instance.enrolment("desk")).unwrap();
    let words = ["enroll", "--replaces", "desk", "--key", &hex];
    let refused = keys(&at.instance, &words).expect(77);
    assert!(refused.stderr.contains("revoked in the ledger"), "{refused:?}");
    assert_eq!(fs::read(at.instance.enrolment("desk")).unwrap(), before);
}

#[test]
fn a_key_is_said_to_approve_only_by_a_root_half_that_takes_it() {
    let mut at = Recovery::start();
    let over = ["enroll", "--user", "root", "--not-after", "5", "--key", &fresh_key(6)];
    let told = keys(&at.instance, &over).expect(69);
    assert!(told.stderr.contains("does not take it"), "{told:?}");
    at.instance.stop(olb_e2e_tests::Half::Root, "TERM");
    let words = ["enroll", "--user", "root", "--name", "later", "--key", &fresh_key(7), "--json"];
    let told = keys(&at.instance, &words).expect(0).json();
    assert_eq!(told["in_force"], false);
    at.revive(olb_e2e_tests::Half::Root);
    let told = keys(&at.instance, &words).expect(0).json();
    assert_eq!(told["in_force"], true);
}

// [F-9]
#[test]
fn who_decides_with_a_revoked_key_is_told_that_it_was_revoked() {
    let mut at = Recovery::start();
    let kid = at.alice.key().public().kid().hex();
    let (command, _) = at.command();
    let pending = at.ask(&command);
    keys(&at.instance, &["revoke", "approver-0"]).expect(0);
    // Who may look into the folder of enrolments, as everybody may where it is installed.
    let state = at.instance.state();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o711)).unwrap();
    symlink(at.instance.path("approvers.d"), state.join("approvers.d")).unwrap();
    let told = |at: &Recovery, word: &str| {
        let refused = at.instance.olb_as(&at.alice, &[word, "--id", &pending]).expect(77);
        assert!(refused.stderr.contains(&format!("key {kid} was revoked")), "{refused:?}");
    };
    told(&at, "approve");
    // Also where another key of the same person opens the door.
    at.instance.enrol_as(at.alice.uid, "desk", "");
    told(&at, "approve");
    told(&at, "deny");
}

// [F-9]
#[test]
fn the_root_half_says_of_a_revoked_key_s_verdict_that_the_key_was_revoked() {
    let mut scene = Scene::start();
    let asked = scene.ask(&["id", "-u"]);
    keys(&scene.instance, &["revoke", "approver-0"]).expect(0);
    scene.instance.enrol_as(scene.alice.uid, "desk", "");
    let (reason, text) = refused(scene.decide(VerdictKind::Approve, &asked.plan));
    assert_eq!(reason, Reason::NotEnrolled);
    assert!(text.contains("was revoked"), "{text}");
}
