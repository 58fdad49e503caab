//! Crash points: named places where a test has the process end as `kill -9` would end it.
//!
//! They compile to nothing without the feature `crash-points`, which no default turns on and which
//! a build without debug assertions, as every release is, does not accept.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("crash points are for tests only: build with debug assertions or without them");

/// Ends the process here when the variable `OLB_CRASH_AT` is `name`, or `name:N` and this is the
/// N-th passing, counted over all threads.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);
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
