//! The command line of `olb`, except for the hot path (`exec`), which is read without clap.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod keys;
mod throwaway;

pub(crate) use keys::*;
pub(crate) use throwaway::*;

/// A human approves each privileged command that an agent asks for.
#[derive(Debug, Parser)]
#[command(name = "olb", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask for a command; once it is approved, print its lease
    Request(RequestArgs),
    /// Present a lease: run the approved command, once
    Exec(ExecArgs),
    /// Ask, wait for the decision and run
    Run(RunArgs),
    /// Health of the broker and one's own requests, or one request
    Status(StatusArgs),
    /// What is recorded of a request's run
    Result(SelectArgs),
    /// Take back one's own pending request
    Cancel(SelectArgs),
    /// Open requests, for the operator
    List(ListArgs),
    /// One request as the operator is asked about it
    Show(SelectArgs),
    /// Approve a request: with its code after being shown it, with its full id for scripts
    Approve(ApproveArgs),
    /// Deny a request, with a reason for the agent
    Deny(DenyArgs),
    /// Take back an approval that was not used yet
    Revoke(RevokeArgs),
    /// Leases as a reviewer sees them
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Keys of approvers and of the broker
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show the whole of it in a private, throwaway broker
    Demo(DemoArgs),
    /// A throwaway broker for plugin authors and tests
    #[command(subcommand)]
    Dev(DevCommand),
}

/// What `request` and `run` share: how a command is asked for.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Account to run as: a name or #uid [default: root]
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Group to run as
    #[arg(short = 'g', long = "group", value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Working directory of the command [default: this one]
    #[arg(short = 'C', long = "chdir", value_name = "DIR")]
    pub(crate) chdir: Option<PathBuf>,
    /// Why, in your own words, for the human who decides
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    /// Session this belongs to, shown to the human
    #[arg(long, default_value = "", value_name = "KEY")]
    pub(crate) session: String,
    /// Bind what is on standard input now and give it to the command
    #[arg(long)]
    pub(crate) stdin: bool,
    /// List files that others can change as unbound where no rule says what the command does with
    /// them: the human is told that they can change after the approval
    #[arg(long)]
    pub(crate) allow_unbound: bool,
    /// Wall-clock limit of the command, such as 90s, 30m or 24h
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) timeout: Option<u32>,
    /// VAR=value words, then the command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub(crate) words: Vec<OsString>,
}

/// `olb request`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait for the decision, at most this long
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) wait: Option<u32>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// `olb exec`.
#[derive(Debug, Default, Args)]
pub(crate) struct ExecArgs {
    /// File that holds the lease
    #[arg(long, value_name = "F", conflicts_with_all = ["lease_fd", "id"])]
    pub(crate) lease_file: Option<PathBuf>,
    /// Open descriptor to read the lease from
    #[arg(long, value_name = "N", conflicts_with = "id")]
    pub(crate) lease_fd: Option<i32>,
    /// Use the lease that the broker keeps for this request of yours
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Write the outcome there as one JSON object
    #[arg(long, value_name = "F")]
    pub(crate) outcome_file: Option<PathBuf>,
    /// Account the command was asked for, as -u of `olb request` takes it
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Group the command was asked for
    #[arg(short = 'g', long = "group", value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Working directory the command was asked for [default: this one]
    #[arg(short = 'C', long = "chdir", value_name = "DIR")]
    pub(crate) chdir: Option<PathBuf>,
    /// The command was asked for with --stdin; give the same bytes again
    #[arg(long)]
    pub(crate) stdin: bool,
    /// VAR=value words, then the command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) words: Vec<OsString>,
}

/// `olb run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Wait for the decision at most this long
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) wait: Option<u32>,
    /// Write the outcome there as one JSON object
    #[arg(long, value_name = "F")]
    pub(crate) outcome_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// `olb status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// One request: its id or code
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
}

/// A command about one request.
#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// The request: its id or code
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// `olb list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Also those that are over
    #[arg(long)]
    pub(crate) all: bool,
}

/// What the deciding commands share.
#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The request: its code, or its full req_ id
    #[arg(long, value_name = "ID")]
    pub(crate) id: String,
    /// Your approver key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `olb approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    pub(crate) decide: DecideArgs,
}

/// `olb deny`.
#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    #[command(flatten)]
    pub(crate) decide: DecideArgs,
    /// Why not, or what to do instead: the agent reads it
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
}

/// `olb revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) decide: DecideArgs,
    /// Why: the agent reads it
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
}

/// `olb lease`.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Every claim of a lease and the verdict of each check
    Inspect(InspectArgs),
}

/// `olb lease inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 where no check fails, 77 where one does. `stage` is the first that fails; else `unverified` where \
a check could not be made, as with --keys, or `valid`. `unproved` names the checks that were not made or hold on \
the word of the front only (`said`): without a receipt, that a lease was neither used nor taken back."
)]
pub(crate) struct InspectArgs {
    /// The lease, olbl1_...
    #[arg(value_name = "LEASE")]
    pub(crate) lease: Option<String>,
    /// File that holds it
    #[arg(long, value_name = "F", conflicts_with = "lease")]
    pub(crate) lease_file: Option<PathBuf>,
    /// Public keys of the broker; then no broker is asked [default: ask the running one]
    #[arg(long, value_name = "F")]
    pub(crate) keys: Option<PathBuf>,
    /// Print lines for people instead of one JSON object
    #[arg(long, conflicts_with = "json")]
    pub(crate) text: bool,
    /// Print one JSON object, as without it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `olb audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// What happened, one line each
    List(AuditListArgs),
    /// The trail as JSON lines, for `olb audit verify`
    Export,
    /// Check the trail: 0 intact, 1 broken, 2 cannot verify
    Verify(AuditVerifyArgs),
}

/// `olb audit list`.
#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// First sequence number
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) from: u64,
}

/// `olb audit verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct AuditVerifyArgs {
    /// Public keys of the broker, retired ones too [default: keys.pub of the running one]
    #[arg(long, value_name = "F")]
    pub(crate) keys: Option<PathBuf>,
    /// Saved journal of olb-execd with heads of the trail, - for standard input [default: this
    /// host's journal]
    #[arg(long, value_name = "F", conflicts_with = "no_anchor")]
    pub(crate) anchor: Option<PathBuf>,
    /// Look for no anchor: a trail whose end was cut off passes
    #[arg(long)]
    pub(crate) no_anchor: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// An exported trail [default: ask the running broker]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

const VERIFY_HELP: &str = "\
Exit code: 0 intact, 1 broken, 2 cannot verify.

Edited, deleted, repeated, swapped and re-signed records are found with the public keys alone. That \
the end was cut off, or an older export shown, is found against an anchor: a head of the trail that \
was kept elsewhere. olb-execd writes one into the journal after each record that it signs. To keep \
them on another host:

  journalctl -o cat _SYSTEMD_UNIT=olb-execd.service _UID=0 _COMM=olb-execd > heads.txt
  olb audit verify --keys keys.pub --anchor heads.txt audit.jsonl

Without an anchor an intact trail is 0 too, and the output says that its end is not proved. With --keys, \
heads that are newer than all others and of a key that is not among them are 2: it was replaced since.";
