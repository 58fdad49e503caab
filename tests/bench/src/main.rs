//! `olb-bench`: measures the broker against sudo and against the floor, in one run and in turn, so
//! that every figure is a ratio. See docs/benchmarks.md.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Map, Value, json};

mod bed;
mod burns;
mod client;
mod crowd;
mod figure;
mod floor;
mod kill;
mod latency;
mod lease;
mod load;
mod memory;
mod part;
mod past;
mod reply;
mod runner;
mod start;
mod stats;
mod stdout;
mod sudo;
mod table;

use figure::Series;
use part::{Measure, PARTS, Part, Size};
use runner::Times;

/// Rounds of what takes milliseconds.
const ROUNDS: usize = 150;
const QUICK_ROUNDS: usize = 30;
/// One sample of what takes longer for so many rounds.
const SAMPLE_ROUNDS: usize = 10;

struct Args {
    json: bool,
    size: Size,
    repeat: usize,
    parts: Vec<(&'static str, Measure)>,
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
                eprintln!("{}", usage());
                return ExitCode::from(64);
            }
        },
    }
    ExitCode::SUCCESS
}

fn usage() -> String {
    let names = PARTS.map(|(name, _)| name).join(",");
    format!(
        "usage: olb-bench [--quick] [--json] [--only PART,...] [--repeat N] [--rounds N] \
         [--against FOLDER]\nparts: {names}"
    )
}

fn parse(words: &[&str]) -> Option<Args> {
    let (mut rounds, mut quick) = (None, false);
    let (mut json, mut repeat, mut against) = (false, 1, None);
    let mut parts = PARTS.to_vec();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--quick" => quick = true,
            "--json" => json = true,
            "--only" => parts = select(words.next()?)?,
            "--repeat" => repeat = words.next()?.parse().ok().filter(|count| *count > 0)?,
            "--rounds" => rounds = Some(words.next()?.parse().ok().filter(|count| *count > 0)?),
            "--against" => against = Some(words.next()?.into()),
            _ => return None,
        }
    }
    let rounds = rounds.unwrap_or(if quick { QUICK_ROUNDS } else { ROUNDS });
    let size = Size { rounds, samples: rounds.div_ceil(SAMPLE_ROUNDS), quick };
    Some(Args { json, size, repeat, parts, against })
}

/// The parts that are named, in their usual order; `None` if one does not exist.
fn select(names: &str) -> Option<Vec<(&'static str, Measure)>> {
    let names: Vec<&str> = names.split(',').collect();
    let found: Vec<_> = PARTS.into_iter().filter(|(name, _)| names.contains(name)).collect();
    let all_exist = names.iter().all(|name| found.iter().any(|(part, _)| part == name));
    all_exist.then_some(found)
}

/// Release builds end at a panic without dropping anything: what must not outlive this program is
/// ended here.
fn clean_up_at_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        sudo::remove();
        for child in olb_e2e_tests::children(std::process::id()) {
            Command::new("kill").args(["-9", &child.to_string()]).status().ok();
        }
        std::process::exit(70);
    }));
}

fn measure(args: &Args) -> ExitCode {
    match measure_alone(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("olb-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_alone(args: &Args) -> Result<(), String> {
    let _lock = load::alone()?;
    clean_up_at_panics();
    let before = load::average();
    eprintln!("olb-bench: {}", load::note(before));
    let bed = bed::Bed::make(args.against.as_deref())?;
    let results = figures(&bed, args)?;
    report(args, before, &results);
    Ok(())
}

/// What a part gave over all repetitions.
struct Results {
    part: &'static str,
    series: Vec<Series>,
    times: Vec<Times>,
}

/// Every part once, then all of them again: what changes with time meets all of them.
fn figures(bed: &bed::Bed, args: &Args) -> Result<Vec<Results>, String> {
    let mut given: Vec<Vec<Part>> = args.parts.iter().map(|_| Vec::new()).collect();
    for repetition in 1..=args.repeat {
        for ((name, measure), given) in args.parts.iter().zip(&mut given) {
            eprintln!("olb-bench: {name}, {repetition} of {}", args.repeat);
            given.push(measure(bed, args.size)?);
        }
    }
    let results = |((part, _), given): (&(&'static str, Measure), Vec<Part>)| {
        let split = given.into_iter().map(|part| (part.figures, part.times));
        let (figures, times): (Vec<_>, Vec<Times>) = split.unzip();
        Results { part, series: figure::series(figures), times }
    };
    Ok(args.parts.iter().zip(given).map(results).collect())
}

fn report(args: &Args, before: f64, results: &[Results]) {
    let tables = results.iter().filter(|one| one.times.iter().any(|times| !times.is_empty()));
    if args.json {
        let processes: Map<String, Value> =
            tables.map(|one| (one.part.to_owned(), table::json(&one.times))).collect();
        let figures: Vec<Value> = results
            .iter()
            .flat_map(|one| one.series.iter().map(|series| series.json(one.part)))
            .collect();
        let load = json!({ "before": before, "after": load::average() });
        let (rounds, repeat) = (args.size.rounds, args.repeat);
        println!(
            "{}",
            json!({ "load": load, "rounds": rounds, "repeat": repeat, "quick": args.size.quick,
                "processes": processes, "figures": figures })
        );
        return;
    }
    println!("{}.\n", load::note(before));
    for one in tables {
        println!("{}", table::text(one.part, &one.times, args.size.rounds));
    }
    let all: Vec<Series> = results.iter().flat_map(|one| one.series.clone()).collect();
    print!("{}", figure::text(&all));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chosen_by_name_and_unknown_ones_are_refused() {
        let parts = |names| select(names).map(|all| all.into_iter().map(|one| one.0).collect());
        assert_eq!(parts("burns,latency"), Some(vec!["latency", "burns"]));
        assert_eq!(parts("burns,hook"), None);
        assert_eq!(parts(""), None);
    }

    #[test]
    fn a_short_look_has_fewer_rounds_unless_they_are_given() {
        let rounds = |words: &[&str]| parse(words).map(|args| (args.size.rounds, args.repeat));
        assert_eq!(rounds(&[]), Some((ROUNDS, 1)));
        assert_eq!(rounds(&["--quick", "--repeat", "3"]), Some((QUICK_ROUNDS, 3)));
        assert_eq!(rounds(&["--rounds", "40", "--quick"]), Some((40, 1)));
        assert_eq!(rounds(&["--repeat", "0"]), None);
    }
}
