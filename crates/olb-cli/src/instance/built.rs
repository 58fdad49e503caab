//! The real `olb` for tests that run it: the one in the build folder of the test itself.

use std::process::{Command, Stdio};

use olb_sys::other::{Other, start_ticks};

/// The program, with the daemons beside it; `./run test` builds them first.
pub(crate) fn olb() -> Command {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").to_owned();
    for name in super::PROGRAMS {
        let path = folder.join(name);
        assert!(path.is_file(), "{} is missing: cargo build --workspace --bins", path.display());
    }
    let mut command = Command::new(folder.join("olb"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process as it runs now, and whether it still does later.
#[derive(Debug)]
pub(crate) struct Seen {
    pid: i32,
    start_ticks: u64,
}

impl Seen {
    pub(crate) fn now(pid: i32) -> Self {
        Self { pid, start_ticks: start_ticks(pid).expect("a running process") }
    }

    pub(crate) fn find(&self) -> Option<Other> {
        Other::find(self.pid, self.start_ticks).expect("/proc")
    }
}
