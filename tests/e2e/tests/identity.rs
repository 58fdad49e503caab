//! Who a peer is, is the kernel's word; what only looks like a peer is nobody.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use olb_e2e_tests::{ExecSock, Instance, Options, Peers, Reply, plan_for};
use olb_exec_api::{Op, Reason};
use olb_lease::{VerdictKind, plan_digest};

fn root_half() -> (Instance, ExecSock) {
    let instance = Instance::with(Options { without_front: true, ..Options::default() });
    let sock = ExecSock::of(&instance);
    (instance, sock)
}

/// Sockets without a peer that could be a client.
fn impostors() -> Vec<(&'static str, OwnedFd)> {
    let dir = tempfile::tempdir().unwrap();
    let listening = UnixListener::bind(dir.path().join("s")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let (pipe, _writer) = olb_sys::pipe::pipe().unwrap();
    vec![
        ("unconnected", UnixDatagram::unbound().unwrap().into()),
        ("datagram pair", UnixDatagram::pair().unwrap().0.into()),
        ("listening", listening.into()),
        ("tcp", tcp.into()),
        ("file", file.into()),
        ("pipe", pipe),
        // Its credentials are those of whoever made the pair: this test, which is root.
        ("own pair", UnixStream::pair().unwrap().0.into()),
    ]
}

//
#[test]
fn no_impostor_socket_presents_a_lease() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let bytes = plan_for(&instance, &sock.info(), agent, &["/bin/true"]).encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    for (name, socket) in impostors() {
        match sock.ask(Op::Execute, &lease, &bytes, &[socket.as_fd()]).next() {
            Some(Reply::Refused(refusal)) => {
                assert_eq!(refusal.reason, Reason::NotListed, "{name}: {refusal:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
    assert_eq!(replies.next(), Some(Reply::Burned), "the lease itself is good");
}

//
#[test]
fn a_verdict_counts_only_from_the_uid_its_key_is_enrolled_for() {
    let (instance, sock) = root_half();
    let (alice, bob) = (instance.enrol(0), instance.enrol(1));
    let agent = instance.requester(0);
    let info = sock.info();
    let bytes = plan_for(&instance, &info, agent, &["/bin/true"]).encode().unwrap();
    let verdict = alice.sign(VerdictKind::Approve, plan_digest(&bytes), info.epoch);
    let peers = Peers::of(&instance);
    let refused =
        |socket: &dyn AsFd| sock.decide(&verdict, &bytes, socket.as_fd()).unwrap_err().reason;
    for uid in [agent, bob.uid, instance.stranger(), instance.front(), 0] {
        let (socket, _keep) = peers.connected_by(uid);
        assert_eq!(refused(&socket), Reason::WrongApprover, "uid {uid}");
    }
    for (name, socket) in impostors() {
        assert_eq!(refused(&socket), Reason::WrongApprover, "{name}");
    }
    let (socket, _keep) = peers.connected_by(alice.uid);
    assert!(sock.decide(&verdict, &bytes, &socket).is_ok());
}

//
#[test]
fn a_requester_is_never_an_approver_whatever_key_it_holds() {
    let (instance, sock) = root_half();
    let info = sock.info();
    let agent = instance.requester(0);
    let mallory = instance.enrol_as(agent, "mallory", "");
    let accomplice = instance.enrol_as(instance.requester(1), "accomplice", "");
    let bytes = plan_for(&instance, &info, agent, &["/bin/true"]).encode().unwrap();
    for approver in [&mallory, &accomplice] {
        for kind in [VerdictKind::Approve, VerdictKind::Deny, VerdictKind::Revoke] {
            let refused = sock.decide_as(approver, kind, &bytes, info.epoch).unwrap_err();
            assert_eq!(refused.reason, Reason::SelfApproval, "{}", approver.name);
        }
    }
}

#[test]
fn only_the_front_and_root_may_speak_on_exec_sock() {
    use std::os::unix::process::CommandExt as _;
    let (instance, _sock) = root_half();
    let path = instance.runtime().join("exec.sock");
    // A SEQPACKET socket cannot be connected by the stream helper, so the mode is what is tried.
    let refused = |uid: u32| {
        let mut test = std::process::Command::new("test");
        test.args(["-w", path.to_str().unwrap()]).uid(uid).gid(uid);
        !test.status().unwrap().success()
    };
    assert!(!refused(instance.front()), "the front may");
    assert!(refused(instance.requester(0)) && refused(instance.stranger()) && refused(65_534));
}

//
#[test]
fn whoever_gets_to_exec_sock_without_being_the_front_is_not_heard() {
    use std::os::unix::fs::PermissionsExt as _;
    let (instance, sock) = root_half();
    let path = instance.runtime().join("exec.sock");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let info = olb_exec_api::Query::Info.encode();
    for uid in [instance.requester(0), instance.enrol(0).uid, instance.stranger(), 65_534] {
        let theirs = sock.clone().speaking_as(uid);
        // Closed without a word, whether something was sent or not.
        let silent = theirs.connect();
        let end = olb_sys::socket::recv_datagram(silent.as_fd(), 1 << 20, 0);
        assert!(matches!(end, Err(olb_sys::socket::RecvError::Eof)), "{uid}: {end:?}");
    }
    let front = sock.speaking_as(instance.front());
    assert!(matches!(front.ask(Op::Read, &info, &[], &[]).next(), Some(Reply::Done(_))));
}

//
#[test]
fn limits_of_an_enrolment_are_enforced_by_the_root_half() {
    let (instance, sock) = root_half();
    let info = sock.info();
    let agent = instance.requester(0);
    let uid = instance.enrol(0).uid;
    let plan = |argv: &[&str]| plan_for(&instance, &info, agent, argv);
    let approve = |name: &str, limits: &str, bytes: &[u8]| {
        let approver = instance.enrol_as(uid, name, limits);
        sock.decide_as(&approver, VerdictKind::Approve, bytes, info.epoch)
    };
    let root = plan(&["/bin/true"]).encode().unwrap();
    let other = format!("requesters = {}", instance.requester(1));
    let reason = |result: Result<_, olb_exec_api::Refusal>| result.map(drop).unwrap_err().reason;
    assert_eq!(reason(approve("elsewhere", &other, &root)), Reason::NotPermitted);
    assert_eq!(reason(approve("no-root", "run_as = 33", &root)), Reason::NotPermitted);
    let no_group = approve("no-group", "run_as = 0\nrun_as_groups = 33", &root);
    assert_eq!(reason(no_group), Reason::NotPermitted, "root's group is one too much");
    assert_eq!(reason(approve("past", "not_after = 1", &root)), Reason::NotEnrolled);
    assert_eq!(reason(approve("pair", "second = required", &root)), Reason::NotEnrolled);
    assert_eq!(reason(approve("typo", "max_lease_sec = 3", &root)), Reason::NotEnrolled);

    let short = approve("short", "max_lease_secs = 30", &root).unwrap();
    let now = olb_sys::clock::unix_secs();
    assert!(u64::from(short.expires_at) <= now + 30, "the lease is cut to the key's limit");

    let hourly = instance.enrol_as(uid, "hourly", "max_approvals_per_hour = 2");
    let results: Vec<_> = (0..3)
        .map(|at| {
            let bytes = plan(&["/bin/echo", &at.to_string()]).encode().unwrap();
            sock.decide_as(&hourly, VerdictKind::Approve, &bytes, info.epoch).map(drop)
        })
        .collect();
    assert!(results[0].is_ok() && results[1].is_ok());
    assert_eq!(results[2].as_ref().unwrap_err().reason, Reason::NotPermitted);
}

//
#[test]
fn removing_an_enrolment_ends_its_live_leases() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let bytes = plan_for(&instance, &sock.info(), agent, &["/bin/true"]).encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    std::fs::remove_file(instance.enrolment(&alice.name)).unwrap();
    let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
    let Some(Reply::Refused(refusal)) = replies.next() else { panic!("it ran") };
    assert_eq!(refusal.reason, Reason::NotEnrolled);
}

//
#[test]
fn an_approver_who_may_do_less_than_before_has_approved_less() {
    let (instance, sock) = root_half();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    let file = instance.enrolment(&alice.name);
    let usual = std::fs::read_to_string(&file).unwrap();
    let bytes = plan_for(&instance, &sock.info(), agent, &["/bin/true"]).encode().unwrap();
    let lease = sock.approve(&alice, &bytes);
    for (name, before, now, reason) in [
        ("requesters", "any".into(), instance.requester(1), Reason::NotPermitted),
        ("run_as", "any".into(), 33, Reason::NotPermitted),
        ("run_as_groups", "any".into(), 33, Reason::NotPermitted),
        ("uid", alice.uid.to_string(), alice.uid + 1, Reason::NotEnrolled),
    ] {
        let less = usual.replace(&format!("\n{name} = {before}\n"), &format!("\n{name} = {now}\n"));
        assert_ne!(less, usual);
        std::fs::write(&file, less).unwrap();
        assert_eq!(sock.refused(&lease, &bytes, agent), reason, "{name}");
    }
    std::fs::write(&file, usual).unwrap();
    let (mut replies, _client) = sock.execute(&lease, &bytes, agent);
    assert!(matches!(replies.next(), Some(Reply::Burned)), "the lease stayed as it was");
}
