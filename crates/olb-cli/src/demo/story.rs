//! What the demo says. With `--json`, standard output is left to the one object at the end.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::termios::{FlushArg, tcflush};
use nix::unistd::read;
use olb_review::display::safe;
use serde::Serialize;

use crate::instance::child::Output;
use crate::instance::stop::Stop;
use crate::json;

/// An answer is at most this long, in bytes.
const ANSWER_BYTES_MAX: usize = 100;

/// Writes for a person.
#[derive(Debug)]
pub(super) struct Story {
    json: bool,
}

impl Story {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Writes text that is already safe to show.
    pub(super) fn text(&self, text: &str) -> Result<()> {
        let written = if self.json {
            io::stderr().write_all(text.as_bytes())
        } else {
            let mut stdout = io::stdout();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        };
        written.context("nobody reads the demo any more")
    }

    pub(super) fn line(&self, text: &str) -> Result<()> {
        self.text(&format!("{text}\n"))
    }

    pub(super) fn step(&self, number: u8, text: &str) -> Result<()> {
        self.text(&format!("\n{number}. {text}\n"))
    }

    /// A command as somebody typed it.
    pub(super) fn command(&self, prompt: &str, words: &[&str]) -> Result<()> {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.line(&format!("   {prompt} {}", olb_review::quote::command(&words)))
    }

    /// What a command printed.
    pub(super) fn output(&self, output: &Output) -> Result<()> {
        self.lines(&output.stdout)?;
        self.messages(output)
    }

    /// What a command printed for people, without what it printed for programs.
    pub(super) fn messages(&self, output: &Output) -> Result<()> {
        self.lines(&output.stderr)
    }

    fn lines(&self, text: &[u8]) -> Result<()> {
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.try_for_each(|line| self.line(&format!("   {}", safe(line))))
    }

    pub(super) fn no_boundary(&self) -> Result<()> {
        self.text(
            "\n\
             ######################################################################\n\
             #  NO PRIVILEGE BOUNDARY. This is not root, so the agent, the front, #\n\
             #  the root half and you are one user. The steps are the real ones,  #\n\
             #  the protection is not. As root it is: sudo ./run demo             #\n\
             ######################################################################\n",
        )
    }

    /// Asks for yes or no on standard input. Anything but a plain yes, silence included, is no.
    pub(super) fn confirm(&self, yes: bool, stop: &Stop) -> Result<bool> {
        let is_terminal = io::stdin().is_terminal();
        if is_terminal && !yes {
            // What was typed before the request was on the screen is no answer to it.
            tcflush(io::stdin(), FlushArg::TCIFLUSH).context("the terminal cannot be used")?;
        }
        self.text("Approve? [y/N] ")?;
        if yes {
            self.line("y   (answered by --yes)")?;
            return Ok(true);
        }
        let answer = answer(io::stdin().as_fd(), stop)?;
        if !(is_terminal && answer.ends_with(b"\n")) {
            // Nobody's terminal has ended the line.
            self.line("")?;
        }
        let answer = answer.trim_ascii().to_ascii_lowercase();
        Ok(answer == b"y" || answer == b"yes")
    }

    /// The object at the end.
    pub(super) fn json(&self, object: &impl Serialize) -> Result<()> {
        let mut stdout = io::stdout();
        let written = writeln!(stdout, "{}", json::line(object)).and_then(|()| stdout.flush());
        written.context("nobody reads the demo's result")
    }
}

/// One line, or what there is of it at the end of the input.
///
/// Read without a buffer of this process: bytes in one would not wake [`Stop::wait`], and the demo
/// would wait for an answer that it already has.
fn answer(input: BorrowedFd<'_>, stop: &Stop) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") && answer.len() < ANSWER_BYTES_MAX {
        stop.wait(&[input], None)?;
        let mut byte = [0];
        if read(input, &mut byte).context("standard input cannot be read")? == 0 {
            break;
        }
        answer.extend(byte);
    }
    Ok(answer)
}
