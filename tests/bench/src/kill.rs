//! `kill -9` of either half while a lease is presented: how soon it serves again, and that nothing
//! ran twice or is without an end.

use std::thread::sleep;
use std::time::Duration;

use olb_e2e_tests::{Half, Lottery, Recovery, Trail, lines};

use crate::bed::Bed;
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};

/// Kills of each half.
const KILLS: usize = 20;
const KILLS_QUICK: usize = 4;
/// A half lives at most so long after the lease was presented, in microseconds.
const LIFE_US: u64 = 8000;

/// An instance of its own is killed and started again.
///
/// # Errors
/// None; what goes wrong ends the benchmark.
pub fn measure(_: &Bed, size: Size) -> Result<Part, String> {
    let kills = if size.quick { KILLS_QUICK } else { KILLS };
    let mut at = Recovery::start();
    let mut lottery = Lottery::new(olb_sys::clock::unix_secs());
    let mut files = Vec::new();
    let mut figures = Vec::new();
    for (half, name) in [(Half::Root, "the root half"), (Half::Front, "the front")] {
        let slowest = (0..kills).map(|_| {
            let (command, file) = at.command();
            let id = at.approved(&command);
            files.push((id.clone(), command.clone(), file));
            kill_once(&mut at, half, &id, &command, &mut lottery)
        });
        let slowest = slowest.max().unwrap_or_default().as_secs_f64() * 1000.0;
        let row = format!("kill -9 of {name}: serves again, slowest of {kills}");
        let aim = Aim::at_most(1000.0, 1000.0).without_stretch();
        figures.push(Figure::of(row, Unit::Milliseconds, slowest).aimed(aim));
    }
    // Whatever was cut off is asked for until it is over.
    for (id, command, _) in &files {
        at.complete(id, command);
    }
    let twice = files.iter().filter(|(_, _, file)| lines(file) > 1).count();
    let open = Trail::read(&at.sock).unsettled();
    for (what, count) in [("commands that ran twice", twice), ("burns without an outcome", open)] {
        let figure = Figure::of(format!("kill -9: {what}"), Unit::Count, count as f64);
        figures.push(figure.aimed(Aim::exactly(0.0)));
    }
    Ok(figures.into())
}

/// Kills a half at a random moment after a lease was presented; how soon it served again.
fn kill_once(
    at: &mut Recovery,
    half: Half,
    id: &str,
    command: &[String],
    lottery: &mut Lottery,
) -> Duration {
    let words = ["exec", "--id", id, "--"].into_iter().chain(command.iter().map(String::as_str));
    let mut client = at.instance.olb_command(at.agent, &words.collect::<Vec<_>>());
    let client = client.spawn().expect("olb");
    sleep(Duration::from_micros(lottery.below(LIFE_US)));
    at.instance.kill(half);
    let served = at.revive(half);
    // What it says depends on the moment.
    client.wait_with_output().expect("its end");
    served
}
