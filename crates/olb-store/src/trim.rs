//! Deleting what is over and old, so that nobody fills the disk by asking.

use olb_core::Limits;
use rusqlite::OptionalExtension as _;

use crate::error::StoreError;
use crate::row::to_sql;
use crate::store::Store;

/// Requests deleted at once.
const DELETED_AT_ONCE: usize = 64;
/// Free pages that a file may have before it is made smaller: what comes and goes all the time needs
/// no work.
const FREE_PAGES: u32 = 256;
/// Pages given back to the disk at once.
const PAGES_AT_ONCE: u32 = 256;

/// The uid whose requests are too many, or else the one with the most bytes where all together are.
const ABOVE: &str = "SELECT requester_uid FROM stored WHERE requests > ?1 OR bytes > ?2 UNION ALL \
     SELECT requester_uid FROM (SELECT requester_uid FROM stored ORDER BY bytes DESC LIMIT 1) \
     WHERE (SELECT sum(requests) > ?3 OR sum(bytes) > ?4 FROM stored) LIMIT 1";

/// Its oldest one; a denial that still answers requests like it stays.
const DELETE: &str = "DELETE FROM request WHERE number = (SELECT number FROM request \
     INDEXED BY request_by_uid WHERE requester_uid = ?1 AND finished_at IS NOT NULL \
     AND NOT (state = 'denied' AND finished_at >= ?2) ORDER BY number LIMIT 1)";

impl Store {
    /// Deletes the oldest finished requests above the limits at `now` (seconds since the Unix
    /// epoch), a few at a time; whether there may be more to do. Open requests are never deleted.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn trim(&self, now: u64, limits: &Limits) -> Result<bool, StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut more = true;
        for _ in 0..DELETED_AT_ONCE {
            more = self.delete_one(now, limits)?;
            if !more {
                break;
            }
        }
        self.forget_codes(now, limits)?;
        transaction.commit()?;
        self.give_back()?;
        Ok(more)
    }

    fn delete_one(&self, now: u64, limits: &Limits) -> Result<bool, StoreError> {
        let numbers = [
            limits.stored_per_uid,
            limits.stored_bytes_per_uid,
            limits.stored_total,
            limits.stored_bytes_total,
        ];
        let numbers = numbers.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let mut above = self.connection.prepare_cached(ABOVE)?;
        let uid: Option<u32> = above.query_row(numbers, |row| row.get(0)).optional()?;
        let Some(uid) = uid else { return Ok(false) };
        let since = to_sql(now.saturating_sub(limits.denial_memory_secs()), "time")?;
        let deleted = self.connection.prepare_cached(DELETE)?.execute((uid, since))?;
        Ok(deleted > 0)
    }

    /// Codes of deleted requests count as long as others; what is ahead of the clock counts as now.
    fn forget_codes(&self, now: u64, limits: &Limits) -> Result<(), StoreError> {
        let horizon = to_sql(now.saturating_sub(limits.code_reuse_secs), "time")?;
        let old = "DELETE FROM deleted_code WHERE created_at < ?";
        self.connection.prepare_cached(old)?.execute([horizon])?;
        let ahead = "UPDATE deleted_code SET created_at = ?1 WHERE created_at > ?1";
        self.connection.prepare_cached(ahead)?.execute([to_sql(now, "time")?])?;
        Ok(())
    }

    fn give_back(&self) -> Result<(), StoreError> {
        let free: u32 =
            self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free > FREE_PAGES {
            let sql = format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut pages = statement.query([])?;
            // Each step is a page.
            while pages.next()?.is_some() {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
