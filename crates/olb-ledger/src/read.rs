//! The questions. They pass through the writer's queue like everything else, so that an answer is
//! never older than what was answered before.

use std::collections::BTreeSet;

use olb_lease::{Cti, Kid, PlanDigest, RawReceipt, VerdictKind};
use rusqlite::Row;

use crate::error::LedgerError;
use crate::ledger::TrailEntry;
use crate::tx::{Tx, from_db, to_db};
use crate::types::{Issued, RequestRow};

/// What a record costs in a page beside its bytes.
const OVERHEAD: usize = 16;

pub(crate) fn peek(tx: &Tx<'_>, plan: PlanDigest) -> Result<RequestRow, LedgerError> {
    let mut answer = RequestRow::default();
    let closed = tx.closed(plan)?;
    let issued = tx.issued_for(plan)?;
    let decision = match (closed, &issued) {
        (Some(closed), _) => Some(closed),
        (None, Some(row)) => Some((VerdictKind::Approve, row.decided)),
        (None, None) => None,
    };
    if let Some((kind, decided)) = decision {
        answer.decided = Some((kind, tx.receipt(decided)?));
    }
    let Some(row) = issued else {
        return Ok(answer);
    };
    match tx.burned(row.cti)? {
        Some(number) => {
            answer.burned = true;
            answer.recorded = tx.recorded(number)?;
        }
        None if closed.is_some() || row.epoch != tx.epoch || tx.is_key_revoked(row.kid)? => {}
        None => answer.lease = Some(row.stored),
    }
    Ok(answer)
}

pub(crate) fn issued(tx: &Tx<'_>, cti: Cti) -> Result<Option<Issued>, LedgerError> {
    let Some(row) = tx.issued_as(cti)? else {
        return Ok(None);
    };
    let closed = tx.closed(row.plan)?.map(|(kind, _)| kind);
    let burned = tx.burned(cti)?.is_some();
    Ok(Some(Issued {
        plan: row.plan,
        digest: row.digest,
        verdict: row.verdict,
        kid: row.kid,
        approver_uid: row.approver_uid,
        requester_uid: row.requester_uid,
        expires_at: row.stored.expires_at,
        deadline_boot_ms: row.stored.deadline_boot_ms,
        epoch: row.epoch,
        closed,
        burned,
    }))
}

pub(crate) fn revoked_keys(tx: &Tx<'_>) -> Result<BTreeSet<Kid>, LedgerError> {
    let mut statement = tx.db.prepare("SELECT kid FROM revoked_keys")?;
    let kids = statement.query_map([], |row| row.get(0).map(Kid))?;
    Ok(kids.collect::<rusqlite::Result<_>>()?)
}

/// The key that signed the last receipt.
pub(crate) fn last_signer(tx: &Tx<'_>) -> Result<Option<Kid>, LedgerError> {
    let sql =
        "SELECT receipt FROM records WHERE receipt IS NOT NULL ORDER BY sequence DESC LIMIT 1";
    let receipt: Option<Vec<u8>> = tx.find(sql, [], |row| row.get(0))?;
    let damaged = |_| LedgerError::Damaged("the last receipt cannot be read".into());
    receipt.map(|bytes| Ok(RawReceipt::parse(&bytes).map_err(damaged)?.kid())).transpose()
}

pub(crate) fn records(
    tx: &Tx<'_>,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<TrailEntry>, LedgerError> {
    let mut statement = tx.db.prepare_cached(
        "SELECT sequence, record, receipt FROM records WHERE sequence >= ?1 ORDER BY sequence",
    )?;
    let mut rows = statement.query([to_db(from)?])?;
    let mut page: Vec<TrailEntry> = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        let (entry, size) = read_entry(row)?;
        bytes = bytes.saturating_add(size).saturating_add(OVERHEAD);
        if bytes > max_bytes && !page.is_empty() {
            break;
        }
        page.push(entry);
    }
    Ok(page)
}

fn read_entry(row: &Row<'_>) -> Result<(TrailEntry, usize), LedgerError> {
    let sequence = from_db(row.get(0)?)?;
    let record: Option<Vec<u8>> = row.get(1)?;
    let receipt: Option<Vec<u8>> = row.get(2)?;
    let damaged = || LedgerError::Damaged(format!("record {sequence} cannot be read"));
    match (record, receipt) {
        (Some(record), None) => {
            let size = record.len();
            Ok(((sequence, record, None), size))
        }
        (None, Some(receipt)) => {
            let claims = RawReceipt::parse(&receipt).and_then(|raw| raw.unverified_claims());
            let size = receipt.len();
            Ok(((sequence, claims.map_err(|_| damaged())?.record, Some(receipt)), size))
        }
        (None, None) | (Some(_), Some(_)) => Err(damaged()),
    }
}
