//! The command lines of `olb demo` and `olb dev`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `olb demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Approve without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// End with one JSON object on standard output; the prose goes to standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// `olb dev`.
#[derive(Debug, Subcommand)]
pub(crate) enum DevCommand {
    /// Start an instance and print how to reach it
    Up(DevUpArgs),
    /// End an instance and remove its folder
    Down(DevDirArgs),
    /// The process that owns an instance
    #[command(hide = true)]
    Supervise(DevSuperviseArgs),
}

/// `olb dev up`.
#[derive(Debug, Args)]
pub(crate) struct DevUpArgs {
    /// Folder of the instance; must not exist
    #[arg(long, value_name = "D")]
    pub(crate) dir: PathBuf,
    /// Account that may ask: a name or uid
    #[arg(long, value_name = "USER", required = true)]
    pub(crate) requester: Vec<String>,
    /// Account that may approve, besides you
    #[arg(long, value_name = "USER")]
    pub(crate) approver: Vec<String>,
    #[command(flatten)]
    pub(crate) life: DevLifeArgs,
}

/// How long an instance lives that nobody ends. Not for people: tests cannot wait for hours.
#[derive(Debug, Args)]
pub(crate) struct DevLifeArgs {
    /// It ends by itself after this time
    #[arg(
        long,
        hide = true,
        default_value = "8h",
        value_name = "TIME",
        value_parser = crate::duration::parse
    )]
    pub(crate) lifetime: u32,
}

/// `olb dev supervise`.
#[derive(Debug, Args)]
pub(crate) struct DevSuperviseArgs {
    #[command(flatten)]
    pub(crate) folder: DevDirArgs,
    #[command(flatten)]
    pub(crate) life: DevLifeArgs,
}

/// A command about an instance's folder.
#[derive(Debug, Args)]
pub(crate) struct DevDirArgs {
    /// Folder of the instance
    #[arg(long, value_name = "D")]
    pub(crate) dir: PathBuf,
}
