//! How a command of `olb` ends when it does not succeed: one sentence, one documented exit code.

use std::fmt;
use std::process::ExitCode;

use olb_exec_api::Reason;
use olb_review::display::safe;
use olb_wire::RequestView;

use crate::out::{say, tell};
use crate::{json, text};

/// The exit codes of `olb` itself that no [`Reason`] stands for.
pub(crate) mod code {
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 64;
    /// The broker does not answer, or did not confirm.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// The outcome is not known, or the receipt does not match.
    pub(crate) const UNKNOWN_OUTCOME: u8 = 70;
    /// Nothing was decided yet.
    pub(crate) const PENDING: u8 = 75;
    /// Not permitted.
    pub(crate) const REFUSED: u8 = 77;
    /// `--wait` is over.
    pub(crate) const WAIT_OVER: u8 = 124;
    /// Not executable, or the spawn failed.
    pub(crate) const NOT_EXECUTABLE: u8 = 126;
    /// No such command.
    pub(crate) const NO_SUCH_COMMAND: u8 = 127;
}

/// A command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) code: u8,
    /// Stable name for JSON.
    pub(crate) name: &'static str,
    /// One sentence, safe for a terminal.
    pub(crate) text: String,
    /// The request it is about.
    pub(crate) view: Option<Box<RequestView>>,
}

impl Failure {
    /// A failure of one's own, without the broker's word.
    pub(crate) fn new(code: u8, name: &'static str, text: impl Into<String>) -> Self {
        Self { code, name, text: text.into(), view: None }
    }

    /// Wrong usage.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(code::USAGE, "usage", text)
    }

    /// The broker does not answer.
    pub(crate) fn no_broker() -> Self {
        Self::new(code::UNAVAILABLE, "unavailable", text::NO_BROKER)
    }

    /// Whether nobody answers at all.
    pub(crate) fn is_no_broker(&self) -> bool {
        self.text == text::NO_BROKER
    }

    /// The broker answered something that belongs to no answer.
    pub(crate) fn bad_answer() -> Self {
        Self::new(code::UNAVAILABLE, "unavailable", text::BAD_ANSWER)
    }

    /// What the broker says of a request does not belong together, or is not what was asked for.
    pub(crate) fn mismatch(text: impl Into<String>) -> Self {
        Self::new(code::UNKNOWN_OUTCOME, Reason::Mismatch.name(), text)
    }

    /// Refused for safety by this process, not by the broker.
    pub(crate) fn refused(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(code::REFUSED, name, text)
    }

    /// What the broker refused. Its sentence is shown unless the request itself says more.
    pub(crate) fn from_broker(reason: u16, sentence: &str, view: Option<Box<RequestView>>) -> Self {
        let Some(reason) = Reason::from_number(reason) else {
            return Self::bad_answer();
        };
        let composed = view.as_deref().and_then(|view| text::over(view, reason));
        let text = composed.unwrap_or_else(|| safe(sentence.as_bytes()));
        Self { code: reason.exit_code(), name: reason.name(), text, view }
    }

    /// Prints the sentence on standard error, with `json` also an object on standard output, and
    /// gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        tell!("olb: {}", self.text);
        if json {
            say!("{}", json::line(&json::failure(self)));
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
