//! EXECUTE: what the root half refuses of a lease, one defect at a time; and that a refusal leaves
//! the lease as it was.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use olb_e2e_tests::{Approver, Client, ExecSock, Instance, Options, Reply, plan_for, refusal_of};
use olb_exec_api::{ClientFrame, Info, Reason};
use olb_lease::{
    Digest, LeaseClaims, LeaseIssuer, Outcome, Plan, RawLease, RawReceipt, RecordEvent, SigningKey,
    Stdin, VerdictKind, plan_digest, sha256,
};
use olb_sys::memfd::sealed_memfd;
use zeroize::Zeroizing;

struct Scene {
    instance: Instance,
    sock: ExecSock,
    alice: Approver,
    info: Info,
    agent: u32,
}

impl Scene {
    fn with(execd: &str) -> Self {
        let options = Options { without_front: true, execd: execd.into(), ..Options::default() };
        let instance = Instance::with(options);
        let sock = ExecSock::of(&instance);
        let alice = instance.enrol(0);
        let (info, agent) = (sock.info(), instance.requester(0));
        Self { instance, sock, alice, info, agent }
    }

    fn plan(&self, argv: &[&str]) -> Plan {
        plan_for(&self.instance, &self.info, self.agent, argv)
    }

    /// The plan's bytes and the lease for it.
    fn approved(&self, plan: &Plan) -> (Vec<u8>, Vec<u8>) {
        let bytes = plan.encode().unwrap();
        let lease = self.sock.approve(&self.alice, &bytes);
        (bytes, lease)
    }

    fn refused(&self, lease: &[u8], plan: &[u8]) -> Reason {
        self.sock.refused(lease, plan, self.agent)
    }

    /// Runs to the end; what came out on standard output.
    fn runs(&self, lease: &[u8], plan: &[u8]) -> Vec<u8> {
        let (replies, mut client) = self.sock.execute(lease, plan, self.agent);
        let mut stdout = Vec::new();
        started(&mut client).read_to_end(&mut stdout).unwrap();
        assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
        stdout
    }

    /// The broker's own lease key, as somebody who stole it would have it.
    fn lease_key(&self) -> SigningKey<LeaseIssuer> {
        let text = fs::read_to_string(self.instance.state().join("lease.key")).unwrap();
        let digits = text.trim();
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
        SigningKey::from_seed(&Zeroizing::new(std::array::from_fn(byte))).unwrap()
    }
}

/// Standard output of a command that was started.
fn started(client: &mut Client) -> File {
    let (frame, fds) = client.frame().expect("a frame");
    assert_eq!(frame, ClientFrame::Started);
    File::from(fds.into_iter().next().expect("standard output"))
}

fn outcome(client: &mut Client) -> Outcome {
    let receipt = match client.frame() {
        Some((ClientFrame::Outcome { receipt }, _)) => receipt,
        other => panic!("{other:?}"),
    };
    let claims = RawReceipt::parse(&receipt).unwrap().unverified_claims().unwrap();
    match claims.decode_record().unwrap().event {
        RecordEvent::Finished { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

fn fifo(path: &Path) -> String {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

type Change = fn(&mut LeaseClaims);

//
#[test]
fn a_lease_that_the_brokers_own_key_signed_still_has_to_be_the_one_it_issued() {
    let scene = Scene::with("");
    let (plan, lease) = scene.approved(&scene.plan(&["/bin/echo", "once"]));
    let key = scene.lease_key();
    let issued = RawLease::parse(&lease).unwrap().unverified_claims().unwrap();
    let changes: [(&str, Reason, Change); 11] = [
        ("audience", Reason::WrongAudience, |claims| claims.audience.0[0] ^= 1),
        ("epoch", Reason::BrokerRestarted, |claims| claims.epoch.0[0] ^= 1),
        ("plan", Reason::Mismatch, |claims| claims.plan.0[0] ^= 1),
        ("argv", Reason::Mismatch, |claims| claims.argv = Digest([7; 32])),
        ("environment", Reason::Mismatch, |claims| claims.environment = Digest([7; 32])),
        ("cwd", Reason::Mismatch, |claims| claims.cwd = Digest([7; 32])),
        ("requester", Reason::Mismatch, |claims| claims.requester_uid += 1),
        ("cti", Reason::NotIssued, |claims| claims.cti.0[0] ^= 1),
        ("verdict", Reason::NotIssued, |claims| claims.verdict.0[0] ^= 1),
        ("expiry", Reason::NotIssued, |claims| claims.expires_at += 1),
        ("issued at", Reason::NotIssued, |claims| claims.issued_at -= 1),
    ];
    for (name, reason, change) in changes {
        let mut claims = issued.clone();
        change(&mut claims);
        let forged = claims.sign(&key).unwrap();
        assert_eq!(scene.refused(&forged, &plan), reason, "{name}");
    }
    assert_eq!(issued.sign(&key).unwrap(), lease, "the key is the broker's");
    assert_eq!(scene.runs(&lease, &plan), b"once\n", "the issued lease is as good as before");
}

//
#[test]
fn a_lease_with_any_defect_is_refused_before_its_plan_is_looked_at() {
    let scene = Scene::with("");
    let (plan, lease) = scene.approved(&scene.plan(&["/bin/echo", "once"]));
    let changed = |at: usize| {
        let mut bytes = lease.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut foreign = RawLease::parse(&lease).unwrap().unverified_claims().unwrap();
    foreign.epoch.0[0] ^= 1;
    let stranger = SigningKey::<LeaseIssuer>::from_seed(&Zeroizing::new([9; 32])).unwrap();
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("cut", lease[..368].to_vec()),
        ("a byte behind", [&lease[..], &[0]].concat()),
        ("first byte", changed(0)),
        ("header", changed(4)),
        ("kid", changed(8)),
        ("payload", changed(60)),
        ("signature", changed(368)),
        ("another key", foreign.sign(&stranger).unwrap()),
    ] {
        assert_eq!(scene.refused(&bytes, b"no plan"), Reason::BadSignature, "{name}");
    }
    assert_eq!(scene.runs(&lease, &plan), b"once\n");
}

//
#[test]
fn what_changed_after_the_approval_is_refused_and_burns_nothing() {
    let scene = Scene::with("");
    let work = scene.instance.work();
    let program = work.join("program");
    let operand = work.join("operand");
    fs::copy("/bin/cat", &program).unwrap();
    fs::write(&operand, "as approved\n").unwrap();
    let words = [program.to_str().unwrap(), operand.to_str().unwrap()];

    let (plan, lease) = scene.approved(&scene.plan(&words));
    chown(&operand, Some(scene.agent), None).unwrap();
    assert_eq!(scene.refused(&lease, &plan), Reason::CannotBind, "the operand became theirs");
    chown(&operand, Some(0), None).unwrap();
    let aside = scene.instance.path("aside");
    fs::rename(&work, &aside).unwrap();
    fs::create_dir(&work).unwrap();
    assert_eq!(scene.refused(&lease, &plan), Reason::IdentityChanged, "another directory");
    fs::remove_dir(&work).unwrap();
    fs::rename(&aside, &work).unwrap();
    assert_eq!(scene.runs(&lease, &plan), b"as approved\n", "all is as it was: so is the lease");

    let (plan, lease) = scene.approved(&scene.plan(&words));
    fs::copy("/bin/echo", &program).unwrap();
    assert_eq!(scene.refused(&lease, &plan), Reason::IdentityChanged, "another program");
    fs::copy("/bin/cat", &program).unwrap();
    assert_eq!(scene.refused(&lease, &plan), Reason::IdentityChanged, "the same bytes, later");
    assert!(!scene.sock.state(plan_digest(&plan)).burned);
}

//
#[test]
fn standard_input_is_the_approved_bytes_or_nothing_runs() {
    let scene = Scene::with("");
    let memory = |bytes: &[u8]| sealed_memfd("stdin", bytes).unwrap();
    let stdin = Stdin { size: 5, sha256: Digest(sha256(b"input")) };
    let with = Plan { stdin: Some(stdin), ..scene.plan(&["/bin/cat"]) };
    let (plan, lease) = scene.approved(&with);
    let present = |stdin: Option<&OwnedFd>| {
        scene.sock.execute_with(
            &lease,
            &plan,
            scene.agent,
            &Vec::from_iter(stdin.map(OwnedFd::as_fd)),
        )
    };
    let (pipe, _writer) = olb_sys::pipe::pipe().unwrap();
    let file = File::open("/etc/passwd").unwrap().into();
    for (name, offered) in [
        ("none", None),
        ("other bytes", Some(memory(b"inPut"))),
        ("too few", Some(memory(b"inpu"))),
        ("too many", Some(memory(b"input!"))),
        ("a pipe", Some(pipe)),
        ("a file", Some(file)),
    ] {
        assert_eq!(refusal_of(present(offered.as_ref())), Reason::Mismatch, "{name}");
    }
    let (replies, mut client) = present(Some(&memory(b"input")));
    let mut stdout = Vec::new();
    started(&mut client).read_to_end(&mut stdout).unwrap();
    assert_eq!(stdout, b"input");
    assert!(matches!(replies.last(), Some(Reply::Outcome(_))));

    let (plan, lease) = scene.approved(&scene.plan(&["/bin/cat"]));
    let unwanted = memory(b"input");
    let presented = scene.sock.execute_with(&lease, &plan, scene.agent, &[unwanted.as_fd()]);
    assert_eq!(refusal_of(presented), Reason::Mismatch, "none was approved");
    assert_eq!(scene.runs(&lease, &plan), b"");
}

//
#[test]
fn more_commands_at_once_than_the_limit_wait_with_their_lease_unburned() {
    let scene = Scene::with("max_executions_per_uid = 1\n");
    let gate = fifo(&scene.instance.work().join("gate"));
    let (plan, lease) = scene.approved(&scene.plan(&["/bin/cat", &gate]));
    let (replies, mut client) = scene.sock.execute(&lease, &plan, scene.agent);
    let mut stdout = started(&mut client);
    let (next_plan, next_lease) = scene.approved(&scene.plan(&["/bin/echo", "next"]));
    assert_eq!(scene.refused(&next_lease, &next_plan), Reason::Busy);
    // The first command ends when its gate was opened and closed.
    fs::write(&gate, "through\n").unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through\n");
    assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
    assert_eq!(scene.runs(&next_lease, &next_plan), b"next\n");
}

//
#[test]
fn a_lease_that_was_taken_back_is_refused_as_that() {
    let scene = Scene::with("");
    for (kind, reason) in
        [(VerdictKind::Deny, Reason::Denied), (VerdictKind::Revoke, Reason::Revoked)]
    {
        let (plan, lease) = scene.approved(&scene.plan(&["/bin/true"]));
        let closed = scene.sock.decide_as(&scene.alice, kind, &plan, scene.info.epoch);
        assert!(closed.is_ok());
        assert_eq!(scene.refused(&lease, &plan), reason);
        assert!(!scene.sock.state(plan_digest(&plan)).burned);
    }
}

//
#[test]
fn a_byte_that_is_no_signal_ends_the_listening_and_not_the_command() {
    let scene = Scene::with("");
    let gate = fifo(&scene.instance.work().join("gate"));
    let script = format!(
        "trap 'echo usr1' USR1; echo on; while ! read line < {gate}; do :; done; echo $line"
    );
    let run = |bytes: &[u8]| {
        let (plan, lease) = scene.approved(&scene.plan(&["/bin/sh", "-c", &script]));
        let (_replies, mut client) = scene.sock.execute(&lease, &plan, scene.agent);
        let mut stdout = started(&mut client);
        let mut line = [0; 3];
        stdout.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"on\n", "the command waits at its gate");
        client.socket.write_all(bytes).unwrap();
        (client, stdout)
    };
    let (mut client, _stdout) = run(b"T");
    assert_eq!(outcome(&mut client), Outcome::Killed(15), "a signal byte alone is heard");

    let (mut client, mut stdout) = run(b"xT1");
    // A later request is served in full before the gate opens: the bytes were long there.
    let (plan, lease) = scene.approved(&scene.plan(&["/bin/echo", "next"]));
    assert_eq!(scene.runs(&lease, &plan), b"next\n");
    fs::write(&gate, "through\n").unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through\n");
    assert_eq!(outcome(&mut client), Outcome::Exited(0));
}

//
#[test]
fn a_program_that_others_can_change_is_not_approved_whichever_way() {
    let scene = Scene::with("");
    let (work, agent) = (scene.instance.work(), scene.agent);
    let program = |path: &Path, text: &[u8]| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let theirs = program(&work.join("theirs"), b"#!/bin/sh\nid\n");
    chown(&theirs, Some(agent), None).unwrap();
    let open = program(&work.join("open"), b"#!/bin/sh\nid\n");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o757)).unwrap();
    let interpreted = program(&work.join("script"), format!("#! {theirs} -x\n").as_bytes());
    let twice = program(&work.join("script-2"), format!("#!{interpreted}\n").as_bytes());
    let relative = program(&work.join("relative"), b"#!sh\nid\n");
    let folder = work.join("folder");
    fs::create_dir(&folder).unwrap();
    let inside = program(&folder.join("program"), b"#!/bin/sh\nid\n");
    chown(&folder, Some(agent), None).unwrap();
    let fine = program(&work.join("fine"), b"#!/bin/sh\necho fine\n");
    for argv0 in [&theirs, &open, &interpreted, &twice, &relative, &inside] {
        let plan = scene.plan(&[argv0]).encode().unwrap();
        let refused =
            scene.sock.decide_as(&scene.alice, VerdictKind::Approve, &plan, scene.info.epoch);
        assert_eq!(refused.map(drop).unwrap_err().reason, Reason::CannotBind, "{argv0}");
    }
    let (plan, lease) = scene.approved(&scene.plan(&[&fine]));
    assert_eq!(scene.runs(&lease, &plan), b"fine\n");
}
