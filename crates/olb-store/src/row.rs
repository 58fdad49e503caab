//! A request as a row, and back.

use olb_core::{CoolOffKey, MatchKey, Request, State};
use olb_lease::{Digest, Epoch, Outcome, PlanDigest};
use rusqlite::{Row, ToSql};

use crate::error::StoreError;

/// The columns, in the order in which [`read`] and [`bind`] have them.
pub(crate) const COLUMNS: &str = "digest, code, state, requester_uid, plan, match_key, \
     cool_off_key, created_at, expires_at, decided_at, decided_by, reason, lease, \
     lease_expires_at, epoch, burned_at, finished_at, outcome_kind, outcome_value, receipt, \
     stdout_tail, stderr_tail";

/// Inserts a request; of one that is there, what can change is replaced.
pub(crate) const UPSERT: &str = "INSERT INTO request (digest, code, state, requester_uid, plan, \
     match_key, cool_off_key, created_at, expires_at, decided_at, decided_by, reason, lease, \
     lease_expires_at, epoch, burned_at, finished_at, outcome_kind, outcome_value, receipt, \
     stdout_tail, stderr_tail) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
     ON CONFLICT (digest) DO UPDATE SET state = excluded.state, \
     created_at = excluded.created_at, expires_at = excluded.expires_at, \
     decided_at = excluded.decided_at, decided_by = excluded.decided_by, \
     reason = excluded.reason, lease = excluded.lease, \
     lease_expires_at = excluded.lease_expires_at, epoch = excluded.epoch, \
     burned_at = excluded.burned_at, finished_at = excluded.finished_at, \
     outcome_kind = excluded.outcome_kind, outcome_value = excluded.outcome_value, \
     receipt = excluded.receipt, stdout_tail = excluded.stdout_tail, \
     stderr_tail = excluded.stderr_tail";

/// SQLite's integers are signed.
pub(crate) fn to_sql(value: u64, what: &'static str) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge { what })
}

fn time(value: Option<u64>, what: &'static str) -> Result<Option<i64>, StoreError> {
    value.map(|value| to_sql(value, what)).transpose()
}

/// The values of [`UPSERT`].
pub(crate) fn bind(request: &Request) -> Result<Vec<Box<dyn ToSql + '_>>, StoreError> {
    let outcome = request.outcome.map(outcome_numbers);
    Ok(vec![
        Box::new(request.digest.0),
        Box::new(request.code.to_string()),
        Box::new(request.state.name()),
        Box::new(request.requester_uid),
        Box::new(request.plan.as_ref()),
        Box::new(request.match_key.0.0),
        Box::new(request.cool_off_key.0.0),
        Box::new(to_sql(request.created_at, "created_at")?),
        Box::new(to_sql(request.expires_at, "expires_at")?),
        Box::new(time(request.decided_at, "decided_at")?),
        Box::new(request.decided_by.as_deref()),
        Box::new(request.reason.as_deref()),
        Box::new(request.lease.as_deref()),
        Box::new(time(request.lease_expires_at, "lease_expires_at")?),
        Box::new(request.epoch.map(|epoch| epoch.0)),
        Box::new(time(request.burned_at, "burned_at")?),
        Box::new(time(request.finished_at, "finished_at")?),
        Box::new(outcome.map(|(kind, _)| kind)),
        Box::new(outcome.map(|(_, value)| value)),
        Box::new(request.receipt.as_deref()),
        Box::new(request.stdout_tail.as_slice()),
        Box::new(request.stderr_tail.as_slice()),
    ])
}

fn outcome_numbers(outcome: Outcome) -> (u8, u16) {
    match outcome {
        Outcome::Exited(code) => (0, code.into()),
        Outcome::Killed(signal) => (1, signal.into()),
        Outcome::SpawnFailed(errno) => (2, errno),
        Outcome::Unknown { may_be_running } => (3, may_be_running.into()),
    }
}

fn outcome(kind: u8, value: u16) -> Option<Outcome> {
    match (kind, value) {
        (0, code) => u8::try_from(code).ok().map(Outcome::Exited),
        (1, signal) => u8::try_from(signal).ok().map(Outcome::Killed),
        (2, errno) => Some(Outcome::SpawnFailed(errno)),
        (3, 0) => Some(Outcome::Unknown { may_be_running: false }),
        (3, 1) => Some(Outcome::Unknown { may_be_running: true }),
        _ => None,
    }
}

/// Reads a row of [`COLUMNS`].
pub(crate) fn read(row: &Row<'_>) -> Result<Request, StoreError> {
    let bad = |column| StoreError::Column { column };
    let code: String = row.get(1)?;
    let state: String = row.get(2)?;
    let plan: Vec<u8> = row.get(4)?;
    let epoch: Option<[u8; 16]> = row.get(14)?;
    let recorded: (Option<u8>, Option<u16>) = (row.get(17)?, row.get(18)?);
    Ok(Request {
        digest: PlanDigest(row.get(0)?),
        code: code.parse().map_err(|_| bad("code"))?,
        state: State::from_name(&state).ok_or(bad("state"))?,
        requester_uid: row.get(3)?,
        plan: plan.into(),
        match_key: MatchKey(Digest(row.get(5)?)),
        cool_off_key: CoolOffKey(Digest(row.get(6)?)),
        created_at: seconds(row, 7)?.ok_or(bad("created_at"))?,
        expires_at: seconds(row, 8)?.ok_or(bad("expires_at"))?,
        decided_at: seconds(row, 9)?,
        decided_by: row.get(10)?,
        reason: row.get(11)?,
        lease: row.get(12)?,
        lease_expires_at: seconds(row, 13)?,
        epoch: epoch.map(Epoch),
        burned_at: seconds(row, 15)?,
        finished_at: seconds(row, 16)?,
        outcome: match recorded {
            (None, None) => None,
            (Some(kind), Some(value)) => Some(outcome(kind, value).ok_or(bad("outcome"))?),
            (Some(_), None) | (None, Some(_)) => return Err(bad("outcome")),
        },
        receipt: row.get(19)?,
        stdout_tail: row.get(20)?,
        stderr_tail: row.get(21)?,
    })
}

/// A time; negative ones are not written.
fn seconds(row: &Row<'_>, column: usize) -> Result<Option<u64>, StoreError> {
    let value: Option<i64> = row.get(column)?;
    let positive = |value| u64::try_from(value).map_err(|_| StoreError::Column { column: "time" });
    value.map(positive).transpose()
}
