//! The front half: everything that an agent or a reviewer sends ends here.
//!
//! It runs without privileges and holds no key. A captured front may withhold, delay, spend an
//! approved lease early, cut a running command, or lie to the requester; it cannot make anything
//! run that was not approved, nor twice.
//!
//! Peers are admitted by the kernel's word and a positive list before a byte is read. Requests are
//! read with exact lengths and without a control buffer, so that no descriptor of a client is ever
//! received. What is asked for becomes a plan, built once and kept as bytes; the lifecycle
//! (`olb-core`) says what may happen to it; verdicts and leases go to the root half on `exec.sock`
//! together with the client's own socket. Waiting clients are pushed every change.
#![forbid(unsafe_code)]

mod account;
mod admission;
mod args;
mod blobs;
mod config;
mod environment;
mod execd;
mod execute;
mod follow;
mod frame;
mod front;
mod journal;
mod list;
mod lookup;
mod operation;
mod plan;
mod refuse;
mod request;
mod resolve;
mod review;
mod room;
mod rules;
mod serve;
mod settle;
mod standing;
mod start;
mod turns;
mod upload;
mod view;

use std::io::Write as _;
use std::process::ExitCode;

pub use args::{Args, ArgsError, parse};
pub use config::{Config, ConfigError, ConnectionLimits};
pub use start::{Setup, prepare, serve as serve_until};
use tokio::signal::unix::{SignalKind, signal};

/// The daemon, from its command line to its end.
#[must_use]
pub fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("OLB_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = "stopped", error = format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let args = parse(std::env::args_os().skip(1))?;
    let setup = prepare(&args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve_until(setup, say_ready, stop).await
    });
    // A look-up may hang on a strange file system for ever; the end does not wait for it.
    runtime.shutdown_background();
    served
}

/// The one line on standard output, for whoever started the daemon.
fn say_ready() {
    let mut stdout = std::io::stdout();
    if writeln!(stdout, "ready").and_then(|()| stdout.flush()).is_err() {
        tracing::debug!(event = "ready_not_read");
    }
}
