//! Commands that come to their own end whatever their client does; and what a run used.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use olb_e2e_tests::{
    Approver, Client, ExecSock, Instance, Options, Replies, Reply, finished, plan_for,
};
use olb_exec_api::{ClientFrame, Info};
use olb_lease::{CutBy, Outcome, Plan, RecordEvent, StreamSummary, Usage};

/// More than both pipes of a stream hold.
const OUTPUT: u64 = 2_000_000;

struct Scene {
    instance: Instance,
    sock: ExecSock,
    alice: Approver,
    info: Info,
    agent: u32,
}

/// What is recorded of a run.
struct End {
    outcome: Outcome,
    cut_by: CutBy,
    stdout: StreamSummary,
    usage: Option<Usage>,
}

impl Scene {
    fn start() -> Self {
        let execd = "kill_grace_secs = 1\n".into();
        let instance = Instance::with(Options { without_front: true, execd, ..Options::default() });
        let sock = ExecSock::of(&instance);
        let alice = instance.enrol(0);
        let (info, agent) = (sock.info(), instance.requester(0));
        Self { instance, sock, alice, info, agent }
    }

    fn plan(&self, script: &str) -> Plan {
        plan_for(&self.instance, &self.info, self.agent, &["/bin/sh", "-c", script])
    }

    /// A command that waits until it is let go, then writes [`OUTPUT`] bytes and a file, and ends
    /// with code 7.
    fn patient(&self) -> Plan {
        let (gate, done) = (self.gate(), self.done());
        let (gate, done) = (gate.display(), done.display());
        let script = format!(
            "read line < {gate}; head -c {OUTPUT} /dev/zero || exit 1; echo done > {done}; exit 7"
        );
        Plan { whole: true, ..self.plan(&script) }
    }

    fn gate(&self) -> PathBuf {
        let gate = self.instance.work().join("gate");
        if !gate.exists() {
            assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        }
        gate
    }

    fn done(&self) -> PathBuf {
        self.instance.work().join("done")
    }

    fn started(&self, plan: &Plan) -> (Replies, Client, Vec<std::os::fd::OwnedFd>) {
        let plan = plan.encode().unwrap();
        let lease = self.sock.approve(&self.alice, &plan);
        let (replies, mut client) = self.sock.execute(&lease, &plan, self.agent);
        match client.frame() {
            Some((ClientFrame::Started, fds)) => (replies, client, fds),
            other => panic!("{other:?}"),
        }
    }

    fn end(&self, replies: Replies) -> End {
        let Some(Reply::Outcome(recorded)) = replies.last() else { panic!("no outcome") };
        match finished(&recorded.receipt) {
            RecordEvent::Finished { outcome, cut_by, stdout, usage, .. } => {
                End { outcome, cut_by, stdout, usage }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The patient command has come to its own end.
    fn is_whole(&self, end: &End) {
        assert_eq!((end.outcome, end.cut_by), (Outcome::Exited(7), CutBy::Nobody));
        let zeros = olb_lease::sha256(&vec![0; usize::try_from(OUTPUT).unwrap()]);
        assert_eq!((end.stdout.bytes, end.stdout.sha256.0), (OUTPUT, zeros), "all is on record");
        assert_eq!(fs::read_to_string(self.done()).unwrap(), "done\n");
    }
}

#[test]
fn a_command_that_is_not_to_be_cut_ends_by_itself_when_its_client_is_gone() {
    let scene = Scene::start();
    let (replies, client, outputs) = scene.started(&scene.patient());
    drop((client, outputs));
    fs::write(scene.gate(), "go\n").unwrap();
    scene.is_whole(&scene.end(replies));
}

#[test]
fn it_ends_by_itself_when_only_its_output_has_no_reader() {
    let scene = Scene::start();
    let (replies, _client, outputs) = scene.started(&scene.patient());
    drop(outputs);
    fs::write(scene.gate(), "go\n").unwrap();
    scene.is_whole(&scene.end(replies));
}

#[test]
fn it_ends_by_itself_when_its_time_is_over_and_its_client_takes_nothing() {
    let scene = Scene::start();
    let plan = Plan { wall_clock_secs: 1, ..scene.patient() };
    let (replies, _client, _outputs) = scene.started(&plan);
    fs::write(scene.gate(), "go\n").unwrap();
    scene.is_whole(&scene.end(replies));
}

#[test]
fn its_client_sends_it_no_signals() {
    let scene = Scene::start();
    let (replies, mut client, outputs) = scene.started(&scene.patient());
    // More than the socket holds: once all is sent, most of it was read.
    client.socket.write_all(&vec![b'T'; 1 << 20]).unwrap();
    drop(outputs);
    fs::write(scene.gate(), "go\n").unwrap();
    scene.is_whole(&scene.end(replies));
}

#[test]
fn any_other_command_is_ended_by_the_same() {
    let scene = Scene::start();
    for (wall_clock_secs, is_gone, by) in [(60, true, CutBy::Requester), (1, false, CutBy::Limit)] {
        let plan = Plan { whole: false, wall_clock_secs, ..scene.patient() };
        let (replies, client, outputs) = scene.started(&plan);
        let kept = (!is_gone).then_some((client, outputs));
        let end = scene.end(replies);
        assert_eq!((end.outcome, end.cut_by), (Outcome::Killed(15), by));
        drop(kept);
    }
}

#[test]
fn a_receipt_says_what_the_command_and_its_children_used() {
    let scene = Scene::start();
    let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    for script in [burn.to_owned(), format!("({burn}); true")] {
        let (replies, _client, _outputs) = scene.started(&scene.plan(&script));
        let end = scene.end(replies);
        assert_eq!(end.outcome, Outcome::Exited(0));
        let Usage { user_ms, system_ms, max_rss_kib } = end.usage.expect("what it used");
        assert!(user_ms + system_ms > 0 && max_rss_kib > 0, "{script}: {:?}", end.usage);
    }
    let broken = scene.instance.path("bin/broken");
    fs::write(&broken, "\x7fELF and nothing more").unwrap();
    fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let argv = [broken.to_str().unwrap()];
    let plan = plan_for(&scene.instance, &scene.info, scene.agent, &argv);
    let plan = plan.encode().unwrap();
    let lease = scene.sock.approve(&scene.alice, &plan);
    let (replies, _client) = scene.sock.execute(&lease, &plan, scene.agent);
    let end = scene.end(replies);
    assert!(matches!(end.outcome, Outcome::SpawnFailed(_)));
    assert_eq!(end.usage, None, "nothing was started");
}
