//! `olb`: the command of the agent, the operator and the reviewer.
#![forbid(unsafe_code)]
// They end the process where nobody reads: `out` has what takes their place.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

mod account;
mod args;
mod ask;
mod asked;
mod audit;
mod bind;
mod client;
mod decide;
mod demo;
mod dev;
mod duration;
mod enroll;
mod exec;
mod failure;
mod instance;
mod json;
mod keys;
mod lease;
mod out;
mod outcome;
mod proof;
mod relay;
mod request;
mod run;
mod select;
mod sink;
mod status;
mod terminal;
#[cfg(test)]
mod testing;
mod text;
mod trust;

use args::{Cli, Command};

/// musl's allocator asks the kernel for every size anew, which is felt at each start.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Presenting a lease starts on every privileged command: it does not wait for clap.
    if let Some(args) = words.split_first().filter(|(name, _)| *name == "exec")
        && let Some(args) = exec::parse(args.1)
    {
        return exec::run(&args);
    }
    match Cli::try_parse() {
        Ok(cli) => run(&cli.command),
        Err(error) => {
            let is_answer =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Where the text cannot be printed, the exit code still says what it was.
            drop(error.print());
            if is_answer { ExitCode::SUCCESS } else { ExitCode::from(failure::code::USAGE) }
        }
    }
}

fn run(command: &Command) -> ExitCode {
    match command {
        Command::Request(args) => request::run(args),
        Command::Exec(args) => exec::run(args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::status(args),
        Command::Result(args) => status::result(args),
        Command::Cancel(args) => request::cancel(args),
        Command::List(args) => status::list(args),
        Command::Show(args) => status::show(args),
        Command::Approve(args) => decide::approve(args),
        Command::Deny(args) => decide::deny(args),
        Command::Revoke(args) => decide::revoke(args),
        Command::Lease(command) => lease::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Audit(command) => audit::run(command),
        Command::Demo(args) => demo::run(args),
        Command::Dev(command) => dev::run(command),
    }
}
