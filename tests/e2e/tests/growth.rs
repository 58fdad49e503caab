//! What a long past costs: nothing that a person or an agent could notice.

use std::fs;
use std::time::Duration;

use olb_e2e_tests::{HISTORY_STEPS, History, HistoryTimes, ROOMY, Scene, view};
use olb_wire::Request;

const LONG: u32 = 100_000;
const ROUNDS: usize = 41;
/// Only a search through the past would cost so much more; beside other work on the same disk, a
/// commit into a large file has been seen to cost twice one into a small file. What each statement
/// does is counted in steps by the tests of the store and the ledger.
const RATIO_MAX: f64 = 6.0;

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

#[test]
fn a_hundred_thousand_past_requests_cost_no_more_than_a_few() {
    let mut brokers = [History::SHORT, LONG].map(History::of);
    let mut times: [HistoryTimes; 2] = Default::default();
    for broker in &brokers {
        println!("{}", broker.story);
    }
    // In turns, so that what else the machine does meets both.
    for number in 0..ROUNDS {
        for (broker, times) in brokers.iter_mut().zip(&mut times) {
            broker.round(number, times);
        }
    }
    let [mut short, mut long] = times;
    for ((name, short), long) in HISTORY_STEPS.iter().zip(&mut short).zip(&mut long) {
        let (short, long) = (median(short), median(long));
        let ratio = long / short;
        println!(
            "{name}: {short:.2} ms with {} past requests, {long:.2} ms with {LONG}: {ratio:.2}",
            History::SHORT
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
