//! `olb dev`.

use std::process::ExitCode;

use crate::args::DevCommand;

/// Starts, owns or ends a throwaway broker.
pub(crate) fn run(_command: &DevCommand) -> ExitCode {
    ExitCode::FAILURE
}
