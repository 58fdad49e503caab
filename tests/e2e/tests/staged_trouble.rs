//! Files of the agent's own where things go wrong: clients that hide them or lie, a front that dies or is
//! replaced, a full disk, and as much as a plan can hold.

use std::fs;
use std::os::unix::fs::chown;

use olb_e2e_tests::{APPROVED, Disk, Door, Half, Home, Options, message, refused, submit_of, view};
use olb_exec_api::Reason;
use olb_lease::{Plan, sha256};
use olb_wire::{ByteBuf, Request, StagedWord, Submit};

#[test]
fn a_disk_that_is_full_is_said_to_be_and_the_front_serves_on() {
    let home = Home::start();
    // The front makes its folder when it starts, and meets it again.
    let disk = Disk::small(&home.instance.path("front/blobs"), 1024);
    chown(home.instance.path("front/blobs"), Some(home.instance.front()), None).unwrap();
    home.write("large", vec![b'x'; 2 * 1024 * 1024]);
    home.write("x.sh", APPROVED);
    let told = home.olb(&["request", "--", "sha256sum", "./large"]).expect(69).stderr;
    assert!(told.contains("cannot keep the files of the command"), "{told}");
    home.nothing_is_left();
    assert_eq!(home.done(&["sh", "./x.sh"]).expect(0).stdout, "approved\n");
    drop(disk);
}

#[test]
fn files_outlive_a_restart_of_the_front_between_approval_and_run() {
    let mut home = Home::start();
    home.write("x.sh", APPROVED);
    let id = home.ask(&["sh", "./x.sh"]);
    home.approve(&id);
    home.instance.kill(Half::Front);
    home.instance.start_brokerd();
    let ran = home.olb(&["exec", "--id", &id, "--", "sh", "./x.sh"]).expect(0);
    assert_eq!(ran.stdout, "approved\n");
    home.nothing_is_left();
}

#[test]
fn a_request_that_lost_its_files_in_a_power_cut_gets_them_from_whoever_asks_again() {
    let home = Home::start();
    home.write("x.sh", APPROVED);
    let id = home.ask(&["sh", "./x.sh"]);
    home.approve(&id);
    for entry in fs::read_dir(home.instance.path("front/blobs")).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    home.olb(&["exec", "--id", &id, "--", "sh", "./x.sh"]).expect(69);
    home.olb(&["request", "--", "sh", "./x.sh"]).expect(0);
    let ran = home.olb(&["exec", "--id", &id, "--", "sh", "./x.sh"]).expect(0);
    assert_eq!(ran.stdout, "approved\n");
}

/// The most memory that a process ever had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_front_that_dies_at_any_step_of_a_request_with_files_loses_no_run_and_keeps_no_files() {
    let mut home = Home::start();
    home.write("x.sh", APPROVED);
    for point in [
        "front-submit-before-store",
        "front-submit-after-store",
        "front-decide-after-execd",
        "front-execute-before-handover",
        "front-execute-after-handover",
        "front-burned-before-store",
        "front-finished-before-store",
    ] {
        home.instance.stop_brokerd("TERM");
        home.instance.set_variables(&[("OLB_CRASH_AT", point)]);
        home.instance.start_brokerd();
        home.instance.set_variables(&[]);
        let command = ["sh", "./x.sh"];
        let ask = [&["request", "--json", "--"], &command[..]].concat();
        let first = home.olb(&ask);
        if first.code == 75 {
            home.decide_and_run(first.json()["request_id"].as_str().unwrap(), &command);
        }
        home.instance.kill(Half::Front);
        home.instance.start_brokerd();
        // What was decided, run or forgotten meanwhile is so; the next one goes through.
        let again = home.olb(&ask).json();
        let id = again["request_id"].as_str().unwrap_or_else(|| panic!("{point}: {again}"));
        assert_eq!(home.decide_and_run(id, &command), 0, "{point}");
        home.nothing_is_left();
    }
}

#[test]
fn as_much_as_a_plan_can_hold_is_run_and_a_byte_or_a_file_more_is_refused() {
    let home = Home::start();
    let names: Vec<String> = (0..17).map(|at| format!("./f{at}")).collect();
    for name in &names {
        home.write(name, vec![b'x'; 4 * 1024 * 1024]);
    }
    let command = |count: usize| {
        let names = names.iter().take(count).map(String::as_str);
        ["sha256sum"].into_iter().chain(names).collect::<Vec<_>>()
    };
    let told = home.olb(&[&["request", "--"], &command(17)[..]].concat()).expect(64).stderr;
    assert!(told.contains("larger than 64 MiB"), "{told}");
    let front = home.instance.brokerd_pid();
    let before = peak_kib(front);
    let ran = home.done(&command(16)).expect(0);
    assert_eq!(ran.stdout.lines().count(), 16);
    let grown = peak_kib(front) - before;
    assert!(grown < 16 * 1024, "the front took {grown} KiB for 64 MiB of files");
    home.write("f0", vec![b'x'; 4 * 1024 * 1024 + 1]);
    let told = home.olb(&[&["request", "--"], &command(16)[..]].concat()).expect(64).stderr;
    assert!(told.contains("larger than 64 MiB"), "{told}");
    for name in &names {
        home.write(name, "x");
    }
    let told = home.olb(&[&["request", "--"], &command(17)[..]].concat()).expect(64).stderr;
    assert!(told.contains("at most 16 files"), "{told}");
    home.nothing_is_left();
}

/// A submit of `sh SCRIPT` from a client that says of its file what it likes.
fn submit(home: &Home, staged: Vec<StagedWord>) -> Submit {
    let script = home.path("x.sh");
    let mut submit = submit_of(&home.instance, &["sh", script.to_str().unwrap()]);
    submit.command.staged = staged;
    submit
}

fn announced(home: &Home, bytes: &[u8]) -> StagedWord {
    StagedWord {
        word: 1,
        prefix: 0,
        path: ByteBuf::from(home.path("x.sh").to_str().unwrap().as_bytes()),
        size: bytes.len() as u64,
        sha256: ByteBuf::from(sha256(bytes)),
        executable: false,
    }
}

#[test]
fn a_client_that_hides_its_file_gets_no_approval() {
    let home = Home::start();
    home.write("x.sh", APPROVED);
    let mut door = Door::request(&home.instance, home.agent);
    // The front cannot look into the home; the root half can.
    let asked = view(door.submit(submit(&home, Vec::new())));
    assert!(Plan::decode(&asked.plan).unwrap().staged.is_empty());
    let told = home.instance.olb_as(&home.alice, &["approve", "--id", &asked.request_id]);
    let told = told.expect(64).stderr;
    assert!(told.contains("x.sh") && told.contains("can change"), "{told}");
}

#[test]
fn a_client_that_lies_about_its_file_or_vanishes_is_refused_and_leaves_nothing() {
    let home =
        Home::with(Options { brokerd: "[limits]\nupload_secs = 1\n".into(), ..Options::default() });
    let mut door = Door::request(&home.instance, home.agent);
    let request = submit(&home, vec![announced(&home, APPROVED.as_bytes())]);
    let request = message(&Request::Submit(Box::new(request)));
    let mut send = |bytes: &[u8]| {
        let mut raw = door.connect();
        raw.send(&[&request, bytes].concat()).unwrap();
        raw
    };
    for (bytes, part) in [
        (&b"echo evil!!!!\n"[..], "is not what was announced"),
        (&APPROVED.as_bytes()[1..], "did not arrive within"),
        (&[APPROVED, "more"].concat().into_bytes()[..], "bytes follow the files"),
    ] {
        let (reason, text) = refused(send(bytes).answer().unwrap());
        assert_eq!(reason, Reason::Malformed, "{text}");
        assert!(text.contains(part), "{text}");
    }
    drop(send(&APPROVED.as_bytes()[..3]));
    home.nothing_is_left();
    let asked = view(send(APPROVED.as_bytes()).answer().unwrap());
    assert_eq!(asked.state, "pending", "the front serves on");
}
