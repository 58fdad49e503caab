//! `olb-bench`: measures the broker against sudo and against the floor, in one run and in turn, so
//! that every figure is a ratio. See docs/benchmarks.md.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod bed;
mod floor;
mod latency;
mod limits;
mod runner;
mod stats;
mod sudo;
mod table;

const USAGE: &str =
    "usage: olb-bench [--quick] [--json] [--rounds N] [--latency] [--against FOLDER]";

/// Rounds of the latency table.
const ROUNDS: usize = 150;
const QUICK_ROUNDS: usize = 30;
/// One sample of the other figures for so many rounds.
const SAMPLE_ROUNDS: usize = 10;

struct Args {
    json: bool,
    latency_only: bool,
    rounds: usize,
    against: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["runner"] => runner::main(),
        ["burst"] => runner::main_burst(),
        ["floor", socket, uid, record, database] => {
            let record = floor::Record::named(record).expect("what the floor records");
            let uid = uid.parse().expect("a uid");
            floor::serve(Path::new(socket), uid, record, Path::new(database));
        }
        words => match parse(words) {
            Some(args) => return measure(&args),
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(64);
            }
        },
    }
    ExitCode::SUCCESS
}

fn parse(words: &[&str]) -> Option<Args> {
    let mut args = Args { json: false, latency_only: false, rounds: ROUNDS, against: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--quick" => args.rounds = QUICK_ROUNDS,
            "--latency" => args.latency_only = true,
            "--json" => args.json = true,
            "--rounds" => args.rounds = words.next()?.parse().ok()?,
            "--against" => args.against = Some(words.next()?.into()),
            _ => return None,
        }
    }
    Some(args)
}

fn measure(args: &Args) -> ExitCode {
    let bed = bed::Bed::make(args.against.as_deref());
    match bed.and_then(|bed| figures(&bed, args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("olb-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn figures(bed: &bed::Bed, args: &Args) -> Result<(), String> {
    let times = latency::measure(bed, args.rounds)?;
    let rows = table::rows(&times);
    if !args.json {
        print!("{}", table::text(&rows, args.rounds));
    }
    let others = match args.latency_only {
        true => serde_json::Value::Null,
        false => limits::measure(bed, args.rounds / SAMPLE_ROUNDS)?,
    };
    if args.json {
        println!("{}", serde_json::json!({ "latency": table::json(&rows), "others": others }));
    } else if !args.latency_only {
        println!("{others:#}");
    }
    Ok(())
}
