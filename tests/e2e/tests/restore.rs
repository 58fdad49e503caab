//! Databases that are damaged, gone, or put back from an older copy, and the next boot: nothing runs
//! twice, and whoever loses an approval by it is told.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use olb_e2e_tests::{Half, Recovery, lines, wait_until};

/// The files of a database, whichever there are.
fn database(dir: &Path, name: &str) -> Vec<PathBuf> {
    let files = ["", "-wal", "-shm", "-journal"].map(|suffix| dir.join(format!("{name}{suffix}")));
    files.into_iter().filter(|path| path.exists()).collect()
}

/// A copy of a database, to be put back.
struct Copy(Vec<(PathBuf, Vec<u8>)>);

impl Copy {
    fn of(dir: &Path, name: &str) -> Self {
        let files = database(dir, name).into_iter();
        Self(files.map(|path| (path.clone(), fs::read(path).unwrap())).collect())
    }

    fn put_back(&self, dir: &Path, name: &str) {
        let owner = fs::metadata(dir).unwrap();
        for path in database(dir, name) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
}

/// Three commands of before: one ran, one is approved, one is asked for.
struct Before {
    ran: Command,
    approved: Command,
    pending: Command,
}

/// A request's id, its command, and the file that counts its runs.
type Command = (String, [String; 3], PathBuf);

impl Before {
    fn of(at: &mut Recovery) -> Self {
        let (ran, ran_file) = at.command();
        let ran_id = at.approved(&ran);
        at.exec(&ran_id, &ran).expect(0);
        let (approved, file) = at.command();
        let id = at.approved(&approved);
        let (pending, pending_file) = at.command();
        let pending_id = at.ask(&pending);
        Self {
            ran: (ran_id, ran, ran_file),
            approved: (id, approved, file),
            pending: (pending_id, pending, pending_file),
        }
    }

    fn approved_is_void_and_pending_goes_on(&self, at: &Recovery) {
        let (id, command, file) = &self.approved;
        at.both_sides_are_told(id, command);
        let (ran_id, ran, ran_file) = &self.ran;
        at.exec(ran_id, ran).expect(77);
        let (pending_id, pending, pending_file) = &self.pending;
        at.ran_once(pending_id, pending, pending_file);
        assert_eq!((lines(ran_file), lines(file)), (1, 0));
    }
}

#[test]
fn an_older_copy_of_the_ledger_put_back_voids_what_was_approved() {
    let mut at = Recovery::start();
    let state = at.instance.state();
    let (command, file) = at.command();
    let id = at.approved(&command);
    let lease = at.status(&id)["lease"].as_str().unwrap().to_owned();
    let (unused, unused_file) = at.command();
    let unused_id = at.approved(&unused);
    at.instance.stop(Half::Root, "TERM");
    let copy = Copy::of(&state, "ledger.db");
    at.revive(Half::Root);
    at.exec(&id, &command).expect(0);
    at.instance.stop(Half::Root, "TERM");
    copy.put_back(&state, "ledger.db");
    at.revive(Half::Root);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    assert_eq!(at.instance.exec(at.agent, &lease, &words).code, 77, "it ran once already");
    at.both_sides_are_told(&unused_id, &unused);
    assert_eq!((lines(&file), lines(&unused_file)), (1, 0));
    let new = at.ask(&unused);
    assert_ne!(new, unused_id);
    at.ran_once(&new, &unused, &unused_file);
}

#[test]
fn an_approval_that_a_copy_of_the_ledger_does_not_know_is_asked_for_again() {
    let mut at = Recovery::start();
    let state = at.instance.state();
    at.instance.stop(Half::Root, "TERM");
    let copy = Copy::of(&state, "ledger.db");
    at.revive(Half::Root);
    let (command, file) = at.command();
    let id = at.approved(&command);
    at.instance.stop(Half::Root, "TERM");
    copy.put_back(&state, "ledger.db");
    at.revive(Half::Root);
    let refused = at.exec(&id, &command);
    assert!([75, 77].contains(&refused.code), "{refused:?}");
    wait_until("the front knows", || at.status(&id)["state"] == "expired");
    assert_eq!(lines(&file), 0);
    let new = at.ask(&command);
    at.ran_once(&new, &command, &file);
}

#[test]
fn a_ledger_that_is_gone_voids_what_was_approved_and_repeats_nothing() {
    let mut at = Recovery::start();
    let before = Before::of(&mut at);
    at.instance.stop(Half::Root, "TERM");
    for path in database(&at.instance.state(), "ledger.db") {
        fs::remove_file(path).unwrap();
    }
    at.revive(Half::Root);
    before.approved_is_void_and_pending_goes_on(&at);
}

#[test]
fn a_damaged_ledger_is_not_opened_and_says_what_to_do() {
    let mut at = Recovery::start();
    let (ran, ran_file) = at.command();
    let ran_id = at.approved(&ran);
    at.exec(&ran_id, &ran).expect(0);
    let (command, file) = at.command();
    let id = at.approved(&command);
    at.instance.stop(Half::Root, "TERM");
    let path = at.instance.state().join("ledger.db");
    let ledger = fs::File::options().write(true).open(&path).unwrap();
    let pages = ledger.metadata().unwrap().len() / 4096;
    for page in 1..pages {
        ledger.write_all_at(&[0xff; 64], page * 4096).unwrap();
    }
    let status = at.instance.try_start(Half::Root).expect_err("it is damaged");
    assert_eq!(status.code(), Some(69));
    let log = at.instance.read_log("execd");
    assert!(log.contains("the ledger is damaged, restore it from a backup or remove it"), "{log}");
    assert_eq!(at.exec(&id, &command).code, 69);
    for path in database(&at.instance.state(), "ledger.db") {
        fs::remove_file(path).unwrap();
    }
    at.revive(Half::Root);
    at.both_sides_are_told(&id, &command);
    at.exec(&ran_id, &ran).expect(77);
    assert_eq!((lines(&ran_file), lines(&file)), (1, 0));
}

#[test]
fn a_front_that_lost_its_memory_asks_again_and_repeats_nothing() {
    let mut at = Recovery::start();
    let front = at.instance.path("front");
    let (command, file) = at.command();
    let id = at.approved(&command);
    let lease = at.status(&id)["lease"].as_str().unwrap().to_owned();
    at.exec(&id, &command).expect(0);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    at.instance.kill(Half::Front);
    for path in database(&front, "broker.db") {
        fs::remove_file(path).unwrap();
    }
    at.revive(Half::Front);
    assert_eq!(at.instance.exec(at.agent, &lease, &words).code, 77);
    let new = at.ask(&command);
    assert_ne!(new, id, "another request, which needs another approval");

    at.instance.stop(Half::Front, "TERM");
    let path = front.join("broker.db");
    let length = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, vec![0xff; length]).unwrap();
    at.revive(Half::Front);
    let told = at.olb(&["status"], &[]).expect(0).stdout;
    assert!(told.contains("broker.db was damaged and is kept as"), "{told}");
    let newer = at.ask(&command);
    assert_eq!(lines(&file), 1);
    at.exec(&newer, &command).expect(75);
    at.complete(&newer, &command);
    assert_eq!(lines(&file), 2, "two approvals, two runs");
}

#[test]
fn an_older_copy_of_the_fronts_memory_is_set_right_by_the_ledger() {
    let mut at = Recovery::start();
    let front = at.instance.path("front");
    let (command, file) = at.command();
    let pending = at.ask(&command);
    at.instance.stop(Half::Front, "TERM");
    let while_pending = Copy::of(&front, "broker.db");
    at.revive(Half::Front);
    at.decide(&["approve", "--id", &pending]).expect(0);
    at.instance.stop(Half::Front, "TERM");
    let while_approved = Copy::of(&front, "broker.db");
    at.revive(Half::Front);
    at.exec(&pending, &command).expect(0);
    for copy in [while_pending, while_approved] {
        at.instance.stop(Half::Front, "TERM");
        copy.put_back(&front, "broker.db");
        at.revive(Half::Front);
        wait_until("the ledger's word is taken", || at.status(&pending)["state"] == "exited");
        at.exec(&pending, &command).expect(77);
        assert_eq!(lines(&file), 1);
    }
}

#[test]
fn the_next_boot_voids_what_was_approved_and_keeps_what_was_asked() {
    let mut at = Recovery::start();
    let before = Before::of(&mut at);
    at.instance.stop(Half::Root, "TERM");
    // Another boot id in the root half's own mount namespace, and a new tmpfs without the counter.
    let boot_id = at.instance.path("boot-id");
    fs::write(&boot_id, "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0\n").unwrap();
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let boot_id = boot_id.to_str().unwrap();
    let unshare = ["unshare", "--mount", "--propagation", "private"];
    at.instance.set_execd_wrapper(&[&unshare[..], &["sh", "-c", script, boot_id]].concat());
    fs::remove_file(at.instance.runtime().join("burn.seq")).unwrap();
    at.revive(Half::Root);
    assert!(at.instance.read_log("execd").contains("the host was booted"));
    before.approved_is_void_and_pending_goes_on(&at);
    // On the same boot nothing is lost again.
    let (kept, kept_file) = at.command();
    let kept_id = at.approved(&kept);
    at.instance.stop(Half::Root, "TERM");
    at.revive(Half::Root);
    at.ran_once(&kept_id, &kept, &kept_file);
}
