//! What a service of this host starts with, so that commands do not inherit what the daemon changed.

use std::sync::OnceLock;

use crate::child::LIMITS;
use crate::raw::{self, Limit};

/// What is read once, because it does not change while the daemon runs.
pub(crate) struct Defaults {
    /// By number of the resource; `None` leaves the daemon's own.
    pub(crate) limits: [Option<Limit>; LIMITS],
    /// Whether the daemon's own score differs from 0.
    pub(crate) reset_oom_score: bool,
}

/// The values for this host.
pub(crate) fn defaults() -> &'static Defaults {
    static DEFAULTS: OnceLock<Defaults> = OnceLock::new();
    DEFAULTS.get_or_init(|| {
        raw::keep_exit_statuses();
        let score = std::fs::read("/proc/self/oom_score_adj").unwrap_or_default();
        Defaults { limits: default_limits(), reset_oom_score: score.trim_ascii() != b"0" }
    })
}

/// The limits of PID 1, as every service of the host starts from; soft values as login shells have
/// them where PID 1 raises its own. Where PID 1 may not be asked (daemon not root) ours stay.
fn default_limits() -> [Option<Limit>; LIMITS] {
    let mut limits = [None; LIMITS];
    for (limit, resource) in limits.iter_mut().zip(0..) {
        *limit = raw::limit_of(1, resource);
    }
    cap_soft(&mut limits, libc::RLIMIT_NOFILE as usize, 1_024);
    cap_soft(&mut limits, libc::RLIMIT_CORE as usize, 0);
    limits
}

fn cap_soft(limits: &mut [Option<Limit>; LIMITS], resource: usize, cap: u64) {
    let own = u32::try_from(resource).ok().and_then(|number| raw::limit_of(0, number));
    if let Some(slot) = limits.get_mut(resource) {
        *slot = slot.or(own).map(|limit| Limit { soft: limit.hard.min(cap), hard: limit.hard });
    }
}
