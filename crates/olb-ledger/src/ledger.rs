//! The handle.

use olb_lease::{ChainHead, Cti, Epoch, Kid, PlanDigest, VerifiedLease};

use crate::error::LedgerError;
use crate::types::{
    BurnCheck, BurnError, BurnedLease, Decision, DecisionResult, Finish, FinishError, Issued,
    Opened, Options, RequestRow,
};

/// A handle on the open ledger; clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {}

#[allow(clippy::needless_pass_by_value, clippy::unused_self, unused_variables, reason = "shape only")]
impl Ledger {
    /// Opens.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn open(options: Options) -> Result<(Self, Opened), LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// Records a verdict.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn decide(&self, decision: Decision) -> Result<DecisionResult, LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// What is known of a request.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn peek(&self, plan: PlanDigest) -> Result<RequestRow, LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// What is known of a lease.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn issued(&self, cti: Cti) -> Result<Option<Issued>, LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// Burns.
    ///
    /// # Errors
    /// See [`BurnError`].
    pub fn burn(&self, lease: VerifiedLease, check: BurnCheck) -> Result<BurnedLease, BurnError> {
        Err(BurnError::Ledger(LedgerError::Stopped))
    }

    /// Records an outcome; returns the receipt.
    ///
    /// # Errors
    /// See [`FinishError`].
    pub fn finish(&self, lease: BurnedLease, finish: Finish) -> Result<Vec<u8>, FinishError> {
        Err(FinishError { lease: Box::new(lease), error: LedgerError::Stopped })
    }

    /// Records a refusal; false when the lease has had its share of them.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn refuse(&self, plan: PlanDigest, cti: Cti, reason: &str, now: u64) -> Result<bool, LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// Records of the trail.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn records(&self, from: u64, max_bytes: usize) -> Result<Vec<(u64, Vec<u8>, Option<Vec<u8>>)>, LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// The last sequence number and the chain's head.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn head(&self) -> Result<(u64, ChainHead), LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// The last receipt about a request.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn receipt_of(&self, plan: PlanDigest) -> Result<Option<Vec<u8>>, LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// Revokes an approver's key for ever.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn revoke_key(&self, kid: Kid, now: u64) -> Result<(), LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// Whether an approver's key was revoked.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn is_key_revoked(&self, kid: Kid) -> Result<bool, LedgerError> {
        Err(LedgerError::Stopped)
    }

    /// The epoch in force.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch([0; 16])
    }

    /// Ends the writer after what is queued.
    pub fn close(self) {}
}
