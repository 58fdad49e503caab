//! A captured front: it speaks exec.sock, request.sock and review.sock, and lies. It may withhold,
//! delay, spend an approved lease early, cut a run and lie to the agent; nothing else.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};

use olb_e2e_tests::{Approver, ExecSock, Instance, Options, Reply, fake_front, plan_for};
use olb_exec_api::{ClientFrame, Info, Op, Reason};
use olb_lease::{Plan, PlanDigest, RawVerdict, VerdictKind, plan_digest};
use olb_wire::{ByteBuf, Request, RequestView, Response};

fn root_half() -> (Instance, ExecSock, Approver, Info) {
    let instance = Instance::with(Options { without_front: true, ..Options::default() });
    let sock = ExecSock::of(&instance);
    let alice = instance.enrol(0);
    let info = sock.info();
    (instance, sock, alice, info)
}

fn view(plan: &[u8]) -> RequestView {
    RequestView {
        request_id: plan_digest(plan).request_id().to_string(),
        code: "7FK-3QX".into(),
        state: "pending".into(),
        requester_uid: Plan::decode(plan).unwrap().requester_uid,
        plan: ByteBuf::from(plan),
        expires_at: olb_sys::clock::unix_secs() + 600,
        ..RequestView::default()
    }
}

//
#[test]
fn nothing_runs_that_no_approver_signed() {
    let (instance, sock, alice, info) = root_half();
    let agent = instance.requester(0);
    let bytes = plan_for(&instance, &info, agent, &["/bin/true"]).encode().unwrap();
    // A verdict by a key that nobody enrolled, and a lease by a key that is not the broker's.
    let mallory = Approver::new(alice.uid, "mallory");
    let refused = sock.decide_as(&mallory, VerdictKind::Approve, &bytes, info.epoch).unwrap_err();
    assert_eq!(refused.reason, Reason::NotEnrolled);
    let lease = sock.approve(&alice, &bytes);
    let mut forged = lease.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let (mut replies, _client) = sock.execute(&forged, &bytes, agent);
    let Some(Reply::Refused(refusal)) = replies.next() else { panic!("it ran") };
    assert_eq!(refusal.reason, Reason::BadSignature);
}

//
#[test]
fn a_verdict_or_lease_for_one_plan_is_nothing_for_another() {
    let (instance, sock, alice, info) = root_half();
    let agent = instance.requester(0);
    let good = plan_for(&instance, &info, agent, &["/bin/true"]);
    let bytes = good.encode().unwrap();
    let evil: Vec<Plan> = vec![
        Plan { argv: olb_e2e_tests::command(&["/bin/sh"]), ..good.clone() },
        Plan { random: [9; 16], ..good.clone() },
        Plan { requester_uid: instance.requester(1), ..good.clone() },
        Plan { wall_clock_secs: 61, ..good.clone() },
        Plan { reason: "other".into(), ..good.clone() },
    ];
    let verdict = alice.sign(VerdictKind::Approve, plan_digest(&bytes), info.epoch);
    let lease = sock.approve(&alice, &bytes);
    let peers = olb_e2e_tests::Peers::of(&instance);
    let (socket, _keep) = peers.connected_by(alice.uid);
    for plan in evil {
        let other = plan.encode().unwrap();
        let refused = sock.decide(&verdict, &other, &socket).unwrap_err();
        assert_eq!(refused.reason, Reason::Mismatch, "{plan:?}");
        let (mut replies, _client) = sock.execute(&lease, &other, agent);
        let Some(Reply::Refused(refusal)) = replies.next() else { panic!("{plan:?}") };
        assert_eq!(refusal.reason, Reason::Mismatch);
    }
}

// [X-27] [X-70] [X-71]
#[test]
fn what_an_approver_did_not_see_cannot_hide_in_the_plan() {
    let (instance, sock, alice, info) = root_half();
    let agent = instance.requester(0);
    let good = plan_for(&instance, &info, agent, &["/bin/true"]);
    let with = |name: &str, value: &str| {
        let mut plan = good.clone();
        plan.environment.insert(name.into(), value.into());
        plan
    };
    let word = |name: &str, value: &str| {
        let mut plan = with(name, value);
        plan.environment_words.insert(name.into(), value.into());
        plan
    };
    let mut stale = good.clone();
    stale.executable.ctime_nanos = (stale.executable.ctime_nanos + 1) % 1_000_000_000;
    let mut moved = good.clone();
    moved.cwd.ino += 1;
    let typed = Plan { typed_argv: olb_e2e_tests::command(&["/bin/false"]), ..good.clone() };
    for (plan, reason) in [
        (with("LD_PRELOAD", "/tmp/x.so"), Reason::Unsupported),
        (with("LANG", "de_DE.UTF-8"), Reason::Unsupported),
        (with("PATH", "/tmp"), Reason::Unsupported),
        (word("LD_PRELOAD", "/tmp/x.so"), Reason::Unsupported),
        (word("TZ", "/etc/shadow"), Reason::Unsupported),
        (typed, Reason::Mismatch),
        (stale, Reason::IdentityChanged),
        (moved, Reason::IdentityChanged),
        (Plan { host: "other-host".into(), ..good.clone() }, Reason::WrongAudience),
        (Plan { requester_uid: instance.stranger(), ..good.clone() }, Reason::NotListed),
        (Plan { requester_uid: 0, ..good.clone() }, Reason::NotListed),
    ] {
        let bytes = plan.encode().unwrap();
        let refused = sock.decide_as(&alice, VerdictKind::Approve, &bytes, info.epoch);
        assert_eq!(refused.unwrap_err().reason, reason, "{plan:?}");
    }
    let shown = word("LANG", "de_DE.UTF-8").encode().unwrap();
    assert!(sock.decide_as(&alice, VerdictKind::Approve, &shown, info.epoch).is_ok());
}

//
#[test]
fn an_old_or_foreign_verdict_is_stale() {
    let (instance, sock, alice, info) = root_half();
    let agent = instance.requester(0);
    let bytes = plan_for(&instance, &info, agent, &["/bin/true"]).encode().unwrap();
    let peers = olb_e2e_tests::Peers::of(&instance);
    let (socket, _keep) = peers.connected_by(alice.uid);
    let claims = alice.claims(VerdictKind::Approve, plan_digest(&bytes), info.epoch);
    let mut old = claims.clone();
    old.issued_at -= 180;
    let mut future = claims.clone();
    future.issued_at += 300;
    let mut over = claims.clone();
    (over.issued_at, over.expires_at) = (claims.issued_at - 60, claims.issued_at - 30);
    let mut elsewhen = claims.clone();
    elsewhen.epoch.0[0] ^= 1;
    for claims in [old, future, over, elsewhen] {
        let verdict = claims.sign(&alice.key()).unwrap();
        let refused = sock.decide(&verdict, &bytes, &socket).unwrap_err();
        assert_eq!(refused.reason, Reason::StaleVerdict, "{claims:?}");
    }
}

// [X-1]
#[test]
fn datagrams_that_are_not_requests_are_refused_and_others_are_served() {
    let (instance, sock, alice, info) = root_half();
    let agent = instance.requester(0);
    let bytes = plan_for(&instance, &info, agent, &["/bin/true"]).encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    let (pipe, _writer) = olb_sys::pipe::pipe().unwrap();
    // A client's socket, standard input and 16 staged files are the most, and this is one more.
    let fds = [pipe.as_fd(); 19];
    let request = |op, a: &[u8], b: &[u8]| olb_exec_api::request(op, a, b).unwrap();
    let malformed: Vec<(Vec<u8>, usize)> = vec![
        (b"OLBQ".to_vec(), 0),
        (vec![0; 16], 0),
        (request(Op::Execute, &lease, &bytes), 0),
        (request(Op::Decide, &lease, &bytes), 0),
        (request(Op::Decide, &lease, &bytes), 2),
        (request(Op::Read, b"", b""), 0),
        (request(Op::Read, &[1; 41], b""), 0),
        (request(Op::Read, &olb_exec_api::Query::Info.encode(), b""), 1),
        (request(Op::Read, &olb_exec_api::Query::Info.encode(), b"x"), 0),
    ];
    for (datagram, count) in malformed {
        match sock.send(&datagram, &fds[..count]).next() {
            Some(Reply::Refused(refusal)) => assert_eq!(refusal.reason, Reason::Malformed),
            other => panic!("{other:?} to {datagram:?}"),
        }
    }
    assert_eq!(sock.send(&vec![0; 195 * 1024], &[]).next(), None, "too long: no answer");
    assert_eq!(sock.send(b"x", &fds).next(), None, "too many descriptors: no answer");
    let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
    assert_eq!(replies.next(), Some(Reply::Burned));
}

#[test]
fn the_front_may_spend_an_approved_lease_but_only_once_and_only_for_its_owner() {
    let (instance, sock, alice, info) = root_half();
    let agent = instance.requester(0);
    let bytes = plan_for(&instance, &info, agent, &["/bin/true"]).encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    let (replies, _client) = sock.execute(&lease, &bytes, agent);
    assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
    for _ in 0..3 {
        let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
        let Some(Reply::Refused(refusal)) = replies.next() else { panic!("it ran again") };
        assert_eq!(refusal.reason, Reason::AlreadyBurned);
    }
}

// [V-13]
#[test]
fn a_plan_swapped_behind_a_full_id_is_not_signed() {
    let (instance, sock, alice, info) = root_half();
    let agent = instance.requester(0);
    let asked = plan_for(&instance, &info, agent, &["/bin/true"]).encode().unwrap();
    let evil = plan_for(&instance, &info, agent, &["/bin/sh"]).encode().unwrap();
    let id = plan_digest(&asked).request_id().to_string();
    let lied = RequestView { request_id: id.clone(), ..view(&evil) };
    let signed = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&signed);
    drop(sock);
    let _front = fake_front(&instance, "review.sock", 3, move |mut caller| {
        while let Some(request) = caller.request() {
            match request {
                Request::Status => caller.answer_status(&info),
                Request::Decide { .. } => *seen.lock().unwrap() = true,
                _ => caller.answer(&Response::Request(Box::new(lied.clone()))),
            }
        }
    });
    let ran = instance.olb_as(&alice, &["approve", "--id", &id]).expect(77);
    assert!(ran.stderr.contains("nothing was signed"), "{ran:?}");
    assert!(!*signed.lock().unwrap());
}

// [V-14]
#[test]
fn a_plan_for_another_broker_is_not_signed() {
    let (instance, sock, alice, info) = root_half();
    let good = plan_for(&instance, &info, instance.requester(0), &["/bin/true"]);
    drop(sock);
    let signed = Arc::new(Mutex::new(0));
    let mut audience = good.audience;
    audience.0[31] ^= 1;
    for (plan, refused) in [
        (Plan { audience, ..good.clone() }, true),
        (Plan { host: "other-host".into(), ..good.clone() }, true),
        (good, false),
    ] {
        let bytes = plan.encode().unwrap();
        let id = plan_digest(&bytes).request_id().to_string();
        let (seen, info) = (Arc::clone(&signed), info.clone());
        let _front = fake_front(&instance, "review.sock", 3, move |mut caller| {
            while let Some(request) = caller.request() {
                match request {
                    Request::Status => caller.answer_status(&info),
                    // Enough is known; whoever waits for an answer gets none.
                    Request::Decide { .. } => return *seen.lock().unwrap() += 1,
                    _ => caller.answer(&Response::Request(Box::new(view(&bytes)))),
                }
            }
        });
        let ran = instance.olb_as(&alice, &["approve", "--id", &id]);
        let said = ran.stderr.contains("for another broker");
        assert_eq!((said, ran.code == 77), (refused, refused), "{ran:?}");
        assert_eq!(*signed.lock().unwrap(), usize::from(!refused), "{ran:?}");
    }
}

/// Serves review.sock honestly up to the decision, and swallows that.
fn swallow_decisions(
    instance: &Instance,
    info: Info,
    plan: Vec<u8>,
) -> Arc<Mutex<Vec<PlanDigest>>> {
    let signed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&signed);
    let lease_expires_at = Some(olb_sys::clock::unix_secs() + 600);
    let shown = RequestView { state: "approved".into(), lease_expires_at, ..view(&plan) };
    let _front = fake_front(instance, "review.sock", 3, move |mut caller| {
        while let Some(request) = caller.request() {
            match request {
                Request::Status => caller.answer_status(&info),
                Request::Decide { verdict } => {
                    let claims = RawVerdict::parse(&verdict).unwrap().unverified_claims().unwrap();
                    seen.lock().unwrap().push(claims.plan);
                    let request =
                        Box::new(RequestView { state: "revoked".into(), ..shown.clone() });
                    let receipt = ByteBuf::from(vec![0; 300]);
                    caller.answer(&Response::Decided { receipt, request });
                }
                _ => caller.answer(&Response::Request(Box::new(shown.clone()))),
            }
        }
    });
    signed
}

//
#[test]
fn a_swallowed_revocation_is_never_called_revoked() {
    for command in ["revoke", "deny"] {
        let (instance, sock, alice, info) = root_half();
        let bytes =
            plan_for(&instance, &info, instance.requester(0), &["/bin/true"]).encode().unwrap();
        sock.approve(&alice, &bytes);
        let id = plan_digest(&bytes).request_id().to_string();
        let signed = swallow_decisions(&instance, info, bytes.clone());
        let ran = instance.olb_as(&alice, &[command, "--id", &id]).expect(69);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(told.contains("could not confirm; the lease"), "{told}");
        assert!(told.contains("may still run until"), "{told}");
        assert!(!told.to_lowercase().contains("revoked"), "{told}");
        assert_eq!(*signed.lock().unwrap(), [plan_digest(&bytes)]);
    }
}

/// What a client that presents a lease is told: who sends the pipes, what is in the one for standard
/// output, and what comes last from whom. Root may send as anybody.
struct Told {
    pipes_by: u32,
    stdout: &'static [u8],
    last: Option<(u32, ClientFrame)>,
}

fn tell_client(instance: &Instance, told: Told) {
    let _front = fake_front(instance, "request.sock", 1, move |mut caller| {
        caller.request();
        let (client_out, out) = olb_sys::pipe::pipe().unwrap();
        let (client_err, err) = olb_sys::pipe::pipe().unwrap();
        std::fs::File::from(out).write_all(told.stdout).unwrap();
        drop(err);
        let fds = [client_out.as_fd(), client_err.as_fd()];
        caller.send_as(told.pipes_by, &ClientFrame::Started, &fds);
        if let Some((uid, frame)) = &told.last {
            caller.send_as(*uid, frame, &[]);
        }
    });
}

/// Has `argv` approved and run; its lease as text, and the receipt of its end.
fn run(root_half: &(Instance, ExecSock, Approver, Info), argv: &[&str]) -> (String, Vec<u8>) {
    let (instance, sock, alice, info) = root_half;
    let agent = instance.requester(0);
    let bytes = plan_for(instance, info, agent, argv).encode().unwrap();
    let lease = sock.approve(alice, &bytes);
    let (replies, _client) = sock.execute(&lease, &bytes, agent);
    match replies.last() {
        Some(Reply::Outcome(recorded)) => (olb_lease::armor::encode(&lease), recorded.receipt),
        other => panic!("{other:?}"),
    }
}

//
#[test]
fn a_client_sees_that_output_outcome_or_receipt_were_made_up() {
    let root_half = root_half();
    let command = ["/bin/echo", "true"];
    let (lease, receipt) = run(&root_half, &command);
    let (_, others) = run(&root_half, &command);
    let (instance, agent) = (&root_half.0, root_half.0.requester(0));
    let outcome = |receipt: &[u8]| Some((0, ClientFrame::Outcome { receipt: receipt.into() }));
    let mut broken = receipt.clone();
    *broken.last_mut().unwrap() ^= 1;
    for (name, stdout, last) in [
        ("no outcome", &b"true\n"[..], None),
        ("receipt of another run", b"true\n", outcome(&others)),
        ("broken receipt", b"true\n", outcome(&broken)),
        ("injected output", b"true\nFORGED\n", outcome(&receipt)),
        ("cut output", b"tru", outcome(&receipt)),
        ("no receipt", b"true\n", outcome(b"")),
    ] {
        tell_client(instance, Told { pipes_by: 0, stdout, last });
        let ran = instance.exec(agent, &lease, &command);
        assert_eq!(ran.code, 70, "{name}: {ran:?}");
        assert!(ran.stderr.starts_with("olb: "), "{name}: {ran:?}");
    }
    tell_client(instance, Told { pipes_by: 0, stdout: b"true\n", last: outcome(&receipt) });
    instance.exec(agent, &lease, &command).expect(0);
}

//
#[test]
fn pipes_and_outcomes_that_the_front_sends_are_refused_though_everything_else_fits() {
    let root_half = root_half();
    let command = ["/bin/echo", "true"];
    let (lease, receipt) = run(&root_half, &command);
    let (instance, agent) = (&root_half.0, root_half.0.requester(0));
    let front = instance.front();
    let exec = |pipes_by: u32, outcome_by: u32, stdout| {
        let outcome = ClientFrame::Outcome { receipt: receipt.clone() };
        tell_client(instance, Told { pipes_by, stdout, last: Some((outcome_by, outcome)) });
        instance.exec(agent, &lease, &command)
    };
    for (pipes_by, outcome_by) in [(front, 0), (0, front), (front, front), (agent, 0)] {
        let ran = exec(pipes_by, outcome_by, b"FAKE\n").expect(70);
        assert!(ran.stderr.contains("sent by another account"), "{ran:?}");
        // Not one byte of a pipe that is not the root half's is passed on.
        assert_eq!(ran.stdout.is_empty(), pipes_by != 0, "{ran:?}");
    }
    assert_eq!(exec(0, 0, b"true\n").expect(0).stdout, "true\n");
}

#[test]
fn the_output_of_another_approved_command_is_noticed_though_it_is_as_long() {
    let root_half = root_half();
    let (lease, receipt) = run(&root_half, &["/bin/echo", "true"]);
    let (instance, sock, alice, info) = root_half;
    let agent = instance.requester(0);
    let other = plan_for(&instance, &info, agent, &["/bin/echo", "evil"]).encode().unwrap();
    let others_lease = sock.approve(&alice, &other);
    let front = instance.front();
    let _front = fake_front(&instance, "request.sock", 1, move |mut caller| {
        caller.request();
        // The root half sends the pipes of the other run to this client, and then its outcome.
        let fds = [caller.socket.as_fd()];
        let mut replies = sock.ask(Op::Execute, &others_lease, &other, &fds);
        assert_eq!(replies.next(), Some(Reply::Burned));
        caller.send_as(front, &ClientFrame::Outcome { receipt: receipt.clone() }, &[]);
    });
    instance.exec(agent, &lease, &["/bin/echo", "true"]).expect(70);
}
