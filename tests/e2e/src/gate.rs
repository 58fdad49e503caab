//! A command that runs until it is let go.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::instance::Instance;
use crate::olb::Ran;
use crate::process::wait_until;
use crate::recovery::{Recovery, lines, lines_of};

/// A command that says in a file that it has started, and ends when told to.
pub struct Gate {
    file: PathBuf,
    gate: PathBuf,
}

/// A client whose command runs.
pub struct Running(Child);

impl Gate {
    /// One per instance.
    pub fn new(instance: &Instance) -> Self {
        let gate = instance.work().join("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().expect("mkfifo").success());
        Self { file: instance.work().join("gated"), gate }
    }

    /// What it does, in the shell's words.
    pub fn script(&self) -> String {
        let (file, gate) = (self.file.display(), self.gate.display());
        format!("echo started >> {file}; read word < {gate}; echo ended >> {file}")
    }

    /// Its words.
    pub fn command(&self) -> Vec<String> {
        vec!["/bin/sh".into(), "-c".into(), self.script()]
    }

    /// Presents the lease of `id` as the agent and waits until the command runs.
    pub fn start(&self, at: &Recovery, id: &str) -> Running {
        self.start_within(at, id, &self.command())
    }

    /// The same for a command that comes to the script by itself.
    pub fn start_within(&self, at: &Recovery, id: &str, command: &[String]) -> Running {
        let words = ["exec", "--id", id, "--"].into_iter();
        let words: Vec<&str> = words.chain(command.iter().map(String::as_str)).collect();
        let child = at.instance.olb_command(at.agent, &words).spawn().expect("olb");
        wait_until("the command runs", || lines(&self.file) == 1);
        Running(child)
    }

    /// Lets it end.
    pub fn open(&self) {
        fs::write(&self.gate, "on\n").expect("the gate");
    }

    /// What it has written.
    pub fn story(&self) -> Vec<String> {
        lines_of(&self.file)
    }
}

impl Running {
    /// Waits for the client's end.
    pub fn end(self) -> Ran {
        self.0.wait_with_output().expect("its end").into()
    }
}
