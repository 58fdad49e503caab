//! Clients that go away: at any moment, killed, or without reading. Nothing is left behind, their
//! commands are ended, and nobody else notices.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use olb_e2e_tests::{
    Door, Scene, Seeded, children, finished, message, open_files, presentation, resident_kib,
    submit_of, view, wait_until,
};
use olb_exec_api::ClientFrame;
use olb_lease::{CutBy, Outcome, RecordEvent, VerdictKind};
use olb_wire::{Request, Response};

/// A command of another requester that has to live through everything: it says "ready", waits for
/// the file, says "done".
struct Bystander {
    client: olb_e2e_tests::Client,
    stdout: BufReader<File>,
    go: std::path::PathBuf,
}

impl Bystander {
    fn start(scene: &mut Scene) -> Self {
        let go = scene.instance.path("go");
        let script =
            format!("echo ready; until [ -e {} ]; do sleep 0.05; done; echo done", go.display());
        let argv = ["sh", "-c", &script];
        let mut door = Door::request(&scene.instance, scene.instance.requester(1));
        let asked = view(door.submit(submit_of(&scene.instance, &argv)));
        view(scene.decide(VerdictKind::Approve, &asked.plan));
        let lease = view(door.submit(submit_of(&scene.instance, &argv))).lease.unwrap();
        let mut client = door.execute(&lease);
        let Some((ClientFrame::Started, mut fds)) = client.frame() else { panic!("not started") };
        let mut stdout = BufReader::new(File::from(fds.swap_remove(0)));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { client, stdout, go }
    }

    fn finish(mut self) {
        fs::write(&self.go, b"").unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "done\n");
        let Some((ClientFrame::Outcome { receipt }, _)) = self.client.frame() else {
            panic!("no outcome")
        };
        let record = finished(&receipt);
        let RecordEvent::Finished { outcome, cut_by, .. } = record else { panic!("{record:?}") };
        assert_eq!((outcome, cut_by), (Outcome::Exited(0), CutBy::Nobody));
    }
}

/// Everything that was burned has its outcome, and nothing of a client is left.
fn assert_settled(scene: &mut Scene, before: [usize; 2], runs: &[Vec<u8>]) {
    let (front, root) = (scene.instance.brokerd_pid(), scene.instance.execd_pid());
    wait_until("no command is left", || children(root).is_empty());
    wait_until("no descriptor is left", || {
        open_files(front) <= before[0] && open_files(root) <= before[1]
    });
    for lease in runs {
        let claims = olb_lease::RawLease::parse(lease).unwrap().unverified_claims().unwrap();
        let state = olb_e2e_tests::ExecSock::of(&scene.instance).state(claims.plan);
        assert_eq!(state.burned, state.recorded.is_some(), "burned without an outcome");
    }
    wait_until("the front knows of every end", || {
        let Response::Requests(open) = scene.desk.ask(&Request::List { open: true }) else {
            panic!("no list")
        };
        open.iter().all(|request| request.state != "executing")
    });
}

fn files(scene: &Scene) -> [usize; 2] {
    [scene.instance.brokerd_pid(), scene.instance.execd_pid()].map(open_files)
}

/// One connection that ends at a random moment of what it wants.
fn vanish(scene: &mut Scene, random: &mut Seeded, round: u64, runs: &mut Vec<Vec<u8>>) {
    let number = format!("{}", 1000 + round);
    let pause = Duration::from_micros(random.below(4000));
    match random.below(4) {
        0 => {
            let mut submit = submit_of(&scene.instance, &["true", &number]);
            submit.wait = true;
            let bytes = message(&Request::Submit(Box::new(submit)));
            let mut raw = scene.agent.connect();
            raw.send(&bytes[..random.below(bytes.len() as u64 + 1) as usize]).unwrap();
            sleep(pause);
        }
        1 => {
            let mut submit = submit_of(&scene.instance, &["true", &number]);
            submit.wait = true;
            let bytes = message(&Request::Submit(Box::new(submit)));
            let mut raw = scene.agent.connect();
            raw.send(&bytes).unwrap();
            let asked = view(raw.answer().unwrap());
            if random.below(2) == 0 {
                scene.decide(VerdictKind::Approve, &asked.plan);
            }
            sleep(pause);
        }
        2 => {
            let mut raw = scene.desk.connect();
            let wanted = [Request::Watch, Request::List { open: true }, Request::Status];
            raw.send(&message(&wanted[random.below(3) as usize])).unwrap();
            sleep(pause);
        }
        _ => {
            let scripts = [
                "sleep 1000",
                "cat /dev/zero",
                "trap '' TERM HUP; sleep 1000",
                "echo out; echo err >&2; sleep 0.01",
            ];
            let script = format!("{} # {number}", scripts[random.below(4) as usize]);
            let (_, lease) = scene.approved(&["sh", "-c", &script]);
            let bytes = message(&presentation(&lease));
            let mut raw = scene.agent.connect();
            let end = if random.below(4) == 0 {
                random.below(bytes.len() as u64) as usize
            } else {
                bytes.len()
            };
            raw.send(&bytes[..end]).unwrap();
            let mut client = raw.into_client();
            if end == bytes.len() && random.below(2) == 0 {
                let (frame, _fds) = client.frame().unwrap();
                assert!(matches!(frame, ClientFrame::Started), "{frame:?}");
            }
            sleep(pause);
            runs.push(lease);
        }
    }
}

#[test]
fn clients_that_vanish_at_a_thousand_random_moments_leave_nothing_behind() {
    let mut scene = Scene::with(
        &olb_e2e_tests::ROOMY.replace("= 1000\n", "= 100000\n").replace("= 2000\n", "= 100000\n"),
        "kill_grace_secs = 1\nmax_executions = 512\nmax_executions_per_uid = 500\n",
    );
    let bystander = Bystander::start(&mut scene);
    scene.ask(&["true"]);
    let before = files(&scene);
    let (front, root) = (scene.instance.brokerd_pid(), scene.instance.execd_pid());
    let memory = [front, root].map(resident_kib);
    let mut random = Seeded::new("clients that vanish");
    let mut runs = Vec::new();
    for round in 0..1000 {
        vanish(&mut scene, &mut random, round, &mut runs);
    }
    wait_until("only the bystander's command is left", || children(root).len() <= 1);
    bystander.finish();
    assert_settled(&mut scene, before, &runs);
    let now = [front, root].map(resident_kib);
    println!(
        "1000 vanished clients, {} of them with a command: KiB {memory:?} before, {now:?} after",
        runs.len()
    );
    assert!((0..2).all(|half| now[half] < memory[half] + 64 * 1024));
}

/// Kills the program at a random moment.
fn kill_soon(mut child: Child, random: &mut Seeded) {
    sleep(Duration::from_micros(random.below(40_000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn olb_killed_at_any_moment_leaves_nothing_behind() {
    let mut scene = Scene::start();
    let bystander = Bystander::start(&mut scene);
    scene.ask(&["true"]);
    let before = files(&scene);
    let agent = scene.instance.requester(0);
    let mut random = Seeded::new("olb killed");
    let mut runs = Vec::new();
    for round in 0..100 {
        let number = format!("{}", 2000 + round);
        let words: &[&str] = match round % 3 {
            0 => &["request", "--", "true", &number],
            1 => &["run", "--wait", "60s", "--", "sleep", &number],
            _ => {
                let (_, lease) = scene.approved(&["sleep", &number]);
                let file = scene.instance.lease_file(agent, &olb_lease::armor::encode(&lease));
                let words = ["exec", "--lease-file", &file, "--", "sleep", &number];
                kill_soon(scene.instance.olb_command(agent, &words).spawn().unwrap(), &mut random);
                runs.push(lease);
                continue;
            }
        };
        kill_soon(scene.instance.olb_command(agent, words).spawn().unwrap(), &mut random);
    }
    let root = scene.instance.execd_pid();
    wait_until("only the bystander's command is left", || children(root).len() <= 1);
    bystander.finish();
    assert_settled(&mut scene, before, &runs);
}

#[test]
fn a_command_whose_client_is_gone_gets_term_then_kill_and_the_record_says_why() {
    let mut scene = Scene::with(olb_e2e_tests::ROOMY, "kill_grace_secs = 1\n");
    for (script, wanted) in [
        ("echo up; sleep 1000", Outcome::Killed(15)),
        ("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done", Outcome::Exited(7)),
        ("trap '' TERM; echo up; while :; do sleep 0.05; done", Outcome::Killed(9)),
    ] {
        let (_, lease) = scene.approved(&["sh", "-c", script]);
        let (client, mut fds) = scene.started(&lease);
        let mut up = [0; 3];
        File::from(fds.swap_remove(0)).read_exact(&mut up).unwrap();
        drop(client);
        let record = scene.outcome(&lease);
        let RecordEvent::Finished { outcome, cut_by, .. } = record else { panic!("{record:?}") };
        assert_eq!((outcome, cut_by), (wanted, CutBy::Requester), "{script}");
    }
}

#[test]
fn a_client_that_never_reads_costs_no_memory_and_is_cut_when_it_goes() {
    let mut scene = Scene::start();
    let root = scene.instance.execd_pid();
    let (_, lease) = scene.approved(&["cat", "/dev/zero"]);
    let before = resident_kib(root);
    let (client, fds) = scene.started(&lease);
    // Both pipes are full when nothing more arrives in the second one.
    let queued = || olb_sys::socket::queued_bytes(&fds[0]).unwrap();
    let mut last = usize::MAX;
    wait_until("the pipes are full", || {
        sleep(Duration::from_millis(20));
        let now = queued();
        now > 0 && std::mem::replace(&mut last, now) == now
    });
    let after = resident_kib(root);
    println!("a client that never reads: KiB {before} before, {after} after");
    assert!(after < before + 16 * 1024);
    drop(client);
    let record = scene.outcome(&lease);
    let RecordEvent::Finished { cut_by, stdout, .. } = record else { panic!("{record:?}") };
    assert_eq!(cut_by, CutBy::Requester);
    assert!(stdout.bytes < 1024 * 1024, "{} bytes", stdout.bytes);
}

#[test]
fn a_gigabyte_passes_through_in_flat_memory() {
    const BYTES: u64 = 1 << 30;
    let mut scene = Scene::start();
    let root = scene.instance.execd_pid();
    let (_, lease) = scene.approved(&["head", "-c", &BYTES.to_string(), "/dev/zero"]);
    let before = resident_kib(root);
    let (mut client, mut fds) = scene.started(&lease);
    let mut stdout = File::from(fds.swap_remove(0));
    assert_eq!(std::io::copy(&mut stdout, &mut std::io::sink()).unwrap(), BYTES);
    let after = resident_kib(root);
    println!("1 GiB of output: KiB {before} before, {after} after");
    assert!(after < before + 16 * 1024);
    let Some((ClientFrame::Outcome { receipt }, _)) = client.frame() else { panic!("no outcome") };
    let RecordEvent::Finished { stdout, .. } = finished(&receipt) else { panic!("no end") };
    assert_eq!(stdout.bytes, BYTES);
}

/// Runs a script as root whose output goes to a reader that leaves after the first line; the exit
/// code, what was said, and the record.
fn read_one_line(scene: &mut Scene, script: &str) -> (Option<i32>, String, RecordEvent) {
    let agent = scene.instance.requester(0);
    let (_, lease) = scene.approved(&["sh", "-c", script]);
    let file = scene.instance.lease_file(agent, &olb_lease::armor::encode(&lease));
    let words = ["exec", "--lease-file", &file, "--", "sh", "-c", script];
    let mut child = scene.instance.olb_command(agent, &words).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    let output = child.wait_with_output().unwrap();
    let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
    (code, String::from_utf8_lossy(&output.stderr).into_owned(), scene.outcome(&lease))
}

#[test]
fn a_pipeline_that_stops_reading_ends_as_under_sudo() {
    let mut scene = Scene::start();
    for (script, code, outcome) in [
        ("exec yes", 128 + 13, Outcome::Killed(13)),
        // Only whoever writes is told; the rest of the script goes on.
        ("yes; [ $? = 141 ] && echo went on >&2; exit 5", 5, Outcome::Exited(5)),
    ] {
        let (ended, said, record) = read_one_line(&mut scene, script);
        let RecordEvent::Finished { outcome: recorded, cut_by, .. } = record else {
            panic!("{record:?}")
        };
        assert_eq!((ended, recorded, cut_by), (Some(code), outcome, CutBy::Nobody), "{script}");
        assert_eq!(said, if code == 5 { "went on\n" } else { "" }, "no word of ours");
    }
}
