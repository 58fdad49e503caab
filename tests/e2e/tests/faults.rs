//! Disks that are full, read-only or broken, ledgers that are damaged, gone or put back: refused
//! with a clear reason or done; nothing twice, nothing lost silently, nothing locked.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use olb_e2e_tests::{
    Disk, Half, Injection, Instance, Options, ROOMY, Ran, Recovery, Trail, lines, lines_of,
    wait_until,
};
use olb_lease::Outcome;

/// Both halves, with a small disk under the ledger; the ballast is a quarter of it.
fn small_disk() -> (Recovery, Disk) {
    let execd = "ballast_bytes = 524288\n".into();
    let options = Options { brokerd: ROOMY.into(), execd, ..Options::default() };
    let mut instance = Instance::laid_out(options);
    let disk = Disk::small(&instance.state(), 2048);
    instance.start_execd();
    instance.start_brokerd();
    (Recovery::of(instance), disk)
}

fn ask(at: &Recovery, command: &[String]) -> String {
    let asked = at.olb(&["request", "--json", "--"], command).expect(75).json();
    asked["request_id"].as_str().expect("an id").to_owned()
}

fn approved(at: &Recovery, command: &[String]) -> String {
    let id = ask(at, command);
    at.decide(&["approve", "--id", &id]).expect(0);
    id
}

fn exec(at: &Recovery, id: &str, command: &[String]) -> Ran {
    at.olb(&["exec", "--id", id, "--"], command)
}

/// The request ran once, and everybody knows.
fn ran_once(at: &Recovery, id: &str, command: &[String], file: &Path) {
    let request = at.complete(id, command);
    let trail = Trail::read(&at.sock);
    assert!(trail.is_settled(), "a burn without an outcome");
    assert_eq!(at.one_story(&request, file, &trail), "exited");
}

/// A command that says in `file` that it has started, and ends when told to.
struct Gate {
    file: PathBuf,
    gate: PathBuf,
}

impl Gate {
    fn new(at: &Recovery) -> Self {
        let gate = at.instance.work().join("gate");
        let made = std::process::Command::new("mkfifo").arg(&gate).status();
        assert!(made.expect("mkfifo").success());
        Self { file: at.instance.work().join("gated"), gate }
    }

    fn command(&self) -> Vec<String> {
        let (file, gate) = (self.file.display(), self.gate.display());
        let script = format!("echo started >> {file}; read word < {gate}; echo ended >> {file}");
        vec!["/bin/sh".into(), "-c".into(), script]
    }

    /// Starts it as the agent and waits until it runs.
    fn start(&self, at: &Recovery, id: &str) -> Child {
        let command = self.command();
        let words: Vec<&str> = ["exec", "--id", id, "--"]
            .into_iter()
            .chain(command.iter().map(String::as_str))
            .collect();
        let child = at.instance.olb_command(at.agent, &words).spawn().expect("olb");
        wait_until("the command runs", || lines(&self.file) == 1);
        child
    }

    /// Lets it end.
    fn open(&self) {
        fs::write(&self.gate, "on\n").expect("the gate");
    }

    fn story(&self) -> Vec<String> {
        lines_of(&self.file)
    }
}

fn end_of(child: Child) -> Ran {
    child.wait_with_output().expect("its end").into()
}

#[test]
fn on_a_full_disk_nothing_new_begins_and_what_ran_is_recorded() {
    let (mut at, disk) = small_disk();
    let gate = Gate::new(&at);
    let running = approved(&at, &gate.command());
    let (undecided, undecided_file) = at.command();
    let undecided_id = ask(&at, &undecided);
    let (unburned, unburned_file) = at.command();
    let unburned_id = approved(&at, &unburned);
    let child = gate.start(&at, &running);
    disk.fill();

    let refused = exec(&at, &unburned_id, &unburned).expect(69);
    assert!(refused.stderr.contains("cannot record in its ledger, so nothing ran"), "{refused:?}");
    let refused = at.decide(&["approve", "--id", &undecided_id]).expect(69);
    assert!(refused.stderr.contains("could not confirm the approval"), "{refused:?}");
    gate.open();
    end_of(child).expect(0);
    assert_eq!(Trail::read(&at.sock).fate(&running).outcome, Some(Outcome::Exited(0)));
    assert_eq!((lines(&unburned_file), lines(&undecided_file)), (0, 0));

    disk.free();
    ran_once(&at, &unburned_id, &unburned, &unburned_file);
    ran_once(&at, &undecided_id, &undecided, &undecided_file);
}

#[test]
fn a_root_half_that_dies_while_its_disk_is_full_serves_again_and_knows_what_it_lost() {
    let (mut at, disk) = small_disk();
    let gate = Gate::new(&at);
    let running = approved(&at, &gate.command());
    let child = gate.start(&at, &running);
    disk.fill();
    at.instance.kill(Half::Root);
    at.revive(Half::Root);
    assert_eq!(end_of(child).code, 70, "the client learns that the outcome is not known");
    let fate = Trail::read(&at.sock).fate(&running);
    assert_eq!(fate.outcome, Some(Outcome::Unknown { may_be_running: true }));
    assert_eq!(at.complete(&running, &gate.command())["state"], "outcome_unknown");
    let again = exec(&at, &running, &gate.command()).expect(70);
    assert!(again.stderr.contains("may still be running"), "{again:?}");
    disk.free();
    let (command, file) = at.command();
    let id = ask(&at, &command);
    ran_once(&at, &id, &command, &file);
    gate.open();
    wait_until("what was left behind ends", || gate.story() == ["started", "ended"]);
}

#[test]
fn on_a_disk_that_went_read_only_everything_is_refused_until_it_is_repaired() {
    let options = Options { brokerd: ROOMY.into(), ..Options::default() };
    let mut instance = Instance::laid_out(options);
    let disk = Disk::ext4(&instance.state());
    instance.start_execd();
    instance.start_brokerd();
    let mut at = Recovery::of(instance);
    let (command, file) = at.command();
    let id = approved(&at, &command);
    disk.abort();
    let refused = exec(&at, &id, &command).expect(69);
    assert!(refused.stderr.contains("nothing ran; tell the administrator"), "{refused:?}");
    assert_eq!(lines(&file), 0);
    at.instance.stop(Half::Root, "TERM");
    let status = at.instance.try_start(Half::Root).expect_err("it cannot write");
    assert_eq!(status.code(), Some(69));
    assert_eq!(exec(&at, &id, &command).code, 69);
    assert_eq!(lines(&file), 0);
    // The administrator puts the folder on another disk, with what could be read.
    let kept: Vec<_> = fs::read_dir(at.instance.state())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    drop(disk);
    for (bytes, path) in kept {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    at.revive(Half::Root);
    let request = at.complete(&id, &command);
    let end = at.one_story(&request, &file, &Trail::read(&at.sock));
    assert!(["exited", "expired"].contains(&end.as_str()), "{request}");
}

#[test]
fn when_syncing_fails_nothing_runs_on_a_burn_that_may_be_lost() {
    let mut at = Recovery::start();
    let (command, file) = at.command();
    let id = approved(&at, &command);
    let (other, other_file) = at.command();
    let other_id = ask(&at, &other);
    let injection = Injection::no_sync(at.instance.execd_pid());
    let refused = exec(&at, &id, &command).expect(69);
    assert!(refused.stderr.contains("nothing ran"), "{refused:?}");
    at.decide(&["approve", "--id", &other_id]).expect(69);
    let locked = at.olb(&["request", "--json", "--"], &["/bin/true".into()]);
    assert!([69, 75].contains(&locked.code), "{locked:?}");
    drop(injection);
    ran_once(&at, &other_id, &other, &other_file);
    // The burn may have reached the disk all the same: then it is recorded that nothing ran.
    exec(&at, &id, &command);
    let request = at.complete(&id, &command);
    if request["state"] == "spawn_failed" {
        let fate = Trail::read(&at.sock).fate(&id);
        assert_eq!((fate.burns, fate.outcome), (1, Some(Outcome::SpawnFailed(5))));
        assert_eq!(lines(&file), 0);
        let again = ask(&at, &command);
        return ran_once(&at, &again, &command, &file);
    }
    ran_once(&at, &id, &command, &file);
}

#[test]
fn an_outcome_that_could_not_be_synced_is_recorded_as_soon_as_it_can_be() {
    let at = Recovery::start();
    let gate = Gate::new(&at);
    let id = approved(&at, &gate.command());
    let child = gate.start(&at, &id);
    let injection = Injection::no_sync(at.instance.execd_pid());
    gate.open();
    let told = end_of(child).expect(70);
    assert!(told.stderr.contains("could not record how it ended"), "{told:?}");
    drop(injection);
    let recorded = Some(Outcome::Exited(0));
    wait_until("it is recorded", || Trail::read(&at.sock).fate(&id).outcome == recorded);
    wait_until("the front knows", || at.status(&id)["state"] == "exited");
    exec(&at, &id, &gate.command()).expect(77);
    assert_eq!(gate.story(), ["started", "ended"]);
}

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
            use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
}

/// Agent and operator are told that the approval died with the broker's memory.
fn both_sides_are_told(at: &Recovery, id: &str, command: &[String]) {
    let told = exec(at, id, command).expect(75);
    let sentences = ["the broker was restarted", "broker restarted"];
    assert!(sentences.iter().any(|known| told.stderr.contains(known)), "{told:?}");
    let told = at.status(id);
    assert_eq!(
        (told["state"].as_str(), told["reason"].as_str()),
        (Some("expired"), Some("broker restarted"))
    );
    let shown = at.instance.olb_as_operator(&at.alice, &["show", id, "--json"]).expect(0).json();
    assert_eq!(
        (shown["state"].as_str(), shown["reason"].as_str()),
        (Some("expired"), Some("broker restarted"))
    );
    let listed = at.instance.olb_as_operator(&at.alice, &["list", "--all"]).expect(0).stdout;
    let code = shown["code"].as_str().unwrap();
    let row = listed.lines().find(|line| line.contains(code)).expect("a row");
    assert!(row.contains("expired"), "{row}");
}

#[test]
fn an_older_copy_of_the_ledger_put_back_voids_what_was_approved() {
    let mut at = Recovery::start();
    let state = at.instance.state();
    let (command, file) = at.command();
    let id = approved(&at, &command);
    let lease = at.status(&id)["lease"].as_str().unwrap().to_owned();
    let (unused, unused_file) = at.command();
    let unused_id = approved(&at, &unused);
    at.instance.stop(Half::Root, "TERM");
    let copy = Copy::of(&state, "ledger.db");
    at.revive(Half::Root);
    exec(&at, &id, &command).expect(0);
    at.instance.stop(Half::Root, "TERM");
    copy.put_back(&state, "ledger.db");
    at.revive(Half::Root);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    assert_eq!(at.instance.exec(at.agent, &lease, &words).code, 77, "it ran once already");
    both_sides_are_told(&at, &unused_id, &unused);
    assert_eq!((lines(&file), lines(&unused_file)), (1, 0));
    let new = ask(&at, &unused);
    assert_ne!(new, unused_id);
    ran_once(&at, &new, &unused, &unused_file);
}

#[test]
fn an_approval_that_a_copy_of_the_ledger_does_not_know_is_asked_for_again() {
    let mut at = Recovery::start();
    let state = at.instance.state();
    at.instance.stop(Half::Root, "TERM");
    let copy = Copy::of(&state, "ledger.db");
    at.revive(Half::Root);
    let (command, file) = at.command();
    let id = approved(&at, &command);
    at.instance.stop(Half::Root, "TERM");
    copy.put_back(&state, "ledger.db");
    at.revive(Half::Root);
    let refused = exec(&at, &id, &command);
    assert!([75, 77].contains(&refused.code), "{refused:?}");
    wait_until("the front knows", || at.status(&id)["state"] == "expired");
    assert_eq!(lines(&file), 0);
    let new = ask(&at, &command);
    ran_once(&at, &new, &command, &file);
}

#[test]
fn a_ledger_that_is_gone_voids_what_was_approved_and_repeats_nothing() {
    let mut at = Recovery::start();
    let (ran, ran_file) = at.command();
    let ran_id = approved(&at, &ran);
    exec(&at, &ran_id, &ran).expect(0);
    let (command, file) = at.command();
    let id = approved(&at, &command);
    let (pending, pending_file) = at.command();
    let pending_id = ask(&at, &pending);
    at.instance.stop(Half::Root, "TERM");
    for path in database(&at.instance.state(), "ledger.db") {
        fs::remove_file(path).unwrap();
    }
    at.revive(Half::Root);
    both_sides_are_told(&at, &id, &command);
    exec(&at, &ran_id, &ran).expect(77);
    ran_once(&at, &pending_id, &pending, &pending_file);
    assert_eq!((lines(&ran_file), lines(&file)), (1, 0));
}

#[test]
fn a_damaged_ledger_is_not_opened_and_says_what_to_do() {
    let mut at = Recovery::start();
    let (ran, ran_file) = at.command();
    let ran_id = approved(&at, &ran);
    exec(&at, &ran_id, &ran).expect(0);
    let (command, file) = at.command();
    let id = approved(&at, &command);
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
    assert_eq!(exec(&at, &id, &command).code, 69);
    for path in database(&at.instance.state(), "ledger.db") {
        fs::remove_file(path).unwrap();
    }
    at.revive(Half::Root);
    both_sides_are_told(&at, &id, &command);
    exec(&at, &ran_id, &ran).expect(77);
    assert_eq!((lines(&ran_file), lines(&file)), (1, 0));
}

#[test]
fn a_front_that_lost_its_memory_asks_again_and_repeats_nothing() {
    let mut at = Recovery::start();
    let front = at.instance.path("front");
    let (command, file) = at.command();
    let id = approved(&at, &command);
    let lease = at.status(&id)["lease"].as_str().unwrap().to_owned();
    exec(&at, &id, &command).expect(0);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    at.instance.kill(Half::Front);
    for path in database(&front, "broker.db") {
        fs::remove_file(path).unwrap();
    }
    at.revive(Half::Front);
    assert_eq!(at.instance.exec(at.agent, &lease, &words).code, 77);
    let new = ask(&at, &command);
    assert_ne!(new, id, "another request, which needs another approval");

    at.instance.stop(Half::Front, "TERM");
    let path = front.join("broker.db");
    let length = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, vec![0xff; length]).unwrap();
    at.revive(Half::Front);
    let told = at.olb(&["status"], &[]).expect(0).stdout;
    assert!(told.contains("broker.db was damaged and is kept as"), "{told}");
    let newer = ask(&at, &command);
    assert_eq!(lines(&file), 1);
    exec(&at, &newer, &command).expect(75);
    at.complete(&newer, &command);
    assert_eq!(lines(&file), 2, "two approvals, two runs");
}

#[test]
fn an_older_copy_of_the_fronts_memory_is_set_right_by_the_ledger() {
    let mut at = Recovery::start();
    let front = at.instance.path("front");
    let (command, file) = at.command();
    let pending = ask(&at, &command);
    at.instance.stop(Half::Front, "TERM");
    let while_pending = Copy::of(&front, "broker.db");
    at.revive(Half::Front);
    at.decide(&["approve", "--id", &pending]).expect(0);
    at.instance.stop(Half::Front, "TERM");
    let while_approved = Copy::of(&front, "broker.db");
    at.revive(Half::Front);
    exec(&at, &pending, &command).expect(0);
    for copy in [while_pending, while_approved] {
        at.instance.stop(Half::Front, "TERM");
        copy.put_back(&front, "broker.db");
        at.revive(Half::Front);
        wait_until("the ledger's word is taken", || at.status(&pending)["state"] == "exited");
        exec(&at, &pending, &command).expect(77);
        assert_eq!(lines(&file), 1);
    }
}

#[test]
fn told_to_stop_the_root_half_lets_what_runs_end_and_records_it() {
    let mut at = Recovery::start();
    let gate = Gate::new(&at);
    let id = approved(&at, &gate.command());
    let (command, file) = at.command();
    let waiting = approved(&at, &command);
    let child = gate.start(&at, &id);
    let pid = at.instance.execd_pid().to_string();
    let told = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(told.expect("kill").success());
    wait_until("no new work is taken", || at.sock.try_info().is_none());
    assert_eq!(exec(&at, &waiting, &command).code, 69);
    gate.open();
    end_of(child).expect(0);
    let ended = at.instance.stop(Half::Root, "TERM").expect("it ran");
    assert_eq!(ended.code(), Some(0));
    at.revive(Half::Root);
    assert_eq!(Trail::read(&at.sock).fate(&id).outcome, Some(Outcome::Exited(0)));
    exec(&at, &id, &gate.command()).expect(77);
    assert_eq!(gate.story(), ["started", "ended"]);
    ran_once(&at, &waiting, &command, &file);
}
