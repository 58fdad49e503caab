//! Descriptors that clients attach, and files that block whoever touches them: the first are never
//! received, the second keep nobody else waiting.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use olb_e2e_tests::{
    Door, Fuse, FuseMount, ROOMY, Scene, message, open_files, refused, submit_of, view, wait_until,
};
use olb_exec_api::{ClientFrame, Reason};
use olb_lease::VerdictKind;
use olb_wire::{ByteBuf, Request, Response, Submit};

/// Far more than a command takes while somebody else's file hangs; whoever waits for the file waits
/// for ever.
const SERVED_WITHIN: Duration = Duration::from_secs(5);

/// A neighbour who asks, is approved and runs, again and again: how long the slowest round took.
fn slowest_round(scene: &mut Scene, rounds: u32) -> Duration {
    let mut door = Door::request(&scene.instance, scene.instance.requester(1));
    let mut round = |scene: &mut Scene, number: u32| {
        let begun = Instant::now();
        let submit = submit_of(&scene.instance, &["true", &number.to_string()]);
        let asked = view(door.submit(submit.clone()));
        view(scene.decide(VerdictKind::Approve, &asked.plan));
        let lease = view(door.submit(submit)).lease.expect("a lease");
        let mut client = door.execute(&lease);
        assert!(matches!(client.frame(), Some((ClientFrame::Started, _))));
        assert!(matches!(client.frame(), Some((ClientFrame::Outcome { .. }, _))));
        begun.elapsed()
    };
    (0..rounds).map(|number| round(scene, number)).max().expect("a round")
}

#[test]
fn a_descriptor_that_a_client_attaches_is_nobodys() {
    let mut scene = Scene::with(&format!("{ROOMY}request_read_secs = 1\n"), "");
    slowest_round(&mut scene, 1);
    let front = scene.instance.brokerd_pid();
    let baseline = open_files(front);
    let folder = scene.instance.work();
    let listening = UnixListener::bind(scene.instance.path("odd.sock")).unwrap();
    let odd: Vec<(&str, OwnedFd)> = vec![
        ("folder", File::open(&folder).unwrap().into()),
        ("device", File::open("/dev/zero").unwrap().into()),
        ("memory", olb_sys::memfd::sealed_memfd("odd", b"x").unwrap()),
        ("name only", olb_sys::path::open_directory(&folder).unwrap().fd),
        ("listening socket", listening.into()),
        ("the own process", File::open("/proc/self/mem").unwrap().into()),
    ];
    let status = message(&Request::Status);
    for (name, fd) in &odd {
        for door in [&mut scene.agent, &mut scene.desk] {
            let mut raw = door.connect();
            raw.send_with(&status, &[fd.as_fd(), fd.as_fd()]);
            assert!(matches!(raw.answer(), Some(Response::Status(_))), "{name}");
            if !["folder", "memory"].contains(name) {
                continue;
            }
            // On a byte of its own, before and in the middle of the message.
            let mut raw = door.connect();
            for (at, byte) in status.iter().enumerate() {
                if at % 3 == 0 {
                    raw.send_with(&[*byte], &[fd.as_fd()]);
                } else {
                    raw.send(&[*byte]).unwrap();
                }
            }
            // Read in pieces, as the kernel cuts it; or given up after its time. Never received.
            match raw.answer() {
                Some(Response::Status(_)) => {}
                other => assert_eq!(refused(other.unwrap()).0, Reason::Malformed, "{name}"),
            }
        }
    }
    for door in [&mut scene.agent, &mut scene.desk] {
        let (read, write) = olb_sys::pipe::pipe().unwrap();
        let mut raw = door.connect();
        raw.send_with(&status, &[write.as_fd()]);
        drop(write);
        assert!(matches!(raw.answer(), Some(Response::Status(_))));
        // The connection is still open; the end of the pipe says that nobody holds the other end.
        assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0);
    }
    wait_until("nothing is left open", || open_files(front) <= baseline);
}

/// The program that may hang, as `uid`. Only the end of the mount ends it.
fn hanging(scene: &Scene, uid: u32, words: &[&Path]) -> Child {
    let program = scene.instance.path("bin/olb-test-hang");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_olb-test-hang"), &program).expect("the program");
    }
    let mut command = Command::new(program);
    command.args(words).uid(uid).gid(uid).stdout(Stdio::piped()).spawn().expect("the program")
}

#[test]
fn a_descriptor_whose_end_never_comes_hangs_only_its_sender() {
    let mut scene = Scene::start();
    slowest_round(&mut scene, 1);
    let folder = scene.instance.path("fuse");
    fs::create_dir(&folder).unwrap();
    let mount = FuseMount::over(&folder, Fuse::OpensItsFile);
    let sockets = [(scene.instance.requester(0), "request.sock"), (scene.alice.uid, "review.sock")];
    let mut senders = Vec::new();
    for (uid, socket) in sockets {
        let socket = scene.instance.runtime().join(socket);
        let mut sender = hanging(&scene, uid, &[Path::new("send"), &mount.file(), &socket]);
        let mut said = [0; 5];
        sender.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"sent\n");
        senders.push(sender);
    }
    wait_until("whoever had it waits for the file system", || mount.waiting() >= 2);
    let slowest = slowest_round(&mut scene, 20);
    println!("slowest of 20 rounds beside it: {slowest:?}");
    drop(mount);
    assert!(slowest < SERVED_WITHIN);
    for mut sender in senders {
        assert!(sender.wait().unwrap().success());
    }
}

#[test]
fn a_process_that_never_gets_through_execve_keeps_no_run_from_being_recorded() {
    let mut scene = Scene::start();
    let folder = scene.instance.path("fuse");
    fs::create_dir(&folder).unwrap();
    let mount = FuseMount::over(&folder, Fuse::OpensItsFile);
    let uid = scene.instance.requester(0);
    let mut wedged = hanging(&scene, uid, &[Path::new("exec"), &mount.file()]);
    // Its stat in /proc is not to be read from here on, by anybody.
    wait_until("it hangs on its way into a program", || mount.waiting() >= 1);
    // A command that is cut, too: what is left of its group is looked for.
    let (_, lease) = scene.approved(&["sleep", "1000"]);
    let (client, _out) = scene.started(&lease);
    drop(client);
    scene.outcome(&lease);
    let slowest = slowest_round(&mut scene, 20);
    println!("slowest of 20 rounds beside it: {slowest:?}");
    drop(mount);
    assert!(slowest < SERVED_WITHIN);
    assert!(wedged.wait().unwrap().success());
}

/// Somebody who holds a lease on a file: whoever opens it has to wait for this process.
struct Leaseholder(std::process::Child);

impl Leaseholder {
    fn of(path: &Path) -> Self {
        // fcntl(F_SETLEASE, F_WRLCK); the notice that somebody waits is ignored.
        let script = "$SIG{IO} = 'IGNORE'; open(my $f, '+<', $ARGV[0]) or die $!; \
                      fcntl($f, 1024, 1) or die $!; $| = 1; print \"held\\n\"; sleep";
        let mut perl = Command::new("perl");
        let child = perl.args(["-e", script]).arg(path).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("perl");
        let mut line = [0; 5];
        child.stdout.as_mut().expect("its output").read_exact(&mut line).expect("a lease");
        Self(child)
    }
}

impl Drop for Leaseholder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A file of each odd kind in `folder`, which belongs to `owner`.
fn odd_files(folder: &Path, owner: u32) -> Vec<(&'static str, PathBuf)> {
    let path = |name: &str| folder.join(name);
    let make = |name: &str, words: &[&str]| {
        let status = Command::new(words[0]).args(&words[1..]).arg(path(name)).status();
        assert!(status.expect("a tool of the system").success(), "{name}");
    };
    make("fifo", &["mkfifo"]);
    fs::create_dir(path("folder")).unwrap();
    drop(UnixListener::bind(path("socket")).unwrap());
    let sparse = File::create(path("sparse")).unwrap();
    sparse.set_len(8 << 40).or_else(|_| sparse.set_len(8 << 30)).unwrap();
    fs::write(path("leased"), b"#!/bin/sh\n").unwrap();
    let names = ["fifo", "folder", "socket", "sparse", "leased"];
    for name in names {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
        chown(path(name), Some(owner), Some(owner)).unwrap();
    }
    names.iter().map(|name| (*name, path(name))).chain([("device", "/dev/tty".into())]).collect()
}

#[test]
fn odd_files_as_program_operand_or_directory_are_answered_at_once() {
    let mut scene = Scene::start();
    let agents = scene.instance.path("agents");
    let roots = scene.instance.path("roots");
    for (folder, owner) in [(&agents, scene.instance.requester(0)), (&roots, 0)] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        chown(folder, Some(owner), Some(owner)).unwrap();
        let files = odd_files(folder, owner);
        let _lease = Leaseholder::of(&folder.join("leased"));
        let is_roots = owner == 0;
        for (kind, path) in files {
            let name = path.to_str().unwrap();
            let begun = Instant::now();
            as_program(&mut scene, kind, name, is_roots);
            as_operand(&mut scene, kind, name, is_roots);
            as_directory(&mut scene, kind, &path);
            let took = begun.elapsed();
            assert!(took < 6 * SERVED_WITHIN, "{kind}: {took:?}");
        }
    }
}

fn as_program(scene: &mut Scene, kind: &str, name: &str, is_roots: bool) {
    let answer = scene.agent.submit(submit_of(&scene.instance, &[name]));
    match (kind, is_roots) {
        // Executable files that nobody but root can change: whatever is in them.
        ("sparse" | "leased", true) => {
            let asked = view(answer);
            // Reading the start of a leased file has to wait for its holder; that is root's own.
            if kind == "sparse" {
                view(scene.decide(VerdictKind::Approve, &asked.plan));
            }
        }
        _ => {
            let (reason, text) = refused(answer);
            let wanted = [Reason::NotExecutable, Reason::CannotBind, Reason::NoSuchCommand];
            assert!(wanted.contains(&reason), "{kind}: {reason:?} {text}");
        }
    }
}

fn as_operand(scene: &mut Scene, kind: &str, name: &str, is_roots: bool) {
    let answer = scene.agent.submit(submit_of(&scene.instance, &["cat", name]));
    if is_roots || kind == "folder" || kind == "device" {
        let asked = view(answer);
        view(scene.decide(VerdictKind::Approve, &asked.plan));
    } else {
        let (reason, text) = refused(answer);
        assert_eq!(reason, Reason::CannotBind, "{kind}: {text}");
    }
}

fn as_directory(scene: &mut Scene, kind: &str, path: &Path) {
    let submit = in_directory(scene, path, &["true"]);
    let asked = view(scene.agent.submit(submit));
    let decided = scene.decide(VerdictKind::Approve, &asked.plan);
    if fs::metadata(path).unwrap().file_type().is_dir() {
        view(decided);
    } else {
        assert_eq!(refused(decided).0, Reason::CannotBind, "{kind}");
    }
}

fn in_directory(scene: &Scene, path: &Path, argv: &[&str]) -> Submit {
    let mut submit = submit_of(&scene.instance, argv);
    let file = fs::metadata(path).unwrap();
    submit.command.cwd = ByteBuf::from(path.as_os_str().as_bytes());
    (submit.command.cwd_dev, submit.command.cwd_ino) = (file.dev(), file.ino());
    submit.command.cwd_changeable = true;
    submit
}

#[test]
fn a_look_up_that_hangs_is_given_up_and_others_are_looked_up() {
    let mut scene = Scene::with(&format!("{ROOMY}lookup_secs = 1\n"), "");
    let folder = scene.instance.path("silent");
    fs::create_dir(&folder).unwrap();
    let mount = FuseMount::over(&folder, Fuse::Silent);
    let mut hanging = Vec::new();
    for number in 0..20 {
        let word = folder.join(format!("x{number}"));
        let argv = ["cat", word.to_str().unwrap()];
        let mut raw = scene.agent.connect();
        raw.send(&message(&Request::Submit(Box::new(submit_of(&scene.instance, &argv))))).unwrap();
        hanging.push(raw);
    }
    wait_until("the first ones hang", || mount.waiting() > 0);
    let slowest = slowest_round(&mut scene, 20);
    println!("slowest of 20 rounds beside 20 look-ups that hang: {slowest:?}");
    assert!(slowest < SERVED_WITHIN);
    for mut raw in hanging {
        let (reason, text) = refused(raw.answer().unwrap());
        assert_eq!(reason, Reason::Unavailable, "{text}");
    }
    drop(mount);
    let again = scene.agent.submit(submit_of(&scene.instance, &["true"]));
    assert_eq!(view(again).state, "pending", "there are places for look-ups again");
}

#[test]
fn a_folder_that_begins_to_hang_after_the_approval_hangs_only_so_many_runs_of_its_requester() {
    let mut scene = Scene::with(ROOMY, "max_connections = 100\nmax_executions_per_uid = 4\n");
    let folder = scene.instance.path("later");
    fs::create_dir(&folder).unwrap();
    let submit = in_directory(&scene, &folder, &["true"]);
    let asked = view(scene.agent.submit(submit.clone()));
    view(scene.decide(VerdictKind::Approve, &asked.plan));
    let lease = view(scene.agent.submit(submit)).lease.unwrap();
    let mount = FuseMount::over(&folder, Fuse::Silent);
    let mut hanging: Vec<_> = (0..40).map(|_| scene.agent.execute(&lease)).collect();
    wait_until("the root half waits for the file system", || mount.waiting() > 0);
    let slowest = slowest_round(&mut scene, 20);
    println!("slowest of 20 rounds beside 40 runs that hang: {slowest:?}");
    assert!(slowest < SERVED_WITHIN);
    assert!(mount.waiting() <= 4, "{} wait: more than the requester's places", mount.waiting());
    drop(mount);
    // Who was not let in was told so, or saw the end of the connection; the others hear it now.
    let ends: Vec<_> =
        hanging.iter_mut().map(|client| client.frame().map(|(frame, _)| frame)).collect();
    let started = ends.iter().filter(|frame| matches!(frame, Some(ClientFrame::Started))).count();
    assert!(started <= 1, "one lease is one run");
}
