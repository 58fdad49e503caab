//! An instance with one requester and one approver at its doors: the whole flow without starting a
//! program for each step.

use olb_exec_api::ClientFrame;
use olb_lease::{
    Epoch, RawLease, RawReceipt, ReceiptClaims, Record, RecordEvent, VerdictKind, plan_digest,
};
use olb_wire::{RequestView, Response};

use crate::approver::Approver;
use crate::exec_sock::{Client, ExecSock};
use crate::hostile_client::{Door, submit_of, view};
use crate::instance::{Instance, Options};
use crate::process::wait_until;

/// Limits that are out of the way of tests about something else.
pub const ROOMY: &str = "[limits]\nsubmits_per_uid_per_minute = 1000000\npending_per_uid = 1000\n\
     pending_total = 1000\nopen_per_uid = 1000\nopen_total = 2000\n\
     stored_per_uid = 1000000\nstored_bytes_per_uid = 4000000000\n\
     stored_total = 1000000\nstored_bytes_total = 4000000000\n";

/// Both halves and who talks to them.
pub struct Scene {
    /// The broker.
    pub instance: Instance,
    /// An enrolled approver.
    pub alice: Approver,
    /// The approver's door.
    pub desk: Door,
    /// The first requester's door.
    pub agent: Door,
    /// The ledger's epoch.
    pub epoch: Epoch,
}

impl Scene {
    /// With limits that are out of the way.
    pub fn start() -> Self {
        Self::with(ROOMY, "")
    }

    /// With this brokerd.toml, and these further lines of execd.conf.
    pub fn with(brokerd: &str, execd: &str) -> Self {
        let options =
            Options { brokerd: brokerd.into(), execd: execd.into(), ..Options::default() };
        let instance = Instance::with(options);
        let alice = instance.enrol(0);
        Self::of(instance, alice)
    }

    /// Of an instance that runs, and an approver who is enrolled there.
    pub fn of(instance: Instance, alice: Approver) -> Self {
        let epoch = ExecSock::of(&instance).info().epoch;
        let desk = Door::review(&instance, alice.uid);
        let agent = Door::request(&instance, instance.requester(0));
        Self { instance, alice, desk, agent, epoch }
    }

    /// Asks for `argv`; the pending request.
    pub fn ask(&mut self, argv: &[&str]) -> RequestView {
        let asked = view(self.agent.submit(submit_of(&self.instance, argv)));
        assert_eq!(asked.state, "pending");
        asked
    }

    /// Decides on a plan as the approver.
    pub fn decide(&mut self, kind: VerdictKind, plan: &[u8]) -> Response {
        let claims = self.alice.claims(kind, plan_digest(plan), self.epoch);
        self.desk.decide(&self.alice, &claims)
    }

    /// Asks for `argv` and has it approved; the request and its lease.
    pub fn approved(&mut self, argv: &[&str]) -> (RequestView, Vec<u8>) {
        let asked = self.ask(argv);
        let decided = view(self.decide(VerdictKind::Approve, &asked.plan));
        assert_eq!(decided.state, "approved");
        let again = view(self.agent.submit(submit_of(&self.instance, argv)));
        assert_eq!(again.request_id, asked.request_id);
        let lease = again.lease.clone().expect("a lease").into_vec();
        (again, lease)
    }

    /// Presents a lease; the client after its command was started, and the read ends of its output.
    pub fn started(&mut self, lease: &[u8]) -> (Client, Vec<std::os::fd::OwnedFd>) {
        let mut client = self.agent.execute(lease);
        match client.frame() {
            Some((ClientFrame::Started, fds)) => (client, fds),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the ledger holds the outcome of this lease's run; what it says.
    pub fn outcome(&self, lease: &[u8]) -> RecordEvent {
        let claims = RawLease::parse(lease).and_then(|raw| raw.unverified_claims());
        let plan = claims.expect("a lease").plan;
        let sock = ExecSock::of(&self.instance);
        let mut recorded = None;
        wait_until("an outcome is recorded", || {
            recorded = sock.state(plan).recorded;
            recorded.is_some()
        });
        finished(&recorded.expect("an outcome").receipt)
    }
}

/// What the receipt of an outcome says.
pub fn finished(receipt: &[u8]) -> RecordEvent {
    let claims: ReceiptClaims =
        RawReceipt::parse(receipt).and_then(|raw| raw.unverified_claims()).expect("a receipt");
    Record::decode(&claims.record).expect("a record").event
}
