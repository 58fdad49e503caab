//! `kill -9` of either half, or both, at random moments while requests go through: at most one run
//! for each, an outcome for every burn, everything that was acknowledged still there, serving again
//! at once.
//!
//! 200 rounds; `OLB_SOAK_ROUNDS` for another number, `OLB_KILL_SEED` to draw the same moments again.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use olb_e2e_tests::{
    ExecSock, Fate, Half, Lottery, Peers, Recovery, Reply, Trail, append, finished, lines, plan_for,
};
use olb_exec_api::{Decided, Info, Op, Reason};
use olb_lease::{Outcome, RecordEvent, VerdictKind, plan_digest};

/// A half lives at most so long between two kills, in milliseconds.
const LIFE_MS: u64 = 120;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// What both kinds of workers share with the one who kills.
struct Shared {
    at: RwLock<Recovery>,
    over: AtomicBool,
    files: AtomicUsize,
}

impl Shared {
    fn at(&self) -> RwLockReadGuard<'_, Recovery> {
        self.at.read().expect("nobody failed")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn file(&self) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::SeqCst);
        self.at().instance.work().join(format!("ran-{number}"))
    }
}

/// Tells the workers that it is over, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One request that was driven over exec.sock, and what the root half has acknowledged of it.
#[derive(Default)]
struct Direct {
    id: String,
    file: PathBuf,
    approved: bool,
    burned: bool,
    outcome: Option<Outcome>,
}

/// Speaks exec.sock itself; keeps trying what had no answer, as a front after a crash would.
fn over_exec_sock(shared: &Shared) -> Vec<Direct> {
    let (sock, peers, agent) = {
        let at = shared.at();
        (at.sock.clone(), Peers::of(&at.instance), at.agent)
    };
    let mut all = Vec::new();
    while !shared.is_over() {
        let Some(info) = sock.try_info() else {
            thread::yield_now();
            continue;
        };
        let file = shared.file();
        let words = append(&file);
        let argv: Vec<&str> = words.iter().map(String::as_str).collect();
        let bytes = {
            let at = shared.at();
            plan_for(&at.instance, &info, agent, &argv).encode().expect("a plan")
        };
        let id = plan_digest(&bytes).request_id().to_string();
        let mut one = Direct { id, file, ..Direct::default() };
        if let Some(lease) = lease_for(shared, &sock, &peers, &info, &bytes, &mut one) {
            present(shared, &sock, &peers, &lease, &bytes, &mut one);
        }
        all.push(one);
    }
    all
}

/// Has the plan approved, in its epoch; `None` if that came too late.
fn lease_for(
    shared: &Shared,
    sock: &ExecSock,
    peers: &Peers,
    info: &Info,
    plan: &[u8],
    one: &mut Direct,
) -> Option<Vec<u8>> {
    while !shared.is_over() {
        let (verdict, uid) = {
            let at = shared.at();
            (at.alice.sign(VerdictKind::Approve, plan_digest(plan), info.epoch), at.alice.uid)
        };
        let (approver, _keep) = peers.connected_by(uid);
        let asked = sock.try_ask(Op::Decide, &verdict, plan, &[approver.as_fd()]);
        match asked.ok().and_then(|mut replies| replies.next()) {
            Some(Reply::Done(answer)) => {
                one.approved = true;
                return Decided::decode(&answer).expect("a decision").lease;
            }
            Some(Reply::Refused(refusal)) => {
                assert_eq!(refusal.reason, Reason::StaleVerdict, "{refusal:?}");
                return None;
            }
            None => thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
    None
}

/// Presents the lease until there is an answer for good, and then once more.
fn present(
    shared: &Shared,
    sock: &ExecSock,
    peers: &Peers,
    lease: &[u8],
    plan: &[u8],
    one: &mut Direct,
) {
    let agent = shared.at().agent;
    let mut refused = false;
    while !refused && !shared.is_over() {
        let (server, _client) = peers.connected_by(agent);
        let Ok(replies) = sock.try_ask(Op::Execute, lease, plan, &[server.as_fd()]) else {
            thread::yield_now();
            continue;
        };
        for reply in replies {
            match reply {
                Reply::Burned => {
                    assert!(!one.burned, "{} was burned twice", one.id);
                    one.burned = true;
                }
                Reply::Outcome(recorded) => {
                    let RecordEvent::Finished { outcome, .. } = finished(&recorded.receipt) else {
                        panic!("not an outcome");
                    };
                    one.outcome = Some(outcome);
                }
                Reply::Refused(refusal) => {
                    refused = true;
                    let answers = [Reason::AlreadyBurned, Reason::BrokerRestarted];
                    assert!(answers.contains(&refusal.reason), "{refusal:?}");
                }
                Reply::Done(_) => panic!("an answer to another question"),
            }
        }
    }
}

/// One request that went through the front, and what its last `olb exec` ended with.
struct Through {
    id: String,
    file: PathBuf,
    command: [String; 3],
    code: Option<i32>,
}

/// Asks, approves and runs with `olb`, whatever dies meanwhile.
fn through_the_front(shared: &Shared) -> Vec<Through> {
    let mut all = Vec::new();
    while !shared.is_over() {
        let file = shared.file();
        let command = append(&file);
        let asked = shared.at().olb(&["request", "--json", "--"], &command);
        let Ok(answer) = serde_json::from_str::<serde_json::Value>(&asked.stdout) else { continue };
        let Some(id) = answer["request_id"].as_str().map(str::to_owned) else { continue };
        shared.at().decide(&["approve", "--id", &id]);
        let ran = shared.at().olb(&["exec", "--id", &id, "--"], &command);
        all.push(Through { id, file, command, code: Some(ran.code) });
    }
    all
}

/// Kills and revives for `rounds` rounds.
fn kill(shared: &Shared, rounds: u64, lottery: &mut Lottery) {
    let _over = Over(&shared.over);
    let mut trail = Trail::read(&shared.at().sock);
    for _ in 0..rounds {
        assert!(!shared.is_over(), "a worker has failed");
        // A random moment is the point here; nothing is waited for.
        thread::sleep(Duration::from_micros(lottery.below(LIFE_MS * 1000)));
        let halves: &[Half] = match lottery.below(10) {
            0..=5 => &[Half::Root],
            6..=8 => &[Half::Front],
            _ => &[Half::Root, Half::Front],
        };
        // Killed without the lock, so that somebody can be in the middle of something.
        let pids: Vec<String> = {
            let at = shared.at();
            let pid = |half: &Half| match half {
                Half::Root => at.instance.execd_pid().to_string(),
                Half::Front => at.instance.brokerd_pid().to_string(),
            };
            halves.iter().map(pid).collect()
        };
        assert!(Command::new("kill").arg("-9").args(&pids).status().expect("kill").success());
        let mut at = shared.at.write().expect("nobody failed");
        for half in halves {
            at.instance.kill(*half);
            at.revive(*half);
        }
        drop(at);
        trail.update();
    }
}

fn check_direct(all: &[Direct], trail: &Trail) {
    for one in all {
        let (fate, runs) = (trail.fate(&one.id), lines(&one.file));
        let context = || format!("{}: {fate:?}, ran {runs} times", one.id);
        let Fate { approved, burns, outcome } = fate;
        assert!(approved || !one.approved, "an approval is gone: {}", context());
        assert!(burns == 1 || !one.burned, "a burn is gone: {}", context());
        assert!(one.outcome.is_none() || outcome == one.outcome, "other outcome: {}", context());
        match (burns, outcome) {
            (0, None) => assert_eq!(runs, 0, "{}", context()),
            (1, Some(Outcome::Exited(0))) => assert_eq!(runs, 1, "{}", context()),
            (1, Some(Outcome::Unknown { .. })) => assert!(runs <= 1, "{}", context()),
            // Killed with the whole broker before the client was there: nothing was started.
            (1, Some(Outcome::SpawnFailed(_))) => assert_eq!(runs, 0, "{}", context()),
            _ => panic!("{}", context()),
        }
    }
}

fn check_through(at: &Recovery, all: &[Through], trail: &mut Trail) -> usize {
    let mut known = 0;
    for one in all {
        let request = at.complete(&one.id, &one.command);
        trail.update();
        let state = at.one_story(&request, &one.file, trail);
        if one.code == Some(0) {
            assert_eq!(state, "exited", "the agent was told that it ran: {request}");
        }
        known += usize::from(state == "exited");
    }
    known
}

/// Straight to the file descriptor: the test harness would swallow it.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

#[test]
fn either_half_is_killed_at_random_and_nothing_runs_twice_or_is_lost() {
    let rounds = number_of("OLB_SOAK_ROUNDS").unwrap_or(200);
    let seed = number_of("OLB_KILL_SEED").unwrap_or_else(olb_sys::clock::unix_secs);
    let mut lottery = Lottery::new(seed);
    let shared = Shared {
        at: RwLock::new(Recovery::start()),
        over: AtomicBool::new(false),
        files: AtomicUsize::new(0),
    };
    let run = || {
        let (direct, through) = thread::scope(|scope| {
            let direct = scope.spawn(|| {
                let _over = Over(&shared.over);
                over_exec_sock(&shared)
            });
            let through = scope.spawn(|| {
                let _over = Over(&shared.over);
                through_the_front(&shared)
            });
            kill(&shared, rounds, &mut lottery);
            (direct.join(), through.join())
        });
        let (direct, through) = (direct.expect("no failure"), through.expect("no failure"));
        let mut at = shared.at.write().expect("nobody failed");
        // What was under way when it was over is under way no longer after one more start.
        at.instance.stop(Half::Root, "TERM");
        at.revive(Half::Root);
        let mut trail = Trail::read(&at.sock);
        assert!(trail.is_settled(), "a burn without an outcome");
        check_direct(&direct, &trail);
        let exited = check_through(&at, &through, &mut trail);
        let burned = direct.iter().filter(|one| trail.fate(&one.id).burns == 1).count();
        let unknown = Some(Outcome::Unknown { may_be_running: true });
        let lost = direct.iter().filter(|one| trail.fate(&one.id).outcome == unknown).count();
        assert!(burned > 0 && exited > 0, "the kills left no room for any run");
        say(&format!(
            "kill -9: {rounds} rounds, {} requests over exec.sock ({burned} burned, {lost} \
             with an unknown outcome), {} through \
             the front ({exited} ran), {} records",
            direct.len(),
            through.len(),
            trail.records()
        ));
        let line = at.served.show("serves again, least / median / most");
        say(&line);
    };
    if let Err(failure) = catch_unwind(AssertUnwindSafe(run)) {
        say(&format!("draw the same moments again with OLB_KILL_SEED={seed}"));
        resume_unwind(failure);
    }
}
