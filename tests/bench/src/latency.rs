//! How long one privileged no-op takes, from the start of its process to the end, in turn with the
//! same no-op without privileges, by the floor and by sudo.

use olb_e2e_tests::{Approver, Instance};
use rand::seq::SliceRandom as _;

use crate::bed::Bed;
use crate::runner::{Step, Times, run_as};

/// Rounds whose times are thrown away.
const WARM_UP: usize = 5;
/// The command that does nothing. It gets two words that tell the rounds apart, in every row: with
/// a single one it would look whether that is `--help`, and load the locale for it.
const NO_OP: &str = "/bin/true";

/// Measures `rounds` rounds, every row once a round and in a new order each round.
///
/// # Errors
/// A command did not end as it has to.
pub fn measure(bed: &Bed, rounds: usize) -> Result<Times, String> {
    let mut all: Vec<Vec<Step>> = (0..rounds + WARM_UP).map(|at| round(bed, at)).collect();
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

fn round(bed: &Bed, at: usize) -> Vec<Step> {
    let number = at.to_string();
    let no_op = [NO_OP, "round", &number];
    let here =
        |row: &str, words: &[&str]| step(&bed.instance, row, &[words, no_op.as_slice()].concat());
    let mut steps = vec![here("/bin/true", &[])];
    if bed.sudo.is_some() {
        steps.push(here("sudo -n", &["/usr/bin/sudo", "-n"]));
    }
    for floor in &bed.floors {
        let socket = floor.socket.to_str().expect("UTF-8");
        steps.push(here(floor.row, &[&bed.floor_client(), socket]));
    }
    for (suffix, instance, approver) in bed.instances() {
        steps.push(exec(&format!("olb exec{suffix}"), instance, approver, &no_op));
        let row = format!("olb request{suffix}");
        let held = [&olb(instance), "request", "--", NO_OP, "held", &number];
        steps.push(Step { code: 75, ..step(instance, &row, &held) });
    }
    steps
}

/// Presenting a lease that is approved now.
fn exec(row: &str, instance: &Instance, approver: &Approver, command: &[&str]) -> Step {
    let words = present(instance, approver, command);
    Step { argv: words, ..step(instance, row, &[]) }
}

/// The words of presenting a lease for `command` that is approved now.
pub fn exec_words(bed: &Bed, command: &[&str]) -> Vec<String> {
    present(&bed.instance, bed.approver(), command)
}

fn present(instance: &Instance, approver: &Approver, command: &[&str]) -> Vec<String> {
    let uid = instance.requester(0);
    let (_, lease) = instance.approved(uid, approver, command);
    let file = instance.lease_file(uid, &lease);
    let olb = olb(instance);
    let words = [&[&olb, "exec", "--lease-file", &file, "--"], command].concat();
    words.into_iter().map(str::to_owned).collect()
}

fn olb(instance: &Instance) -> String {
    instance.path("bin/olb").to_str().expect("UTF-8").to_owned()
}

/// A command that is to succeed.
pub fn step(instance: &Instance, row: &str, argv: &[&str]) -> Step {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    let (cwd, runtime) = (instance.work(), instance.runtime());
    Step { row: row.to_owned(), argv, code: 0, cwd, runtime }
}
