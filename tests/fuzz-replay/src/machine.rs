//! The lifecycle as a state machine beside a model of the root half's ledger: lost answers, crashes
//! of either half and reboots come between any two steps.

mod check;
mod ledger;
mod sample;

use std::collections::BTreeMap;

use olb_core::{Decision, Effect, LedgerView, Lifecycle, Limits, Memory, Request, Selector};
use olb_lease::{Outcome, PlanDigest, VerdictKind, sha256};

use ledger::{Ledger, plan_of};

const COMMANDS: [&str; 3] = ["nginx", "sshd", "cron"];
/// Bytes of a step.
const STEP_BYTES: usize = 3;
/// More steps than this are not taken: plans are told apart by one byte.
const STEPS_MAX: usize = 200;

#[derive(Debug, Clone)]
enum Step {
    Submit {
        uid: u32,
        command: usize,
    },
    /// Hands a verdict to the root half.
    Decide {
        request: usize,
        kind: VerdictKind,
    },
    /// Hands a lease to the root half.
    Present {
        request: usize,
    },
    /// The root half does what it was handed.
    Act {
        operation: usize,
    },
    /// The root half's next answer arrives.
    Answer {
        operation: usize,
    },
    /// The connection breaks; what was not done by then is not done.
    Lose {
        operation: usize,
    },
    /// The run that a presentation started ends.
    End {
        operation: usize,
        outcome: Outcome,
    },
    Cancel {
        request: usize,
    },
    Wait {
        secs: u64,
    },
    /// The ledger is asked on everything that is in doubt.
    Ask,
    /// Its answers arrive.
    Reconcile,
    RestartFront,
    /// The front dies in the next step, before its effects.
    CrashInNext,
    RestartExecd {
        reboot: bool,
    },
}

/// Steps from bytes: one says what happens, the next to whom or how, and a third the rest.
fn steps(data: &[u8]) -> Vec<Step> {
    data.chunks_exact(STEP_BYTES)
        .take(STEPS_MAX)
        .map(|chunk| read(chunk[0], chunk[1], chunk[2]))
        .collect()
}

fn read(what: u8, which: u8, how: u8) -> Step {
    const KINDS: [VerdictKind; 3] = [VerdictKind::Approve, VerdictKind::Deny, VerdictKind::Revoke];
    const SECS: [u64; 4] = [0, 59, 900, 1800];
    let nth = usize::from(which);
    match what % 14 {
        0 => Step::Submit {
            uid: u32::from(which % 2) + 1,
            command: usize::from(how) % COMMANDS.len(),
        },
        1 => Step::Decide { request: nth, kind: KINDS[usize::from(how) % KINDS.len()] },
        2 => Step::Present { request: nth },
        3 => Step::Act { operation: nth },
        4 => Step::Answer { operation: nth },
        5 => Step::Lose { operation: nth },
        6 => Step::End { operation: nth, outcome: outcome(how) },
        7 => Step::Cancel { request: nth },
        8 => Step::Wait { secs: SECS[usize::from(how) % SECS.len()] + u64::from(which) },
        9 => Step::Ask,
        10 => Step::Reconcile,
        11 => Step::RestartFront,
        12 => Step::CrashInNext,
        _ => Step::RestartExecd { reboot: how % 2 == 1 },
    }
}

fn outcome(how: u8) -> Outcome {
    match how % 3 {
        0 => Outcome::Exited(how),
        1 => Outcome::Killed(how % 31 + 1),
        _ => Outcome::SpawnFailed(2),
    }
}

#[derive(Debug, Clone)]
enum Asked {
    Verdict(VerdictKind),
    Lease(Vec<u8>),
}

/// Something that is with the root half.
#[derive(Debug, Clone)]
struct Operation {
    plan: PlanDigest,
    asked: Asked,
    /// What the root half answered, once it acted: `None` inside is a refusal.
    decided: Option<Option<Decision>>,
    burned: Option<bool>,
    told: bool,
}

#[derive(Debug, Clone)]
struct World {
    now: u64,
    core: Lifecycle,
    ledger: Ledger,
    operations: Vec<Operation>,
    views: Vec<(PlanDigest, LedgerView)>,
    stored: BTreeMap<PlanDigest, Request>,
    drawn: u8,
    crashing: bool,
}

impl World {
    fn new() -> Self {
        let core = Lifecycle::restore(Limits::default(), Memory::default());
        let mut world = Self {
            now: 1_000_000,
            core,
            ledger: Ledger::new(),
            operations: Vec::new(),
            views: Vec::new(),
            stored: BTreeMap::new(),
            drawn: 0,
            crashing: false,
        };
        world.learn_epoch();
        world
    }

    fn run(&mut self, step: &Step) {
        let crashing = std::mem::take(&mut self.crashing);
        let effects = self.take(step);
        if crashing {
            self.restart_front();
        } else {
            self.carry_out(effects);
        }
    }

    fn take(&mut self, step: &Step) -> Vec<Effect> {
        match step {
            Step::Submit { uid, command } => self.submit(*uid, COMMANDS[*command]),
            Step::Decide { request, kind } => self.decide(*request, *kind),
            Step::Present { request } => self.present(*request),
            Step::Act { operation } => self.act(*operation),
            Step::Answer { operation } => self.answer(*operation),
            Step::Lose { operation } => {
                if let Some(lost) = self.operation(*operation).cloned() {
                    self.core.lost(lost.plan);
                    self.drop_operation(*operation);
                }
                Vec::new()
            }
            Step::End { operation, outcome } => {
                let running = self.operation(*operation).filter(|one| one.burned == Some(true));
                if let Some(plan) = running.map(|one| one.plan) {
                    self.ledger.finish(plan, *outcome);
                }
                Vec::new()
            }
            Step::Cancel { request } => {
                let Some(plan) = self.request(*request) else { return Vec::new() };
                let request = &self.stored[&plan];
                let (selector, uid) = (Selector::Id(request.id()), request.requester_uid);
                let cancelled = self.core.cancel(self.now, &selector, uid);
                cancelled.map(|(_, effects)| effects).unwrap_or_default()
            }
            Step::Wait { secs } => {
                self.now += secs;
                self.core.tick(self.now)
            }
            Step::Ask => self.ask(),
            Step::Reconcile => self.reconcile(),
            Step::RestartFront => {
                self.restart_front();
                Vec::new()
            }
            Step::CrashInNext => {
                self.crashing = true;
                Vec::new()
            }
            Step::RestartExecd { reboot } => {
                self.ledger.restart(*reboot);
                self.operations.drain(..).for_each(|lost| self.core.lost(lost.plan));
                self.learn_epoch()
            }
        }
    }

    fn learn_epoch(&mut self) -> Vec<Effect> {
        self.core.epoch_is(self.now, self.ledger.epoch)
    }

    fn request(&self, nth: usize) -> Option<PlanDigest> {
        let count = self.stored.len().max(1);
        self.stored.keys().nth(nth % count).copied()
    }

    fn operation(&mut self, nth: usize) -> Option<&mut Operation> {
        let count = self.operations.len().max(1);
        self.operations.get_mut(nth % count)
    }

    fn drop_operation(&mut self, nth: usize) {
        self.operations.remove(nth % self.operations.len());
    }

    fn submit(&mut self, uid: u32, command: &str) -> Vec<Effect> {
        let Ok(admission) = self.core.admit(self.now, uid) else { return Vec::new() };
        self.drawn += 1;
        let plan = sample::plan(uid, &["restart", command], self.drawn);
        // Eight candidates from few possible ones, so that codes do collide.
        let mut random = sha256(&[self.drawn]);
        random.iter_mut().for_each(|byte| *byte &= 0x30);
        let Ok(submitted) = self.core.submit(self.now, admission, plan, &random) else {
            return Vec::new();
        };
        submitted.effects
    }

    fn decide(&mut self, nth: usize, kind: VerdictKind) -> Vec<Effect> {
        let Some(plan) = self.request(nth) else { return Vec::new() };
        if self.core.begin_decide(plan, kind).is_ok() {
            let asked = Asked::Verdict(kind);
            let one = Operation { plan, asked, decided: None, burned: None, told: false };
            self.operations.push(one);
        }
        Vec::new()
    }

    fn present(&mut self, nth: usize) -> Vec<Effect> {
        let Some(plan) = self.request(nth) else { return Vec::new() };
        let uid = self.stored[&plan].requester_uid;
        if let Ok(request) = self.core.begin_execute(self.now, plan, uid) {
            let lease = request.lease.clone().unwrap();
            assert_eq!(plan_of(&lease), plan, "another request's lease");
            let asked = Asked::Lease(lease);
            let one = Operation { plan, asked, decided: None, burned: None, told: false };
            self.operations.push(one);
        }
        Vec::new()
    }

    fn act(&mut self, nth: usize) -> Vec<Effect> {
        let Some(one) = self.operation(nth).cloned() else { return Vec::new() };
        let (mut decided, mut burned) = (one.decided, one.burned);
        match one.asked {
            Asked::Verdict(kind) if decided.is_none() => {
                decided = Some(self.ledger.decide(one.plan, kind, self.now));
            }
            Asked::Lease(lease) if burned.is_none() => {
                burned = Some(self.ledger.burn(&lease, self.now));
            }
            Asked::Verdict(_) | Asked::Lease(_) => {}
        }
        if let Some(one) = self.operation(nth) {
            (one.decided, one.burned) = (decided, burned);
        }
        Vec::new()
    }

    fn answer(&mut self, nth: usize) -> Vec<Effect> {
        let Some(one) = self.operation(nth).cloned() else { return Vec::new() };
        let (now, plan) = (self.now, one.plan);
        match (one.decided, one.burned, self.ledger.finish_of(plan)) {
            (None, None, _) => Vec::new(),
            (Some(Some(decision)), _, _) => {
                self.drop_operation(nth);
                // Another approver may have closed the request meanwhile.
                self.core.decided(now, plan, decision).unwrap_or_default()
            }
            (Some(None), _, _) | (_, Some(false), _) => {
                self.drop_operation(nth);
                // A refusal can mean that the ledger knows more.
                self.core.lost(plan);
                Vec::new()
            }
            (_, Some(true), _) if !one.told => {
                self.operation(nth).unwrap().told = true;
                self.core.burned(now, plan).unwrap_or_default()
            }
            (_, Some(true), Some(finish)) => {
                self.drop_operation(nth);
                self.core.finished(now, plan, finish).unwrap_or_default()
            }
            (_, Some(true), None) => Vec::new(),
        }
    }

    fn ask(&mut self) -> Vec<Effect> {
        let effects = self.learn_epoch();
        let view = |plan| (plan, self.ledger.view(plan, self.now));
        self.views = self.core.unreconciled().into_iter().map(view).collect();
        effects
    }

    fn reconcile(&mut self) -> Vec<Effect> {
        let views = std::mem::take(&mut self.views).into_iter();
        views.flat_map(|(plan, view)| self.core.reconcile(self.now, plan, view).unwrap()).collect()
    }

    fn restart_front(&mut self) {
        self.operations.clear();
        self.views.clear();
        let memory = Memory {
            requests: self.stored.values().cloned().collect(),
            codes: self.stored.values().map(|one| (one.created_at, one.code)).collect(),
        };
        self.core = Lifecycle::restore(Limits::default(), memory);
        self.learn_epoch();
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut durable = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(request) => {
                    self.check_history(&request);
                    durable.push(request.digest);
                    self.stored.insert(request.digest, Request::clone(&request));
                }
                Effect::Changed(request) => {
                    assert!(durable.contains(&request.digest), "told before it was stored");
                }
                Effect::ForgetInput(plan) => assert!(!self.stored[&plan].is_open()),
            }
        }
    }
}

/// Bytes as steps: what agents, humans, both halves, crashes and reboots do, in any order. Every
/// promise of the lifecycle holds after each of them, and a front that restarts from what it stored
/// ends where going on ends.
///
/// # Panics
/// A promise is broken.
pub fn machine(data: &[u8]) {
    let mut world = World::new();
    for step in &steps(data) {
        world.run(step);
        world.check();
    }
    if !world.crashing {
        let mut restarted = world.clone();
        restarted.restart_front();
        assert_eq!(world.settled(), restarted.settled());
    }
}

#[cfg(test)]
mod tests;
