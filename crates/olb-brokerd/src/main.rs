//! `olb-brokerd`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    olb_brokerd::main()
}
