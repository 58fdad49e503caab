//! A root half for the front's tests: signs real receipts and leases, remembers what it said, and
//! runs nothing. It speaks `exec.sock` as the real one does.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use olb_exec_api::{
    ClientFrame, DATAGRAM_BYTES_MAX, Decided, Enrolment, Info, Op, Query, Reason, RecordPage,
    Recorded, Refusal, RequestState, Status, encode_info, reply, split_request,
};
use olb_lease::{
    Approver, Audience, Audit, ChainHead, Cti, CutBy, Digest, Epoch, LeaseClaims, LeaseIssuer,
    Outcome, Plan, PlanDigest, RawVerdict, ReceiptClaims, Record, RecordEvent, SigningKey,
    StreamSummary, VerdictDigest, VerdictKind, argv_digest, cwd_digest, env_digest, plan_digest,
    sha256,
};
use olb_sys::clock::unix_secs;
use olb_sys::socket::{accept, listen_seqpacket, recv_datagram, send_datagram, send_now};

/// What became of a presentation, as the test wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Play {
    /// Burn, report the outcome to client and front.
    RunToTheEnd,
    /// Burn, then vanish: the outcome is only in the ledger.
    CrashAfterTheBurn,
    /// Refuse before the burn.
    Refuse(Reason),
}

/// An EXECUTE as it arrived.
#[derive(Debug)]
pub(crate) struct Presented {
    pub(crate) lease: Vec<u8>,
    pub(crate) client: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) files: Vec<OwnedFd>,
}

struct Ledger {
    info: Info,
    play: Play,
    requests: HashMap<PlanDigest, RequestState>,
    sequence: u64,
    presented: Sender<Presented>,
    approvers: Sender<u32>,
}

/// A handle on the root half of a test.
#[derive(Clone)]
pub(crate) struct FakeExecd(Arc<Mutex<Ledger>>);

/// What the root half received.
pub(crate) struct Seen {
    pub(crate) presented: Receiver<Presented>,
    /// The uid on the socket that came with each DECIDE.
    pub(crate) approvers: Receiver<u32>,
}

pub(crate) fn approver_key() -> SigningKey<Approver> {
    SigningKey::from_seed(&[0x41; 32].into()).unwrap()
}

fn audit_key() -> SigningKey<Audit> {
    SigningKey::from_seed(&[0x42; 32].into()).unwrap()
}

fn lease_key() -> SigningKey<LeaseIssuer> {
    SigningKey::from_seed(&[0x43; 32].into()).unwrap()
}

/// How every run of this root half ends, with this output.
pub(crate) const OUTCOME: Outcome = Outcome::Exited(3);
pub(crate) const TAIL: &[u8] = b"0\n";

impl FakeExecd {
    /// Serves on `exec.sock` in `runtime_dir`; `uid` is both requester and approver, as it may be
    /// where there is no boundary.
    pub(crate) fn start(runtime_dir: &Path, uid: u32) -> (Self, Seen) {
        let (presented, seen_presented) = channel();
        let (approvers, seen_approvers) = channel();
        let ledger = Ledger {
            info: info(uid),
            play: Play::RunToTheEnd,
            requests: HashMap::new(),
            sequence: 0,
            presented,
            approvers,
        };
        let this = Self(Arc::new(Mutex::new(ledger)));
        let listener = listen_seqpacket(&runtime_dir.join("exec.sock"), 0o600, None).unwrap();
        let serving = this.clone();
        thread::spawn(move || {
            while let Ok(connection) = accept(&listener) {
                let ledger = serving.clone();
                thread::spawn(move || ledger.serve(&connection));
            }
        });
        (this, Seen { presented: seen_presented, approvers: seen_approvers })
    }

    pub(crate) fn play(&self, play: Play) {
        self.0.lock().unwrap().play = play;
    }

    /// Leases of before are void from now on, as after a reboot.
    pub(crate) fn begin_epoch(&self, epoch: Epoch) {
        let mut ledger = self.0.lock().unwrap();
        ledger.info.epoch = epoch;
        for request in ledger.requests.values_mut() {
            request.decided.as_mut().map(|decided| decided.lease.take());
        }
    }

    pub(crate) fn list_requesters(&self, uids: &[u32]) {
        self.0.lock().unwrap().info.requesters = uids.to_vec();
    }

    /// Nobody is an approver from now on.
    /// As a root half that makes no copies.
    pub(crate) fn keep_no_copies(&self) {
        self.0.lock().unwrap().info.staging.clear();
    }

    pub(crate) fn enrol_nobody(&self) {
        self.0.lock().unwrap().info.enrolments.clear();
    }

    fn serve(&self, connection: &OwnedFd) {
        let Ok(datagram) = recv_datagram(connection, DATAGRAM_BYTES_MAX, 18) else { return };
        let (op, a, b) = split_request(&datagram.bytes).unwrap();
        let answer = |status: Status, body: &[u8]| {
            let datagram = reply(status, body, &[]).unwrap();
            // A front that is gone reads what happened when it is back.
            send_datagram(connection, &datagram, &[]).ok();
        };
        let mut ledger = self.0.lock().unwrap();
        match op {
            Op::Read => answer(Status::Done, &ledger.read(Query::decode(a).unwrap())),
            Op::Decide => match ledger.decide(a, b, &datagram.fds) {
                Ok(decided) => answer(Status::Done, &decided.encode()),
                Err(refusal) => answer(Status::Refused, &refusal.encode()),
            },
            Op::Execute => ledger.execute(a, b, datagram.fds, answer),
        }
    }
}

fn info(uid: u32) -> Info {
    let approver = approver_key();
    Info {
        host: "web-1".into(),
        audience: Audience([9; 32]),
        epoch: Epoch([1; 16]),
        lease_key: *lease_key().public().as_bytes(),
        audit_key: *audit_key().public().as_bytes(),
        sequence: 0,
        boundary: false,
        requesters: vec![uid],
        enrolments: vec![Enrolment {
            name: "alice".into(),
            uid,
            key: *approver.public().as_bytes(),
            kid: approver.public().kid(),
            lease_lifetime_secs: 900,
        }],
        limits: Vec::new(),
        staging: b"/pin".to_vec(),
    }
}

impl Ledger {
    fn read(&self, query: Query) -> Vec<u8> {
        match query {
            Query::Info => encode_info(&self.info),
            Query::Records { .. } => RecordPage::default().encode(),
            Query::Request { plan } => {
                self.requests.get(&plan).cloned().unwrap_or_default().encode()
            }
        }
    }

    fn receipt(&mut self, event: RecordEvent) -> Vec<u8> {
        self.sequence += 1;
        let record = Record { at: unix_secs(), epoch: self.info.epoch, event }.encode();
        let claims =
            ReceiptClaims { sequence: self.sequence, previous: ChainHead([0; 32]), record };
        claims.sign(&audit_key())
    }

    fn decide(
        &mut self,
        verdict: &[u8],
        plan: &[u8],
        sockets: &[OwnedFd],
    ) -> Result<Decided, Refusal> {
        let [socket] = sockets else { panic!("DECIDE takes one socket") };
        let peer = olb_sys::peer::stream_peer(socket).unwrap();
        self.approvers.send(peer.uid).unwrap();
        let raw = RawVerdict::parse(verdict).unwrap();
        let verified = raw
            .verify(approver_key().public())
            .map_err(|error| Refusal::new(Reason::BadSignature, error.to_string()))?;
        let claims = verified.claims();
        let digest = plan_digest(plan);
        assert_eq!(claims.plan, digest, "the front sent another plan");
        let approved = claims.kind == VerdictKind::Approve;
        let lease = approved.then(|| self.lease(plan, claims.expires_at));
        let event = RecordEvent::Decided {
            plan: plan.to_vec(),
            verdict: verdict.to_vec(),
            approver: "alice".into(),
            approver_uid: peer.uid,
            cti: approved.then_some(Cti([5; 16])),
        };
        let receipt = self.receipt(event);
        let expires_at = if approved { claims.expires_at } else { 0 };
        let decided = Decided { receipt, lease, expires_at };
        let state = RequestState { decided: Some(decided.clone()), ..RequestState::default() };
        self.requests.insert(digest, state);
        Ok(decided)
    }

    fn lease(&self, bytes: &[u8], expires_at: u32) -> Vec<u8> {
        let plan = Plan::decode(bytes).unwrap();
        let claims = LeaseClaims {
            audience: self.info.audience,
            expires_at,
            issued_at: expires_at - 900,
            cti: Cti([5; 16]),
            argv: argv_digest(&plan.argv),
            requester_uid: plan.requester_uid,
            environment: env_digest(&plan.environment),
            cwd: cwd_digest(&plan.cwd),
            plan: plan_digest(bytes),
            verdict: VerdictDigest([6; 32]),
            epoch: self.info.epoch,
        };
        claims.sign(&lease_key()).unwrap()
    }

    fn execute(
        &mut self,
        lease: &[u8],
        plan: &[u8],
        mut descriptors: Vec<OwnedFd>,
        answer: impl Fn(Status, &[u8]),
    ) {
        let client = descriptors.remove(0);
        let has_stdin = Plan::decode(plan).unwrap().stdin.is_some();
        let stdin = has_stdin.then(|| descriptors.remove(0));
        let files = descriptors;
        let tell = |frame: &ClientFrame| {
            // A client that is gone does not stop a run.
            send_now(client.as_fd(), &frame.encode()).ok();
        };
        let digest = plan_digest(plan);
        if let Play::Refuse(reason) = self.play {
            let refusal = Refusal::new(reason, "the test wants it so");
            tell(&ClientFrame::Refused(refusal.clone()));
            answer(Status::Refused, &refusal.encode());
        } else {
            let summary = |bytes: &[u8]| StreamSummary {
                bytes: bytes.len() as u64,
                sha256: Digest(sha256(bytes)),
            };
            let receipt = self.receipt(RecordEvent::Finished {
                plan: digest,
                cti: Cti([5; 16]),
                outcome: OUTCOME,
                stdout: summary(TAIL),
                stderr: summary(b""),
                cut_by: CutBy::Nobody,
                duration_ms: 1,
                usage: None,
            });
            let recorded = Recorded {
                receipt: receipt.clone(),
                stdout_tail: TAIL.to_vec(),
                stderr_tail: Vec::new(),
            };
            let request = self.requests.get_mut(&digest).unwrap();
            request.decided.as_mut().map(|decided| decided.lease.take());
            request.burned = true;
            request.recorded = Some(recorded.clone());
            answer(Status::Burned, &[]);
            tell(&ClientFrame::Started);
            if self.play == Play::RunToTheEnd {
                tell(&ClientFrame::Outcome { receipt });
                answer(Status::Outcome, &recorded.encode());
            }
        }
        self.presented.send(Presented { lease: lease.to_vec(), client, stdin, files }).unwrap();
    }
}
