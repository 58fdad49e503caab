//! What a command finds itself in, under the broker, under sudo and as a service, side by side.
//!
//! Two programs in C, because a Rust program's start changes some of what is compared: one says
//! everything that a process can be started with, the other becomes a caller in a known state.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

mod beside;
mod cgroup;
mod dump;
mod listed;
mod service;
mod sudo;

pub use beside::{Beside, Context, From, PLAIN, said};
pub use dump::{Dump, Names, Side};
pub use listed::{Listed, Row, Table};
pub use service::{as_a_service, words_of_a_service};
pub use sudo::Sudo;

const PROBE: &str = include_str!("../oracle/probe.c");
const CALLER: &str = include_str!("../oracle/caller.c");

/// The two programs, in a folder that only root can change.
pub struct Oracle {
    dir: tempfile::TempDir,
}

impl Oracle {
    /// Compiles them.
    ///
    /// # Panics
    /// There is no C compiler.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("olb-oracle-").tempdir_in("/run").expect("/run");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        let oracle = Self { dir };
        for (name, source) in [("probe", PROBE), ("caller", CALLER)] {
            let file = oracle.path(&format!("{name}.c"));
            fs::write(&file, source).expect("the source");
            let mut command = Command::new("cc");
            command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(oracle.path(name));
            let compiled = command.arg(&file).stdin(Stdio::null()).status();
            assert!(compiled.expect("a C compiler, cc").success(), "{name}.c");
        }
        oracle
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program that says what it was started with.
    pub fn probe(&self) -> String {
        self.path("probe").to_str().expect("UTF-8").to_owned()
    }

    /// The program that becomes a caller in a known state, changed by settings, and then what
    /// follows `--`.
    pub fn caller(&self) -> String {
        self.path("caller").to_str().expect("UTF-8").to_owned()
    }
}

/// Whether `program` is installed and the version that the list is about; where not, that is said.
fn is_version(program: &str, version: &str) -> bool {
    let said = Command::new(program).arg("--version").output().map(|said| said.stdout);
    let said = String::from_utf8(said.unwrap_or_default()).unwrap_or_default();
    let is_it = said.starts_with(version);
    if !is_it {
        let found = said.lines().next().unwrap_or("not installed");
        eprintln!("docs/differences.md is about {version:?}, and {program} here is: {found}");
    }
    is_it
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}
