//! One approval, one execution: however often, by whomever and at what moment it is asked for.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Barrier;
use std::thread;

use olb_e2e_tests::{ExecSock, Instance, Options, Reply, plan_for};
use olb_exec_api::Reason;
use olb_lease::{VerdictKind, plan_digest};

const MANY: usize = 200;

fn root_half() -> (Instance, ExecSock) {
    let execd = "max_executions = 400\nmax_executions_per_uid = 400\n".into();
    let instance = Instance::with(Options { without_front: true, execd, ..Options::default() });
    let sock = ExecSock::of(&instance);
    (instance, sock)
}

/// A command that leaves one line in `log` each time it runs.
fn append<'a>(log: &'a str, script: &'a mut String) -> [&'a str; 3] {
    *script = format!("echo ran >> {log}");
    ["/bin/sh", "-c", script]
}

fn lines(log: &std::path::Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().count()
}

#[test]
fn one_verdict_presented_200_times_gives_one_lease() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let info = sock.info();
    let plan = plan_for(&instance, &info, instance.requester(0), &["/bin/true"]);
    let bytes = plan.encode().unwrap();
    let verdict = alice.sign(VerdictKind::Approve, plan_digest(&bytes), info.epoch);
    let (socket, _keep) = olb_e2e_tests::Peers::of(&instance).connected_by(alice.uid);
    let start = Barrier::new(MANY);
    let leases: BTreeSet<Vec<u8>> = thread::scope(|scope| {
        let one = || {
            start.wait();
            sock.decide(&verdict, &bytes, &socket).expect("recorded").lease.expect("a lease")
        };
        let all: Vec<_> = (0..MANY).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(leases.len(), 1);
}

//
#[test]
fn two_approvers_saying_yes_give_one_lease_and_one_run() {
    let (instance, sock) = root_half();
    let (alice, bob) = (instance.enrol(0), instance.enrol(1));
    let info = sock.info();
    let agent = instance.requester(0);
    let log = instance.work().join("log");
    let mut script = String::new();
    let argv = append(log.to_str().unwrap(), &mut script);
    let bytes = plan_for(&instance, &info, agent, &argv).encode().unwrap();
    let lease = |approver| {
        let decided = sock.decide_as(approver, VerdictKind::Approve, &bytes, info.epoch);
        decided.expect("recorded").lease.expect("a lease")
    };
    let (first, second) = (lease(&alice), lease(&bob));
    assert_eq!(first, second, "the second yes hands back the one lease");
    let (replies, _client) = sock.execute(&first, &bytes, agent);
    assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
    let (mut replies, _client) = sock.execute(&second, &bytes, agent);
    assert!(matches!(replies.next(), Some(Reply::Refused(_))));
    let late = sock.decide_as(&bob, VerdictKind::Approve, &bytes, info.epoch).unwrap_err();
    assert_eq!(late.reason, Reason::AlreadyBurned, "a yes after the run mints nothing");
    assert_eq!(lines(&log), 1);
}

//
#[test]
fn one_lease_presented_200_times_at_once_runs_once() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let log = instance.work().join("log");
    let mut script = String::new();
    let argv = append(log.to_str().unwrap(), &mut script);
    let bytes = plan_for(&instance, &sock.info(), agent, &argv).encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    let start = Barrier::new(MANY);
    let burned = thread::scope(|scope| {
        let one = || {
            start.wait();
            let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
            match replies.next() {
                Some(Reply::Burned) => replies.last().is_some(),
                Some(Reply::Refused(refusal)) => {
                    assert_eq!(refusal.reason, Reason::AlreadyBurned);
                    false
                }
                other => panic!("{other:?}"),
            }
        };
        let all: Vec<_> = (0..MANY).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).filter(|ran| *ran).count()
    });
    assert_eq!((burned, lines(&log)), (1, 1));
}

#[test]
fn two_hundred_leases_presented_at_once_all_run_and_none_twice() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let info = sock.info();
    let leases: Vec<_> = (0..MANY)
        .map(|at| {
            let file = instance.work().join(format!("ran-{at}"));
            let script = format!("echo ran >> {}", file.display());
            let plan = plan_for(&instance, &info, agent, &["/bin/sh", "-c", &script]);
            let bytes = plan.encode().unwrap();
            (file, sock.approve(&alice, &bytes), bytes)
        })
        .collect();
    let start = Barrier::new(MANY);
    thread::scope(|scope| {
        for (_, lease, bytes) in &leases {
            let (sock, start) = (&sock, &start);
            scope.spawn(move || {
                start.wait();
                let (replies, _client) = sock.execute(lease, bytes, agent);
                assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
            });
        }
    });
    assert!(leases.iter().all(|(file, _, _)| lines(file) == 1));
}

#[test]
fn with_few_descriptors_fewer_run_at_once_and_nobody_is_refused_for_another_reason() {
    const AT_ONCE: usize = 60;
    let execd = "max_executions = 400\nmax_executions_per_uid = 400\n".into();
    let execd_wrapper = ["prlimit", "--nofile=96"].map(str::to_owned).into();
    let options = Options { without_front: true, execd, execd_wrapper, ..Options::default() };
    let instance = Instance::with(options);
    let sock = ExecSock::of(&instance);
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let info = sock.info();
    let leases: Vec<_> = (0..AT_ONCE)
        .map(|at| {
            let number = at.to_string();
            let plan = plan_for(&instance, &info, agent, &["/bin/true", "number", &number]);
            let bytes = plan.encode().unwrap();
            (sock.approve(&alice, &bytes), bytes)
        })
        .collect();
    let start = Barrier::new(AT_ONCE);
    let one = |(lease, bytes): &(Vec<u8>, Vec<u8>)| {
        start.wait();
        let (replies, _client) = sock.execute(lease, bytes, agent);
        match replies.last() {
            Some(Reply::Outcome(_)) => true,
            Some(Reply::Refused(refusal)) if refusal.reason == Reason::Busy => false,
            other => panic!("{other:?}"),
        }
    };
    let ran = thread::scope(|scope| {
        let all: Vec<_> = leases.iter().map(|lease| scope.spawn(|| one(lease))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).filter(|ran| *ran).count()
    });
    assert!(ran > 0, "nobody ran");
    // Whoever was turned away has a lease that is as good as before.
    let tried_again = leases.iter().filter(|(lease, bytes)| {
        let (replies, _client) = sock.execute(lease, bytes, agent);
        matches!(replies.last(), Some(Reply::Outcome(_)))
    });
    assert_eq!(ran + tried_again.count(), AT_ONCE);
}
