//! The store's calls.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use olb_core::{Code, Limits, Memory, Request, Selector};
use olb_lease::PlanDigest;
use rusqlite::{Connection, OptionalExtension as _, Params, params_from_iter};

use crate::error::StoreError;
use crate::open::{OpenReport, open};
use crate::row::{COLUMNS, UPSERT, bind, read, to_sql};

/// The open requests, always through the index of these few.
const OPEN: &str = "INDEXED BY request_open WHERE finished_at IS NULL";

/// The open `broker.db`. Calls block for as long as the disk does; a save is one write to the
/// journal without a flush.
pub struct Store {
    pub(crate) connection: Connection,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens `broker.db` in `dir` (mode 0700), made with mode 0600 if it is not there. A file that
    /// is not intact is kept beside it as `broker.db.corrupt-<n>`, and the report says so.
    ///
    /// # Errors
    /// The directory is open to others, the file cannot be written, or a newer version wrote it.
    pub fn open(dir: &Path) -> Result<(Self, OpenReport), StoreError> {
        let (connection, report) = open(dir)?;
        // Bytes whose request was never stored or is over: a crash came between the two.
        connection.execute(
            "DELETE FROM stdin_blob WHERE plan NOT IN \
             (SELECT digest FROM request WHERE finished_at IS NULL)",
            [],
        )?;
        Ok((Self { connection }, report))
    }

    /// Stores the request as it is now.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn save(&self, request: &Request) -> Result<(), StoreError> {
        let values = bind(request)?;
        self.connection.prepare_cached(UPSERT)?.execute(params_from_iter(values))?;
        Ok(())
    }

    /// Every open request, oldest first.
    ///
    /// # Errors
    /// The disk fails or a row does not decode.
    pub fn load_open(&self) -> Result<Vec<Request>, StoreError> {
        self.select(&format!("{OPEN} ORDER BY number"), [])
    }

    /// What [`olb_core::Lifecycle::restore`] needs at `now` (seconds since the Unix epoch): the open
    /// requests, the denied ones that can still matter, the last finished ones, and the codes of
    /// the last day.
    ///
    /// # Errors
    /// The disk fails or a row does not decode.
    pub fn load_memory(&self, now: u64, limits: &Limits) -> Result<Memory, StoreError> {
        let mut requests = self.load_open()?;
        let newest = i64::try_from(limits.finished_in_memory).unwrap_or(i64::MAX);
        requests.extend(self.select_within(
            limits.finished_in_memory_bytes,
            "WHERE finished_at IS NOT NULL ORDER BY finished_at DESC, number DESC LIMIT ?",
            [newest],
        )?);
        let since = to_sql(now.saturating_sub(limits.denial_memory_secs()), "time")?;
        let denied = self.select("WHERE finished_at >= ? AND state = 'denied'", [since])?;
        let known: BTreeSet<_> = requests.iter().map(|one| one.digest).collect();
        requests.extend(denied.into_iter().filter(|one| !known.contains(&one.digest)));
        let codes = self.codes_since(now.saturating_sub(limits.code_reuse_secs))?;
        Ok(Memory { requests, codes })
    }

    fn codes_since(&self, since: u64) -> Result<Vec<(u64, Code)>, StoreError> {
        let sql = "SELECT created_at, code FROM request WHERE created_at >= ?1 UNION ALL \
                   SELECT created_at, code FROM deleted_code WHERE created_at >= ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([to_sql(since, "time")?])?;
        let mut codes = Vec::new();
        while let Some(row) = rows.next()? {
            let (at, code): (i64, String) = (row.get(0)?, row.get(1)?);
            let at = u64::try_from(at).map_err(|_| StoreError::Column { column: "time" })?;
            codes.push((at, code.parse().map_err(|_| StoreError::Column { column: "code" })?));
        }
        Ok(codes)
    }

    /// The request that `selector` names: by code the newest one.
    ///
    /// # Errors
    /// The disk fails or a row does not decode.
    pub fn find(&self, selector: &Selector) -> Result<Option<Request>, StoreError> {
        match selector {
            Selector::Id(id) => {
                // The id is the first half of the digest: a range of the digests' index.
                let low = [id.0, [0; 16]].concat();
                let high = [id.0, [0xff; 16]].concat();
                self.select_one("WHERE digest BETWEEN ? AND ?", [low, high])
            }
            Selector::Code(code) => {
                let newest = "WHERE code = ? ORDER BY number DESC LIMIT 1";
                self.select_one(newest, [code.to_string()])
            }
        }
    }

    /// The request for this plan.
    ///
    /// # Errors
    /// The disk fails or a row does not decode.
    pub fn find_by_plan(&self, plan: &PlanDigest) -> Result<Option<Request>, StoreError> {
        self.select_one("WHERE digest = ?", [plan.0])
    }

    /// The newest `limit` requests, of `uid` or of all, the newest first.
    ///
    /// # Errors
    /// The disk fails.
    pub fn newest(&self, uid: Option<u32>, limit: u32) -> Result<Vec<PlanDigest>, StoreError> {
        let own = if uid.is_some() { "WHERE requester_uid = ?1" } else { "WHERE ?1 IS NULL" };
        let sql = format!("SELECT digest FROM request {own} ORDER BY number DESC LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((uid, limit))?;
        let mut digests = Vec::new();
        while let Some(row) = rows.next()? {
            digests.push(PlanDigest(row.get(0)?));
        }
        Ok(digests)
    }

    /// Keeps the bytes for the standard input of `plan`.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn save_stdin(&self, plan: &PlanDigest, bytes: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO stdin_blob (plan, bytes) VALUES (?, ?) \
                   ON CONFLICT (plan) DO UPDATE SET bytes = excluded.bytes";
        self.connection.prepare_cached(sql)?.execute((plan.0, bytes))?;
        Ok(())
    }

    /// The bytes kept for the standard input of `plan`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn load_stdin(&self, plan: &PlanDigest) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM stdin_blob WHERE plan = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([plan.0], |row| row.get(0)).optional()?)
    }

    /// Deletes the bytes kept for the standard input of `plan`, if there are any.
    ///
    /// # Errors
    /// The disk fails.
    pub fn delete_stdin(&self, plan: &PlanDigest) -> Result<(), StoreError> {
        let sql = "DELETE FROM stdin_blob WHERE plan = ?";
        self.connection.prepare_cached(sql)?.execute([plan.0])?;
        Ok(())
    }

    fn select(&self, clause: &str, values: impl Params) -> Result<Vec<Request>, StoreError> {
        self.select_within(u64::MAX, clause, values)
    }

    /// As many as weigh `bytes` together.
    fn select_within(
        &self,
        mut bytes: u64,
        clause: &str,
        values: impl Params,
    ) -> Result<Vec<Request>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM request {clause}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(values)?;
        let mut requests = Vec::new();
        while let Some(row) = rows.next()? {
            let request = read(row)?;
            let Some(left) = bytes.checked_sub(request.weight()) else { break };
            bytes = left;
            requests.push(request);
        }
        Ok(requests)
    }

    fn select_one(&self, clause: &str, values: impl Params) -> Result<Option<Request>, StoreError> {
        Ok(self.select(clause, values)?.pop())
    }
}

#[cfg(test)]
pub(crate) mod tests;
