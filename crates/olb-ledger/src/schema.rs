//! Opening the database: settings, check, migrations.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::LedgerError;

/// The number of the first schema that can be read. Builds before the first release wrote number 1;
/// their records of how a run ended have another form.
const FIRST: u32 = 2;
/// The schema, one step per file, forward only. The first makes schema [`FIRST`].
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_initial.sql")];
/// "OLBL": marks the file as a ledger.
const APPLICATION_ID: u32 = 0x4f4c_424c;
/// How long to wait for the lock of a process that is just ending.
const BUSY: Duration = Duration::from_secs(2);
/// More statements than the crate has.
const STATEMENTS: usize = 48;

/// Opens, sets up and checks the database at `path`, which exists; brings its schema up to date.
pub(crate) fn open(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    configure(&connection).map_err(|error| in_use(path, error))?;
    check(&connection)?;
    migrate(&mut connection)?;
    fold(&connection)?;
    Ok(connection)
}

fn in_use(path: &Path, error: rusqlite::Error) -> LedgerError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            LedgerError::InUse(path.into())
        }
        Some(_) | None => error.into(),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Exclusive, and before the first access: a second process is kept out, and the index of the
    // write-ahead log stays in this process's memory instead of a shared file.
    set(connection, "locking_mode", "EXCLUSIVE", "exclusive")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    set(connection, "journal_mode", "WAL", "wal")?;
    // FULL syncs the log at every commit: a burn that was answered is on the disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The writer checkpoints when it is idle; this is for when it never is. In pages.
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)
}

/// Sets a pragma that answers with the value in force.
fn set(connection: &Connection, name: &str, value: &str, wanted: &str) -> rusqlite::Result<()> {
    let got: String = connection.pragma_update_and_check(None, name, value, |row| row.get(0))?;
    if got == wanted { Ok(()) } else { Err(rusqlite::Error::InvalidParameterName(name.into())) }
}

/// Damage to a table is silent until it is read, and then rows are simply missing. The full check
/// also compares the indexes with their tables: a burn that an index forgot could be burned again.
fn check(connection: &Connection) -> Result<(), LedgerError> {
    let answer: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if answer == "ok" { Ok(()) } else { Err(LedgerError::Damaged(answer)) }
}

/// Writes all that the log holds into the database and syncs that. What was left in the log may never
/// have been synced, because its writer died or because that failed; from now on it is answered from,
/// so it has to be on the disk. Syncing the log again would not do: after a failure the kernel takes
/// its pages for written.
fn fold(connection: &Connection) -> Result<(), LedgerError> {
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(LedgerError::Sqlite("its log cannot be folded into it".into()));
    }
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), LedgerError> {
    let application: u32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = (FIRST..).zip(MIGRATIONS).last().map_or(0, |(number, _)| number);
    if found > known {
        return Err(LedgerError::Newer { found, known });
    }
    if (1..FIRST).contains(&found) {
        return Err(LedgerError::Older { found, first: FIRST });
    }
    let expected = if found == 0 { 0 } else { APPLICATION_ID };
    if application != expected {
        return Err(LedgerError::Damaged("the file is some other program's database".into()));
    }
    for (number, step) in (FIRST..).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
    }
    Ok(())
}
