//! What a past of 100,000 requests costs, step by step, on the front's sockets.

use std::time::Duration;

use olb_e2e_tests::{HISTORY_STEPS, History, HistoryTimes};

use crate::bed::Bed;
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};
use crate::stats::median;

const LONG: u32 = 100_000;
/// The steps that the aim is about.
const AIMED: [&str; 5] = ["submit", "list mine", "list all", "approve", "execute"];

/// The same steps at an instance with a long past and at one whose past is as long as a list, in
/// turn, and each of them first as often as the other.
///
/// # Errors
/// None; what goes wrong ends the benchmark.
pub fn measure(_: &Bed, size: Size) -> Result<Part, String> {
    let mut brokers = [History::SHORT, LONG].map(History::of);
    let mut times: [HistoryTimes; 2] = Default::default();
    for number in 0..size.rounds {
        let mut both: Vec<_> = brokers.iter_mut().zip(&mut times).collect();
        if number % 2 == 1 {
            both.reverse();
        }
        for (broker, times) in both {
            broker.round(number, times);
        }
    }
    let [short, long] = times;
    let figure = |((step, short), long): ((&str, Vec<Duration>), Vec<Duration>)| {
        let ratios = short.iter().zip(&long).map(|(a, b)| b.as_secs_f64() / a.as_secs_f64());
        let row = format!("{step}: {LONG} past requests against {}", History::SHORT);
        let figure = Figure::of(row, Unit::Ratio, median(ratios));
        if AIMED.contains(&step) { figure.aimed(Aim::at_most(1.2, 1.05)) } else { figure }
    };
    let steps = HISTORY_STEPS.into_iter().zip(short).zip(long);
    Ok(steps.map(figure).collect::<Vec<_>>().into())
}
