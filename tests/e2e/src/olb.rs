//! Running `olb` as one of the instance's users.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::approver::Approver;
use crate::instance::Instance;

/// What a run of `olb` left behind.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; 128+n for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            code: output.status.code().or(signal).expect("an end"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// The JSON object on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl Instance {
    /// `olb` as `uid`, in the instance's working directory, not started yet.
    pub fn olb_command(&self, uid: u32, words: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/olb"));
        command.args(words).uid(uid).gid(uid).current_dir(self.work());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("OLB_RUNTIME_DIR", self.runtime());
        command.envs(self.olb_variables());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `olb` as `uid`, run to its end.
    pub fn olb(&self, uid: u32, words: &[&str]) -> Ran {
        self.olb_command(uid, words).output().expect("olb").into()
    }

    /// `olb` as `uid` with `input` on its standard input.
    pub fn olb_with_input(&self, uid: u32, words: &[&str], input: &[u8]) -> Ran {
        let mut child = self.olb_command(uid, words).stdin(Stdio::piped()).spawn().expect("olb");
        // Whoever does not read it closes it: no matter.
        child.stdin.take().expect("its input").write_all(input).ok();
        child.wait_with_output().expect("its end").into()
    }

    /// `olb` as an approver, with its key.
    pub fn olb_as(&self, approver: &Approver, words: &[&str]) -> Ran {
        let key = self.key_file(&approver.name);
        let key = key.to_str().expect("a path in UTF-8");
        let (command, rest) = words.split_first().expect("a command");
        self.olb(approver.uid, &[&[command, "--key", key], rest].concat())
    }

    /// `olb` as an approver, for commands that need no key.
    pub fn olb_as_operator(&self, approver: &Approver, words: &[&str]) -> Ran {
        self.olb(approver.uid, words)
    }

    /// Asks for `command` as `uid`; returns the request's id.
    pub fn request(&self, uid: u32, command: &[&str]) -> String {
        let words = [&["request", "--json", "--"], command].concat();
        let answer = self.olb(uid, &words).expect(75).json();
        answer["request_id"].as_str().expect("an id").to_owned()
    }

    /// Asks for `command` as `uid`, has it approved, and writes the lease into a file; returns the
    /// request's id and the lease.
    pub fn approved(&self, uid: u32, approver: &Approver, command: &[&str]) -> (String, String) {
        let id = self.request(uid, command);
        self.olb_as(approver, &["approve", "--id", &id]).expect(0);
        let words = [&["request", "--json", "--"], command].concat();
        let answer = self.olb(uid, &words).expect(0).json();
        (id, answer["lease"].as_str().expect("a lease").to_owned())
    }

    /// Writes `lease` into a file of `uid`'s own.
    pub fn lease_file(&self, uid: u32, lease: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = self.path(&format!("lease-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&path, lease).expect("the lease's file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
        chown(&path, Some(uid), Some(uid)).expect("its owner");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Presents `lease` as `uid`.
    pub fn exec(&self, uid: u32, lease: &str, command: &[&str]) -> Ran {
        let file = self.lease_file(uid, lease);
        self.olb(uid, &[&["exec", "--lease-file", &file, "--"], command].concat())
    }
}
