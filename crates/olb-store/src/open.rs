//! Opening: modes, the check, migrations, and what happens to a file that is not intact.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::StoreError;

const FILE: &str = "broker.db";
/// Migration `n` brings schema `n` to schema `n + 1`.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];
/// SQLite's number for files that are made smaller a few pages at a time.
const INCREMENTAL: u32 = 2;

/// What was found when the store was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// A file that was not intact, under the name it was kept by. The store began empty then: the
    /// front has to say so, because requests were forgotten.
    pub set_aside: Option<PathBuf>,
}

/// Opens `broker.db` in `dir`, made if it is not there.
pub(crate) fn open(dir: &Path) -> Result<(Connection, OpenReport), StoreError> {
    let metadata = fs::metadata(dir).map_err(|source| io_error(dir, source))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(StoreError::Directory { path: dir.to_owned() });
    }
    let path = dir.join(FILE);
    match open_intact(&path)? {
        Some(connection) => Ok((connection, OpenReport::default())),
        None => {
            let set_aside = set_aside(&path).map_err(|source| io_error(&path, source))?;
            let report = OpenReport { set_aside: Some(set_aside) };
            match open_intact(&path)? {
                Some(connection) => Ok((connection, report)),
                // A new file that is not intact is the disk's doing.
                None => Err(io_error(&path, io::ErrorKind::InvalidData.into())),
            }
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

/// `None` where the file is not an intact database.
fn open_intact(path: &Path) -> Result<Option<Connection>, StoreError> {
    make_private(path).map_err(|source| io_error(path, source))?;
    match connect(path) {
        Ok(connection) => Ok(connection),
        Err(StoreError::Sqlite(error)) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the file if it is not there, readable by us only; SQLite gives its journals the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().create_new(true).append(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map(drop),
    }
    if fs::symlink_metadata(path)?.is_file() {
        fs::set_permissions(path, Permissions::from_mode(0o600))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn connect(path: &Path) -> Result<Option<Connection>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    if vacuum_mode(&connection)? != INCREMENTAL {
        // An empty file will be so; another one becomes so below.
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // A journal that once grew is given back to the disk.
    connection.pragma_update(None, "journal_size_limit", 4 * 1024 * 1024)?;
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Ok(None);
    }
    migrate(&mut connection)?;
    shrinkable(&connection);
    connection.set_prepared_statement_cache_capacity(32);
    Ok(Some(connection))
}

/// Makes a file of an older version one that can become smaller. That rewrites it once; where there
/// is no room for that it stays as it is, which costs disk and nothing else.
fn shrinkable(connection: &Connection) {
    if vacuum_mode(connection).is_ok_and(|mode| mode != INCREMENTAL) {
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM").ok();
    }
}

fn vacuum_mode(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, migration) in (1..=known).zip(MIGRATIONS) {
        if version > found {
            let transaction = connection.transaction()?;
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

/// Renames the database and its journals to the first free `broker.db.corrupt-<n>`.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let suffixed = |path: &Path, suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut kept = suffixed(path, ".corrupt-1");
    let mut number = 1_u32;
    while kept.try_exists()? {
        number = number.saturating_add(1);
        kept = suffixed(path, &format!(".corrupt-{number}"));
    }
    // The journals go first: left behind, they would be applied to the new file.
    for journal in ["-wal", "-shm"] {
        match fs::rename(suffixed(path, journal), suffixed(&kept, journal)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, &kept)?;
    Ok(kept)
}
