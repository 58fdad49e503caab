//! What the kernel says about a process from outside.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a state may take to come about on a slow machine under load before the test fails.
const DEADLINE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(5);

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    words.and_then(|word| word.parse().ok()).expect("VmRSS")
}

/// How many descriptors a process has open.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process").count()
}

/// The process ids of a process's children, ended and not waited for ones included.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the process") {
        // A thread may end between the two looks.
        let list = fs::read_to_string(task.expect("a thread").path().join("children"));
        let list = list.unwrap_or_default();
        found.extend(list.split_whitespace().map(|word| word.parse::<u32>().expect("a number")));
    }
    found
}

/// Waits for what the kernel shows but does not announce.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "still not: {what}");
        sleep(PAUSE);
    }
}

/// Numbers that look random and are the same in every run with the same seed.
pub struct Seeded(u64);

impl Seeded {
    /// Seeded by `OLB_TEST_SEED` where it is set, else by `name`; says the seed.
    pub fn new(name: &str) -> Self {
        let given = std::env::var("OLB_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let [a, b, c, d, e, f, g, h, ..] = olb_lease::sha256(name.as_bytes());
        let seed = given.unwrap_or(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        println!("{name}: OLB_TEST_SEED={seed}");
        Self(seed | 1)
    }

    /// Another sequence that this one decides.
    pub fn split(&mut self) -> Self {
        Self(self.below(1 << 48) << 1 | 1)
    }

    /// A number below `end`. (xorshift64*)
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end
    }
}
