//! What a long past costs: nothing that a person or an agent could notice.

use std::fs;
use std::time::{Duration, Instant};

use olb_e2e_tests::{
    ExecSock, Half, Instance, Options, ROOMY, Scene, put_past, resident_kib, submit_of, view,
};
use olb_exec_api::ClientFrame;
use olb_lease::VerdictKind;
use olb_wire::{Request, Response};

/// As many as a list shows, so that both lists are equally long.
const SHORT: u32 = 256;
const LONG: u32 = 100_000;
const ROUNDS: usize = 41;
/// Only a search through the past would cost so much more; beside other work on the same disk, a
/// commit into a large file has been seen to cost twice one into a small file. What each statement
/// does is counted in steps by the tests of the store and the ledger.
const RATIO_MAX: f64 = 6.0;

/// An instance with `past` finished requests behind it.
fn with_past(past: u32) -> Scene {
    let options = Options { brokerd: ROOMY.into(), ..Options::default() };
    let mut instance = Instance::with(options);
    let alice = instance.enrol(0);
    let info = ExecSock::of(&instance).info();
    instance.stop_brokerd("TERM");
    instance.stop_execd("TERM");
    let begun = Instant::now();
    put_past(&instance, &alice, &info, past);
    let loaded = begun.elapsed();
    let starts = [Half::Root, Half::Front].map(|half| instance.start_half(half));
    let size = |path: std::path::PathBuf| fs::metadata(path).unwrap().len() >> 20;
    println!(
        "{past} past requests: ledger.db {} MiB, broker.db {} MiB, put there in {loaded:?}; root \
         half and front start in {starts:?}, with {} and {} KiB",
        size(instance.state().join("ledger.db")),
        size(instance.path("front/broker.db")),
        resident_kib(instance.execd_pid()),
        resident_kib(instance.brokerd_pid()),
    );
    Scene::of(instance, alice)
}

fn timed<T>(into: &mut Vec<Duration>, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = call();
    into.push(begun.elapsed());
    value
}

/// What is measured, and the times of each round.
type Times = [(&'static str, Vec<Duration>); 7];

fn round(scene: &mut Scene, number: usize, times: &mut Times) {
    let [submit, again, mine, all, show, approve, execute] =
        times.each_mut().map(|(_, times)| times);
    let wish = submit_of(&scene.instance, &["true", &format!("new {number}")]);
    let asked = view(timed(submit, || scene.agent.submit(wish.clone())));
    assert_eq!(asked.state, "pending");
    view(timed(approve, || scene.decide(VerdictKind::Approve, &asked.plan)));
    let lease = view(timed(again, || scene.agent.submit(wish))).lease.unwrap();
    timed(execute, || {
        let (mut client, _out) = scene.started(&lease);
        assert!(matches!(client.frame(), Some((ClientFrame::Outcome { .. }, _))));
    });
    for (door, times) in [(&mut scene.agent, mine), (&mut scene.desk, all)] {
        let list = timed(times, || door.ask(&Request::List { open: false }));
        assert!(matches!(&list, Response::Requests(list) if list.len() == SHORT as usize));
    }
    let selector = Request::Show { selector: asked.request_id, wait: false };
    view(timed(show, || scene.agent.ask(&selector)));
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

#[test]
fn a_hundred_thousand_past_requests_cost_no_more_than_a_few() {
    let mut scenes = [with_past(SHORT), with_past(LONG)];
    let names = ["submit", "submit again", "list mine", "list all", "show", "approve", "execute"];
    let mut times: [Times; 2] = [(); 2].map(|()| names.map(|name| (name, Vec::new())));
    // In turns, so that what else the machine does meets both.
    for number in 0..ROUNDS {
        for (scene, times) in scenes.iter_mut().zip(&mut times) {
            round(scene, number, times);
        }
    }
    let [mut short, mut long] = times;
    for ((name, short), (_, long)) in short.iter_mut().zip(&mut long) {
        let (short, long) = (median(short), median(long));
        let ratio = long / short;
        println!(
            "{name}: {short:.2} ms with {SHORT} past requests, {long:.2} ms with {LONG}: {ratio:.2}"
        );
        assert!(ratio < RATIO_MAX || long < 2.0, "{name}: {ratio}");
    }
}

#[test]
fn asking_and_cancelling_over_and_over_is_a_line_a_minute_and_a_small_database() {
    let limits = ROOMY.replace("stored_per_uid = 1000000\n", "stored_per_uid = 20\n");
    assert_ne!(limits, ROOMY);
    let mut scene = Scene::with(&limits, "");
    let size = |path: std::path::PathBuf| fs::metadata(path).unwrap().len();
    let log = size(scene.instance.log("brokerd"));
    for number in 0..200 {
        let asked = scene.ask(&["true", &number.to_string(), &"x".repeat(50_000)]);
        let cancel = Request::Cancel { selector: asked.request_id };
        assert_eq!(view(scene.agent.ask(&cancel)).state, "cancelled");
    }
    let grown = size(scene.instance.log("brokerd")) - log;
    assert!(grown < 2048, "{grown}");
    scene.instance.stop_brokerd("TERM");
    let database = size(scene.instance.path("front/broker.db"));
    assert!(database < 8 << 20, "{database} bytes for twenty requests of 100 KB");
}
