//! Runs with a cgroup of their own: whatever a command starts ends with it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use olb_e2e_tests::{Client, ExecSock, Instance, Options, Reply, plan_for};
use olb_exec_api::ClientFrame;
use olb_lease::{Outcome, RawReceipt, RecordEvent};

/// A cgroup for one instance; removed with everything in it.
struct Parent(PathBuf);

impl Parent {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let cgroup2 = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = cgroup2.filter(|fields| fields[2] == "cgroup2").map(|fields| fields[1]).next();
        let mount = mount.expect("a cgroup2 mount; the kernel of every current system has one");
        let dir = Path::new(mount).join(format!("olb-test-{}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn instance(&self) -> Instance {
        let execd = format!("cgroup_parent = {}\nkill_grace_secs = 1\n", self.0.display());
        Instance::with(Options { execd, without_front: true, ..Options::default() })
    }

    fn runs(&self) -> usize {
        let is_run = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("run-");
        fs::read_dir(&self.0).unwrap().map(Result::unwrap).filter(is_run).count()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.kill"), "1").ok();
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

fn start(instance: &Instance, script: &str) -> (olb_e2e_tests::Replies, Client, Vec<u8>) {
    let sock = ExecSock::of(instance);
    let agent = instance.requester(0);
    let plan = plan_for(instance, &sock.info(), agent, &["/bin/sh", "-c", script]);
    let bytes = plan.encode().unwrap();
    let alice = instance.enrol(0);
    let lease = sock.approve(&alice, &bytes);
    let (mut replies, client) = sock.execute(&lease, &bytes, agent);
    assert_eq!(replies.next(), Some(Reply::Burned));
    (replies, client, bytes)
}

fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// Waits until `gone` holds; the deadline is one of liveness.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// A script that leaves a process in a session of its own and prints its pid.
const ESCAPE: &str =
    "pid=$(setsid --fork sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1'); echo $pid";

fn first_line(client: &mut Client) -> String {
    let (frame, fds) = client.frame().expect("a frame");
    assert_eq!(frame, ClientFrame::Started);
    let mut out = fs::File::from(fds.into_iter().next().unwrap());
    let mut line = String::new();
    let mut byte = [0];
    while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0].into());
    }
    line
}

#[test]
fn what_a_command_leaves_behind_ends_with_its_run() {
    let parent = Parent::new("left");
    let instance = parent.instance();
    let (replies, mut client, _) = start(&instance, ESCAPE);
    let pid = first_line(&mut client);
    assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
    eventually("the process that escaped its session is gone", || !is_alive(&pid));
    eventually("the run's cgroup is removed", || parent.runs() == 0);
}

#[test]
fn a_client_that_goes_away_takes_escaped_processes_with_it() {
    let parent = Parent::new("gone");
    let instance = parent.instance();
    let script =
        "trap '' TERM; setsid sh -c \"trap '' TERM; echo \\$\\$; sleep 1000\" & wait; sleep 1000";
    let (replies, mut client, _) = start(&instance, script);
    let pid = first_line(&mut client);
    drop(client);
    let Some(Reply::Outcome(recorded)) = replies.last() else { panic!("no outcome") };
    let claims = RawReceipt::parse(&recorded.receipt).unwrap().unverified_claims().unwrap();
    let RecordEvent::Finished { outcome, cut_by, .. } = claims.decode_record().unwrap().event
    else {
        panic!("{claims:?}")
    };
    assert_eq!((outcome, cut_by), (Outcome::Killed(9), olb_lease::CutBy::Requester));
    eventually("the process that escaped its session is gone", || !is_alive(&pid));
}

#[test]
fn after_a_crash_leftovers_are_ended_before_the_outcome_is_written_down() {
    let parent = Parent::new("crash");
    let mut instance = parent.instance();
    let (_replies, mut client, bytes) = start(&instance, "echo $$; exec sleep 1000");
    let pid = first_line(&mut client);
    instance.stop_execd("KILL");
    assert!(is_alive(&pid), "the command outlives a root half that is killed");
    instance.start_execd();
    assert!(!is_alive(&pid), "it is ended before the root half serves again");
    let state = ExecSock::of(&instance).state(olb_lease::plan_digest(&bytes));
    let receipt = state.recorded.expect("an outcome").receipt;
    let claims = RawReceipt::parse(&receipt).unwrap().unverified_claims().unwrap();
    let RecordEvent::Finished { outcome, .. } = claims.decode_record().unwrap().event else {
        panic!("{claims:?}")
    };
    assert_eq!(outcome, Outcome::Unknown { may_be_running: false });
}

#[test]
fn a_second_root_half_does_not_start() {
    let parent = Parent::new("second");
    let instance = parent.instance();
    let (_replies, mut client, _) = start(&instance, "echo $$; exec sleep 1000");
    let pid = first_line(&mut client);
    let mut second = std::process::Command::new(instance.path("bin/olb-execd"));
    second.arg("--config").arg(instance.state().join("execd.conf"));
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(is_alive(&pid), "the first one's runs are left alone");
}

//
#[test]
fn a_run_that_can_get_no_cgroup_is_refused_and_its_lease_stays_as_it_was() {
    let parent = Parent::new("none");
    let instance = parent.instance();
    let sock = ExecSock::of(&instance);
    let agent = instance.requester(0);
    let bytes = plan_for(&instance, &sock.info(), agent, &["/bin/true"]).encode().unwrap();
    let lease = sock.approve(&instance.enrol(0), &bytes);
    fs::remove_dir(&parent.0).unwrap();
    let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
    let Some(Reply::Refused(refused)) = replies.next() else { panic!("it ran") };
    assert_eq!(refused.reason, olb_exec_api::Reason::Unavailable);
    fs::create_dir(&parent.0).unwrap();
    let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
    assert_eq!(replies.next(), Some(Reply::Burned));
}
