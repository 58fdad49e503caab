//! What tests of crashes share: an instance whose halves die and come back, commands whose runs can
//! be counted, and the rules that hold whatever happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use olb_lease::Outcome;
use serde_json::Value;

use crate::approver::Approver;
use crate::exec_sock::ExecSock;
use crate::instance::{Half, Instance, Options};
use crate::olb::Ran;
use crate::process::wait_until;
use crate::scene::ROOMY;
use crate::trail::{Fate, Trail};

/// How soon a half that was started again has to serve: ten times what it may take.
const SERVING: Duration = Duration::from_secs(10);

/// The end of an approval that died with the broker's memory, and why.
const EXPIRED: &str = "expired";
const RESTARTED: &str = "broker restarted";

/// "Input/output error".
const EIO: u16 = 5;

/// The words of a command that leaves one line in `file` each time it runs.
pub fn append(file: &Path) -> [String; 3] {
    ["/bin/sh".into(), "-c".into(), format!("echo ran >> {}", file.display())]
}

/// How often the command that appends to `file` has run.
pub fn lines(file: &Path) -> usize {
    lines_of(file).len()
}

/// What commands have written into `file`.
pub fn lines_of(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Times that were measured, for the record.
#[derive(Debug, Default)]
pub struct Figures(Vec<Duration>);

impl Figures {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Least, median and greatest, in words.
    pub fn show(&mut self, what: &str) -> String {
        self.0.sort();
        let ms = |at: usize| self.0.get(at).map_or(0, Duration::as_millis);
        let count = self.0.len();
        let (median, last) = (count / 2, count.saturating_sub(1));
        format!("{what}: {count} times, {} / {} / {} ms", ms(0), ms(median), ms(last))
    }
}

/// Random numbers that come again with the same seed (xorshift; nothing here is secret).
#[derive(Debug)]
pub struct Lottery(u64);

impl Lottery {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Both halves, a requester, an approver, and the time that starting again took.
pub struct Recovery {
    /// The broker.
    pub instance: Instance,
    /// An enrolled approver.
    pub alice: Approver,
    /// A requester's uid.
    pub agent: u32,
    /// exec.sock.
    pub sock: ExecSock,
    /// From the start of a half to its first answer.
    pub served: Figures,
    /// What ran when the root half ended cannot be running: the host was booted since.
    pub is_another_boot: bool,
    commands: usize,
}

impl Recovery {
    /// Both halves running.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Both halves running, with `options` but for the front's limits.
    pub fn with(options: Options) -> Self {
        Self::of(Instance::with(Options { brokerd: ROOMY.into(), ..options }))
    }

    /// Around an instance that runs, or is about to.
    pub fn of(instance: Instance) -> Self {
        let alice = instance.enrol(0);
        let (agent, sock) = (instance.requester(0), ExecSock::of(&instance));
        let served = Figures::default();
        Self { instance, alice, agent, sock, served, is_another_boot: false, commands: 0 }
    }

    /// A command of its own, and the file that counts its runs.
    pub fn command(&mut self) -> ([String; 3], PathBuf) {
        self.commands += 1;
        let file = self.instance.work().join(format!("ran-{}", self.commands));
        (append(&file), file)
    }

    /// Starts `half` and waits for its first answer, which has to come at once; how long that took.
    pub fn revive(&mut self, half: Half) -> Duration {
        let begun = Instant::now();
        self.instance.start_half(half);
        match half {
            Half::Root => drop(self.sock.info()),
            Half::Front => drop(self.instance.olb(self.agent, &["status"])),
        }
        let took = begun.elapsed();
        assert!(took < SERVING, "{half:?} served again only after {took:?}");
        self.served.add(took);
        took
    }

    /// `olb` as the agent; whatever happened to the broker, it says so in the documented way.
    pub fn olb(&self, words: &[&str], command: &[String]) -> Ran {
        let words: Vec<&str> =
            words.iter().copied().chain(command.iter().map(String::as_str)).collect();
        let ran = self.instance.olb(self.agent, &words);
        check_answer(&ran);
        ran
    }

    /// `olb` as the approver, likewise.
    pub fn decide(&self, words: &[&str]) -> Ran {
        let ran = self.instance.olb_as(&self.alice, words);
        check_answer(&ran);
        ran
    }

    /// Asks for `command`; the id of the pending request.
    pub fn ask(&self, command: &[String]) -> String {
        let asked = self.olb(&["request", "--json", "--"], command).expect(75).json();
        asked["request_id"].as_str().expect("an id").to_owned()
    }

    /// Asks for `command` and has it approved; the id.
    pub fn approved(&self, command: &[String]) -> String {
        let id = self.ask(command);
        self.decide(&["approve", "--id", &id]).expect(0);
        id
    }

    /// Presents the lease of `id`, which the front keeps.
    pub fn exec(&self, id: &str, command: &[String]) -> Ran {
        self.olb(&["exec", "--id", id, "--"], command)
    }

    /// Does what is left to do for a request, which runs it exactly once, as everybody knows.
    pub fn ran_once(&self, id: &str, command: &[String], file: &Path) {
        let request = self.complete(id, command);
        let trail = Trail::read(&self.sock);
        assert!(trail.is_settled(), "a burn without an outcome");
        assert_eq!(self.one_story(&request, file, &trail), "exited");
    }

    /// Agent and operator are told that an approval died with the broker's memory.
    pub fn both_sides_are_told(&self, id: &str, command: &[String]) {
        let told = self.exec(id, command).expect(75);
        let sentences = ["the broker was restarted", "broker restarted"];
        assert!(sentences.iter().any(|known| told.stderr.contains(known)), "{told:?}");
        // The root half tells the client and the front at the same time.
        wait_until("the front knows", || self.status(id)["state"] == EXPIRED);
        let shown = self.instance.olb_as_operator(&self.alice, &["show", id, "--json"]);
        for seen in [self.status(id), shown.expect(0).json()] {
            assert_eq!((&seen["state"], &seen["reason"]), (&EXPIRED.into(), &RESTARTED.into()));
        }
        let listed = self.instance.olb_as_operator(&self.alice, &["list", "--all", "--json"]);
        let listed = listed.expect(0).json();
        let mut rows = listed["requests"].as_array().expect("a list").iter();
        let row = rows.find(|row| row["request_id"] == id).expect("the request");
        assert_eq!((&row["state"], &row["reason"]), (&EXPIRED.into(), &RESTARTED.into()));
    }

    /// What `olb status` says of a request.
    pub fn status(&self, id: &str) -> Value {
        self.olb(&["status", id, "--json"], &[]).expect(0).json()
    }

    /// The id of the agent's request for `command`, if the broker knows one.
    pub fn find(&self, command: &[String]) -> Option<String> {
        let all = self.olb(&["status", "--json"], &[]).expect(0).json();
        let requests = all["requests"].as_array().expect("a list");
        let same = |one: &&Value| {
            let argv = one["argv"].as_array().expect("an argv");
            argv.iter().map(|word| word.as_str().expect("text")).eq(command.iter())
        };
        requests.iter().rfind(same).map(|one| one["request_id"].as_str().expect("an id").into())
    }

    /// Asks, approves and runs, as far as the broker lives; the id, if one was learnt.
    pub fn drive(&self, command: &[String]) -> Option<String> {
        let asked = self.olb(&["request", "--json", "--"], command);
        let answer: Value = serde_json::from_str(&asked.stdout).unwrap_or_default();
        let id = answer["request_id"].as_str()?.to_owned();
        self.decide(&["approve", "--id", &id]);
        self.exec(&id, command);
        Some(id)
    }

    /// The request for `command` after trouble: the known one, else the one that the broker knows,
    /// else, where it was forgotten, a new one.
    pub fn find_or_ask(&self, known: Option<String>, command: &[String]) -> String {
        known.or_else(|| self.find(command)).unwrap_or_else(|| self.ask(command))
    }

    /// Does what is left to do for a request, as agent and approver would, until it is over.
    pub fn complete(&self, id: &str, command: &[String]) -> Value {
        let mut over = None;
        wait_until("the request is over", || {
            let request = self.status(id);
            match request["state"].as_str().expect("a state") {
                "pending" => drop(self.decide(&["approve", "--id", id])),
                "approved" => drop(self.olb(&["exec", "--id", id, "--"], command)),
                // What runs ends by itself, and the front learns of it by itself.
                "executing" => {}
                _ => over = Some(request),
            }
            over.is_some()
        });
        over.expect("the end")
    }

    /// What agent, operator, trail and the file of runs say about a request that is over has to be
    /// one story; returns its end.
    pub fn one_story(&self, request: &Value, file: &Path, trail: &Trail) -> String {
        let id = request["request_id"].as_str().expect("an id");
        let state = request["state"].as_str().expect("a state");
        let (fate, runs) = (trail.fate(id), lines(file));
        let approved = fate.approved;
        let context = || format!("{id}: {request} {fate:?}, ran {runs} times");
        match state {
            "exited" => {
                let outcome = Some(Outcome::Exited(0));
                assert_eq!(fate, Fate { approved: true, burns: 1, outcome }, "{}", context());
                assert_eq!(runs, 1, "{}", context());
            }
            "outcome_unknown" => {
                let may_be_running = !self.is_another_boot;
                let outcome = Some(Outcome::Unknown { may_be_running });
                assert_eq!(fate, Fate { approved: true, burns: 1, outcome }, "{}", context());
                assert_eq!(request["may_be_running"], may_be_running, "{}", context());
                assert!(runs <= 1, "{}", context());
            }
            // Its burn could not be synced: nothing was started.
            "spawn_failed" => {
                let outcome = Some(Outcome::SpawnFailed(EIO));
                assert_eq!(fate, Fate { approved: true, burns: 1, outcome }, "{}", context());
                assert_eq!(runs, 0, "{}", context());
            }
            "expired" => {
                assert_eq!(fate, Fate { approved, burns: 0, outcome: None }, "{}", context());
                assert_eq!(request["reason"], RESTARTED, "{}", context());
                assert_eq!(runs, 0, "{}", context());
            }
            _ => panic!("not an end that a crash explains: {}", context()),
        }
        state.to_owned()
    }
}

/// The command ran, or one sentence says why not, with a code of the contract.
fn check_answer(ran: &Ran) {
    match ran.code {
        0 => {}
        69 | 70 | 75 | 77 => assert!(ran.stderr.starts_with("olb: "), "{ran:?}"),
        _ => panic!("{ran:?}"),
    }
}
