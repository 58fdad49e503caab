//! The parts of the benchmark, each of which can be run alone.

use crate::bed::Bed;
use crate::figure::Figure;
use crate::runner::Times;
use crate::{burns, crowd, kill, latency, lease, memory, past, reply, start, stdout};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rounds of what takes milliseconds.
    pub rounds: usize,
    /// Samples of what takes longer.
    pub samples: usize,
    /// Whether a short look is enough.
    pub quick: bool,
}

/// What one run of a part gave.
#[derive(Debug, Default)]
pub struct Part {
    /// For the common table.
    pub figures: Vec<Figure>,
    /// Whole processes, for a table of their own; may be empty.
    pub times: Times,
}

impl From<Vec<Figure>> for Part {
    fn from(figures: Vec<Figure>) -> Self {
        Self { figures, times: Times::new() }
    }
}

/// Measures a part once.
pub type Measure = fn(&Bed, Size) -> Result<Part, String>;

/// All of them by name, in the order in which they run.
pub const PARTS: [(&str, Measure); 11] = [
    ("latency", latency::measure),
    ("start", start::measure),
    ("reply", reply::measure),
    ("burns", burns::measure),
    ("past", past::measure),
    ("stdout", stdout::measure),
    ("unread", memory::unread),
    ("crowd", crowd::measure),
    ("kill", kill::measure),
    ("memory", memory::resident),
    ("lease", lease::measure),
];
