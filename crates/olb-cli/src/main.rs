//! `olb`: the command of the agent, the operator and the reviewer.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod args;
mod demo;
mod dev;
mod duration;

fn main() -> ExitCode {
    match args::Cli::parse().command {
        args::Command::Demo(args) => demo::run(&args),
        args::Command::Dev(command) => dev::run(&command),
        _ => ExitCode::FAILURE,
    }
}
