//! The command lines of `olb keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `olb keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make your own approver key
    Create(KeysCreateArgs),
    /// Enrol an approver (root)
    Enroll(EnrollArgs),
    /// Who may approve, who may no longer and why, and the broker's own keys
    List(KeysListArgs),
    /// Put a new key in the place of an old one
    Rotate(RotateArgs),
    /// End an approver's key for ever, and the leases that it brought about (root)
    Revoke(KeysRevokeArgs),
}

/// `olb keys create`.
#[derive(Debug, Args)]
pub(crate) struct KeysCreateArgs {
    /// Where to put it [default: ~/.config/olb/approver.key]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `olb keys enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The person's account [default: the caller's]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Name that people and the audit trail see [default: the account's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The public key, 64 hex digits [default: that account's own key, made if there is none]
    #[arg(long, value_name = "HEX")]
    pub(crate) key: Option<String>,
    /// Put --key in the place of this enrolled key, with the same limits: a name or key id
    #[arg(
        long,
        value_name = "NAME|KID",
        requires = "key",
        conflicts_with_all = [
            "user", "name", "requesters", "run_as", "run_as_groups", "max_lease_secs",
            "max_approvals_per_hour", "not_after",
        ]
    )]
    pub(crate) replaces: Option<String>,
    /// Whose requests they may decide: any, or uids separated by commas
    #[arg(long, default_value = "any")]
    pub(crate) requesters: String,
    /// What they may let commands run as: any, or uids separated by commas
    #[arg(long, default_value = "any")]
    pub(crate) run_as: String,
    /// With which groups: any, or gids separated by commas [default: those of the --run-as accounts]
    #[arg(long, value_name = "GIDS")]
    pub(crate) run_as_groups: Option<String>,
    /// Longest life of a lease they approve, in seconds
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) max_lease_secs: u32,
    /// Approvals per hour
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_approvals_per_hour: u32,
    /// End of the enrolment in seconds since the Unix epoch, 0 for none
    #[arg(long, default_value_t = 0)]
    pub(crate) not_after: u64,
    /// Folder of the enrolments [default: that of execd.conf]
    #[arg(long, value_name = "DIR")]
    pub(crate) approvers_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `olb keys list`.
#[derive(Debug, Args)]
pub(crate) struct KeysListArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `olb keys revoke`.
#[derive(Debug, Args)]
pub(crate) struct KeysRevokeArgs {
    /// The enrolled name, the key id (16 hex digits), or the public key (64 hex digits)
    #[arg(value_name = "NAME|KID|KEY")]
    pub(crate) key: String,
    /// Why, for whoever lists the keys later
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    /// Folder of the enrolments [default: that of execd.conf]
    #[arg(long, value_name = "DIR")]
    pub(crate) approvers_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The keys that can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rotated {
    /// Your own key, with which you decide
    Approver,
    /// The broker's key that signs leases (root)
    Lease,
    /// The broker's key that signs the audit trail (root)
    Audit,
}

/// `olb keys rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Which key [default: approver, for everybody but root]
    #[arg(value_enum)]
    pub(crate) which: Option<Rotated>,
    /// approver: sign with the new key from now on; the old one is kept beside it
    #[arg(long, conflicts_with = "forget")]
    pub(crate) finish: bool,
    /// approver: delete the old key that --finish kept
    #[arg(long)]
    pub(crate) forget: bool,
    /// approver: the key's file [default: the one you sign with]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// lease, audit: the root half's configuration [default: /etc/olb/execd.conf]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// lease, audit: leave it to the caller to restart the root half
    #[arg(long)]
    pub(crate) no_restart: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
