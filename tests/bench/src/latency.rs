//! How long one privileged no-op takes, from the start of its process to the end, in turn with the
//! same no-op without privileges, by the floor and by sudo.

use rand::seq::SliceRandom as _;

use crate::bed::Bed;
use crate::client::{olb, present, step, text};
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};
use crate::runner::{Step, Times, run_as};
use crate::stats::paired_ratio;

/// Rounds whose times are thrown away.
const WARM_UP: usize = 5;
/// The command that does nothing. It gets two words that tell the rounds apart, in every row: with
/// a single one it would look whether that is `--help`, and load the locale for it.
const NO_OP: &str = "/bin/true";

/// The rows that the aims are about.
const EXEC: &str = "olb exec";
const REQUEST: &str = "olb request";
const BURN: &str = "floor + burn";
const AUDIT: &str = "floor + burn + audit";
const SUDO: &str = "sudo -n";

/// Every row once a round, in a new order each round.
///
/// # Errors
/// A command did not end as it has to.
pub fn measure(bed: &Bed, size: Size) -> Result<Part, String> {
    let times = in_turn(bed, size.rounds, || round(bed))?;
    let figure = |row: &str, base: &str, what: &str, aim| {
        let (values, bases) = (times.get(row)?, times.get(base)?);
        let name = format!("{what}, against {base}");
        Some(Figure::of(name, Unit::Ratio, paired_ratio(values, bases)).aimed(aim))
    };
    let figures = [
        figure(EXEC, AUDIT, "approved retry", Aim::at_most(1.15, 0.9)),
        figure(EXEC, SUDO, "approved retry", Aim::at_most(0.45, 0.3)),
        figure(REQUEST, BURN, "request, held", Aim::at_most(1.5, 1.0)),
    ];
    Ok(Part { figures: figures.into_iter().flatten().collect(), times })
}

/// Measures rounds of steps, each round in an order of its own; the first ones do not count.
///
/// # Errors
/// A command did not end as it has to.
pub fn in_turn(
    bed: &Bed,
    rounds: usize,
    mut round: impl FnMut() -> Vec<Step>,
) -> Result<Times, String> {
    let mut all: Vec<Vec<Step>> = (0..rounds + WARM_UP).map(|_| round()).collect();
    let mut random = rand::rand_core::UnwrapErr(rand::rngs::SysRng);
    for round in &mut all {
        round.shuffle(&mut random);
    }
    let steps: Vec<Step> = all.into_iter().flatten().collect();
    let mut times = run_as(&bed.program(), bed.uid(), &steps)?;
    for values in times.values_mut() {
        values.drain(..WARM_UP);
    }
    Ok(times)
}

fn round(bed: &Bed) -> Vec<Step> {
    let number = bed.fresh_word();
    let no_op = [NO_OP, "round", &number];
    let here =
        |row: &str, words: &[&str]| step(&bed.instance, row, &[words, no_op.as_slice()].concat());
    let mut steps = vec![here(NO_OP, &[])];
    if bed.sudo.is_some() {
        steps.push(here(SUDO, &["/usr/bin/sudo", "-n"]));
    }
    for floor in &bed.floors {
        steps.push(here(floor.row, &[&bed.floor_client(), &text(&floor.socket)]));
    }
    for (suffix, instance, approver) in bed.instances() {
        let row = format!("{EXEC}{suffix}");
        let words = present(instance, approver, &no_op);
        steps.push(Step { argv: words, ..step(instance, &row, &[]) });
        let row = format!("{REQUEST}{suffix}");
        let held = [&olb(instance), "request", "--", NO_OP, "held", &number];
        steps.push(Step { code: 75, ..step(instance, &row, &held) });
    }
    steps
}
