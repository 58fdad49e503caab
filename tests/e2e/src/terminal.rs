//! A person at a terminal: a pseudo-terminal that is the controlling one of a program's session.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use olb_sys::poll::{PollFd, PollFlags, poll};

use crate::instance::Instance;

/// Nothing is waited for longer than this, in milliseconds: a test that hangs says so.
const PATIENCE_MS: u32 = 120_000;

/// A terminal at which nothing runs yet.
pub struct Terminal {
    keyboard: File,
    line: OwnedFd,
    seen: Vec<u8>,
}

/// A program that runs at a terminal; when this is dropped, the terminal hangs up.
pub struct Session {
    keyboard: File,
    child: Child,
    seen: Vec<u8>,
    /// How far [`Session::read_until`] has come.
    read: usize,
}

/// Both ends of a terminal whose device belongs to `owner`: the person's and the programs'.
pub(crate) fn pseudo_terminal(owner: u32) -> (File, OwnedFd) {
    // No program may inherit this end, or its own terminal would never hang up.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let keyboard = posix_openpt(flags).expect("a pseudo-terminal");
    grantpt(&keyboard).and_then(|()| unlockpt(&keyboard)).expect("its other end");
    let device = ptsname_r(&keyboard).expect("its name");
    chown(&device, Some(owner), None).expect("its owner");
    let mut options = OpenOptions::new();
    let line = options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(device);
    (OwnedFd::from(keyboard).into(), line.expect("the terminal").into())
}

impl Terminal {
    /// A terminal whose device belongs to `owner`.
    pub fn of(owner: u32) -> Self {
        let (keyboard, line) = pseudo_terminal(owner);
        Self { keyboard, line, seen: Vec::new() }
    }

    /// Types before there is a program to read it; returns when the terminal has it.
    pub fn type_ahead(mut self, text: &str) -> Self {
        self.keyboard.write_all(text.as_bytes()).expect("the keyboard");
        let echo = text.replace('\n', "\r\n");
        while end_of(&self.seen, &echo).is_none() {
            assert!(take(&mut self.keyboard, &mut self.seen), "no echo of {text:?}");
        }
        self
    }

    /// Starts `olb` as `uid` at this terminal, behind the words of `wrapper`.
    pub fn start(self, instance: &Instance, uid: u32, wrapper: &[&str], words: &[&str]) -> Session {
        let plain = instance.olb_command(uid, words);
        let mut command = Command::new("setsid");
        // The program itself then leads the session: nothing is between it and its exit code.
        command.arg("--ctty").args(wrapper).arg(plain.get_program()).args(plain.get_args());
        command.env_clear().current_dir(instance.work()).uid(uid).gid(uid);
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let line = || self.line.try_clone().expect("the terminal");
        command.stdin(line()).stdout(line()).stderr(line());
        let child = command.spawn().expect("setsid");
        Session { keyboard: self.keyboard, child, read: self.seen.len(), seen: self.seen }
    }
}

impl Session {
    /// Waits until `text` is on the screen, after what was waited for before.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) {
        loop {
            if let Some(end) = end_of(&self.seen[self.read..], text) {
                self.read += end;
                return;
            }
            let goes_on = take(&mut self.keyboard, &mut self.seen);
            assert!(goes_on, "it ended before {text:?}: {}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Types.
    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the keyboard");
    }

    /// Waits for the end: the exit code, and all that was on the screen.
    pub fn end(mut self) -> (Option<i32>, String) {
        while take(&mut self.keyboard, &mut self.seen) {}
        let status = self.child.wait().expect("its end");
        (status.code(), String::from_utf8_lossy(&self.seen).into_owned())
    }
}

/// Where `text` ends on the screen.
fn end_of(screen: &[u8], text: &str) -> Option<usize> {
    let text = text.as_bytes();
    (text.len()..=screen.len()).find(|end| screen[..*end].ends_with(text))
}

/// Waits for output; false when nobody has the terminal open any more.
fn take(keyboard: &mut File, seen: &mut Vec<u8>) -> bool {
    let mut fds = [PollFd::new(keyboard.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, Some(PATIENCE_MS)).expect("poll");
    assert!(ready > 0, "nothing more comes after: {}", String::from_utf8_lossy(seen));
    let mut buffer = [0; 4096];
    // The end of a terminal is EIO.
    let count = keyboard.read(&mut buffer).unwrap_or(0);
    seen.extend(&buffer[..count]);
    count > 0
}
