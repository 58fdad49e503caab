//! Crash points: named places where a test has the process end as `kill -9` would end it, or wait a
//! moment, so that others get to act between two steps that usually follow each other at once.
//!
//! They compile to nothing without the feature `crash-points`, which no default turns on and which
//! a build without debug assertions, as every release is, does not accept.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("crash points are for tests only: build with debug assertions or without them");

/// Ends the process here when the variable `OLB_CRASH_AT` is `name`, or `name:N` and this is the
/// N-th passing, counted over all threads; waits for `OLB_PAUSE_MICROS` microseconds at each.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);
    let pause = std::env::var("OLB_PAUSE_MICROS").ok().and_then(|pause| pause.parse().ok());
    if let Some(pause) = pause {
        std::thread::sleep(std::time::Duration::from_micros(pause));
    }
    let Ok(wanted) = std::env::var("OLB_CRASH_AT") else { return };
    let (place, passing) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    let number = |passed: u32| passed.saturating_add(1).to_string();
    if place == name && number(PASSED.fetch_add(1, Ordering::SeqCst)) == passing {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).ok();
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
pub const fn crash_point(_name: &str) {}
