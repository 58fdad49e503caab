//! What goes into the ledger and what comes out.

use std::io;
use std::path::PathBuf;

use olb_lease::{
    Audit, CutBy, Digest, Epoch, EpochReason, Kid, LeaseClaims, Outcome, PlanDigest, SigningKey,
    StreamSummary, Usage, VerdictDigest, VerdictKind, VerifiedLease, VerifiedVerdict,
};
use thiserror::Error;

use crate::error::LedgerError;

/// Of each output stream at most so many bytes are kept: the last ones.
pub const TAIL_BYTES_MAX: usize = 16 * 1024;
/// So many refusals are recorded per lease; later ones are not.
pub const REFUSALS_PER_LEASE: u32 = 10;

/// A number that outlives the ledger's file but not the boot: where an older copy of the ledger put
/// back would be noticed. The caller keeps it in a file on a tmpfs.
pub trait BurnCounter: Send {
    /// Sets the counter to `next`; called before the commit that makes it true, and again with the
    /// same number after a commit that failed. Never called with less than before.
    ///
    /// # Errors
    /// It could not be written; what was to be burned or closed is refused.
    fn advance(&mut self, next: u64) -> io::Result<()>;
}

/// How to open a ledger.
pub struct Options {
    /// The database; its directory must be 0700 and exist.
    pub path: PathBuf,
    /// The kernel's boot id.
    pub boot_id: [u8; 16],
    /// What the burn counter holds; `None` where there is none yet on this boot.
    pub burn_counter: Option<u64>,
    /// Where to keep the burn counter.
    pub counter: Box<dyn BurnCounter>,
    /// Random bytes; the new epoch, if one begins.
    pub fresh_epoch: Epoch,
    /// The key id of the lease key in use.
    pub lease_kid: Kid,
    /// Signs the receipts.
    pub audit_key: SigningKey<Audit>,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
    /// Size of the ballast file that keeps space for outcomes on a full disk, in bytes.
    pub ballast_bytes: u64,
    /// Whether commands of an earlier process may still be running.
    pub may_be_running: bool,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The epoch in force.
    pub epoch: Epoch,
    /// Why it began now; `None` where the one before goes on.
    pub epoch_reason: Option<EpochReason>,
    /// Plans that were burned without an outcome and have `outcome_unknown` now.
    pub unknown: Vec<PlanDigest>,
    /// The burn counter: how many burns and closings the ledger has seen, at least.
    pub burns: u64,
}

/// A lease that was minted for a verdict and is to be issued by recording it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLease {
    /// The signed lease.
    pub bytes: Vec<u8>,
    /// Its claims; what the ledger stores of it is read from them.
    pub claims: LeaseClaims,
    /// When it expires on the boot clock, in milliseconds.
    pub deadline_boot_ms: u64,
}

/// A verdict with everything that is recorded about it.
#[derive(Debug)]
pub struct Decision {
    /// The verdict; its signature holds.
    pub verdict: VerifiedVerdict,
    /// Its bytes.
    pub verdict_bytes: Vec<u8>,
    /// The plan that it is about.
    pub plan_bytes: Vec<u8>,
    /// The plan's digest.
    pub plan: PlanDigest,
    /// Who asked.
    pub requester_uid: u32,
    /// The approver's enrolled name.
    pub approver_name: String,
    /// The approver's uid.
    pub approver_uid: u32,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
    /// The boot clock, in milliseconds.
    pub boot_now_ms: u64,
    /// For an approval and only then: the lease to issue.
    pub lease: Option<NewLease>,
    /// How many approvals the key may give within an hour.
    pub max_approvals_per_hour: u32,
}

/// A lease that was issued and not burned, closed or left behind by its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLease {
    /// The signed lease.
    pub bytes: Vec<u8>,
    /// First second at which it is no longer good, since the Unix epoch.
    pub expires_at: u32,
    /// The same on the boot clock, in milliseconds.
    pub deadline_boot_ms: u64,
}

impl StoredLease {
    /// Whether it is still good: the boot clock decides, the wall clock can only add a refusal.
    #[must_use]
    pub fn is_live(&self, now: u64, boot_now_ms: u64) -> bool {
        self.deadline_boot_ms > boot_now_ms && u64::from(self.expires_at) > now
    }
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionResult {
    /// It is recorded; for an approval, the lease is issued.
    Recorded {
        /// The signed record.
        receipt: Vec<u8>,
    },
    /// The request was decided before; that stands.
    AlreadyDecided {
        /// How.
        kind: VerdictKind,
        /// The signed record of that.
        receipt: Vec<u8>,
        /// The one lease, where an approval is repeated and the lease can still be used.
        lease: Option<StoredLease>,
    },
    /// The lease was burned before; nothing can be taken back.
    Burned {
        /// The outcome, once there is one.
        recorded: Option<Recorded>,
    },
    /// The key has given its approvals for this hour.
    RateLimited,
    /// The key was revoked.
    KeyRevoked,
    /// The verdict is from another epoch.
    WrongEpoch,
}

/// An outcome as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The signed record.
    pub receipt: Vec<u8>,
    /// The last bytes of standard output.
    pub stdout_tail: Vec<u8>,
    /// The last bytes of standard error.
    pub stderr_tail: Vec<u8>,
}

/// What the ledger holds on one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestRow {
    /// The decision that stands (a closing one before an approval) with its signed record.
    pub decided: Option<(VerdictKind, Vec<u8>)>,
    /// The lease, while only time can end it: see [`StoredLease::is_live`].
    pub lease: Option<StoredLease>,
    /// Whether it was burned.
    pub burned: bool,
    /// The outcome, once there is one.
    pub recorded: Option<Recorded>,
}

/// What the ledger knows of a lease that it issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The plan.
    pub plan: PlanDigest,
    /// SHA-256 of the whole lease.
    pub digest: Digest,
    /// The verdict behind it.
    pub verdict: VerdictDigest,
    /// The approver's key.
    pub kid: Kid,
    /// The approver's uid.
    pub approver_uid: u32,
    /// Who asked.
    pub requester_uid: u32,
    /// First second at which it is no longer good, since the Unix epoch.
    pub expires_at: u32,
    /// The same on the boot clock, in milliseconds.
    pub deadline_boot_ms: u64,
    /// The epoch it is good in.
    pub epoch: Epoch,
    /// How the request was closed, if it was.
    pub closed: Option<VerdictKind>,
    /// Whether it was burned.
    pub burned: bool,
}

/// What a burn is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BurnCheck {
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
    /// The boot clock, in milliseconds.
    pub boot_now_ms: u64,
    /// The epoch that the caller believes in.
    pub epoch: Epoch,
}

/// Why a lease was not burned now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BurnError {
    /// It was burned before; the outcome, once there is one.
    #[error("the lease was used before: ask again for another run")]
    AlreadyBurned(Option<Recorded>),
    /// The request was denied or revoked.
    #[error("the approval was taken back")]
    Closed(VerdictKind),
    /// Its time is over.
    #[error("the lease has expired: ask again")]
    Expired,
    /// This ledger never issued it.
    #[error("this broker never issued the lease: ask again")]
    NotIssued,
    /// It is from another epoch.
    #[error("the broker was restarted since the approval: ask again")]
    WrongEpoch,
    /// The key of its approver was revoked.
    #[error("the approver's key was revoked: ask again")]
    KeyRevoked,
    /// The ledger could not do it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A lease that was burned: the one thing that lets a command be started, once. Only
/// [`crate::Ledger::burn`] makes one, and it is not `Clone`.
#[derive(Debug)]
pub struct BurnedLease {
    lease: VerifiedLease,
    number: u64,
}

impl BurnedLease {
    pub(crate) fn new(lease: VerifiedLease, number: u64) -> Self {
        Self { lease, number }
    }

    /// What was signed.
    #[must_use]
    pub fn claims(&self) -> &LeaseClaims {
        self.lease.claims()
    }

    /// The number of the burn, which the burn counter holds since.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
    /// The outcome.
    pub outcome: Outcome,
    /// Standard output.
    pub stdout: StreamSummary,
    /// Standard error.
    pub stderr: StreamSummary,
    /// Who cut it short.
    pub cut_by: CutBy,
    /// From spawn to end, in milliseconds.
    pub duration_ms: u64,
    /// What the command used, where its end was seen.
    pub usage: Option<Usage>,
    /// The end of standard output; more than [`TAIL_BYTES_MAX`] is cut at the front.
    pub stdout_tail: Vec<u8>,
    /// The end of standard error; likewise.
    pub stderr_tail: Vec<u8>,
}

/// An outcome that could not be recorded; the burned lease comes back for another attempt.
#[derive(Debug, Error)]
#[error("the outcome is not recorded: {error}")]
pub struct FinishError {
    /// What was burned.
    pub lease: Box<BurnedLease>,
    /// Why it is not recorded.
    pub error: LedgerError,
}
