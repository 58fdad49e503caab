//! The power goes: of what was not flushed to the disk any part is there or not, the counter in
//! memory is gone, and the next boot has another id. Whatever ran is recorded, nothing runs twice,
//! and the trail verifies.
//!
//! 12 rounds, 300 at full length (`OLB_SOAK`); `OLB_TEST_SEED` draws the same moments again.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use olb_e2e_tests::{
    Half, Instance, Options, Platter, ROOMY, Recovery, Remains, Seeded, Trail, lines,
};

/// Clients at work when it does.
const CLIENTS: usize = 3;
/// The latest moment, counted in writes and flushes of the disk: some ten requests.
const LATEST: u64 = 300;

/// A command that a client asked for, had approved and presented, as far as it got.
struct Job {
    command: [String; 3],
    file: PathBuf,
    id: Option<String>,
    /// The root half's receipt of the approval was shown.
    is_approved: bool,
}

/// How often the power goes.
fn rounds() -> u64 {
    if std::env::var_os("OLB_SOAK").is_some() { 300 } else { 12 }
}

/// Requests, approvals and runs until the power is off.
fn work(at: &Recovery, is_off: &AtomicBool, commands: &Mutex<Vec<Job>>, done: &Mutex<Vec<Job>>) {
    while !is_off.load(Ordering::SeqCst) {
        let Some(mut job) = commands.lock().unwrap().pop() else { return };
        let asked = at.olb(&["request", "--json", "--"], &job.command);
        let answer: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap_or_default();
        job.id = answer["request_id"].as_str().map(str::to_owned);
        if let Some(id) = &job.id {
            job.is_approved = at.decide(&["approve", "--id", id]).code == 0;
            at.exec(id, &job.command);
        }
        done.lock().unwrap().push(job);
    }
}

/// Three clients at work, and the power goes at a random moment.
fn cut(at: &mut Recovery, platter: &Platter, chance: &mut Seeded) -> (Remains, Vec<Job>) {
    let job = |(command, file)| Job { command, file, id: None, is_approved: false };
    let commands: Vec<_> = (0..200).map(|_| job(at.command())).collect();
    let (is_off, commands) = (AtomicBool::new(false), Mutex::new(commands));
    let done = Mutex::new(Vec::new());
    let (moment, chance) = (chance.below(LATEST), chance.split());
    let shared: &Recovery = at;
    let remains = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| work(shared, &is_off, &commands, &done));
        }
        let remains = platter.cut_after(moment, chance);
        is_off.store(true, Ordering::SeqCst);
        remains
    });
    (remains, done.into_inner().unwrap())
}

/// The next boot: another boot id in the root half's own mount namespace, and nothing in memory.
fn boot(at: &mut Recovery, round: u64) {
    let boot_id = at.instance.path("boot-id");
    fs::write(&boot_id, format!("0f1e2d3c-4b5a-4978-8796-{round:012x}\n")).unwrap();
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let unshare = ["unshare", "--mount", "--propagation", "private"];
    let words = [&unshare[..], &["sh", "-c", script, boot_id.to_str().unwrap()]].concat();
    at.instance.set_execd_wrapper(&words);
    fs::remove_file(at.instance.runtime().join("burn.seq")).unwrap();
    at.is_another_boot = true;
    at.revive(Half::Root);
}

/// What ran is recorded as that, and runs no second time; what did not run is asked for again.
fn check(at: &Recovery, jobs: &[Job]) -> [usize; 2] {
    let mut trail = Trail::read(&at.sock);
    assert!(trail.is_settled(), "a burn without an outcome");
    let (mut ran, mut lost) = (0, 0);
    for job in jobs {
        let before = lines(&job.file);
        assert!(before <= 1, "{:?} ran {before} times", job.command);
        let Some(id) = &job.id else {
            assert_eq!(before, 0, "it ran, and nobody was told its id");
            continue;
        };
        let fate = trail.fate(id);
        assert!(fate.approved || !job.is_approved, "{id}: a confirmed approval was lost");
        assert!(fate.burns == 1 || before == 0, "{id}: it ran, and its burn was lost");
        let request = at.complete(id, &job.command);
        trail.update();
        match at.one_story(&request, &job.file, &trail).as_str() {
            "exited" => ran += 1,
            _ => lost += 1,
        }
        at.exec(id, &job.command);
        assert!(lines(&job.file) <= 1, "{id}: it ran again");
    }
    assert!(trail.is_settled(), "a burn without an outcome");
    [ran, lost]
}

#[test]
fn the_power_goes_at_random_moments_and_nothing_runs_twice_or_is_lost() {
    let mut chance = Seeded::new("power cut");
    let options = Options { brokerd: ROOMY.into(), ..Options::default() };
    let mut instance = Instance::laid_out(options);
    let below = instance.path("platter");
    let mut platter = Platter::over(&instance.state(), &below);
    instance.start_execd();
    instance.start_brokerd();
    let mut at = Recovery::of(instance);
    let (mut flushes, [mut unflushed, mut ran, mut lost]) = (0, [0; 3]);
    for round in 0..rounds() {
        let (remains, jobs) = cut(&mut at, &platter, &mut chance);
        at.instance.kill(Half::Root);
        flushes += remains.flushes;
        unflushed += remains.unflushed;
        platter = platter.replaced(remains);
        boot(&mut at, round);
        let [here, gone] = check(&at, &jobs);
        (ran, lost) = (ran + here, lost + gone);
    }
    println!(
        "{} power cuts: {flushes} flushes, {unflushed} writes in doubt, {ran} requests ended as if \
         nothing had been, {lost} did not",
        rounds()
    );
    assert!(flushes > 0 && unflushed > 0 && ran > 0, "the disk was not used as a disk is");
}
