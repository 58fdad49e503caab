use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;

use super::*;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A closed ledger with some content, all of it in the database file.
fn written() -> (Host, Vec<Vec<u8>>) {
    let mut host = Host::new();
    let ledger = host.open();
    let leases: Vec<_> =
        (0..40).map(|number| Request::new(&ledger, number).approve(&ledger)).collect();
    for lease in &leases {
        ledger.burn(verified(lease), check(&ledger)).unwrap();
    }
    ledger.close();
    (host, leases)
}

#[test]
fn files_are_the_owners_alone() {
    let mut host = Host::new();
    let ledger = host.open();
    Request::new(&ledger, 1).approve(&ledger);
    let mut names = Vec::new();
    for entry in fs::read_dir(host.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["ledger.ballast", "ledger.db", "ledger.db-wal"]);
}

#[test]
fn a_database_or_directory_that_others_can_reach_is_refused() {
    let mut host = Host::new();
    host.open().close();
    for bad in [0o640, 0o602, 0o604] {
        set_mode(&host.path(), bad);
        assert!(matches!(host.try_open(), Err(LedgerError::Mode { mode, .. }) if mode == bad));
    }
    set_mode(&host.path(), 0o600);
    set_mode(host.directory.path(), 0o710);
    let refused = host.try_open().unwrap_err();
    assert!(matches!(refused, LedgerError::Mode { mode: 0o710, wanted: 0o700, .. }));
    set_mode(host.directory.path(), 0o700);
    host.open();
}

#[test]
fn a_damaged_page_is_refused_at_the_start() {
    let (mut host, _) = written();
    let whole = fs::read(host.path()).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 8, "only {pages} pages");
    for page in 0..pages {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xff);
        fs::write(host.path(), damaged).unwrap();
        let refused = host.try_open().unwrap_err();
        assert!(
            matches!(refused, LedgerError::Damaged(_) | LedgerError::Sqlite(_)),
            "page {page}: {refused:?}"
        );
    }
    fs::write(host.path(), whole).unwrap();
    host.open();
}

#[test]
fn an_index_that_forgot_a_burn_is_refused_at_the_start() {
    let (mut host, leases) = written();
    let root: u32 = {
        let database = Connection::open(host.path()).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_burned_1'";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let root = usize::try_from(root).unwrap();
    let mut bytes = fs::read(host.path()).unwrap();
    let page = &mut bytes[(root - 1) * 4096..root * 4096];
    let cti = verified(&leases[0]).claims().cti.0;
    let at = page.windows(16).position(|window| window == cti).unwrap();
    page[at + 15] ^= 1;
    fs::write(host.path(), bytes).unwrap();
    let refused = host.try_open().unwrap_err();
    assert!(matches!(refused, LedgerError::Damaged(_)), "{refused:?}");
}

#[test]
fn a_newer_schema_is_refused() {
    let mut host = Host::new();
    host.open().close();
    let database = Connection::open(host.path()).unwrap();
    database.pragma_update(None, "user_version", 3).unwrap();
    drop(database);
    assert_eq!(host.try_open().unwrap_err(), LedgerError::Newer { found: 3, known: 2 });
}

#[test]
fn a_ledger_of_a_build_before_the_first_release_is_refused_with_what_to_do() {
    let mut host = Host::new();
    host.open().close();
    let database = Connection::open(host.path()).unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
    drop(database);
    let refused = host.try_open().unwrap_err();
    assert_eq!(refused, LedgerError::Older { found: 1, first: 2 });
    assert!(refused.to_string().contains("move it away"), "{refused}");
}

#[test]
fn another_programs_database_is_refused() {
    let mut host = Host::new();
    let database = Connection::open(host.path()).unwrap();
    database.pragma_update(None, "application_id", 7).unwrap();
    drop(database);
    set_mode(&host.path(), 0o600);
    assert!(matches!(host.try_open(), Err(LedgerError::Damaged(_))));
    fs::write(host.path(), "not a database at all, but long enough to look at".repeat(100))
        .unwrap();
    assert!(matches!(host.try_open(), Err(LedgerError::Damaged(_))));
}

#[test]
fn a_ledger_is_open_in_one_place() {
    let mut host = Host::new();
    let ledger = host.open();
    assert_eq!(host.try_open().unwrap_err(), LedgerError::InUse(host.path()));
    ledger.close();
    host.open();
}

#[test]
fn a_link_in_place_of_the_database_is_refused() {
    let mut host = Host::new();
    host.open().close();
    let elsewhere = host.directory.path().join("elsewhere");
    fs::rename(host.path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, host.path()).unwrap();
    assert!(host.try_open().is_err());
}

#[test]
fn a_missing_directory_is_named() {
    let mut host = Host::new();
    let path = host.directory.path().join("none/ledger.db");
    let options = host.options(&path);
    let refused = Ledger::open(options).unwrap_err();
    assert!(refused.to_string().contains("/none "), "{refused}");
}
