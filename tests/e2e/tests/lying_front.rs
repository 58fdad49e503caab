//! A captured front lies to the people: to the approver about what was decided, to the agent about
//! what runs and how it ended. `olb` believes what the root half has signed, and nothing else.

use std::sync::{Arc, Mutex};

use olb_e2e_tests::{Approver, ExecSock, Instance, Options, Ran, Reply, fake_front, plan_for};
use olb_exec_api::{ClientFrame, Info, Reason, Recorded};
use olb_lease::{Plan, PlanDigest, RawVerdict, VerdictKind, plan_digest};
use olb_wire::{ByteBuf, Request, RequestView, Response};
use serde_json::json;

/// A root half, an approver and a requester, without a front.
struct Stage {
    instance: Instance,
    sock: ExecSock,
    alice: Approver,
    info: Info,
    agent: u32,
}

impl Stage {
    fn new() -> Self {
        let instance = Instance::with(Options { without_front: true, ..Options::default() });
        let sock = ExecSock::of(&instance);
        let (alice, info, agent) = (instance.enrol(0), sock.info(), instance.requester(0));
        Self { instance, sock, alice, info, agent }
    }

    fn plan(&self, argv: &[&str]) -> Plan {
        plan_for(&self.instance, &self.info, self.agent, argv)
    }

    fn bytes(&self, argv: &[&str]) -> Vec<u8> {
        self.plan(argv).encode().unwrap()
    }

    /// Has `plan` approved and run; its lease and what was recorded.
    fn run(&self, plan: &[u8]) -> (Vec<u8>, Recorded) {
        let lease = self.sock.approve(&self.alice, plan);
        let (replies, _client) = self.sock.execute(&lease, plan, self.agent);
        match replies.last() {
            Some(Reply::Outcome(recorded)) => (lease, recorded),
            other => panic!("{other:?}"),
        }
    }

    /// Serves review.sock with `decide` in the place of the decision; what was signed.
    fn review(
        &self,
        shown: RequestView,
        mut decide: impl FnMut() -> Response + Send + 'static,
    ) -> Arc<Mutex<Vec<PlanDigest>>> {
        let signed = Arc::new(Mutex::new(Vec::new()));
        let (seen, info) = (Arc::clone(&signed), self.info.clone());
        fake_front(&self.instance, "review.sock", usize::MAX, move |mut caller| {
            while let Some(request) = caller.request() {
                match request {
                    Request::Status => caller.answer_status(&info),
                    Request::Decide { verdict } => {
                        let raw = RawVerdict::parse(&verdict).unwrap();
                        seen.lock().unwrap().push(raw.unverified_claims().unwrap().plan);
                        caller.answer(&decide());
                    }
                    _ => caller.answer(&Response::Request(Box::new(shown.clone()))),
                }
            }
        });
        signed
    }

    /// Serves request.sock, and answers everything with `answer`.
    fn answer(&self, answer: Response) {
        fake_front(&self.instance, "request.sock", usize::MAX, move |mut caller| {
            while caller.request().is_some() {
                caller.answer(&answer);
                if matches!(answer, Response::Requests(_)) {
                    caller.answer(&Response::Requests(Vec::new()));
                }
            }
        });
    }
}

fn view(plan: &[u8], state: &str) -> RequestView {
    let now = olb_sys::clock::unix_secs();
    RequestView {
        request_id: plan_digest(plan).request_id().to_string(),
        code: "7FK-3QX".into(),
        state: state.into(),
        requester_uid: Plan::decode(plan).unwrap().requester_uid,
        plan: ByteBuf::from(plan),
        created_at: now,
        expires_at: now + 600,
        ..RequestView::default()
    }
}

/// A request whose run is over, as an honest front shows it.
fn exited(plan: &[u8], code: u8, recorded: &Recorded) -> RequestView {
    RequestView {
        exit_code: Some(code),
        receipt: Some(ByteBuf::from(recorded.receipt.clone())),
        stdout_tail: ByteBuf::from(recorded.stdout_tail.clone()),
        stderr_tail: ByteBuf::from(recorded.stderr_tail.clone()),
        ..view(plan, "exited")
    }
}

fn refused(reason: Reason, text: &str, view: Option<RequestView>) -> Response {
    Response::Refused { reason: reason as u16, text: text.into(), request: view.map(Box::new) }
}

#[track_caller]
fn is_unconfirmed(ran: Ran) {
    let ran = ran.expect(69);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("could not confirm; the lease"), "{told}");
    assert!(told.contains("may still run until"), "{told}");
    for lie in ["revoked", "denied", "all is well", "will not run"] {
        assert!(!told.to_lowercase().contains(lie), "{lie}: {told}");
    }
}

#[test]
fn a_no_that_was_only_claimed_is_never_called_done() {
    let stage = Stage::new();
    let plan = stage.bytes(&["/bin/true"]);
    stage.sock.approve(&stage.alice, &plan);
    let id = plan_digest(&plan).request_id().to_string();
    let text = "the approval was revoked; all is well";
    for (command, reason, state, shown) in [
        ("revoke", Reason::Revoked, "revoked", "approved"),
        ("deny", Reason::Revoked, "revoked", "approved"),
        ("deny", Reason::Denied, "denied", "pending"),
        ("revoke", Reason::Expired, "expired", "approved"),
        ("revoke", Reason::AlreadyDecided, "revoked", "revoked"),
        ("deny", Reason::AlreadyBurned, "exited", "exited"),
    ] {
        for named in [Some(view(&plan, state)), None] {
            let answer = refused(reason, text, named);
            let signed = stage.review(view(&plan, shown), move || answer.clone());
            for json in [&[][..], &["--json"]] {
                let words = [&[command, "--id", &id], json].concat();
                is_unconfirmed(stage.instance.olb_as(&stage.alice, &words));
            }
            assert_eq!(*signed.lock().unwrap(), [plan_digest(&plan); 2]);
        }
    }
    // The lease lives, as was said.
    let lease = stage.sock.approve(&stage.alice, &plan);
    let (mut replies, _client) = stage.sock.execute(&lease, &plan, stage.agent);
    assert_eq!(replies.next(), Some(Reply::Burned));
}

#[test]
fn a_front_that_refuses_to_show_the_request_does_not_pass_for_a_no() {
    let stage = Stage::new();
    let plan = stage.bytes(&["/bin/true"]);
    let id = plan_digest(&plan).request_id().to_string();
    let answer = refused(Reason::Revoked, "it is revoked", Some(view(&plan, "revoked")));
    fake_front(&stage.instance, "review.sock", usize::MAX, move |mut caller| {
        while caller.request().is_some() {
            caller.answer(&answer);
        }
    });
    for command in ["deny", "revoke"] {
        for name in [id.as_str(), "7FK-3QX"] {
            is_unconfirmed(stage.instance.olb_as(&stage.alice, &[command, "--id", name]));
        }
    }
}

#[test]
fn what_is_proved_is_said_even_where_the_front_refuses() {
    let stage = Stage::new();
    let ran = stage.bytes(&["/bin/echo", "x"]);
    let (_, recorded) = stage.run(&ran);
    let denied = stage.bytes(&["/bin/false"]);
    let deny = stage.sock.decide_as(&stage.alice, VerdictKind::Deny, &denied, stage.info.epoch);
    let deny = ByteBuf::from(deny.unwrap().receipt);
    let closed = RequestView { receipt: Some(deny), ..view(&denied, "denied") };
    for (plan, reason, end, word) in [
        (&ran, Reason::AlreadyBurned, exited(&ran, 0, &recorded), "recorded: exit 0, 2 bytes"),
        (&denied, Reason::Denied, closed, "was denied before, by approver-0 at 20"),
    ] {
        let id = plan_digest(plan).request_id().to_string();
        let answer = refused(reason, "x", None);
        // Also where only the request itself carries the receipt.
        stage.review(end, move || answer.clone());
        let told = stage.instance.olb_as(&stage.alice, &["revoke", "--id", &id]).expect(77);
        assert!(told.stderr.contains(word), "{told:?}");
    }
    // The receipt of one request proves nothing about another.
    let other = stage.bytes(&["/bin/true"]);
    let id = plan_digest(&other).request_id().to_string();
    let lie = exited(&other, 0, &recorded);
    let answer = refused(Reason::AlreadyBurned, "x", Some(lie.clone()));
    stage.review(lie, move || answer.clone());
    is_unconfirmed(stage.instance.olb_as(&stage.alice, &["revoke", "--id", &id]));
}

#[test]
fn a_no_to_a_code_says_what_it_was_about_from_the_plan_that_was_signed() {
    let stage = Stage::new();
    let plan = stage.bytes(&["/bin/true", "about-this"]);
    let epoch = stage.info.epoch;
    let receipt = stage.sock.decide_as(&stage.alice, VerdictKind::Deny, &plan, epoch).unwrap();
    let receipt = ByteBuf::from(receipt.receipt);
    // The front's own words of the request are all false.
    let lie = RequestView {
        decided_by: Some("mallory".into()),
        reason: Some("because".into()),
        ..view(&plan, "approved")
    };
    let answer = Response::Decided { receipt, request: Box::new(lie) };
    stage.review(view(&plan, "pending"), move || answer.clone());
    let id = plan_digest(&plan).request_id().to_string();
    let told = stage.instance.olb_as(&stage.alice, &["deny", "--id", "7fk3qx"]).expect(0);
    for part in ["Denied 7FK-3QX", &id, "/bin/true about-this"] {
        assert!(told.stdout.contains(part), "{part}: {told:?}");
    }
    let told = stage.instance.olb_as(&stage.alice, &["deny", "--json", "--id", "7FK-3QX"]);
    let told = told.expect(0).json();
    assert_eq!(told["receipt"], "verified");
    assert_eq!((&told["request_id"], &told["state"]), (&json!(id), &json!("denied")));
    assert_eq!((&told["decided_by"], &told["reason"]), (&json!("approver-0"), &json!("")));
    assert_eq!(told["argv"], json!(["/bin/true", "about-this"]));
}

//
#[test]
fn an_id_that_is_not_that_of_its_plan_reaches_nobody() {
    let stage = Stage::new();
    let (asked, evil) = (stage.bytes(&["/bin/true"]), stage.bytes(&["/bin/sh"]));
    let id = plan_digest(&asked).request_id().to_string();
    let swapped = RequestView { request_id: id.clone(), ..view(&evil, "pending") };
    let renamed = RequestView { requester_uid: 0, ..view(&asked, "pending") };
    let elsewhere = RequestView { code: "AAA-AAA".into(), ..view(&evil, "pending") };
    for lie in [&swapped, &renamed] {
        stage.answer(Response::Requests(vec![view(&asked, "pending"), lie.clone()]));
        let listed = stage.instance.olb(stage.agent, &["list", "--json"]).expect(70);
        assert_eq!(listed.json()["error"], "mismatch");
        assert!(!listed.stdout.contains("/bin/sh"), "{listed:?}");
    }
    for lie in [swapped, renamed, elsewhere] {
        stage.answer(Response::Request(Box::new(lie)));
        for words in [["show", &id], ["status", &id], ["result", &id], ["cancel", &id]] {
            let told = stage.instance.olb(stage.agent, &words).expect(70);
            assert!(!told.stdout.contains("/bin/sh"), "{told:?}");
            assert!(told.stderr.contains("believe nothing"), "{told:?}");
        }
        let words = ["exec", "--id", &id, "--", "/bin/true"];
        stage.instance.olb(stage.agent, &words).expect(70);
    }
}

//
#[test]
fn an_end_that_no_receipt_proves_is_code_70() {
    let stage = Stage::new();
    let argv = ["/bin/sh", "-c", "echo out; exit 3"];
    let plan = stage.bytes(&argv);
    let id = plan_digest(&plan).request_id().to_string();
    let (_, recorded) = stage.run(&plan);
    let (_, others) = stage.run(&stage.bytes(&argv));
    let good = exited(&plan, 3, &recorded);
    let lies = [
        RequestView { exit_code: Some(0), ..good.clone() },
        RequestView { receipt: None, ..good.clone() },
        RequestView { stdout_tail: ByteBuf::from(&b"OUT\n"[..]), ..good.clone() },
        RequestView { stdout_tail: ByteBuf::from(&b"out\nmore\n"[..]), ..good.clone() },
        exited(&plan, 3, &others),
        RequestView { state: "killed".into(), exit_code: None, signal: Some(9), ..good.clone() },
    ];
    let looks = [vec!["status", &id], vec!["result", &id]];
    let run = [&["run", "--wait", "60s", "--"], &argv[..]].concat();
    for lie in lies {
        stage.answer(Response::Request(Box::new(lie)));
        for words in looks.iter().chain([&run]) {
            let told = stage.instance.olb(stage.agent, words).expect(70);
            assert_eq!(told.stdout, "", "{told:?}");
            assert!(told.stderr.contains("does not prove"), "{told:?}");
        }
    }
    stage.answer(Response::Request(Box::new(good.clone())));
    let told = stage.instance.olb(stage.agent, &run).expect(3);
    assert_eq!(told.stdout, "out\n");
    let told = stage.instance.olb(stage.agent, &["result", "--json", &id]).expect(3).json();
    assert_eq!((&told["receipt"], &told["exit_code"]), (&json!("verified"), &json!(3)));
    // What was cut off cannot be proved, and is said to be.
    let cut = RequestView { stdout_tail: ByteBuf::from(&b"t\n"[..]), ..good };
    stage.answer(Response::Request(Box::new(cut)));
    let told = stage.instance.olb(stage.agent, &["result", &id]).expect(3);
    assert!(told.stdout.contains("last 2 of 4 bytes of output, not covered"), "{told:?}");
}

#[test]
fn a_request_for_another_command_is_not_taken_for_ones_own() {
    let stage = Stage::new();
    let asked = stage.plan(&["/bin/true"]);
    let other = Plan { run_as: olb_lease::RunAs { uid: 1, ..asked.run_as.clone() }, ..asked };
    for (plan, state) in [
        (stage.bytes(&["/bin/sh"]), "pending"),
        (other.encode().unwrap(), "pending"),
        (stage.bytes(&["/bin/sh"]), "exited"),
    ] {
        stage.answer(Response::Request(Box::new(view(&plan, state))));
        for words in [["request", "--", "/bin/true"], ["run", "--", "/bin/true"]] {
            let told = stage.instance.olb(stage.agent, &words).expect(70);
            assert!(told.stderr.contains("another command than the one typed"), "{told:?}");
        }
    }
}

//
#[test]
fn a_lease_for_another_command_is_not_presented() {
    let stage = Stage::new();
    let plan = stage.bytes(&["/bin/true"]);
    let lease = stage.sock.approve(&stage.alice, &plan);
    let mut forged = lease.clone();
    *forged.last_mut().unwrap() ^= 1;
    let presented = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&presented);
    fake_front(&stage.instance, "request.sock", usize::MAX, move |mut caller| {
        if caller.request().is_some() {
            *seen.lock().unwrap() += 1;
        }
    });
    let exec = |lease: &[u8], command: &str| {
        stage.instance.exec(stage.agent, &olb_lease::armor::encode(lease), &[command])
    };
    let told = exec(&lease, "/bin/false").expect(77);
    assert!(told.stderr.contains("is not what was approved"), "{told:?}");
    assert_eq!(*presented.lock().unwrap(), 0, "the front never saw it");
    // One that the broker did not sign is for the broker to refuse; without a word from it nothing ran.
    let told = exec(&forged, "/bin/true").expect(77);
    assert!(told.stderr.contains("was not signed by this broker"), "{told:?}");
    // A front that gives a lease of its choice for a request is noticed as well.
    let evil = stage.bytes(&["/bin/sh"]);
    let evil = ByteBuf::from(stage.sock.approve(&stage.alice, &evil));
    let lie = RequestView { lease: Some(evil), ..view(&plan, "approved") };
    let id = lie.request_id.clone();
    stage.answer(Response::Request(Box::new(lie)));
    for (words, code) in [
        (vec!["exec", "--id", &id], 70),
        (vec!["exec", "--id", &id, "--", "/bin/true"], 77),
        (vec!["run", "--", "/bin/true"], 77),
    ] {
        stage.instance.olb(stage.agent, &words).expect(code);
    }
    // The one that it should have given is still unused.
    let (mut replies, _client) = stage.sock.execute(&lease, &plan, stage.agent);
    assert_eq!(replies.next(), Some(Reply::Burned));
}

//
#[test]
fn a_front_that_says_an_unsigned_lease_ran_is_not_believed() {
    let stage = Stage::new();
    let mut forged = stage.sock.approve(&stage.alice, &stage.bytes(&["/bin/true"]));
    *forged.last_mut().unwrap() ^= 1;
    let outcome = ClientFrame::Outcome { receipt: vec![0; 300] };
    fake_front(&stage.instance, "request.sock", usize::MAX, move |mut caller| {
        caller.request();
        caller.send(&outcome);
    });
    let armored = olb_lease::armor::encode(&forged);
    let told = stage.instance.exec(stage.agent, &armored, &["/bin/true"]).expect(70);
    assert!(told.stderr.contains("not signed by this broker, which took it"), "{told:?}");
}
