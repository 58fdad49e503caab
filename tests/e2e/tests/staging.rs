//! Files that a plan binds by content: the command gets the bytes that were approved, from where
//! only root can write, and nothing of it is left afterwards.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use olb_e2e_tests::{
    Approver, Bound, Client, ExecSock, Half, Instance, Options, Replies, Reply, finished, plan_for,
    refusal_of, staged, wait_until,
};
use olb_exec_api::{ClientFrame, Info, Reason};
use olb_lease::{Outcome, Plan, RecordEvent, RunAs, environment, staging};
use olb_sys::memfd::sealed_memfd;

struct Scene {
    instance: Instance,
    sock: ExecSock,
    alice: Approver,
    info: Info,
    agent: u32,
}

/// An approved plan, its lease and what is handed over with it.
struct Approved {
    plan: Vec<u8>,
    lease: Vec<u8>,
    files: Vec<OwnedFd>,
}

impl Scene {
    fn start() -> Self {
        Self::with("")
    }

    fn with(execd: &str) -> Self {
        let options = Options { without_front: true, execd: execd.into(), ..Options::default() };
        Self::of(Instance::with(options))
    }

    fn of(instance: Instance) -> Self {
        let sock = ExecSock::of(&instance);
        let alice = instance.enrol(0);
        let (info, agent) = (sock.info(), instance.requester(0));
        // Copies stand in for files of the agent's.
        chown(instance.work(), Some(agent), Some(agent)).unwrap();
        Self { instance, sock, alice, info, agent }
    }

    /// A plan for `argv`, whose first word need not be there where it is staged.
    fn plan(&self, argv: &[&str]) -> Plan {
        let plan = plan_for(&self.instance, &self.info, self.agent, &["/bin/sh"]);
        let typed_argv = olb_e2e_tests::command(argv);
        if argv[0].starts_with('.') {
            return Plan { argv: typed_argv.clone(), typed_argv, ..plan };
        }
        Plan { random: plan.random, ..plan_for(&self.instance, &self.info, self.agent, argv) }
    }

    fn approve(&self, (plan, files): (Plan, Vec<OwnedFd>)) -> Approved {
        let plan = plan.encode().unwrap();
        let lease = self.sock.approve(&self.alice, &plan);
        Approved { plan, lease, files }
    }

    /// `argv` with one file, approved.
    fn with_file(&self, argv: &[&str], file: Bound<'_>) -> Approved {
        self.approve(staged(self.plan(argv), &self.info, &[file]))
    }

    fn present(&self, asked: &Approved, files: &[BorrowedFd<'_>]) -> (Replies, Client) {
        self.sock.execute_with(&asked.lease, &asked.plan, self.agent, files)
    }

    /// Runs to the end with what was approved: standard output, standard error and how it ended.
    fn runs(&self, asked: &Approved) -> (String, String, Outcome) {
        let fds: Vec<_> = asked.files.iter().map(OwnedFd::as_fd).collect();
        let (replies, mut client) = self.present(asked, &fds);
        let [stdout, stderr] = outputs(&mut client).map(|mut output| {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            text
        });
        (stdout, stderr, outcome(replies))
    }

    fn refused(&self, asked: &Approved, files: &[BorrowedFd<'_>]) -> Reason {
        let reason = refusal_of(self.present(asked, files));
        assert!(self.nothing_is_left(), "a refusal leaves nothing");
        reason
    }

    fn nothing_is_left(&self) -> bool {
        fs::read_dir(self.instance.staging()).unwrap().next().is_none()
    }

    fn folder_of(&self, plan: &[u8]) -> PathBuf {
        let random = Plan::decode(plan).unwrap().random;
        PathBuf::from(String::from_utf8(staging::folder(&self.info.staging, &random)).unwrap())
    }
}

fn outputs(client: &mut Client) -> [File; 2] {
    let (frame, fds) = client.frame().expect("a frame");
    assert_eq!(frame, ClientFrame::Started);
    <[OwnedFd; 2]>::try_from(fds).expect("two pipes").map(File::from)
}

fn outcome(replies: Replies) -> Outcome {
    let Some(Reply::Outcome(recorded)) = replies.last() else { panic!("no outcome") };
    match finished(&recorded.receipt) {
        RecordEvent::Finished { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

/// What is executed is staged.
fn program(content: &[u8]) -> Bound<'_> {
    Bound { word: 0, prefix: 0, content, executable: true }
}

/// The second word names what is staged.
fn operand(content: &[u8]) -> Bound<'_> {
    Bound { word: 1, prefix: 0, content, executable: false }
}

fn as_other(plan: Plan, uid: u32) -> Plan {
    let account = environment::Account { name: "other", home: b"/", shell: b"/bin/sh" };
    let run_as = RunAs { name: "other".into(), uid, gid: uid, groups: vec![uid] };
    Plan { run_as, environment: environment::base(account), ..plan }
}

fn exited(stdout: &str) -> (String, String, Outcome) {
    (stdout.into(), String::new(), Outcome::Exited(0))
}

#[test]
fn a_staged_script_runs_from_its_copy_as_another_user_and_is_gone_afterwards() {
    let scene = Scene::start();
    let uid = scene.instance.stranger();
    let script = b"#!/bin/sh\necho \"$0\" \"$1\"\nid -u\nstat -c '%a %u' \"$0\" \"${0%/*}\"\n";
    let (plan, files) =
        staged(scene.plan(&["./job.sh", "a word"]), &scene.info, &[program(script)]);
    let place = String::from_utf8(plan.executable.path.clone()).unwrap();
    let asked = scene.approve((as_other(plan, uid), files));
    let want = format!("{place} a word\n{uid}\n555 0\n711 0\n");
    assert_eq!(scene.runs(&asked), exited(&want));
    wait_until("the copy is gone", || scene.nothing_is_left());
    let again: Vec<_> = asked.files.iter().map(OwnedFd::as_fd).collect();
    assert_eq!(scene.refused(&asked, &again), Reason::AlreadyBurned);
}

#[test]
fn a_staged_program_has_the_name_that_was_typed() {
    let scene = Scene::start();
    let (shell, uid) = (fs::read("/bin/sh").unwrap(), scene.instance.stranger());
    let argv = ["./my-shell", "-c", "id -u; tr '\\0' ' ' < /proc/$$/cmdline"];
    let (plan, files) = staged(scene.plan(&argv), &scene.info, &[program(&shell)]);
    let asked = scene.approve((as_other(plan, uid), files));
    let (stdout, _, outcome) = scene.runs(&asked);
    assert_eq!(outcome, Outcome::Exited(0));
    assert!(stdout.starts_with(&format!("{uid}\n./my-shell -c id")), "{stdout}");
}

#[test]
fn operands_are_the_bytes_that_were_approved_whatever_became_of_the_original() {
    let scene = Scene::start();
    let original = scene.instance.work().join("list");
    fs::write(&original, "evil\n").unwrap();
    chown(&original, Some(scene.agent), Some(scene.agent)).unwrap();
    let name = original.to_str().unwrap();
    for (argv, word, prefix) in [
        (vec!["/bin/cat", name], 1, 0),
        (vec!["/bin/cat", "list"], 1, 0),
        (vec!["/usr/bin/xargs", "--arg-file=list"], 1, 11),
    ] {
        let file = Bound { word, prefix, content: b"approved\n", executable: false };
        let asked = scene.with_file(&argv, file);
        assert_eq!(scene.runs(&asked), exited("approved\n"), "{argv:?}");
    }
}

#[test]
fn neighbours_of_the_original_are_not_imported() {
    let scene = Scene::start();
    let work = scene.instance.work();
    for name in ["job.py", "json.py"] {
        fs::write(work.join(name), "raise SystemExit('evil')\n").unwrap();
        chown(work.join(name), Some(scene.agent), Some(scene.agent)).unwrap();
    }
    let job = b"import json, sys\nprint(json.dumps([json.__name__, sys.argv[1:]]))\n";
    for first in ["job.py", "./job.py"] {
        let asked = scene.with_file(&["/usr/bin/python3", first, "x"], operand(job));
        assert_eq!(scene.runs(&asked), exited("[\"json\", [\"x\"]]\n"));
    }
}

//
#[test]
fn only_the_approved_bytes_in_memory_files_are_taken() {
    let scene = Scene::start();
    let asked = scene.with_file(&["/bin/cat", "list"], operand(b"approved\n"));
    let memory = |bytes: &[u8]| sealed_memfd("staged", bytes).unwrap();
    let (pipe, _writer) = olb_sys::pipe::pipe().unwrap();
    let disk = scene.instance.path("bin/olb");
    for (name, offered) in [
        ("other bytes", memory(b"approveD\n")),
        ("too few", memory(b"approved")),
        ("too many", memory(b"approved\n\n")),
        ("none", memory(b"")),
        ("a pipe", pipe),
        ("a socket", UnixStream::pair().unwrap().0.into()),
        ("a file on a disk or elsewhere", File::open(disk).unwrap().into()),
        ("a folder", File::open("/bin").unwrap().into()),
        ("a device", File::open("/dev/zero").unwrap().into()),
        ("a file of the kernel's", File::open("/proc/version").unwrap().into()),
    ] {
        assert_eq!(scene.refused(&asked, &[offered.as_fd()]), Reason::Mismatch, "{name}");
    }
    let good = memory(b"approved\n");
    assert_eq!(scene.refused(&asked, &[]), Reason::Mismatch, "no file");
    let two = [good.as_fd(), good.as_fd()];
    assert_eq!(scene.refused(&asked, &two), Reason::Mismatch, "a file more");
    assert_eq!(scene.runs(&asked), exited("approved\n"), "the lease is as it was");
}

#[test]
fn a_memory_file_that_is_changed_meanwhile_is_the_approved_bytes_or_refused() {
    use std::os::unix::fs::FileExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    let scene = Scene::start();
    let content = vec![b'a'; 4 << 20];
    let memfd = writable_memory(&content);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = memfd.try_clone().unwrap();
        let stopped = &stop;
        scope.spawn(move || {
            let file = File::from(writer);
            while !stopped.load(Ordering::Relaxed) {
                file.write_all_at(b"b", 3 << 20).unwrap();
                file.write_all_at(b"a", 3 << 20).unwrap();
            }
        });
        for _ in 0..10 {
            let asked = scene.with_file(&["/usr/bin/sha256sum", "x"], operand(&content));
            let wanted = {
                let sum = olb_lease::Digest(olb_lease::sha256(&content)).hex();
                let place = scene.folder_of(&asked.plan).join("0/x");
                format!("{sum}  {}\n", place.display())
            };
            let (replies, mut client) = scene.present(&asked, &[memfd.as_fd()]);
            match client.frame().unwrap() {
                (ClientFrame::Refused(refusal), _) => assert_eq!(refusal.reason, Reason::Mismatch),
                (ClientFrame::Started, fds) => {
                    let mut stdout = String::new();
                    File::from(fds.into_iter().next().unwrap())
                        .read_to_string(&mut stdout)
                        .unwrap();
                    assert_eq!(stdout, wanted);
                    drop(replies);
                }
                other => panic!("{other:?}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A memory file that can still be written.
fn writable_memory(content: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all(content).unwrap();
    file.into()
}

//
#[test]
fn words_of_any_other_form_are_refused_when_they_are_to_be_approved() {
    let scene = Scene::start();
    let good = || {
        staged(
            scene.plan(&["/bin/dd", "--if=list", "bs=1"]),
            &scene.info,
            &[Bound { word: 1, prefix: 5, content: b"x", executable: false }],
        )
        .0
    };
    let with = |word: String| {
        let mut plan = good();
        plan.argv[1] = word.into_bytes();
        plan
    };
    let dir = String::from_utf8(scene.info.staging.clone()).unwrap();
    let hex_of = |plan: &Plan| plan.random.map(|byte| format!("{byte:02x}")).concat();
    let mut refused: Vec<(&str, Plan)> = vec![
        ("as typed", with("--if=list".into())),
        ("another folder", with(format!("--if={dir}2/{}/0/list", hex_of(&good())))),
        ("another request's", with(format!("--if={dir}/{}/0/list", "0".repeat(32)))),
    ];
    let own = |change: &dyn Fn(&str) -> String| {
        let mut plan = good();
        let hex = hex_of(&plan);
        plan.argv[1] = change(&hex).into_bytes();
        plan
    };
    refused.extend([
        ("another place", own(&|hex| format!("--if={dir}/{hex}/1/list"))),
        ("another name", own(&|hex| format!("--if={dir}/{hex}/0/last"))),
        ("upper case", own(&|hex| format!("--if={dir}/{}/0/list", hex.to_uppercase()))),
        ("without what stands before", own(&|hex| format!("{dir}/{hex}/0/list"))),
        ("with something else before", own(&|hex| format!("of={dir}/{hex}/0/list"))),
        ("with something behind", own(&|hex| format!("--if={dir}/{hex}/0/list/"))),
        ("a way around", own(&|hex| format!("--if={dir}/./{hex}/0/list"))),
    ]);
    let mut another_word = good();
    another_word.argv[2] = b"bs=2".to_vec();
    refused.push(("another word beside it", another_word));
    let script = || staged(scene.plan(&["./x"]), &scene.info, &[program(b"#!/bin/sh\n")]).0;
    let executable = |change: &dyn Fn(&mut Plan)| {
        let mut plan = script();
        change(&mut plan);
        plan
    };
    refused.extend([
        ("its name rewritten", executable(&|plan| plan.argv[0] = plan.executable.path.clone())),
        ("another program", executable(&|plan| plan.executable.path = b"/bin/sh".to_vec())),
        ("another size", executable(&|plan| plan.executable.size += 1)),
        ("a device", executable(&|plan| plan.executable.dev = 1)),
        ("an inode", executable(&|plan| plan.executable.ino = 1)),
        ("a change time", executable(&|plan| plan.executable.ctime_secs = 1)),
        ("nanoseconds", executable(&|plan| plan.executable.ctime_nanos = 1)),
    ]);
    for (name, plan) in refused {
        let decided = scene.sock.decide_as(
            &scene.alice,
            olb_lease::VerdictKind::Approve,
            &plan.encode().unwrap(),
            scene.info.epoch,
        );
        assert_eq!(decided.unwrap_err().reason, Reason::Mismatch, "{name}");
    }
    for plan in [good(), script()] {
        scene.sock.approve(&scene.alice, &plan.encode().unwrap());
    }
}

//
#[test]
fn what_stands_before_the_place_of_a_copy_leads_nowhere_else() {
    let scene = Scene::start();
    let folder = scene.instance.path("agents");
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(scene.agent), None).unwrap();
    // The word that runs would begin with the folder and go on with the place.
    let evil = format!("{}/x", folder.display());
    for before in [evil.as_str(), &format!("--file={evil}"), &format!("@{evil}")] {
        let word = format!("{before}name");
        let prefix = u32::try_from(before.len()).unwrap();
        let file = Bound { prefix, ..operand(b"approved") };
        let plan = staged(scene.plan(&["/bin/cat", &word]), &scene.info, &[file]).0;
        let kind = olb_lease::VerdictKind::Approve;
        let plan = plan.encode().unwrap();
        let decided = scene.sock.decide_as(&scene.alice, kind, &plan, scene.info.epoch);
        assert_eq!(decided.unwrap_err().reason, Reason::CannotBind, "{word}");
    }
    let file = Bound { prefix: 7, ..operand(b"approved\n") };
    let asked = scene.with_file(&["/bin/echo", "--file=agents/name"], file);
    let place = scene.folder_of(&asked.plan).join("0/name");
    assert_eq!(scene.runs(&asked), exited(&format!("--file={}\n", place.display())));
}

//
#[test]
fn a_copy_stands_in_for_no_file_that_only_root_can_change() {
    let scene = Scene::start();
    let kind = olb_lease::VerdictKind::Approve;
    let decide = |plan: Plan| {
        let plan = plan.encode().unwrap();
        scene.sock.decide_as(&scene.alice, kind, &plan, scene.info.epoch).map(|_| ())
    };
    let refused = |name: &str, plan: Plan| {
        assert_eq!(decide(plan).unwrap_err().reason, Reason::CannotBind, "{name}");
    };
    let roots = scene.instance.path("roots.sh");
    fs::write(&roots, "echo roots\n").unwrap();
    let own = |argv: &[&str], file: Bound<'_>| {
        let typed_argv = olb_e2e_tests::command(argv);
        let plan = plan_for(&scene.instance, &scene.info, scene.agent, &["/bin/sh"]);
        staged(Plan { argv: typed_argv.clone(), typed_argv, ..plan }, &scene.info, &[file]).0
    };
    let evil = b"#!/bin/sh\necho evil\n";
    // What the human would read as the host's own program, script or missing file.
    refused("a program by its name", own(&["id"], program(evil)));
    refused("a program by its path", own(&["/usr/bin/id"], program(evil)));
    refused("no program at all", own(&["olb-no-such-program"], program(evil)));
    refused("root's script", own(&["/bin/sh", roots.to_str().unwrap()], operand(evil)));
    refused("root's, not there", own(&["/bin/sh", "/etc/olb-none.sh"], operand(evil)));
    refused("a folder", own(&["/bin/sh", "/home/../tmp"], operand(evil)));
    let lie = |path: &str| {
        let mut plan = own(&["/bin/sh", "./x.sh"], operand(evil));
        plan.staged[0].path = path.as_bytes().to_vec();
        plan
    };
    refused("a path that is root's", lie("/usr/local/sbin/maintenance"));
    refused("a path of root's that exists", lie("/etc/hostname"));
    // Whether it is still there makes no difference: it was theirs to make.
    for word in ["./x.sh", "x.sh"] {
        decide(own(&["/bin/sh", word], operand(evil))).unwrap();
    }
}

//
#[test]
fn before_a_copy_stands_nothing_that_others_can_make_a_name_of() {
    let scene = Scene::start();
    let kind = olb_lease::VerdictKind::Approve;
    let decide = |argv: &[&str], word: u32, prefix: u32| {
        let file = Bound { word, prefix, ..operand(b"approved") };
        let (plan, _) = staged(scene.plan(argv), &scene.info, &[file]);
        let plan = plan.encode().unwrap();
        let decided = scene.sock.decide_as(&scene.alice, kind, &plan, scene.info.epoch);
        decided.map(|_| ()).map_err(|refusal| refusal.reason)
    };
    // They could make a folder of that name where the command is run.
    assert_eq!(decide(&["/bin/cat", "x=name"], 1, 2), Err(Reason::CannotBind));
    assert_eq!(decide(&["/bin/cat", "@name"], 1, 1), Err(Reason::CannotBind));
    assert_eq!(decide(&["/bin/cat", "--", "--file=name"], 2, 7), Err(Reason::CannotBind));
    assert_eq!(decide(&["/bin/cat", "-sf/home/agent/name"], 1, 15), Err(Reason::CannotBind));
    assert_eq!(decide(&["/bin/cat", "--file=name"], 1, 7), Ok(()));
    assert_eq!(decide(&["/bin/cat", "-fname"], 1, 2), Ok(()));
    chown(scene.instance.work(), Some(0), Some(0)).unwrap();
    let theirs = scene.instance.path("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(scene.agent), None).unwrap();
    let word = format!("if={}/name", theirs.display());
    let plan = scene.plan(&["/bin/cat", &word]);
    let file = Bound { word: 1, prefix: 3, ..operand(b"approved") };
    let (mut plan, _) = staged(plan, &scene.info, &[file]);
    plan.staged[0].path = format!("{}/name", theirs.display()).into();
    plan.cwd_changeable = false;
    scene.sock.approve(&scene.alice, &plan.encode().unwrap());
}

//
#[test]
fn a_staged_script_leads_to_no_interpreter_that_others_can_change() {
    let scene = Scene::start();
    let evil = scene.instance.work().join("sh");
    fs::copy("/bin/sh", &evil).unwrap();
    chown(&evil, Some(scene.agent), None).unwrap();
    for line in [format!("#!{}\n", evil.display()), "#!sh\n".into(), "#!/proc/self/exe\n".into()] {
        for (argv, word) in [(vec!["./x"], 0), (vec!["/usr/bin/timeout", "9", "./x"], 2)] {
            let file = Bound { word, prefix: 0, content: line.as_bytes(), executable: true };
            let asked = scene.with_file(&argv, file);
            assert_eq!(scene.refused(&asked, &[asked.files[0].as_fd()]), Reason::CannotBind);
        }
    }
}

//
#[test]
fn while_the_copies_are_there_nobody_else_presents_the_lease() {
    let scene = Scene::start();
    let asked = scene.with_file(&["/bin/cat", "x"], operand(b"approved\n"));
    let folder = scene.folder_of(&asked.plan);
    fs::create_dir(&folder).unwrap();
    let presented = scene.present(&asked, &[asked.files[0].as_fd()]);
    assert_eq!(refusal_of(presented), Reason::Busy);
    assert!(folder.is_dir(), "what the other one made is left alone");
    fs::remove_dir(&folder).unwrap();
    assert_eq!(scene.runs(&asked), exited("approved\n"));
}

#[test]
fn of_many_presentations_at_once_one_runs() {
    let scene = Scene::start();
    let content = vec![7; 1 << 20];
    let asked =
        scene.with_file(&["/usr/bin/wc", "-c", "x"], Bound { word: 2, ..operand(&content) });
    let starts = std::thread::scope(|scope| {
        let present = || {
            let (replies, mut client) = scene.present(&asked, &[asked.files[0].as_fd()]);
            let started = match client.frame().expect("a frame") {
                (ClientFrame::Started, _) => true,
                (ClientFrame::Refused(refusal), _) => {
                    assert!(
                        matches!(refusal.reason, Reason::Busy | Reason::AlreadyBurned),
                        "{refusal:?}"
                    );
                    false
                }
                (other, _) => panic!("{other:?}"),
            };
            drop(replies);
            started
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(present)).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|ran| *ran).count()
    });
    assert_eq!(starts, 1);
    wait_until("the copy is gone", || scene.nothing_is_left());
}

//
#[test]
fn copies_have_a_limit_in_all_which_is_given_back() {
    let scene = Scene::with("max_staged_bytes = 1000\n");
    let (stay, go) = (scene.instance.work().join("stay"), [7; 600]);
    assert!(Command::new("mkfifo").arg(&stay).status().unwrap().success());
    let stay = stay.to_str().unwrap();
    let wait = format!("#!/bin/sh\nread line < {stay}\n{}", "#".repeat(500));
    let first = scene.with_file(&["./wait"], program(wait.as_bytes()));
    let second = scene.with_file(&["/usr/bin/wc", "-c", "x"], Bound { word: 2, ..operand(&go) });
    let large = scene.with_file(&["/bin/cat", "x"], operand(&[7; 1001]));
    let fds: Vec<_> = first.files.iter().map(OwnedFd::as_fd).collect();
    let (replies, mut client) = scene.present(&first, &fds);
    drop(outputs(&mut client));
    for asked in [&second, &large] {
        let presented = scene.present(asked, &[asked.files[0].as_fd()]);
        assert_eq!(refusal_of(presented), Reason::Busy);
    }
    fs::write(stay, "on\n").unwrap();
    assert_eq!(outcome(replies), Outcome::Exited(0));
    wait_until("the first one's copy is gone", || scene.nothing_is_left());
    assert!(scene.runs(&second).0.starts_with("600 "));
    assert_eq!(scene.refused(&large, &[large.files[0].as_fd()]), Reason::Busy, "it never fits");
}

/// A file system of 1 MiB over the folder for copies; gone when dropped.
struct Small(PathBuf);

impl Small {
    fn over(folder: PathBuf) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=711", "olb-test"]).arg(&folder);
        assert!(mount.status().unwrap().success());
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Nothing can be done about a failure but see it.
        assert!(Command::new("umount").arg("-l").arg(&self.0).status().unwrap().success());
    }
}

//
#[test]
fn where_a_copy_finds_no_room_the_lease_stays_as_it_was() {
    let mut scene = Scene::start();
    scene.instance.stop_execd("TERM");
    let _small = Small::over(scene.instance.staging());
    scene.instance.start_execd();
    let large = vec![7; 2 << 20];
    let counting = Bound { word: 2, ..operand(&large) };
    let large = scene.with_file(&["/usr/bin/wc", "-c", "x"], counting);
    for _ in 0..3 {
        assert_eq!(scene.refused(&large, &[large.files[0].as_fd()]), Reason::Unavailable);
    }
    let small = scene.with_file(&["/bin/cat", "x"], operand(b"approved\n"));
    assert_eq!(scene.runs(&small), exited("approved\n"));
    // The burn itself needs no room there.
    let mut more = Command::new("mount");
    more.args(["-o", "remount,size=8m"]).arg(scene.instance.staging());
    assert!(more.status().unwrap().success());
    assert!(scene.runs(&large).0.starts_with("2097152 "));
}

//
#[test]
fn an_unbound_word_may_be_changed_by_others_and_no_other_word_may() {
    let scene = Scene::start();
    let file = scene.instance.work().join("log");
    fs::write(&file, "anything\n").unwrap();
    chown(&file, Some(scene.agent), None).unwrap();
    let unbound = |word| olb_lease::Unbound { word, path: file.to_str().unwrap().into() };
    let plan = |argv: &[&str], word| Plan { unbound: vec![unbound(word)], ..scene.plan(argv) };
    let decide = |plan: Plan| {
        let plan = plan.encode().unwrap();
        let kind = olb_lease::VerdictKind::Approve;
        scene.sock.decide_as(&scene.alice, kind, &plan, scene.info.epoch).map(|_| ())
    };
    let refused = |plan: Plan| decide(plan).unwrap_err().reason;
    assert_eq!(refused(scene.plan(&["/bin/cat", "log"])), Reason::CannotBind);
    assert_eq!(
        refused(plan(&["/bin/cat", "log", "/bin/sh"], 2)),
        Reason::CannotBind,
        "another word"
    );
    assert_eq!(refused(plan(&["/bin/cat", "/dev/stdin"], 1)), Reason::CannotBind, "a magic link");
    let asked = scene.approve((plan(&["/bin/cat", "log"], 1), Vec::new()));
    assert_eq!(scene.runs(&asked), exited("anything\n"));
}

//
#[test]
fn a_directory_that_others_can_change_is_called_so_or_refused() {
    let scene = Scene::start();
    chown(scene.instance.work(), Some(0), Some(0)).unwrap();
    let asked = |changeable| {
        let plan = Plan { cwd_changeable: changeable, ..scene.plan(&["/bin/pwd"]) };
        let plan = plan.encode().unwrap();
        let kind = olb_lease::VerdictKind::Approve;
        scene.sock.decide_as(&scene.alice, kind, &plan, scene.info.epoch).map(|_| ())
    };
    assert!(asked(false).is_ok() && asked(true).is_ok(), "too much of a warning is no lie");
    fs::set_permissions(scene.instance.work(), Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(asked(false).unwrap_err().reason, Reason::IdentityChanged);
    assert!(asked(true).is_ok());
}

/// Dies with copies on its way into a run; the next start removes them, and the lease is as it was.
#[test]
fn what_a_root_half_that_died_left_is_removed_and_the_lease_still_runs() {
    for point in ["execute-staging", "execute-after-staging"] {
        let variables = vec![("OLB_CRASH_AT".to_owned(), point.to_owned())];
        let options = Options { without_front: true, variables, ..Options::default() };
        let mut scene = Scene::of(Instance::with(options));
        let asked = scene.with_file(&["/bin/cat", "x"], operand(b"approved\n"));
        let (mut replies, _client) = scene.present(&asked, &[asked.files[0].as_fd()]);
        assert_eq!(replies.next(), None, "{point}: it died");
        scene.instance.stop(Half::Root, "KILL");
        assert!(scene.folder_of(&asked.plan).is_dir(), "{point}: something was there");
        let kept = scene.instance.staging().join("of-somebody-else");
        fs::create_dir(&kept).unwrap();
        scene.instance.set_variables(&[]);
        scene.instance.start_half(Half::Root);
        assert!(!scene.folder_of(&asked.plan).exists(), "{point}: nothing is left");
        assert!(kept.is_dir(), "only what has the name of a run's folder is removed");
        assert_eq!(scene.runs(&asked), exited("approved\n"), "{point}");
    }
}

// [F-11]
#[test]
fn a_folder_for_copies_that_others_can_change_or_that_executes_nothing_is_no_start() {
    let mut instance = Instance::laid_out(Options { without_front: true, ..Options::default() });
    let folder = instance.staging();
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(instance.front()), None).unwrap();
    assert!(instance.try_start(Half::Root).is_err());
    let log = instance.read_log("execd");
    assert!(log.contains("others than root can change it"), "{log}");

    chown(&folder, Some(0), None).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    assert!(instance.try_start(Half::Root).is_err());
    let log = instance.read_log("execd");
    assert!(log.contains("chmod 711"), "{log}");
    fs::set_permissions(&folder, Permissions::from_mode(0o711)).unwrap();
    let run = |program: &str, words: &[&str]| {
        let status = Command::new(program).args(words).arg(&folder).status().unwrap();
        assert!(status.success(), "{program}");
    };
    run("mount", &["-t", "tmpfs", "-o", "noexec,mode=711", "olb-test"]);
    let started = instance.try_start(Half::Root);
    run("umount", &[]);
    assert!(started.is_err());
    let log = instance.read_log("execd");
    assert!(log.contains("noexec"), "{log}");
    instance.start_execd();
}

//
#[test]
fn without_a_folder_for_copies_files_cannot_be_staged() {
    let options = Options { without_front: true, ..Options::default() };
    let mut instance = Instance::laid_out(options);
    let path = instance.state().join("execd.conf");
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("staging_dir"));
    fs::write(&path, lines.flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    instance.start_execd();
    let scene = Scene::of(instance);
    assert_eq!(scene.info.staging, b"");
    let info = Info { staging: b"/pin".to_vec(), ..scene.info.clone() };
    let (plan, _) = staged(scene.plan(&["/bin/cat", "x"]), &info, &[operand(b"x")]);
    let plan = plan.encode().unwrap();
    let kind = olb_lease::VerdictKind::Approve;
    let decided = scene.sock.decide_as(&scene.alice, kind, &plan, scene.info.epoch);
    assert_eq!(decided.unwrap_err().reason, Reason::Unsupported);
    let asked = scene.approve((scene.plan(&["/bin/echo", "x"]), Vec::new()));
    assert_eq!(scene.runs(&asked), exited("x\n"), "others run as ever");
}
