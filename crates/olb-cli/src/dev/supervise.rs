//! The process that owns a throwaway instance: it starts both halves, waits, and ends them.

use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use olb_sys::clock::boottime_ms;

use super::{Stop, Stopped, processes};
use crate::instance::Instance;
use crate::instance::daemon::Halves;
use crate::instance::stop::Woken;

/// The longest single wait, in milliseconds: timers stand still while a host sleeps, the clock that
/// decides does not.
const WAIT_MS: u64 = 10 * 60 * 1000;

/// Runs the instance until it is ended, a half ends by itself, or its `lifetime` in seconds is over:
/// then the folder is removed too, as nobody else will.
///
/// # Errors
/// A half did not start, or ended by itself: then the folder is left, with its logs.
pub(super) fn run(instance: &Instance, lifetime: u32) -> Result<()> {
    let stop = Stop::new()?;
    let deadline = boottime_ms().saturating_add(u64::from(lifetime).saturating_mul(1000));
    let halves = Halves::start(instance, &stop)?;
    processes::write_down(instance, &halves)?;
    io::stdout().write_all(b"ready\n").context("nobody waits for the instance")?;
    loop {
        let left = deadline.saturating_sub(boottime_ms());
        if left == 0 {
            drop(halves);
            return instance.remove();
        }
        let wait = u32::try_from(left.min(WAIT_MS)).unwrap_or(u32::MAX);
        match stop.wait(&halves.ends(), Some(wait)) {
            Ok(Woken::Timeout) => {}
            Ok(Woken::Ready) => bail!("one of the halves ended by itself; see the logs beside"),
            Err(error) if error.is::<Stopped>() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
