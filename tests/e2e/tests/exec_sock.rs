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
        assert_eq!(refusal(sock.execute(&lease, &bytes, uid)).reason, Reason::NotListed, "{uid}");
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
