//! Another lease key and another audit key for a broker: what the old one signed counts as far as it
//! has to and no further, and whatever is interrupted leaves exactly one key.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use olb_e2e_tests::{
    ExecSock, Half, Instance, Options, Ran, Recovery, exported, lines, recorded, wait_until,
    written,
};
use olb_exec_api::SequencedRecord;
use olb_lease::{
    Audit, ChainHead, Digest, EpochReason, PublicKey, ReceiptClaims, Record, RecordEvent,
    SigningKey,
};

fn keys(instance: &Instance, words: &[&str]) -> Ran {
    instance.olb(0, &[&["keys"], words].concat())
}

fn restart(at: &mut Recovery) {
    at.instance.stop(Half::Root, "TERM");
    at.revive(Half::Root);
}

/// Rotates while the root half runs, which then has to be started again.
fn rotate(at: &mut Recovery, which: &str) {
    let told = keys(&at.instance, &["rotate", which, "--json"]).expect(69);
    assert_eq!(told.json()["error"], "not_in_force", "{told:?}");
    assert!(told.stderr.contains("olb-execd --config "), "it says what to do: {told:?}");
    restart(at);
}

fn export_to(at: &Recovery, name: &str) -> PathBuf {
    let export = at.instance.olb(at.alice.uid, &["audit", "export"]).expect(0);
    let path = at.instance.path(name);
    fs::write(&path, export.stdout).unwrap();
    path
}

fn copied_keys(at: &Recovery, name: &str) -> PathBuf {
    let path = at.instance.path(name);
    fs::copy(at.instance.runtime().join("keys.pub"), &path).unwrap();
    path
}

/// `olb audit verify` without any broker.
fn verify(at: &Recovery, keys: &Path, trail: &Path) -> Ran {
    let words = ["audit", "verify", "--no-anchor", "--keys"];
    let paths = [keys, trail].map(|path| path.to_str().unwrap());
    at.instance.olb(at.alice.uid, &[&words[..], &paths].concat())
}

fn audit_key(at: &Recovery) -> SigningKey<Audit> {
    let text = fs::read_to_string(at.instance.state().join("audit.key")).unwrap();
    SigningKey::from_seed(&Digest::from_hex(text.trim()).unwrap().0.into()).unwrap()
}

fn run_one(at: &mut Recovery) -> String {
    let (command, file) = at.command();
    let id = at.approved(&command);
    at.exec(&id, &command).expect(0);
    assert_eq!(lines(&file), 1);
    id
}

#[test]
fn another_lease_key_voids_what_the_old_one_signed() {
    let mut at = Recovery::start();
    let (command, file) = at.command();
    let id = at.approved(&command);
    let (pending, pending_file) = at.command();
    let pending_id = at.ask(&pending);
    let before = fs::read_to_string(at.instance.runtime().join("keys.pub")).unwrap();
    rotate(&mut at, "lease");
    let after = fs::read_to_string(at.instance.runtime().join("keys.pub")).unwrap();
    assert_ne!(before, after);
    assert_eq!(before.lines().next(), after.lines().next(), "the audit key is the same");
    // Without the front's word: the lease is not this broker's any more.
    let refused = at.exec(&id, &command).expect(77);
    assert!(refused.stderr.contains("ask for the command again"), "{refused:?}");
    at.olb(&["status"], &[]).expect(0);
    at.both_sides_are_told(&id, &command);
    let began = last_epoch(&at);
    let kid = PublicKey::<olb_lease::LeaseIssuer>::from_hex(
        after.lines().find_map(|line| line.strip_prefix("lease ")).unwrap(),
    );
    let want =
        RecordEvent::EpochBegan { reason: EpochReason::NewKey, lease_kid: kid.unwrap().kid() };
    assert_eq!(began, want);
    // What was only asked for names the broker of before: it is over, and asked for again.
    assert_eq!(at.status(&pending_id)["state"], "expired");
    let told = at.exec(&pending_id, &pending).expect(75);
    assert!(told.stderr.contains("under a former key"), "{told:?}");
    assert_eq!((lines(&file), lines(&pending_file)), (0, 0));
    let again = at.ask(&pending);
    assert_ne!(again, pending_id);
    at.ran_once(&again, &pending, &pending_file);

    at.instance.stop(Half::Root, "TERM");
    let told = keys(&at.instance, &["rotate", "lease", "--json"]).expect(0).json();
    assert_eq!(told["in_force"], false);
    at.revive(Half::Root);
    let published = fs::read_to_string(at.instance.runtime().join("keys.pub")).unwrap();
    assert!(published.contains(&format!("lease {}\n", told["key"].as_str().unwrap())));
    at.olb(&["status"], &[]).expect(0);
    run_one(&mut at);
}

#[test]
fn a_request_to_the_broker_under_its_former_key_ends_also_where_the_front_was_down() {
    let mut at = Recovery::start();
    let (command, file) = at.command();
    let id = at.ask(&command);
    at.instance.stop(Half::Front, "TERM");
    at.instance.stop(Half::Root, "TERM");
    keys(&at.instance, &["rotate", "lease"]).expect(0);
    at.revive(Half::Root);
    at.revive(Half::Front);
    wait_until("the front knows", || at.status(&id)["state"] == "expired");
    let again = at.ask(&command);
    assert_ne!(again, id, "nobody can answer the one before");
    at.ran_once(&again, &command, &file);
}

#[test]
fn a_rotation_that_the_root_half_is_too_busy_to_confirm_says_that_the_new_key_is_in_place() {
    let mut at =
        Recovery::of(Instance::with(Options { without_front: true, ..Options::default() }));
    at.instance.stop(Half::Root, "TERM");
    let before = audit_key(&at).public().hex();
    let refusing = ExecSock::busy_once(&at.instance);
    let told = keys(&at.instance, &["rotate", "audit", "--json"]).expect(69);
    refusing.join().unwrap();
    assert_eq!(told.json()["error"], "not_in_force", "{told:?}");
    for part in ["the new audit key is in place", "too much is asked", "olb-execd --config "] {
        assert!(told.stderr.contains(part), "{part}: {told:?}");
    }
    assert_ne!(audit_key(&at).public().hex(), before);
    at.revive(Half::Root);
    assert_eq!(Digest(at.sock.info().audit_key).hex(), audit_key(&at).public().hex());
}

/// The newest record of an epoch's beginning.
fn last_epoch(at: &Recovery) -> RecordEvent {
    let trail = fs::read_to_string(export_to(at, "epochs")).unwrap();
    let mut events = recorded(&exported(&trail)).into_iter().rev().map(|record| record.event);
    let began = |event: &RecordEvent| matches!(event, RecordEvent::EpochBegan { .. });
    events.find(began).expect("an epoch")
}

// [T-6] [T-7]
#[test]
fn another_audit_key_leaves_the_trail_whole_and_the_old_key_without_a_say() {
    let mut at = Recovery::start();
    let old_id = run_one(&mut at);
    let (command, file) = at.command();
    let id = at.approved(&command);
    let (old_trail, old_keys) = (export_to(&at, "old"), copied_keys(&at, "old.pub"));
    let old = audit_key(&at);
    for _ in 0..2 {
        rotate(&mut at, "audit");
    }
    let published = fs::read_to_string(at.instance.runtime().join("keys.pub")).unwrap();
    let retired = published.lines().filter(|line| line.starts_with("audit-retired ")).count();
    assert_eq!(retired, 2, "{published}");
    // Leases live on; their runs are signed for by the new key.
    at.exec(&id, &command).expect(0);
    assert_eq!(lines(&file), 1);
    at.instance.olb(at.alice.uid, &["audit", "verify"]).expect(0);
    let (trail, keys) = (export_to(&at, "new"), copied_keys(&at, "new.pub"));
    verify(&at, &keys, &trail).expect(0);
    verify(&at, &old_keys, &old_trail).expect(0);
    let unproved = verify(&at, &keys, &old_trail).expect(2);
    assert!(unproved.stderr.contains("was replaced since"), "{unproved:?}");
    verify(&at, &old_keys, &trail).expect(2);
    // The log has gone on under a key that the old file does not hold.
    let heads = at.instance.log("execd");
    let anchored = |keys: &Path, trail: &Path| {
        let paths = [keys, &heads, trail].map(|path| path.to_str().unwrap());
        let [keys, heads, trail] = paths;
        let words = ["audit", "verify", "--keys", keys, "--anchor", heads, trail];
        at.instance.olb(at.alice.uid, &words)
    };
    let open = anchored(&old_keys, &old_trail).expect(2);
    let new_kid = audit_key(&at).public().kid().hex();
    assert!(open.stderr.contains("is not among the keys given"), "{open:?}");
    let told = anchored(&keys, &trail).expect(0);
    assert!(told.stdout.contains("anchored: "), "{told:?}");
    assert!(fs::read_to_string(&heads).unwrap().contains(&format!("kid={new_kid}")));

    let forged = at.instance.path("forged");
    fs::write(&forged, go_on_with(&old_trail, &old)).unwrap();
    verify(&at, &old_keys, &forged).expect(0);
    verify(&at, &keys, &forged).expect(2);
    fs::write(&forged, go_on_with(&trail, &old)).unwrap();
    let broken = verify(&at, &keys, &forged).expect(1);
    assert!(broken.stderr.contains("a key that had ended"), "{broken:?}");

    // Alone, without the trail around it, what the old key signed proves nothing any more.
    let told = at.olb(&["result", &old_id], &[]).expect(70);
    assert!(told.stderr.contains("was replaced since"), "{told:?}");
}

// [F-10]
#[test]
fn without_its_retired_keys_a_root_half_does_not_start_and_forgets_none() {
    let mut at = Recovery::start();
    run_one(&mut at);
    rotate(&mut at, "audit");
    at.instance.stop(Half::Root, "TERM");
    let retired = at.instance.state().join("audit.retired");
    let kept = fs::read(&retired).unwrap();
    let published = fs::read(at.instance.runtime().join("keys.pub")).unwrap();
    let start = || {
        let mut command = Command::new(at.instance.path("bin/olb-execd"));
        command.arg("--config").arg(at.instance.state().join("execd.conf"));
        Ran::from(command.output().unwrap()).expect(69).stderr
    };
    for damaged in [&kept[1..], b"\xff\xfe\n", &kept[..kept.len() - 2]] {
        fs::write(&retired, damaged).unwrap();
        let told = start();
        assert!(told.contains("audit.retired is not 'audit-retired'"), "{told}");
        assert!(told.contains("restore the file"), "{told}");
    }
    fs::remove_file(&retired).unwrap();
    fs::create_dir(&retired).unwrap();
    let told = start();
    assert!(told.contains("audit.retired is not a regular file"), "{told}");
    assert_eq!(fs::read(at.instance.runtime().join("keys.pub")).unwrap(), published);
    fs::remove_dir(&retired).unwrap();
    fs::write(&retired, kept).unwrap();
    at.revive(Half::Root);
    at.instance.olb(at.alice.uid, &["audit", "verify", "--no-anchor"]).expect(0);
}

/// A trail with one more outcome, signed by whoever holds `key`.
fn go_on_with(trail: &Path, key: &SigningKey<Audit>) -> String {
    let mut lines = exported(&fs::read_to_string(trail).unwrap());
    let start = ChainHead([0; 32]);
    let previous = lines.iter().fold(start, |head, one| olb_lease::chain(head, &one.record));
    let is_outcome = |record: &Record| matches!(record.event, RecordEvent::Finished { .. });
    let record = recorded(&lines).into_iter().rfind(is_outcome).expect("an outcome").encode();
    let sequence = lines.len() as u64 + 1;
    let receipt = ReceiptClaims { sequence, previous, record: record.clone() }.sign(key);
    lines.push(SequencedRecord { sequence, record, receipt: Some(receipt) });
    written(&lines)
}

/// A call that no program here gets to.
const NEVER: u32 = 60_000;

/// `olb keys rotate audit`, to which `fault` happens at the `nth` of these system calls.
fn rotate_with(instance: &Instance, calls: &str, fault: &str, nth: u32) -> Ran {
    let inject = format!("inject={calls}:{fault}:when={nth}");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject]).arg(instance.path("bin/olb"));
    command.args(["keys", "rotate", "audit"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("OLB_RUNTIME_DIR", instance.runtime());
    Ran::from(command.output().expect("strace"))
}

#[test]
fn a_rotation_that_fails_says_which_key_is_in_place() {
    let instance = Instance::with(Options { without_front: true, ..Options::default() });
    let mut at = Recovery::of(instance);
    at.instance.stop(Half::Root, "TERM");
    let mut seen = [0; 2];
    for name in ["fsync", "?rename,?renameat,?renameat2"] {
        // Twice each: what an attempt that failed has kept is not kept again by the next one.
        for nth in (1..=6).flat_map(|nth| [nth; 2]) {
            let before = audit_key(&at).public().hex();
            let ran = rotate_with(&at.instance, name, "error=EIO", nth);
            if ran.code == 0 {
                continue;
            }
            let is_new = audit_key(&at).public().hex() != before;
            seen[usize::from(is_new)] += 1;
            let told =
                if is_new { "the new key is in place" } else { "the old key is still in place" };
            assert!(ran.stderr.contains(told), "{name} {nth}: {ran:?}");
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_rotation_that_is_killed_at_any_of_its_calls_leaves_one_key_and_forgets_none() {
    let instance = Instance::with(Options { without_front: true, ..Options::default() });
    let mut at = Recovery::of(instance);
    at.instance.stop(Half::Root, "TERM");
    let mut present = audit_key(&at).public().hex();
    let (mut killed, mut made) = (BTreeMap::new(), 0);
    // strace counts each of the calls by itself.
    for name in ["?rename,?renameat,?renameat2", "fsync", "openat", "write", "?unlink,?unlinkat"] {
        for nth in 1.. {
            // The one that is killed, and the next one, which finds what that left.
            let ended = [nth, NEVER].map(|nth| {
                let ended = rotate_with(&at.instance, name, "signal=KILL", nth).code;
                let key = audit_key(&at).public().hex();
                if key != present {
                    let kept = at.instance.state().join("audit.retired");
                    let kept = fs::read_to_string(kept).unwrap();
                    let line = format!("audit-retired {present}\n");
                    assert!(kept.contains(&line), "{name} {nth}: {kept}");
                    (present, made) = (key, made + 1);
                }
                ended == 0
            });
            assert!(ended[1], "after {name} {nth}");
            if ended[0] {
                break;
            }
            killed.insert(name, nth);
        }
    }
    println!("{made} keys made, killed at {killed:?}");
    assert!(killed.len() == 5 && killed["fsync"] > 5, "it was hardly interrupted");
    at.revive(Half::Root);
    assert_eq!(Digest(at.sock.info().audit_key).hex(), present);
    let retired = fs::read_to_string(at.instance.state().join("audit.retired")).unwrap();
    let mut once: Vec<&str> = retired.lines().collect();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), retired.lines().count(), "each old key is there once");
    assert!(made <= once.len());
}
