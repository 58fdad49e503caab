//! Crash points; nothing unless the feature for tests is on.

#[cfg(feature = "crash-points")]
pub(crate) use olb_sys::crash::crash_point;

#[cfg(not(feature = "crash-points"))]
pub(crate) const fn crash_point(_name: &str) {}
