//! How busy the machine is: figures that were taken beside other work say little.

use std::fs::File;

/// Held while a benchmark runs.
const LOCK: &str = "/run/olb-bench.lock";
/// Above this much load before the first figure a warning is given.
const QUIET: f64 = 0.5;

/// Makes sure that no other benchmark runs, which would also share the account for sudo; holds as
/// long as the file is open.
///
/// # Errors
/// Another one runs.
pub fn alone() -> Result<File, String> {
    let lock = File::create(LOCK).map_err(|error| format!("{LOCK}: {error}"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(_) => Err("another benchmark runs on this host; wait for its end".into()),
    }
}

/// Processes that ran or wanted to, on average over the last minute.
pub fn average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

/// What to tell about it before the first figure.
pub fn note(load: f64) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let line = format!("load {load:.2} on {processors} processors before the first figure");
    if load <= QUIET {
        line
    } else {
        format!("{line}: NOT QUIET, so do not quote these figures; wait until it is below {QUIET}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_and_one_that_cannot_tell_are_warned_about() {
        assert!(!note(0.5).contains("NOT QUIET"));
        assert!(note(0.51).contains("NOT QUIET") && note(f64::NAN).contains("NOT QUIET"));
    }
}
