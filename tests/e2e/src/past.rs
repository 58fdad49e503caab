//! A past: requests that were asked for, approved, run and recorded, put into both databases by the
//! code that writes them in earnest, only faster than people are.

use std::fs;
use std::os::unix::fs::chown;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use olb_core::{Code, CoolOffKey, MatchKey, Request, State};
use olb_exec_api::Info;
use olb_lease::{Outcome, Role, SigningKey};
use olb_store::Store;
use zeroize::Zeroizing;

use crate::approver::Approver;
use crate::instance::Instance;
use crate::issuer::Issuer;
use crate::plan::plan_for;

/// Calls that wait for the disk together.
const THREADS: u32 = 64;
/// From when to when the past was, in seconds before now: nothing of it is recent.
const SPAN: u64 = 28 * 86_400;
const END: u64 = 2 * 86_400;

struct Writer {
    issuer: Issuer,
    decided_by: String,
    now: u64,
    count: u32,
}

fn key<R: Role>(instance: &Instance, name: &str) -> SigningKey<R> {
    let text = fs::read_to_string(instance.state().join(name)).expect("a key");
    let hex = text.trim();
    let mut seed = Zeroizing::new([0; 32]);
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex");
    }
    SigningKey::from_seed(&seed).expect("a key")
}

/// Puts `count` finished requests of the first requester into the databases of an instance whose
/// halves do not run; `info` is what the root half said while it did.
pub fn put_past(instance: &Instance, approver: &Approver, info: &Info, count: u32) {
    let now = olb_sys::clock::unix_secs();
    let plan = plan_for(instance, info, instance.requester(0), &["/bin/true"]);
    let (lease, audit) = (key(instance, "lease.key"), key(instance, "audit.key"));
    let issuer = Issuer::open(&instance.state(), lease, audit, approver, plan, now - END - SPAN);
    let writer = Writer { issuer, decided_by: approver.name.clone(), now, count };
    let (done, requests) = channel();
    let next = AtomicU32::new(0);
    let (store, _) = Store::open(&instance.path("front")).expect("the store");
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let done = done.clone();
            scope.spawn(|| writer.write(&next, done));
        }
        drop(done);
        for request in requests {
            store.save(&request).expect("a row");
        }
    });
    drop(store);
    writer.issuer.close();
    for file in fs::read_dir(instance.path("front")).expect("the front's folder") {
        let path = file.expect("a file").path();
        chown(path, Some(instance.front()), Some(instance.front())).expect("its owner");
    }
}

impl Writer {
    fn write(&self, next: &AtomicU32, done: Sender<Request>) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                return;
            }
            done.send(self.one(number)).expect("the store's side");
        }
    }

    /// One request from plan to receipt.
    fn one(&self, number: u32) -> Request {
        let at = self.now - END - SPAN + SPAN * u64::from(number) / u64::from(self.count);
        let approved = self.issuer.approve(number, at);
        let receipt = self.issuer.finish(self.issuer.burn(approved.lease, at), at);
        let plan = approved.plan;
        Request {
            digest: approved.digest,
            code: Code::from_random((number << 2).to_be_bytes()),
            state: State::Exited,
            requester_uid: plan.requester_uid,
            match_key: MatchKey::of(&plan),
            cool_off_key: CoolOffKey::of(&plan),
            plan: approved.bytes.into(),
            created_at: at,
            expires_at: at + 1800,
            decided_at: Some(at),
            decided_by: Some(self.decided_by.clone()),
            reason: None,
            lease: None,
            lease_expires_at: Some(at + 900),
            epoch: Some(self.issuer.epoch()),
            burned_at: Some(at),
            finished_at: Some(at),
            outcome: Some(Outcome::Exited(0)),
            receipt: Some(receipt),
            stdout_tail: b"done\n".to_vec(),
            stderr_tail: Vec::new(),
        }
    }
}
