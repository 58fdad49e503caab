//! Many approved executions by several clients at once, while requests, lists and approvals go on:
//! nothing that a client does right ends otherwise than well, and every output arrives whole.
//!
//! 160 executions; 10,000 at full length (`OLB_SOAK`), `OLB_SOAK_EXECUTIONS` for another number.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use olb_e2e_tests::{Door, ExecSock, Instance, Options, ROOMY, Ran, Trail, submit_of, view};
use olb_lease::{Outcome, armor};

const CLIENTS: u32 = 8;
/// Every so many executions write more than a pipe holds.
const LARGE_EVERY: u32 = 16;
const LARGE_BYTES: usize = 300_000;

fn executions() -> u32 {
    let given = std::env::var("OLB_SOAK_EXECUTIONS").ok();
    let full = if std::env::var_os("OLB_SOAK").is_some() { 10_000 } else { 160 };
    given.map_or(full, |text| text.parse().expect("a number"))
}

/// What all threads share.
struct Shared<'a> {
    instance: &'a Instance,
    alice: &'a olb_e2e_tests::Approver,
    next: AtomicU32,
    last: u32,
    over: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Shared<'_> {
    /// The number of the next execution, unless there are enough or one has failed.
    fn next(&self) -> Option<u32> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        (number < self.last && !self.is_over()).then_some(number)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Ends the test unless `holds`, with everything that there is to see.
    fn check(&self, holds: bool, what: &str, seen: &dyn std::fmt::Debug) {
        if !holds {
            self.over.store(true, Ordering::SeqCst);
            self.failures.lock().expect("nobody panics").push(format!("{what}: {seen:?}"));
        }
    }

    fn check_code(&self, code: i32, what: &str, ran: &Ran) {
        self.check(ran.code == code, what, ran);
    }
}

/// Tells the others that it is over, also when a thread panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What `number` runs, and what it writes.
fn command(number: u32) -> (Vec<String>, String) {
    let tag = format!("run-{number}");
    if number.is_multiple_of(LARGE_EVERY) {
        let script = format!("printf '%0{LARGE_BYTES}d' 0; echo {tag}");
        let output = format!("{}{tag}\n", "0".repeat(LARGE_BYTES));
        (["sh", "-c", &script].map(str::to_owned).to_vec(), output)
    } else {
        (["echo", &tag].map(str::to_owned).to_vec(), format!("{tag}\n"))
    }
}

/// Asks, has it approved, and runs it once with `olb exec`; the ids of what ran.
fn run_many(shared: &Shared<'_>, client: u32) -> Vec<String> {
    let uid = shared.instance.requester(client % 3);
    let mut scene = Doors::open(shared, uid);
    let mut ran = Vec::new();
    while let Some(number) = shared.next() {
        let (argv, output) = command(number);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let (id, lease) = scene.approved(shared, &argv);
        let file;
        let given = match number % 3 {
            0 => ["--id", &id],
            _ => {
                file = shared.instance.lease_file(uid, &armor::encode(&lease));
                ["--lease-file", &file]
            }
        };
        let words = [&["exec"], given.as_slice(), &["--"], &argv].concat();
        let end = shared.instance.olb(uid, &words);
        let is_well = end.code == 0 && end.stdout == output && end.stderr.is_empty();
        shared.check(is_well, &format!("{id} by client {client}, number {number}"), &end);
        ran.push(id);
    }
    ran
}

/// One client's connections, and an approver's.
struct Doors {
    agent: Door,
    desk: Door,
    epoch: olb_lease::Epoch,
}

impl Doors {
    fn open(shared: &Shared<'_>, uid: u32) -> Self {
        let agent = Door::request(shared.instance, uid);
        let desk = Door::review(shared.instance, shared.alice.uid);
        Self { agent, desk, epoch: ExecSock::of(shared.instance).info().epoch }
    }

    fn approved(&mut self, shared: &Shared<'_>, argv: &[&str]) -> (String, Vec<u8>) {
        let wish = submit_of(shared.instance, argv);
        let asked = view(self.agent.submit(wish.clone()));
        assert_eq!(asked.state, "pending");
        let plan = olb_lease::plan_digest(&asked.plan);
        let claims = shared.alice.claims(olb_lease::VerdictKind::Approve, plan, self.epoch);
        assert_eq!(view(self.desk.decide(shared.alice, &claims)).state, "approved");
        let again = view(self.agent.submit(wish));
        assert_eq!(again.request_id, asked.request_id);
        (asked.request_id, again.lease.expect("a lease").into_vec())
    }
}

/// What else happens at a broker: all of it by programs, until the executions are over.
fn meanwhile(shared: &Shared<'_>) -> u32 {
    let agent = shared.instance.requester(0);
    let mut rounds = 0;
    while !shared.is_over() {
        let words = ["true", "meanwhile", &rounds.to_string()].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let asked = shared.instance.olb(agent, &[&["request", "--json", "--"], &*words].concat());
        shared.check_code(75, "request", &asked);
        if asked.code != 75 {
            break;
        }
        let id = asked.json()["request_id"].as_str().expect("an id").to_owned();
        let listed = shared.instance.olb_as_operator(shared.alice, &["list", "--json"]);
        shared.check_code(0, "list", &listed);
        shared.check(listed.stdout.contains(&id), "the list lacks a request", &id);
        let approved = shared.instance.olb_as(shared.alice, &["approve", "--id", &id]);
        shared.check_code(0, "approve", &approved);
        let own = shared.instance.olb(agent, &["status", "--json"]);
        shared.check_code(0, "status", &own);
        let ran = shared.instance.olb(agent, &[&["run", "--"], &*words].concat());
        shared.check_code(0, "run", &ran);
        rounds += 1;
    }
    rounds
}

#[test]
fn many_executions_at_once_beside_everything_else_all_end_well() {
    let execd = "max_executions = 64\nmax_executions_per_uid = 64\n".into();
    let instance = Instance::with(Options { execd, brokerd: ROOMY.into(), ..Options::default() });
    let alice = instance.enrol(0);
    let shared = Shared {
        instance: &instance,
        alice: &alice,
        next: AtomicU32::new(0),
        last: executions(),
        over: AtomicBool::new(false),
        failures: Mutex::default(),
    };
    // The front learns of the enrolment from the first who comes.
    Door::review(&instance, alice.uid).ask(&olb_wire::Request::Status);
    let begun = Instant::now();
    let (ran, rounds) = thread::scope(|scope| {
        let others = scope.spawn(|| meanwhile(&shared));
        let _over = Over(&shared.over);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let shared = &shared;
                scope.spawn(move || run_many(shared, client))
            })
            .collect();
        let joined: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        shared.over.store(true, Ordering::SeqCst);
        let ran: Vec<String> = joined.into_iter().flat_map(|ids| ids.expect("no panic")).collect();
        (ran, others.join().expect("no panic"))
    });
    let failures = shared.failures.into_inner().expect("nobody panics");
    assert!(failures.is_empty(), "{failures:#?}");
    println!("{} executions and {rounds} rounds beside them in {:?}", ran.len(), begun.elapsed());
    assert_eq!(ran.len(), executions() as usize);
    let trail = Trail::read(&ExecSock::of(&instance));
    for id in ran {
        let fate = trail.fate(&id);
        assert_eq!((fate.burns, fate.outcome), (1, Some(Outcome::Exited(0))), "{id}");
    }
}
