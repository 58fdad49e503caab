//! The part that measures, as the unprivileged user: it starts one command after the other, in the
//! order that it is given, and writes down how long each took from start to end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One command to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// The row of the table that it counts for.
    pub row: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The exit code that it has to end with.
    pub code: i32,
    /// Where it starts.
    pub cwd: PathBuf,
    /// The broker that it is to find.
    pub runtime: PathBuf,
}

/// Times in nanoseconds, in the order in which they were taken, by row.
pub type Times = BTreeMap<String, Vec<u64>>;

/// Runs `steps` one after the other as `uid` through the program `runner`.
///
/// # Errors
/// A command did not end as it has to.
pub fn run_as(runner: &Path, uid: u32, steps: &[Step]) -> Result<Times, String> {
    ask(runner, uid, "runner", steps)
}

/// Starts `steps` all at once as `uid`.
///
/// # Errors
/// A command could not be started.
pub fn burst_as(runner: &Path, uid: u32, steps: &[Step]) -> Result<Burst, String> {
    ask(runner, uid, "burst", steps)
}

fn ask<T: DeserializeOwned>(
    runner: &Path,
    uid: u32,
    mode: &str,
    steps: &[Step],
) -> Result<T, String> {
    let mut command = Command::new(runner);
    command.arg(mode).uid(uid).gid(uid).current_dir("/");
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the runner");
    let input = serde_json::to_vec(steps).expect("JSON");
    child.stdin.take().expect("its input").write_all(&input).expect("the steps");
    let output = child.wait_with_output().expect("its end");
    serde_json::from_slice(&output.stdout).expect("its times")
}

/// How many commands that were started at once ended as they had to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Burst {
    /// So many.
    pub ran: usize,
    /// Until the last one had ended.
    pub seconds: f64,
}

impl Burst {
    /// Commands that ended as they had to, per second.
    pub fn per_second(&self) -> f64 {
        self.ran as f64 / self.seconds
    }
}

/// The runner's own side: steps on standard input, times (or what went wrong) on standard output.
pub fn main() {
    answer(run);
}

/// The same for a burst.
pub fn main_burst() {
    answer(burst);
}

fn answer<T: Serialize>(work: impl FnOnce(&[Step]) -> Result<T, String>) {
    let steps: Vec<Step> = serde_json::from_reader(std::io::stdin()).expect("steps");
    serde_json::to_writer(std::io::stdout(), &work(&steps)).expect("standard output");
}

fn burst(steps: &[Step]) -> Result<Burst, String> {
    let begun = Instant::now();
    let start = |step: &Step| -> std::io::Result<Child> {
        command_of(step).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    let started: std::io::Result<Vec<Child>> = steps.iter().map(start).collect();
    let mut ran = 0;
    for (mut child, step) in started.map_err(|error| error.to_string())?.into_iter().zip(steps) {
        let status = child.wait().map_err(|error| error.to_string())?;
        ran += usize::from(status.code() == Some(step.code));
    }
    Ok(Burst { ran, seconds: begun.elapsed().as_secs_f64() })
}

fn command_of(step: &Step) -> Command {
    let (program, arguments) = step.argv.split_first().expect("a program");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&step.cwd).env("OLB_RUNTIME_DIR", &step.runtime);
    command.stdin(Stdio::null());
    command
}

fn run(steps: &[Step]) -> Result<Times, String> {
    let mut errors = tempfile::tempfile().map_err(|error| error.to_string())?;
    let mut times = Times::new();
    for step in steps {
        errors.set_len(0).and_then(|()| errors.rewind()).map_err(|error| error.to_string())?;
        let nanoseconds = time(step, &mut errors)?;
        times.entry(step.row.clone()).or_default().push(nanoseconds);
    }
    Ok(times)
}

fn time(step: &Step, errors: &mut File) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", step.row);
    let mut command = command_of(step);
    command.stdout(Stdio::null()).stderr(errors.try_clone().map_err(failed)?);
    let start = Instant::now();
    let status = command.status().map_err(failed)?;
    let elapsed = start.elapsed();
    if status.code() != Some(step.code) {
        let mut said = String::new();
        errors.rewind().and_then(|()| errors.read_to_string(&mut said)).map_err(failed)?;
        return Err(format!("{}: {:?} ended with {status}: {said}", step.row, step.argv));
    }
    Ok(u64::try_from(elapsed.as_nanos()).expect("less than centuries"))
}
