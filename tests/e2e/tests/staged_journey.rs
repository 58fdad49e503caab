//! Files of the agent's own, from the command line to the command: what was approved runs, whatever
//! becomes of the file; what cannot be bound is said to be so; nobody gets round it by hiding files.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};

use olb_e2e_tests::{
    Approver, Disk, Door, Half, Instance, Options, ROOMY, Ran, message, refused, submit_of, view,
    wait_until,
};
use olb_exec_api::Reason;
use olb_lease::{Plan, sha256};
use olb_wire::{ByteBuf, Request, StagedWord, Submit};

const APPROVED: &str = "echo approved\n";
const OTHER: &str = "echo other\n";
const THIRD: &str = "echo third\n";

/// A broker, an approver, and an agent with a home.
struct Home {
    instance: Instance,
    alice: Approver,
    agent: u32,
}

impl Home {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let instance = Instance::with(options);
        let alice = instance.enrol(0);
        let agent = instance.requester(0);
        let home = Self { instance, alice, agent };
        fs::create_dir(home.path("")).unwrap();
        home.own("", 0o700);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.instance.path("home").join(name)
    }

    fn own(&self, name: &str, mode: u32) {
        chown(self.path(name), Some(self.agent), Some(self.agent)).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
        self.own(name, 0o644);
    }

    fn olb(&self, words: &[&str]) -> Ran {
        let mut command = self.instance.olb_command(self.agent, words);
        command.current_dir(self.path("")).output().unwrap().into()
    }

    /// Asks for `command`; the id of its request.
    fn ask(&self, command: &[&str]) -> String {
        let asked = self.olb(&[&["request", "--json", "--"], command].concat()).expect(75).json();
        asked["request_id"].as_str().unwrap().to_owned()
    }

    fn approve(&self, id: &str) {
        self.instance.olb_as(&self.alice, &["approve", "--id", id]).expect(0);
    }

    fn shown(&self, id: &str) -> String {
        let shown = self.instance.olb_as_operator(&self.alice, &["show", id]).expect(0).stdout;
        shown.replace("\n         | ", "")
    }

    /// Asks for `command`, has it approved, and runs it by its id.
    fn done(&self, command: &[&str]) -> Ran {
        let id = self.ask(command);
        self.approve(&id);
        self.olb(&[&["exec", "--id", &id, "--"], command].concat())
    }

    /// `olb run`, once it waits for the human; and the id of its request.
    fn waiting(&self, command: &[&str]) -> (Child, String) {
        let words = [&["run", "--wait", "120s", "--"], command].concat();
        let mut run = self.instance.olb_command(self.agent, &words);
        let mut run = run.current_dir(self.path("")).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(run.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let is_code = |word: &&str| word.len() == 7 && word.as_bytes()[3] == b'-';
        let code = line.split_whitespace().find(is_code);
        let code = code.unwrap_or_else(|| panic!("no code in {line:?}"));
        let shown = self.instance.olb_as_operator(&self.alice, &["show", code, "--json"]);
        let id = shown.expect(0).json()["request_id"].as_str().unwrap().to_owned();
        (run, id)
    }

    /// Waits until neither half keeps a file.
    fn nothing_is_left(&self) {
        let count = |folder: &str| fs::read_dir(self.instance.path(folder)).unwrap().count();
        wait_until("no files are kept", || count("front/blobs") + count("pin") == 0);
    }
}

/// How a file is swapped for others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// At every moment there is one.
    Seamless,
    /// In each way there is, its folder's included.
    Any,
}

/// Swaps `name` in the home for others in a tight loop while `during` runs.
fn swapping<T>(home: &Home, name: &str, way: Way, during: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (file, beside) = (home.path(name), home.path("beside"));
            let third = home.path("third");
            fs::write(&third, THIRD).unwrap();
            while !over.load(Ordering::Relaxed) {
                for text in [OTHER, APPROVED] {
                    fs::write(&beside, text).unwrap();
                    fs::rename(&beside, &file).unwrap();
                }
                std::os::unix::fs::symlink(&third, &beside).unwrap();
                fs::rename(&beside, &file).unwrap();
                if way == Way::Any {
                    fs::remove_file(&file).unwrap();
                    fs::write(&file, OTHER).unwrap();
                    fs::rename(home.path("folder"), home.path("moved")).unwrap();
                    fs::rename(home.path("moved"), home.path("folder")).unwrap();
                }
            }
        });
        // Also where a test fails.
        let _end = End(&over);
        during()
    })
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_was_approved_runs_though_the_file_is_swapped_in_a_tight_loop() {
    let home = Home::new();
    fs::create_dir(home.path("folder")).unwrap();
    home.own("folder", 0o755);
    for round in 0..20 {
        home.write("folder/x.sh", APPROVED);
        let (run, id) = home.waiting(&["sh", "folder/x.sh"]);
        let output = swapping(&home, "folder/x.sh", Way::Any, || {
            home.approve(&id);
            run.wait_with_output().unwrap()
        });
        let output = (output.status.code(), String::from_utf8(output.stdout).unwrap());
        assert_eq!(output, (Some(0), "approved\n".into()), "round {round}");
    }
    home.nothing_is_left();
}

#[test]
fn what_was_read_in_the_middle_of_a_swap_is_what_is_shown_and_what_runs() {
    let home = Home::with(Options { brokerd: ROOMY.into(), ..Options::default() });
    home.write("x.sh", APPROVED);
    let command = ["sh", "./x.sh"];
    let (mut ran, mut refused) = (0, 0);
    swapping(&home, "x.sh", Way::Seamless, || {
        for _ in 0..100 {
            let asked = home.olb(&[&["request", "--json", "--"], &command[..]].concat());
            if asked.code == 64 {
                assert!(asked.json()["message"].as_str().unwrap().contains("x.sh"), "{asked:?}");
                refused += 1;
                continue;
            }
            let asked = asked.expect(75).json();
            let id = asked["request_id"].as_str().unwrap();
            let files = asked["files"].as_array().unwrap();
            if let Some(file) = files.first() {
                home.approve(id);
                let done = home.olb(&["exec", "--id", id]);
                let content = file["sha256"].as_str().unwrap();
                let of = |text: &str| olb_lease::Digest(sha256(text.as_bytes())).hex();
                let want =
                    [("", ""), (OTHER, "other\n"), (APPROVED, "approved\n"), (THIRD, "third\n")];
                let want = want.into_iter().find(|(text, _)| of(text) == content);
                assert_eq!(Some(done.expect(0).stdout.as_str()), want.map(|(_, output)| output));
                ran += 1;
            } else {
                // Between two looks it was another file each time: then its name is called unbound.
                assert_eq!(asked["unbound"].as_array().unwrap().len(), 1, "{asked}");
                home.olb(&["cancel", id]).expect(0);
            }
        }
    });
    println!("{ran} ran, {refused} were refused because the file changed");
    assert!(ran > 0);
}

#[test]
fn the_human_sees_what_is_copied_from_where_and_what_runs() {
    let home = Home::new();
    home.write("x.sh", APPROVED);
    let shown = home.shown(&home.ask(&["sh", "./x.sh"]));
    let (path, digest) = (home.path("x.sh"), olb_lease::Digest(sha256(APPROVED.as_bytes())).hex());
    let pin = home.instance.path("pin");
    for part in [
        format!("Command  sh {}/", pin.display()),
        "Typed    sh ./x.sh\n".into(),
        format!("File 1   copy of {}, {} bytes, sha256 {digest}", path.display(), APPROVED.len()),
        "Folder   the agent can change what is in this directory\n".into(),
    ] {
        assert!(shown.contains(&part), "{part}\n{shown}");
    }
}

#[test]
fn a_program_of_the_agents_own_runs_as_it_was_approved() {
    let home = Home::new();
    home.write("tool", "#!/bin/sh\necho \"$1\" as \"$(id -u)\"\n");
    home.own("tool", 0o755);
    let ran = home.done(&["./tool", "hello"]).expect(0);
    assert_eq!(ran.stdout, "hello as 0\n");
    home.nothing_is_left();
}

#[test]
fn what_is_copied_into_the_system_is_what_was_approved() {
    let home = Home::new();
    home.write("site.conf", "approved");
    let target = home.instance.work().join("site.conf");
    let command = ["cp", "./site.conf", target.to_str().unwrap()];
    let (run, id) = home.waiting(&command);
    home.write("site.conf", "other");
    home.approve(&id);
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(fs::read_to_string(&target).unwrap(), "approved");
    assert_eq!(fs::metadata(&target).unwrap().uid(), 0);
}

#[test]
fn a_package_is_installed_as_it_was_approved_and_is_not_cut_off() {
    let home = Home::new();
    for folder in ["deb", "deb/DEBIAN", "deb/opt"] {
        fs::create_dir(home.path(folder)).unwrap();
    }
    let control = "Package: olb-test\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.example>\n\
                   Description: a test\n";
    home.write("deb/DEBIAN/control", control);
    home.write("deb/opt/olb-test", "approved");
    let build = |name: &str| {
        let words = ["--root-owner-group", "--build", "deb", name];
        let mut build = std::process::Command::new("dpkg-deb");
        assert!(build.args(words).current_dir(home.path("")).output().unwrap().status.success());
        home.own(name, 0o644);
    };
    build("x.deb");
    let root = home.instance.work().join("root");
    for folder in
        ["", "var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/updates"]
    {
        fs::create_dir(root.join(folder)).unwrap();
    }
    for name in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(name), "").unwrap();
    }
    let to = format!("--root={}", root.display());
    let (run, id) = home.waiting(&["dpkg", &to, "--log=/dev/null", "-i", "./x.deb"]);
    let shown = home.shown(&id);
    assert!(shown.contains("is not interrupted when the agent leaves"), "{shown}");
    home.write("deb/opt/olb-test", "other");
    build("x.deb");
    home.approve(&id);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(root.join("opt/olb-test")).unwrap(), "approved");
}

#[test]
fn names_behind_an_option_or_an_at_sign_are_copied_too_also_by_rules_of_the_administrators() {
    let home = Home::new();
    let rules = home.instance.path("operands.d");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("site.rules"), "printf | @:read --file:read\n").unwrap();
    home.write("pattern", "needle\n");
    home.write("text", "hay\nneedle\n");
    let ran = home.done(&["grep", "--file=./pattern", "./text"]).expect(0);
    assert_eq!(ran.stdout, "needle\n");
    let ran = home.done(&["printf", "%s\n", "@./text", "--file=text"]).expect(0);
    let pin = home.instance.path("pin").display().to_string();
    let lines: Vec<_> = ran.stdout.lines().collect();
    let [first, second] = lines[..] else { panic!("{ran:?}") };
    assert!(first.starts_with(&format!("@{pin}/")) && first.ends_with("/0/text"), "{ran:?}");
    assert!(second.starts_with(&format!("--file={pin}/")), "{ran:?}");
}

#[test]
fn a_disk_that_is_full_is_said_to_be_and_the_front_serves_on() {
    let home = Home::new();
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
fn a_retry_after_the_file_changed_is_refused_by_name_and_burns_nothing() {
    let home = Home::new();
    home.write("x.sh", APPROVED);
    let id = home.ask(&["sh", "./x.sh"]);
    home.approve(&id);
    let lease = home.olb(&["request", "--", "sh", "./x.sh"]).expect(0).stdout;
    let file = home.instance.lease_file(home.agent, &lease);
    let exec = ["exec", "--lease-file", &file, "--", "sh", "./x.sh"];
    for change in [OTHER, ""] {
        home.write("x.sh", change);
        let told = home.olb(&exec).expect(77).stderr;
        let sentence =
            format!("{} changed since it was approved; ask again", home.path("x.sh").display());
        assert!(told.contains(&sentence), "{told}");
    }
    fs::remove_file(home.path("x.sh")).unwrap();
    assert!(home.olb(&exec).expect(77).stderr.contains("changed since it was approved"));
    home.write("x.sh", OTHER);
    assert_ne!(home.ask(&["sh", "./x.sh"]), id, "another content is another request");
    home.write("x.sh", APPROVED);
    assert_eq!(home.olb(&exec).expect(0).stdout, "approved\n");
}

#[test]
fn a_name_that_is_written_to_is_shown_as_unbound_with_high_risk_and_runs() {
    let home = Home::new();
    let id = home.ask(&["touch", "./made"]);
    let shown = home.shown(&id);
    let row = format!(
        "UNBOUND  {}   the agent can change this after you approve\n",
        home.path("made").display()
    );
    assert!(shown.contains(&row) && shown.contains("Risk     high - what is UNBOUND"), "{shown}");
    // It is there by now, and somebody else's.
    home.write("made", "");
    home.approve(&id);
    home.olb(&["exec", "--id", &id, "--", "touch", "./made"]).expect(0);
}

#[test]
fn what_no_rule_knows_is_refused_until_it_is_listed_as_unbound() {
    let home = Home::new();
    home.write("data", "x");
    let told = home.olb(&["request", "--", "test", "-s", "./data"]).expect(64).stderr;
    assert!(told.contains("./data") && told.contains("--allow-unbound"), "{told}");
    let words = ["request", "--json", "--allow-unbound", "--", "test", "-s", "./data"];
    let id = home.olb(&words).expect(75).json()["request_id"].as_str().unwrap().to_owned();
    assert!(home.shown(&id).contains("UNBOUND  "));
    home.approve(&id);
    home.olb(&["exec", "--id", &id, "--", "test", "-s", "./data"]).expect(0);
}

#[test]
fn files_outlive_a_restart_of_the_front_between_approval_and_run() {
    let mut home = Home::new();
    home.write("x.sh", APPROVED);
    let id = home.ask(&["sh", "./x.sh"]);
    home.approve(&id);
    home.instance.kill(Half::Front);
    home.instance.start_brokerd();
    let ran = home.olb(&["exec", "--id", &id, "--", "sh", "./x.sh"]).expect(0);
    assert_eq!(ran.stdout, "approved\n");
    home.nothing_is_left();
}

/// The most memory that a process ever had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn as_much_as_a_plan_can_hold_is_run_and_a_byte_or_a_file_more_is_refused() {
    let home = Home::new();
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

//
#[test]
fn a_client_that_hides_its_file_gets_no_approval() {
    let home = Home::new();
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
