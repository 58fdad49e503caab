//! The root half alone, driven over exec.sock by a test in the front's place.

use std::io::Read as _;

use olb_e2e_tests::{Client, ExecSock, Instance, Options, Replies, Reply, plan_for};
use olb_exec_api::{ClientFrame, Reason, Refusal};
use olb_lease::{Outcome, PublicKey, RawReceipt, RecordEvent, VerdictKind, plan_digest, sha256};

fn root_half() -> (Instance, ExecSock) {
    let instance = Instance::with(Options { without_front: true, ..Options::default() });
    let sock = ExecSock::of(&instance);
    (instance, sock)
}

/// Reads a run to its end: what came out on both streams, and the receipt's record.
fn read_run(mut client: Client) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (frame, fds) = client.frame().expect("a frame");
    assert_eq!(frame, ClientFrame::Started);
    let mut streams = fds.into_iter().map(|fd| {
        let mut bytes = Vec::new();
        std::fs::File::from(fd).read_to_end(&mut bytes).expect("a stream");
        bytes
    });
    let (stdout, stderr) = (streams.next().expect("stdout"), streams.next().expect("stderr"));
    match client.frame() {
        Some((ClientFrame::Outcome { receipt }, _)) => (stdout, stderr, receipt),
        other => panic!("{other:?}"),
    }
}

fn finished(sock: &ExecSock, receipt: &[u8]) -> RecordEvent {
    let key = PublicKey::from_bytes(&sock.info().audit_key).expect("the audit key");
    let claims = RawReceipt::parse(receipt).and_then(|raw| raw.verify(&key)).expect("a receipt");
    claims.decode_record().expect("a record").event
}

fn refusal((mut replies, mut client): (Replies, Client)) -> Refusal {
    let told = match client.frame() {
        Some((ClientFrame::Refused(refusal), _)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(replies.next(), Some(Reply::Refused(told.clone())), "both are told the same");
    told
}

#[test]
fn an_approved_plan_runs_once_as_root_and_its_receipt_says_how() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let plan =
        plan_for(&instance, &sock.info(), agent, &["/bin/sh", "-c", "id -u; echo e >&2; exit 3"]);
    let bytes = plan.encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    let (mut replies, client) = sock.execute(&lease, &bytes, agent);
    assert_eq!(replies.next(), Some(Reply::Burned));
    let (stdout, stderr, receipt) = read_run(client);
    assert_eq!((stdout.as_slice(), stderr.as_slice()), (&b"0\n"[..], &b"e\n"[..]));
    match finished(&sock, &receipt) {
        RecordEvent::Finished { plan, outcome, stdout, .. } => {
            assert_eq!(plan, plan_digest(&bytes));
            assert_eq!(outcome, Outcome::Exited(3));
            assert_eq!((stdout.bytes, stdout.sha256.0), (2, sha256(b"0\n")));
        }
        other => panic!("{other:?}"),
    }
    let Some(Reply::Outcome(recorded)) = replies.next() else { panic!("no outcome") };
    assert_eq!((recorded.receipt, recorded.stdout_tail), (receipt, b"0\n".to_vec()));

    let again = refusal(sock.execute(&lease, &bytes, agent));
    assert_eq!(again.reason, Reason::AlreadyBurned);
    assert_eq!(again.recorded.expect("the recorded outcome").stdout_tail, b"0\n");
}

#[test]
fn the_command_gets_a_clean_process() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let script = "ls /proc/self/fd | tr '\\n' ' '; umask; grep -E '^(SigIgn|SigBlk|Groups)' \
                  /proc/self/status; pwd; readlink /proc/self/fd/0; env | sort";
    let plan = plan_for(&instance, &sock.info(), agent, &["/bin/sh", "-c", script]);
    let bytes = plan.encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    let (_replies, client) = sock.execute(&lease, &bytes, agent);
    let (stdout, stderr, _) = read_run(client);
    let text = String::from_utf8(stdout).unwrap();
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    // The listing itself opens descriptor 3.
    assert!(text.starts_with("0 1 2 3 0022\n"), "{text}");
    assert!(text.contains("SigIgn:\t0000000000000000"), "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
    assert!(text.contains("Groups:\t0 \n"), "{text}");
    assert!(text.contains(&format!("{}\n/dev/null\n", instance.work().display())), "{text}");
    for variable in ["HOME=/root", "LANG=C.UTF-8", "PYTHONSAFEPATH=1", "USER=root"] {
        assert!(text.contains(&format!("{variable}\n")), "{text}");
    }
    assert!(!text.contains("SUDO_"), "{text}");
}

//
#[test]
fn a_lease_is_refused_for_every_uid_but_its_own() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let plan = plan_for(&instance, &sock.info(), agent, &["/bin/true"]);
    let bytes = plan.encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    let other = refusal(sock.execute(&lease, &bytes, instance.requester(1)));
    assert_eq!(other.reason, Reason::NotYours);
    for uid in [instance.stranger(), instance.front(), 0, 65_534] {
        let (mut replies, mut client) = sock.execute(&lease, &bytes, uid);
        let Some(Reply::Refused(refused)) = replies.next() else { panic!("it ran for {uid}") };
        assert_eq!(refused.reason, Reason::NotListed, "{uid}");
        assert!(client.frame().is_none(), "root writes to nobody's socket but a requester's");
    }
    let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
    assert_eq!(replies.next(), Some(Reply::Burned), "a refusal leaves the lease as it was");
}

//
#[test]
fn a_plan_for_a_file_that_somebody_else_can_change_is_not_approved() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let script = instance.path("agent.sh");
    std::fs::write(&script, "#!/bin/sh\nid\n").unwrap();
    std::os::unix::fs::chown(&script, Some(agent), Some(agent)).unwrap();
    let named = script.to_str().unwrap();
    let info = sock.info();
    for argv in [
        vec!["/bin/sh", named],
        vec!["/bin/cat", "../agent.sh"],
        vec!["/bin/cat", "--file=../agent.sh"],
        vec!["/bin/cat", "@../agent.sh"],
        vec!["/bin/cat", "/dev/stdin"],
        vec!["/bin/cat", "/proc/self/environ"],
    ] {
        let bytes = plan_for(&instance, &info, agent, &argv).encode().unwrap();
        let refused = sock.decide_as(&alice, VerdictKind::Approve, &bytes, info.epoch);
        assert_eq!(refused.unwrap_err().reason, Reason::CannotBind, "{argv:?}");
    }
}

#[test]
fn a_script_whose_interpreter_somebody_else_can_redirect_is_not_approved() {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let theirs = instance.path("venv");
    std::fs::create_dir(&theirs).unwrap();
    symlink("/bin/sh", theirs.join("sh")).unwrap();
    chown(&theirs, Some(agent), Some(agent)).unwrap();
    let info = sock.info();
    let approve = |interpreter: &str| {
        let script = instance.work().join("tool");
        std::fs::write(&script, format!("#!{interpreter}\ntrue\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let plan = plan_for(&instance, &info, agent, &[script.to_str().unwrap()]);
        sock.decide_as(&alice, VerdictKind::Approve, &plan.encode().unwrap(), info.epoch)
    };
    let redirected = approve(theirs.join("sh").to_str().unwrap()).unwrap_err();
    assert_eq!(redirected.reason, Reason::CannotBind, "{redirected:?}");
    assert!(approve("/bin/sh").is_ok(), "the same script with root's own interpreter is fine");
}

#[test]
fn a_command_that_is_cut_takes_its_stubborn_children_with_it() {
    let execd = "kill_grace_secs = 1\n".into();
    let options = Options { without_front: true, execd, ..Options::default() };
    let instance = Instance::with(options);
    let sock = ExecSock::of(&instance);
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    // The shell dies of TERM at once; its child, in the same group, ignores it.
    let script = "(trap '' TERM; sh -c 'echo $PPID; exec sleep 1000' >&2) & \
                  read -r line < /dev/null; wait";
    let plan = plan_for(&instance, &sock.info(), agent, &["/bin/sh", "-c", script]);
    let bytes = plan.encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    let (mut replies, mut client) = sock.execute(&lease, &bytes, agent);
    assert_eq!(replies.next(), Some(Reply::Burned));
    let (_, mut fds) = client.frame().expect("a frame");
    let mut stderr = std::fs::File::from(fds.pop().unwrap());
    let mut pid = Vec::new();
    while pid.last() != Some(&b'\n') {
        let mut byte = [0];
        assert_eq!(stderr.read(&mut byte).unwrap(), 1);
        pid.push(byte[0]);
    }
    let pid = String::from_utf8(pid).unwrap();
    drop((client, stderr, fds));
    let Some(Reply::Outcome(recorded)) = replies.next() else { panic!("no outcome") };
    let RecordEvent::Finished { outcome, cut_by, .. } = finished(&sock, &recorded.receipt) else {
        panic!("not an outcome")
    };
    assert_eq!((outcome, cut_by), (Outcome::Killed(15), olb_lease::CutBy::Requester));
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "it lives on: {state}");
}

#[test]
fn a_connection_that_says_nothing_does_not_hold_up_a_stop() {
    let (mut instance, _sock) = root_half();
    let path = instance.runtime().join("exec.sock");
    let _silent = olb_sys::socket::connect_seqpacket(&path).unwrap();
    instance.stop_execd("TERM");
}
