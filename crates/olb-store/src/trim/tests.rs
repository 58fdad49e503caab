use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use olb_core::State;
use olb_lease::PlanDigest;
use tempfile::TempDir;

use super::*;
use crate::store::tests::{ended, fresh, opened, request};

const AGENT: u32 = 1001;
const OTHER: u32 = 1002;
/// Long after everything that these tests store.
const LATER: u64 = 10_000_000;

fn trimmed(store: &Store, limits: &Limits) {
    while store.trim(LATER, limits).unwrap() {}
}

fn kept(store: &Store, uid: u32) -> Vec<PlanDigest> {
    store.newest(Some(uid), u32::MAX).unwrap()
}

fn digests(numbers: impl IntoIterator<Item = u32>) -> Vec<PlanDigest> {
    numbers.into_iter().map(|number| request(number).digest).collect()
}

/// What the triggers counted is what is there.
fn assert_counted(store: &Store) {
    let counted = "SELECT requester_uid, requests, bytes FROM stored WHERE requests > 0 ORDER BY 1";
    let there = "SELECT requester_uid, count(*), sum(bytes) FROM request \
                 WHERE finished_at IS NOT NULL GROUP BY requester_uid ORDER BY 1";
    let [counted, there] = [counted, there].map(|sql| {
        let mut statement = store.connection.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows = statement.query_map([], row).unwrap();
        rows.collect::<Result<Vec<(u32, i64, i64)>, _>>().unwrap()
    });
    assert_eq!(counted, there);
}

#[test]
fn the_oldest_finished_requests_above_the_count_go_and_open_ones_stay() {
    let (_dir, store) = fresh();
    store.save(&request(1)).unwrap();
    for number in 2..=200 {
        store.save(&request(number)).unwrap();
        store.save(&ended(number, State::Cancelled)).unwrap();
    }
    assert_counted(&store);
    trimmed(&store, &Limits { stored_per_uid: 3, ..Limits::default() });
    assert_eq!(kept(&store, AGENT), digests([200, 199, 198, 1]));
    assert_counted(&store);
}

#[test]
fn each_uid_has_its_bytes_and_all_together_take_from_the_largest() {
    let (_dir, store) = fresh();
    let large = |number| olb_core::Request {
        plan: vec![1; 10_000].into(),
        requester_uid: OTHER,
        ..ended(number, State::Expired)
    };
    for number in 1..=4 {
        store.save(&ended(number, State::Expired)).unwrap();
        store.save(&large(10 + number)).unwrap();
    }
    trimmed(&store, &Limits { stored_bytes_per_uid: 32_000, ..Limits::default() });
    assert_eq!(kept(&store, OTHER), digests([14, 13, 12]));
    trimmed(&store, &Limits { stored_bytes_total: 20_000, ..Limits::default() });
    assert_eq!(kept(&store, OTHER), digests([14]));
    trimmed(&store, &Limits { stored_total: 4, ..Limits::default() });
    assert_eq!(kept(&store, OTHER), []);
    assert_eq!(kept(&store, AGENT), digests([4, 3, 2, 1]));
    assert_counted(&store);
}

#[test]
fn a_denial_that_still_answers_stays() {
    let (_dir, store) = fresh();
    store.save(&ended(1, State::Denied)).unwrap();
    store.save(&ended(2, State::Cancelled)).unwrap();
    let limits = Limits { stored_per_uid: 1, ..Limits::default() };
    // 11 is when the denial was.
    assert!(!store.trim(11 + limits.denial_memory_secs(), &limits).unwrap());
    assert_eq!(kept(&store, AGENT), digests([1]));
    store.save(&ended(3, State::Cancelled)).unwrap();
    assert!(!store.trim(12 + limits.denial_memory_secs(), &limits).unwrap());
    assert_eq!(kept(&store, AGENT), digests([3]));
}

#[test]
fn the_code_of_a_deleted_request_is_remembered_for_its_day() {
    let (_dir, store) = fresh();
    let limits = Limits { stored_per_uid: 1, ..Limits::default() };
    for number in [1000, 1001] {
        store.save(&ended(number, State::Cancelled)).unwrap();
    }
    store.trim(2000, &limits).unwrap();
    let codes = |now| store.load_memory(now, &limits).unwrap().codes.len();
    assert_eq!(codes(2000), 2);
    assert_eq!(codes(1001 + limits.code_reuse_secs), 1);
    store.trim(1001 + limits.code_reuse_secs, &limits).unwrap();
    assert_eq!(codes(2000), 1);
    // The clock went back: what was ahead is as old as now.
    store.save(&ended(900_000, State::Cancelled)).unwrap();
    store.save(&ended(900_001, State::Cancelled)).unwrap();
    store.trim(2000, &limits).unwrap();
    store.trim(2001 + limits.code_reuse_secs, &limits).unwrap();
    let left: u32 = store
        .connection
        .query_row("SELECT count(*) FROM deleted_code", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

fn size(dir: &TempDir, store: &Store) -> u64 {
    store.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    fs::metadata(dir.path().join("broker.db")).unwrap().len()
}

#[test]
fn the_file_becomes_smaller_again() {
    let (dir, store) = fresh();
    for number in 1..=300 {
        let plan = vec![7; 60_000].into();
        store.save(&olb_core::Request { plan, ..ended(number, State::Cancelled) }).unwrap();
        store.save_stdin(&request(number).digest, &[7; 60_000]).unwrap();
    }
    let grown = size(&dir, &store);
    assert!(grown > 36_000_000, "{grown}");
    let limits = Limits { stored_per_uid: 10, ..Limits::default() };
    trimmed(&store, &limits);
    for number in 1..=300 {
        store.delete_stdin(&request(number).digest).unwrap();
        store.trim(LATER, &limits).unwrap();
    }
    let shrunk = size(&dir, &store);
    assert!(shrunk < 3_000_000, "{shrunk} of {grown}");
}

#[test]
fn a_flood_of_requests_leaves_a_file_of_its_limit() {
    let (dir, store) = fresh();
    let limits = Limits { stored_bytes_per_uid: 1_000_000, ..Limits::default() };
    for number in 1..=500 {
        let plan = vec![7; 60_000].into();
        store.save(&olb_core::Request { plan, ..ended(number, State::Cancelled) }).unwrap();
        assert!(!store.trim(LATER, &limits).unwrap());
    }
    let grown = size(&dir, &store);
    assert!(grown < 3_000_000, "{grown}");
}

#[test]
fn a_file_of_the_first_version_is_counted_and_can_shrink() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let old = rusqlite::Connection::open(dir.path().join("broker.db")).unwrap();
    old.execute_batch(include_str!("../migrations/0001.sql")).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    for number in 1..=5_u8 {
        let finished_at = (number > 1).then_some(number);
        old.execute(
            "INSERT INTO request (digest, code, state, requester_uid, plan, match_key, \
             cool_off_key, created_at, expires_at, finished_at, stdout_tail, stderr_tail) VALUES \
             (?1, '7FK-3QX', 'expired', 1001, zeroblob(10), ?1, ?1, 1, 2, ?2, x'', x'')",
            rusqlite::params![[number; 32], finished_at],
        )
        .unwrap();
    }
    drop(old);
    let store = opened(dir.path());
    assert_counted(&store);
    let mode: u32 =
        store.connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap();
    assert_eq!(mode, 2);
    trimmed(&store, &Limits { stored_per_uid: 2, ..Limits::default() });
    assert_eq!(kept(&store, AGENT).len(), 3);
}
