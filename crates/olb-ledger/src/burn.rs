//! Burning a lease, and recording how the run ended.

use olb_lease::{Cti, Digest, LeaseClaims, PlanDigest, RecordEvent};
use rusqlite::params;

use crate::error::LedgerError;
use crate::tx::{Tx, to_db};
use crate::types::{BurnCheck, BurnError, Finish, REFUSALS_PER_LEASE, TAIL_BYTES_MAX};

/// Burns the lease with these claims and this digest; returns the burn's number. Everything that
/// the ledger knows is checked here, in the transaction that burns.
pub(crate) fn burn(
    tx: &mut Tx<'_>,
    claims: &LeaseClaims,
    digest: Digest,
    check: BurnCheck,
) -> Result<u64, BurnError> {
    let row = tx.issued_as(claims.cti)?.ok_or(BurnError::NotIssued)?;
    if row.digest != digest || row.plan != claims.plan || row.verdict != claims.verdict {
        return Err(BurnError::NotIssued);
    }
    if let Some(number) = tx.burned(row.cti)? {
        return Err(BurnError::AlreadyBurned(tx.recorded(number)?));
    }
    if [row.epoch, claims.epoch, check.epoch].iter().any(|epoch| *epoch != tx.epoch) {
        return Err(BurnError::WrongEpoch);
    }
    if let Some((kind, _)) = tx.closed(row.plan)? {
        return Err(BurnError::Closed(kind));
    }
    if tx.is_key_revoked(row.kid)? {
        return Err(BurnError::KeyRevoked);
    }
    if !row.stored.is_live(check.now, check.boot_now_ms) {
        return Err(BurnError::Expired);
    }
    let number = tx.spend()?;
    let inserted = tx.execute(
        "INSERT INTO burned (number, cti, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![to_db(number)?, row.cti.0, to_db(check.now)?],
    )?;
    if inserted != 1 {
        return Err(BurnError::AlreadyBurned(None));
    }
    tx.append(check.now, RecordEvent::Burned { plan: row.plan, cti: row.cti })?;
    Ok(number)
}

/// Records an outcome and returns the receipt. Repeating it changes nothing: after a commit that
/// failed it may have been recorded all the same.
pub(crate) fn finish(
    tx: &mut Tx<'_>,
    number: i64,
    plan: PlanDigest,
    cti: Cti,
    finish: &Finish,
) -> Result<Vec<u8>, LedgerError> {
    if let Some(recorded) = tx.recorded(number)? {
        return Ok(recorded.receipt);
    }
    let event = RecordEvent::Finished {
        plan,
        cti,
        outcome: finish.outcome,
        stdout: finish.stdout,
        stderr: finish.stderr,
        cut_by: finish.cut_by,
        duration_ms: finish.duration_ms,
        usage: finish.usage,
    };
    let (finished, receipt) = tx.append_signed(finish.now, event)?;
    tx.execute(
        "INSERT INTO outcomes (number, finished, stdout_tail, stderr_tail) \
         VALUES (?1, ?2, ?3, ?4)",
        params![number, finished, tail(&finish.stdout_tail), tail(&finish.stderr_tail)],
    )?;
    Ok(receipt)
}

fn tail(bytes: &[u8]) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(TAIL_BYTES_MAX)..).unwrap_or_default()
}

/// Records a refusal, unless the lease has had its share of them.
pub(crate) fn refuse(
    tx: &mut Tx<'_>,
    plan: PlanDigest,
    cti: Cti,
    reason: &str,
    now: u64,
) -> Result<bool, LedgerError> {
    let counted = tx.execute(
        "INSERT INTO refusals (cti, count) VALUES (?1, 1) \
         ON CONFLICT (cti) DO UPDATE SET count = count + 1 WHERE count < ?2",
        params![cti.0, REFUSALS_PER_LEASE],
    )?;
    if counted == 0 {
        return Ok(false);
    }
    tx.append(now, RecordEvent::Refused { plan, cti, reason: reason.into() })?;
    Ok(true)
}
