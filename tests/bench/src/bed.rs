//! What is measured, side by side: an instance, the floors, sudo, and on demand another build.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use olb_e2e_tests::{Approver, Instance, Options};

use crate::start::compile;
use crate::sudo::Sudo;

/// Every limit that a benchmark would run into; none of them costs time.
const FRONT_LIMITS: &str = "[limits]\npending_per_uid = 100000\npending_total = 100000\n\
    open_per_uid = 100000\nopen_total = 100000\nsubmits_per_uid_per_minute = 1000000\n\
    code_reuse_secs = 1\nconnections_per_uid = 1000\nconnections_total = 1000\n";
const ROOT_LIMITS: &str = "max_executions = 1000\nmax_executions_per_uid = 1000\n";
/// The floors: name of the row, and what is recorded.
const FLOORS: [(&str, &str); 3] =
    [("floor", "nothing"), ("floor + burn", "burn"), ("floor + burn + audit", "burn-and-audit")];

/// A running floor; ends when dropped.
pub struct Floor {
    /// Its row of the table.
    pub row: &'static str,
    /// Where it serves.
    pub socket: PathBuf,
    child: Child,
}

/// Everything that is compared. Fields are dropped in this order.
pub struct Bed {
    /// The floors.
    pub floors: Vec<Floor>,
    /// sudo, where it is installed.
    pub sudo: Option<Sudo>,
    /// The instance that is measured.
    pub instance: Instance,
    approver: Approver,
    words: AtomicUsize,
    other: Option<(Instance, Approver)>,
}

impl Bed {
    /// Starts everything; with `against` also an instance of the programs in that folder.
    ///
    /// # Errors
    /// The account for sudo cannot be made, or there is no C compiler.
    pub fn make(against: Option<&Path>) -> Result<Self, String> {
        let instance = start(Options::default());
        let approver = instance.enrol(0);
        let other = against.map(|dir| {
            // The same user asks both, so that one process can measure both.
            let first_uid = Some(instance.front());
            let options = Options { binaries: Some(dir.into()), first_uid, ..Options::default() };
            let other = start(options);
            let approver = other.enrol(0);
            (other, approver)
        });
        let program = instance.path("bin/olb-bench");
        let own = std::env::current_exe().expect("the benchmark's own path");
        std::fs::copy(own, &program).expect("the benchmark for the unprivileged user");
        // In C and linked dynamically: what most helpers' clients would be.
        let client = instance.path("bin/floor-client");
        if !compile(include_str!("../floor-client.c"), None, &client) {
            return Err("cc could not compile the floor's client; install a C compiler".into());
        }
        let uid = instance.requester(0);
        let sudo = Sudo::for_uid(uid)?;
        let floors = FLOORS.map(|(row, record)| Floor::start(&instance, &program, row, record));
        let words = AtomicUsize::new(0);
        Ok(Self { floors: floors.into(), sudo, instance, approver, words, other })
    }

    /// The approver of the instance that is measured.
    pub fn approver(&self) -> &Approver {
        &self.approver
    }

    /// A word that no command of this run had yet: with it a request is a new one.
    pub fn fresh_word(&self) -> String {
        self.words.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// The unprivileged user.
    pub fn uid(&self) -> u32 {
        self.instance.requester(0)
    }

    /// This program, where the unprivileged user can start it.
    pub fn program(&self) -> PathBuf {
        self.instance.path("bin/olb-bench")
    }

    /// The client of the floors.
    pub fn floor_client(&self) -> String {
        self.instance.path("bin/floor-client").to_str().expect("UTF-8").to_owned()
    }

    /// The instances, with what follows the names of their rows, and their approvers.
    pub fn instances(&self) -> Vec<(&'static str, &Instance, &Approver)> {
        let other = self.other.as_ref();
        let other = other.map(|(instance, approver)| (" (other build)", instance, approver));
        [("", &self.instance, &self.approver)].into_iter().chain(other).collect()
    }
}

fn start(options: Options) -> Instance {
    let (execd, brokerd) = (ROOT_LIMITS.into(), FRONT_LIMITS.into());
    Instance::with(Options { execd, brokerd, ..options })
}

impl Floor {
    fn start(instance: &Instance, program: &Path, row: &'static str, record: &str) -> Self {
        let socket = instance.path(&format!("floor-{record}.sock"));
        let database = instance.path(&format!("floor-{record}.db"));
        let mut command = Command::new(program);
        command.arg("floor").arg(&socket).arg(instance.requester(0).to_string());
        command.arg(record).arg(database).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the floor");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its first line");
        assert_eq!(line, "ready\n", "the floor did not start");
        Self { row, socket, child }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
