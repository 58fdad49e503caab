//! The requester's processes change, in a tight loop, where the names of an approved request lead
//! to, while its lease is presented again and again: what was approved is what is used, or nothing
//! runs and the refusal says what changed.
//!
//! 1,600 tries, 10,000 at full length (`OLB_SOAK`). The root half waits at its crash points, so that there
//! is time between any two of its steps.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use olb_e2e_tests::{Approver, ExecSock, Instance, Options, Reply, is_root, plan_for};
use olb_exec_api::{ClientFrame, Info, Reason};
use olb_lease::Directory;

/// What changes, and whether it does so in namespaces of its own.
const SWAPPERS: [(&str, bool); 8] = [
    ("exchange", false),
    ("parent", false),
    ("replace", false),
    ("link", false),
    ("parent-link", false),
    ("recreate", false),
    ("exchange", true),
    ("mount", true),
];

fn tries() -> usize {
    let all = if std::env::var_os("OLB_SOAK").is_some() { 10_000 } else { 1_600 };
    all / SWAPPERS.len()
}

struct Scene {
    instance: Instance,
    sock: ExecSock,
    alice: Approver,
    info: Info,
    agent: u32,
    home: PathBuf,
}

impl Scene {
    fn start() -> Self {
        let variables = vec![("OLB_PAUSE_MICROS".into(), "100".into())];
        let options = Options { without_front: true, variables, ..Options::default() };
        let instance = Instance::with(options);
        let (sock, alice, agent) =
            (ExecSock::of(&instance), instance.enrol(0), instance.requester(0));
        let program = instance.path("bin/olb-test-swapper");
        fs::copy(env!("CARGO_BIN_EXE_olb-test-swapper"), program).unwrap();
        let (info, home) = (sock.info(), instance.work().join("home"));
        let scene = Self { instance, sock, alice, info, agent, home };
        for (folder, who) in [("", ""), ("up", ""), ("evil", "")]
            .into_iter()
            .chain([("up/place", "good"), ("evil/place", "evil")])
        {
            scene.folder(folder, who);
        }
        scene
    }

    /// A folder of the agent's, with a file that says whose it is.
    fn folder(&self, name: &str, who: &str) {
        let path = self.home.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("who"), who).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&path, Some(self.agent), Some(self.agent)).unwrap();
    }

    /// Leases to print the file, in the good place.
    fn leases(&self, count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let place = self.home.join("up/place");
        let file = place.metadata().unwrap();
        let path = place.to_str().unwrap().into();
        let cwd = Directory { path, dev: file.dev(), ino: file.ino() };
        let approved = |_| {
            // The name is one in the directory that the command is in.
            let argv = ["/bin/sh", "-c", "cat who"];
            let mut plan = plan_for(&self.instance, &self.info, self.agent, &argv);
            plan.cwd = cwd.clone();
            let bytes = plan.encode().unwrap();
            let lease = self.sock.approve(&self.alice, &bytes);
            (bytes, lease)
        };
        (0..count).map(approved).collect()
    }

    /// What a presentation came to: the output of its run, or why there was none.
    fn present(&self, lease: &[u8], plan: &[u8]) -> Result<String, (Reason, String)> {
        let (replies, mut client) = self.sock.execute(lease, plan, self.agent);
        match client.frame() {
            Some((ClientFrame::Started, fds)) => {
                let mut output = String::new();
                let stdout = fds.into_iter().next().expect("standard output");
                fs::File::from(stdout).read_to_string(&mut output).unwrap();
                assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
                Ok(output)
            }
            Some((ClientFrame::Refused(refusal), _)) => Err((refusal.reason, refusal.text)),
            other => panic!("{other:?}"),
        }
    }

    /// A process of the agent's that swaps.
    fn swapper(&self, kind: &str, has_namespaces: bool) -> Swapper {
        let program = self.instance.path("bin/olb-test-swapper");
        let mut command = if has_namespaces {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg(kind).arg(&self.home).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.uid(self.agent).gid(self.agent).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Swapper(child)
    }
}

/// A running swapper; ends with its last swap undone.
struct Swapper(Child);

impl Swapper {
    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success(), "the swapper came to grief");
    }
}

/// How many presentations ran, and how many were refused.
fn race(scene: &Scene, kind: &str, has_namespaces: bool, place: &Path) -> [usize; 2] {
    let leases = scene.leases(tries());
    let swapper = scene.swapper(kind, has_namespaces);
    let [mut ran, mut refused] = [0; 2];
    while ran + refused < leases.len() {
        let (plan, lease) = &leases[ran];
        match scene.present(lease, plan) {
            Ok(output) => {
                assert_eq!(output, "good", "{kind}: another place was used");
                ran += 1;
            }
            Err((Reason::IdentityChanged | Reason::CannotBind, text)) => {
                assert!(text.contains(place.to_str().unwrap()), "{kind}: {text}");
                refused += 1;
            }
            Err(other) => panic!("{kind}: {other:?}"),
        }
    }
    swapper.end();
    [ran, refused]
}

//
#[test]
fn a_directory_that_is_swapped_in_a_tight_loop_is_the_approved_one_or_nothing_runs() {
    assert!(is_root());
    let scene = Scene::start();
    let place = scene.home.join("up/place");
    let mut all = [0; 2];
    for (kind, has_namespaces) in SWAPPERS {
        let [ran, refused] = race(&scene, kind, has_namespaces, &place);
        // In a namespace of its own a mount changes nothing here.
        assert_eq!(refused > 0, kind != "mount", "{kind}: nothing was raced");
        println!("{kind}, namespaces of its own {has_namespaces}: {ran} ran, {refused} refused");
        all = [all[0] + ran, all[1] + refused];
    }
    assert!(all[0] > 0 && all[1] > 0, "both happen, or nothing was raced: {all:?}");
}
