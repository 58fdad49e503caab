//! Recording a verdict.

use olb_lease::{
    Digest, PLAN_BYTES_MAX, RawLease, RawVerdict, RecordEvent, VerdictKind, plan_digest, sha256,
};
use rusqlite::params;

use crate::error::LedgerError;
use crate::tx::{Tx, to_db};
use crate::types::{Decision, DecisionResult, NewLease};

/// The window of the limit on approvals, in seconds.
const HOUR: u64 = 3600;

/// Refuses parts that do not belong together, before the writer's time is taken.
pub(crate) fn check(decision: &Decision) -> Result<(), LedgerError> {
    let claims = decision.verdict.claims();
    let verdict = RawVerdict::parse(&decision.verdict_bytes);
    if !verdict.and_then(|raw| raw.unverified_claims()).is_ok_and(|said| said == *claims) {
        return Err(LedgerError::Input("the bytes are not those of the verdict"));
    }
    if decision.plan_bytes.len() > PLAN_BYTES_MAX
        || claims.plan != decision.plan
        || plan_digest(&decision.plan_bytes) != decision.plan
    {
        return Err(LedgerError::Input("the plan is not the one that the verdict is about"));
    }
    match (&decision.lease, claims.kind) {
        (Some(lease), VerdictKind::Approve) => check_lease(decision, lease),
        (None, VerdictKind::Deny | VerdictKind::Revoke) => Ok(()),
        (None, VerdictKind::Approve) | (Some(_), VerdictKind::Deny | VerdictKind::Revoke) => {
            Err(LedgerError::Input("an approval comes with a lease, and nothing else does"))
        }
    }
}

fn check_lease(decision: &Decision, lease: &NewLease) -> Result<(), LedgerError> {
    let claims = &lease.claims;
    let same = RawLease::parse(&lease.bytes)
        .and_then(|raw| raw.unverified_claims())
        .is_ok_and(|said| said == *claims);
    let fits = claims.plan == decision.plan
        && claims.verdict == decision.verdict.digest()
        && claims.epoch == decision.verdict.claims().epoch
        && claims.requester_uid == decision.requester_uid;
    if same && fits {
        return Ok(());
    }
    Err(LedgerError::Input("the lease does not repeat its verdict and its plan"))
}

pub(crate) fn decide(tx: &mut Tx<'_>, decision: &Decision) -> Result<DecisionResult, LedgerError> {
    if decision.verdict.claims().epoch != tx.epoch {
        return Ok(DecisionResult::WrongEpoch);
    }
    if tx.is_key_revoked(decision.verdict.kid())? {
        return Ok(DecisionResult::KeyRevoked);
    }
    if let Some((kind, decided)) = tx.closed(decision.plan)? {
        let receipt = tx.receipt(decided)?;
        return Ok(DecisionResult::AlreadyDecided { kind, receipt, lease: None });
    }
    match &decision.lease {
        Some(lease) => approve(tx, decision, lease),
        None => close(tx, decision),
    }
}

/// One approval per request, ever: a repeated one is answered with the lease of the first.
fn approve(
    tx: &mut Tx<'_>,
    decision: &Decision,
    lease: &NewLease,
) -> Result<DecisionResult, LedgerError> {
    if let Some(row) = tx.issued_for(decision.plan)? {
        if let Some(number) = tx.burned(row.cti)? {
            return Ok(DecisionResult::Burned { recorded: tx.recorded(number)? });
        }
        let live = row.epoch == tx.epoch && row.stored.is_live(decision.now, decision.boot_now_ms);
        return Ok(DecisionResult::AlreadyDecided {
            kind: VerdictKind::Approve,
            receipt: tx.receipt(row.decided)?,
            lease: live.then_some(row.stored),
        });
    }
    if approvals_this_hour(tx, decision)? >= decision.max_approvals_per_hour {
        return Ok(DecisionResult::RateLimited);
    }
    let (decided, receipt) = append(tx, decision)?;
    issue(tx, decision, lease, decided)?;
    Ok(DecisionResult::Recorded { receipt })
}

fn approvals_this_hour(tx: &Tx<'_>, decision: &Decision) -> Result<u32, LedgerError> {
    // Both ends: what was approved while the clock stood in the far future does not count for ever.
    let from = to_db(decision.now.saturating_sub(HOUR))?;
    let to = to_db(decision.now.saturating_add(HOUR))?;
    let count = tx.find(
        "SELECT count(*) FROM issued WHERE kid = ?1 AND issued_at > ?2 AND issued_at < ?3",
        params![decision.verdict.kid().0, from, to],
        |row| row.get(0),
    )?;
    Ok(count.unwrap_or(u32::MAX))
}

fn issue(
    tx: &Tx<'_>,
    decision: &Decision,
    lease: &NewLease,
    decided: i64,
) -> Result<(), LedgerError> {
    let claims = &lease.claims;
    tx.execute(
        "INSERT INTO issued (plan, verdict, cti, digest, lease, kid, approver_uid, requester_uid, \
         issued_at, expires_at, deadline_boot_ms, epoch, decided) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            decision.plan.0,
            decision.verdict.digest().0,
            claims.cti.0,
            Digest(sha256(&lease.bytes)).0,
            lease.bytes,
            decision.verdict.kid().0,
            decision.approver_uid,
            decision.requester_uid,
            to_db(decision.now)?,
            claims.expires_at,
            to_db(lease.deadline_boot_ms)?,
            tx.epoch.0,
            decided,
        ],
    )?;
    Ok(())
}

/// A denial and a revocation do the same: the request is over, whether it was approved or not.
fn close(tx: &mut Tx<'_>, decision: &Decision) -> Result<DecisionResult, LedgerError> {
    if let Some(row) = tx.issued_for(decision.plan)?
        && let Some(number) = tx.burned(row.cti)?
    {
        return Ok(DecisionResult::Burned { recorded: tx.recorded(number)? });
    }
    // Counted like a burn, so that an older copy of the ledger cannot forget it unnoticed.
    let number = tx.spend()?;
    let (decided, receipt) = append(tx, decision)?;
    let kind = i64::from(decision.verdict.claims().kind as u8);
    tx.execute(
        "INSERT INTO closed (number, plan, kind, decided) VALUES (?1, ?2, ?3, ?4)",
        params![to_db(number)?, decision.plan.0, kind, decided],
    )?;
    Ok(DecisionResult::Recorded { receipt })
}

fn append(tx: &mut Tx<'_>, decision: &Decision) -> Result<(i64, Vec<u8>), LedgerError> {
    let event = RecordEvent::Decided {
        plan: decision.plan_bytes.clone(),
        verdict: decision.verdict_bytes.clone(),
        approver: decision.approver_name.clone(),
        approver_uid: decision.approver_uid,
        cti: decision.lease.as_ref().map(|lease| lease.claims.cti),
    };
    tx.append_signed(decision.now, event)
}
