//! `olb demo`.

use std::process::ExitCode;

use crate::args::DemoArgs;

/// Shows the whole flow in a private, throwaway broker.
pub(crate) fn run(_args: &DemoArgs) -> ExitCode {
    ExitCode::FAILURE
}
