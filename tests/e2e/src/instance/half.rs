//! Starting, ending and killing the two halves.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Instance;

/// One of the two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// `olb-execd`.
    Root,
    /// `olb-brokerd`.
    Front,
}

impl Half {
    /// The name of its log.
    fn log(self) -> &'static str {
        match self {
            Self::Root => "execd",
            Self::Front => "brokerd",
        }
    }
}

impl Instance {
    /// Starts the root half and waits until it serves.
    pub fn start_execd(&mut self) {
        self.start_half(Half::Root);
    }

    /// Starts the front and waits until it serves.
    pub fn start_brokerd(&mut self) {
        self.start_half(Half::Front);
    }

    /// Starts `half` and waits until it serves; how long that took.
    pub fn start_half(&mut self, half: Half) -> Duration {
        self.try_start(half).unwrap_or_else(|status| {
            panic!("{half:?} did not start ({status}):\n{}", self.read_log(half.log()))
        })
    }

    /// Starts `half`; how long it took until it said that it serves, or how it ended before that.
    pub fn try_start(&mut self, half: Half) -> Result<Duration, ExitStatus> {
        let begun = Instant::now();
        let log = fs::File::options().create(true).append(true).open(self.log(half.log()));
        let mut command = self.command_of(half);
        command.envs(self.options.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.expect("the log"));
        // Of its own group, so that a signal for the test is not also one for the broker.
        command.process_group(0);
        let mut child = command.spawn().expect("a half of the broker");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("its first line");
        if line == "ready\n" {
            *self.child_of(half) = Some(child);
            return Ok(begun.elapsed());
        }
        Err(child.wait().expect("its end"))
    }

    fn command_of(&self, half: Half) -> Command {
        let wrapper = &self.options.execd_wrapper;
        let mut command = match (half, wrapper.split_first()) {
            (Half::Root, Some((program, words))) => {
                let mut command = Command::new(program);
                command.args(words).arg(self.path("bin/olb-execd"));
                command
            }
            (Half::Root, None) => Command::new(self.path("bin/olb-execd")),
            (Half::Front, _) => Command::new(self.path("bin/olb-brokerd")),
        };
        match half {
            Half::Root => command.arg("--config").arg(self.state().join("execd.conf")),
            Half::Front => {
                let user = self.front();
                command.arg("--runtime-dir").arg(self.runtime());
                command.arg("--state-dir").arg(self.path("front"));
                command.arg("--config").arg(self.path("brokerd.toml"));
                command.arg("--drop-to").arg(format!("{user}:{user}"))
            }
        };
        command
    }

    fn child_of(&mut self, half: Half) -> &mut Option<Child> {
        match half {
            Half::Root => &mut self.execd,
            Half::Front => &mut self.brokerd,
        }
    }

    /// Changes the environment of whatever half is started next.
    pub fn set_variables(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.options.variables = variables.iter().map(owned).collect();
    }

    /// Changes what stands before the root half's command line when it is started next.
    pub fn set_execd_wrapper(&mut self, words: &[&str]) {
        self.options.execd_wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The root half's process id.
    pub fn execd_pid(&self) -> u32 {
        self.execd.as_ref().expect("execd runs").id()
    }

    /// The front's process id.
    pub fn brokerd_pid(&self) -> u32 {
        self.brokerd.as_ref().expect("brokerd runs").id()
    }

    /// Ends the root half with `signal` and waits for its end.
    pub fn stop_execd(&mut self, signal: &str) {
        self.stop(Half::Root, signal);
    }

    /// Ends the front with `signal` and waits for its end.
    pub fn stop_brokerd(&mut self, signal: &str) {
        self.stop(Half::Front, signal);
    }

    /// Sends `signal` to `half`, which may have ended already, and waits for its end.
    pub fn stop(&mut self, half: Half, signal: &str) -> Option<ExitStatus> {
        let mut child = self.child_of(half).take()?;
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
        Some(child.wait().expect("its end"))
    }

    /// Kills `half`, if it runs, as `kill -9` does.
    pub fn kill(&mut self, half: Half) {
        if let Some(mut child) = self.child_of(half).take() {
            child.kill().expect("a child of ours");
            child.wait().expect("its end");
        }
    }

    /// Environment variables for `olb`.
    pub(crate) fn olb_variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.olb_variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
