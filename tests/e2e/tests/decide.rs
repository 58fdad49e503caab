//! DECIDE: what the root half refuses of a verdict, one defect at a time.

use olb_e2e_tests::{Approver, ExecSock, Instance, Options, Peers, Reply, plan_for};
use olb_exec_api::{Info, Reason};
use olb_lease::{Plan, RecordEvent, VerdictKind, plan_digest};

struct Scene {
    instance: Instance,
    sock: ExecSock,
    alice: Approver,
    info: Info,
}

impl Scene {
    fn start() -> Self {
        let instance = Instance::with(Options { without_front: true, ..Options::default() });
        let sock = ExecSock::of(&instance);
        let alice = instance.enrol(0);
        let info = sock.info();
        Self { instance, sock, alice, info }
    }

    fn plan(&self, argv: &[&str]) -> Vec<u8> {
        let plan: Plan = plan_for(&self.instance, &self.info, self.instance.requester(0), argv);
        plan.encode().unwrap()
    }

    fn decide(&self, kind: VerdictKind, plan: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let decided = self.sock.decide_as(&self.alice, kind, plan, self.info.epoch);
        decided.map(|decided| decided.lease).map_err(|refusal| refusal.reason)
    }
}

//
#[test]
fn a_verdict_with_any_defect_is_refused_before_anything_else_is_looked_at() {
    let scene = Scene::start();
    let plan = scene.plan(&["/bin/true"]);
    let good = scene.alice.sign(VerdictKind::Approve, plan_digest(&plan), scene.info.epoch);
    let (socket, _keep) = Peers::of(&scene.instance).connected_by(scene.alice.uid);
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let head = scene.alice.key();
    let mut claims = scene.alice.claims(VerdictKind::Approve, plan_digest(&plan), scene.info.epoch);
    claims.reason = "x".repeat(512);
    let long = claims.sign(&head).unwrap();
    for (name, verdict) in [
        ("nothing", Vec::new()),
        ("first byte", changed(0)),
        ("header", changed(3)),
        ("payload", changed(40)),
        ("signature", changed(good.len() - 1)),
        ("cut", good[..good.len() - 1].to_vec()),
        ("a byte behind", [&good[..], &[0]].concat()),
        ("too long", [&long[..], &[0; 4096]].concat()),
        ("a lease", vec![0x84; 369]),
    ] {
        // The plan is not even one: the verdict comes first.
        let refused = scene.sock.decide(&verdict, b"no plan", &socket).unwrap_err();
        assert_eq!(refused.reason, Reason::BadSignature, "{name}: {refused:?}");
    }
    assert!(scene.sock.decide(&good, &plan, &socket).is_ok());
}

//
#[test]
fn bytes_that_are_no_plan_are_refused_even_where_they_were_signed() {
    let scene = Scene::start();
    let plan = scene.plan(&["/bin/true"]);
    for bytes in [&b""[..], b"\xa0", &plan[..plan.len() - 1], &[&plan[..], &[0]].concat()] {
        assert_eq!(scene.decide(VerdictKind::Approve, bytes), Err(Reason::Malformed));
        assert_eq!(scene.decide(VerdictKind::Deny, bytes), Err(Reason::Malformed));
    }
}

//
#[test]
fn what_was_decided_stays_decided() {
    use VerdictKind::{Approve, Deny, Revoke};
    let scene = Scene::start();
    let agent = scene.instance.requester(0);
    for close in [Deny, Revoke] {
        let plan = scene.plan(&["/bin/echo", "closed"]);
        assert_eq!(scene.decide(close, &plan), Ok(None));
        for kind in [Approve, Deny, Revoke] {
            assert_eq!(scene.decide(kind, &plan), Err(Reason::AlreadyDecided), "{kind:?}");
        }
        let plan = scene.plan(&["/bin/echo", "taken back"]);
        let lease = scene.decide(Approve, &plan).unwrap().unwrap();
        assert_eq!(scene.decide(Approve, &plan), Ok(Some(lease)), "the one lease again");
        assert_eq!(scene.decide(close, &plan), Ok(None));
        assert_eq!(scene.decide(Approve, &plan), Err(Reason::AlreadyDecided));
    }
    let plan = scene.plan(&["/bin/true"]);
    let lease = scene.decide(Approve, &plan).unwrap().unwrap();
    let (replies, _client) = scene.sock.execute(&lease, &plan, agent);
    assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
    for kind in [Approve, Deny, Revoke] {
        assert_eq!(scene.decide(kind, &plan), Err(Reason::AlreadyBurned), "{kind:?}");
    }
}

//
#[test]
fn what_is_refused_leaves_nothing_in_the_trail() {
    let scene = Scene::start();
    let mut plan =
        plan_for(&scene.instance, &scene.info, scene.instance.requester(0), &["/bin/true"]);
    plan.cwd.ino += 1;
    let unbound = plan.encode().unwrap();
    let before = scene.sock.info().sequence;
    assert_eq!(scene.decide(VerdictKind::Approve, &unbound), Err(Reason::IdentityChanged));
    assert_eq!(scene.sock.info().sequence, before);
    assert_eq!(scene.sock.state(plan_digest(&unbound)).decided, None);
    // To say no, nothing has to be bound.
    assert_eq!(scene.decide(VerdictKind::Deny, &unbound), Ok(None));
    assert_eq!(scene.sock.info().sequence, before + 1);
    let decided = scene.sock.state(plan_digest(&unbound)).decided.expect("the denial");
    let receipt = olb_lease::RawReceipt::parse(&decided.receipt).unwrap();
    let record = receipt.unverified_claims().unwrap().decode_record().unwrap();
    assert!(matches!(record.event, RecordEvent::Decided { cti: None, .. }));
}
