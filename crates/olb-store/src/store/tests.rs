use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use olb_core::{Code, CoolOffKey, MatchKey, Selector, State};
use olb_lease::{Digest, Epoch, Outcome};
use tempfile::TempDir;

use super::*;

const AGENT: u32 = 1001;

pub(crate) fn opened(dir: &Path) -> Store {
    let (store, report) = Store::open(dir).unwrap();
    assert_eq!(report, OpenReport::default());
    store
}

fn private_dir() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

pub(crate) fn fresh() -> (TempDir, Store) {
    let dir = private_dir();
    let store = opened(dir.path());
    (dir, store)
}

fn digest(number: u32) -> PlanDigest {
    PlanDigest(olb_lease::sha256(&number.to_be_bytes()))
}

fn code(number: u32) -> Code {
    Code::from_random((number << 2).to_be_bytes())
}

/// A pending request made at second `number`.
pub(crate) fn request(number: u32) -> Request {
    Request {
        digest: digest(number),
        code: code(number),
        state: State::Pending,
        requester_uid: AGENT,
        plan: vec![0xa5; 300].into(),
        match_key: MatchKey(Digest([1; 32])),
        cool_off_key: CoolOffKey(Digest([2; 32])),
        created_at: number.into(),
        expires_at: u64::from(number) + 1800,
        decided_at: None,
        decided_by: None,
        reason: None,
        lease: None,
        lease_expires_at: None,
        epoch: None,
        burned_at: None,
        finished_at: None,
        outcome: None,
        receipt: None,
        stdout_tail: Vec::new(),
        stderr_tail: Vec::new(),
    }
}

pub(crate) fn ended(number: u32, state: State) -> Request {
    let finished_at = Some(u64::from(number) + 10);
    Request { state, finished_at, decided_at: finished_at, ..request(number) }
}

fn numbers(requests: &[Request]) -> Vec<u64> {
    requests.iter().map(|request| request.created_at).collect()
}

#[test]
fn every_field_of_a_request_comes_back() {
    let (dir, store) = fresh();
    let outcomes = [
        Outcome::Exited(255),
        Outcome::Killed(9),
        Outcome::SpawnFailed(4095),
        Outcome::Unknown { may_be_running: false },
        Outcome::Unknown { may_be_running: true },
    ];
    let full = |number: u32, outcome| Request {
        decided_at: Some(1),
        decided_by: Some("alice".into()),
        reason: Some("why \u{202e}not\0".into()),
        lease: Some(vec![7; 369]),
        lease_expires_at: Some(2),
        epoch: Some(Epoch([3; 16])),
        burned_at: Some(4),
        finished_at: Some(5),
        outcome: Some(outcome),
        receipt: Some(vec![8; 400]),
        stdout_tail: b"\xff\0".to_vec(),
        stderr_tail: b"e".to_vec(),
        state: State::Exited,
        ..request(number)
    };
    let mut requests: Vec<_> = (0..5).zip(outcomes).map(|(at, one)| full(at, one)).collect();
    requests.push(request(5));
    requests.iter().for_each(|request| store.save(request).unwrap());
    drop(store);
    let store = opened(dir.path());
    for request in &requests {
        assert_eq!(store.find_by_plan(&request.digest).unwrap().as_ref(), Some(request));
    }
}

#[test]
fn every_state_comes_back() {
    let (_dir, store) = fresh();
    for state in State::ALL {
        let request = Request { state: *state, ..request(1) };
        store.save(&request).unwrap();
        assert_eq!(store.find_by_plan(&digest(1)).unwrap(), Some(request));
    }
}

#[test]
fn saving_again_replaces_what_can_change_and_nothing_else() {
    let (_dir, store) = fresh();
    store.save(&request(1)).unwrap();
    let later = ended(1, State::Denied);
    store.save(&Request { requester_uid: 9, plan: vec![0].into(), ..later.clone() }).unwrap();
    assert_eq!(store.newest(None, 10).unwrap(), [digest(1)]);
    assert_eq!(store.find_by_plan(&digest(1)).unwrap(), Some(later));
}

#[test]
fn a_request_is_found_by_plan_id_and_newest_code() {
    let (_dir, store) = fresh();
    store.save(&request(1)).unwrap();
    let reused = Request { code: code(1), ..request(100_000) };
    store.save(&reused).unwrap();
    assert_eq!(store.find_by_plan(&digest(1)).unwrap(), Some(request(1)));
    assert_eq!(store.find(&Selector::Id(digest(1).request_id())).unwrap(), Some(request(1)));
    assert_eq!(store.find(&Selector::Code(code(1))).unwrap(), Some(reused));
    assert_eq!(store.find(&Selector::Code(code(2))).unwrap(), None);
    assert_eq!(store.find(&Selector::Id(digest(2).request_id())).unwrap(), None);
    assert_eq!(store.find_by_plan(&digest(2)).unwrap(), None);
}

#[test]
fn a_list_holds_the_newest_with_the_newest_first() {
    let (_dir, store) = fresh();
    for number in 1..=6 {
        let one = if number % 2 == 0 { request(number) } else { ended(number, State::Expired) };
        let requester_uid = if number > 4 { 1002 } else { AGENT };
        store.save(&Request { requester_uid, ..one }).unwrap();
    }
    assert_eq!(store.newest(None, 2).unwrap(), [6, 5].map(digest));
    assert_eq!(store.newest(Some(AGENT), 3).unwrap(), [4, 3, 2].map(digest));
    assert_eq!(store.newest(Some(7), 10).unwrap(), []);
    assert_eq!(numbers(&store.load_open().unwrap()), [2, 4, 6]);
}

#[test]
fn the_memory_is_the_open_the_last_finished_the_denials_and_the_codes_of_a_day() {
    let (_dir, store) = fresh();
    let now = 100_000;
    store.save(&request(5)).unwrap();
    store.save(&ended(10, State::Denied)).unwrap();
    store.save(&ended(99_000, State::Denied)).unwrap();
    for number in [99_100, 99_200, 99_300] {
        store.save(&ended(number, State::Cancelled)).unwrap();
    }
    let limits = Limits { finished_in_memory: 2, ..Limits::default() };
    let memory = store.load_memory(now, &limits).unwrap();
    assert_eq!(numbers(&memory.requests), [5, 99_300, 99_200, 99_000]);
    let codes: Vec<_> = [99_000, 99_100, 99_200, 99_300].map(|at| (at.into(), code(at))).into();
    assert_eq!(memory.codes, codes);
}

#[test]
fn standard_input_is_kept_until_it_is_deleted_or_its_request_is_over() {
    let (dir, store) = fresh();
    for number in 1..=4 {
        store.save_stdin(&digest(number), &[0xff; 1000]).unwrap();
    }
    store.save_stdin(&digest(1), b"in\0put").unwrap();
    store.save(&request(1)).unwrap();
    store.save(&request(2)).unwrap();
    store.save(&ended(3, State::Expired)).unwrap();
    store.delete_stdin(&digest(2)).unwrap();
    store.delete_stdin(&digest(2)).unwrap();
    drop(store);
    let store = opened(dir.path());
    let kept = (1..=4).map(|number| store.load_stdin(&digest(number)).unwrap());
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept, [Some(b"in\0put".to_vec()), None, None, None]);
}

#[test]
fn the_files_are_private_and_an_open_directory_is_refused() {
    let (dir, store) = fresh();
    store.save(&request(1)).unwrap();
    for file in ["broker.db", "broker.db-wal", "broker.db-shm"] {
        let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Directory { .. })));
}

#[test]
fn a_symbolic_link_in_place_of_the_file_is_not_followed() {
    let dir = private_dir();
    let target = dir.path().join("elsewhere");
    fs::write(&target, b"").unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join("broker.db")).unwrap();
    let mode = || fs::metadata(&target).unwrap().permissions().mode();
    let before = mode();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Io { .. })));
    assert_eq!((fs::read(&target).unwrap(), mode()), (Vec::new(), before));
}

#[test]
fn a_damaged_file_is_set_aside_and_said() {
    let (dir, store) = fresh();
    for number in 0..200 {
        store.save(&request(number)).unwrap();
    }
    drop(store);
    let path = dir.path().join("broker.db");
    for (number, damage) in [(1, 8192..12_288), (2, 0..100)] {
        let mut bytes = fs::read(&path).unwrap();
        bytes[damage].fill(0xff);
        fs::write(&path, &bytes).unwrap();
        let (store, report) = Store::open(dir.path()).unwrap();
        let kept = dir.path().join(format!("broker.db.corrupt-{number}"));
        assert_eq!(report.set_aside.as_deref(), Some(kept.as_path()));
        assert_eq!(fs::read(&kept).unwrap(), bytes);
        assert_eq!(store.newest(None, 10).unwrap(), []);
        store.save(&request(1)).unwrap();
        drop(store);
        assert_eq!(opened(dir.path()).load_open().unwrap(), [request(1)]);
    }
}

#[test]
fn a_row_that_does_not_decode_is_an_error_and_not_an_absence() {
    let (_dir, store) = fresh();
    store.save(&request(1)).unwrap();
    store.connection.execute("UPDATE request SET state = 'approved!'", []).unwrap();
    let refused = store.find_by_plan(&digest(1));
    assert!(matches!(refused, Err(StoreError::Column { column: "state" })));
    assert!(store.load_memory(2, &Limits::default()).is_err());
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let (dir, store) = fresh();
    store.connection.pragma_update(None, "user_version", 3).unwrap();
    drop(store);
    let refused = Store::open(dir.path());
    assert!(matches!(refused, Err(StoreError::Newer { found: 3, known: 2 })));
    assert!(dir.path().join("broker.db").exists());
}

#[test]
fn a_time_beyond_the_database_is_refused() {
    let (_dir, store) = fresh();
    let never = Request { expires_at: u64::MAX, ..request(1) };
    assert!(matches!(store.save(&never), Err(StoreError::TooLarge { what: "expires_at" })));
}

/// Bytecode steps that SQLite takes for what `call` does.
fn steps(store: &mut Store, call: impl Fn(&Store)) -> i32 {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI32, Ordering};
    let taken = Arc::new(AtomicI32::new(0));
    let counter = Arc::clone(&taken);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    store.connection.progress_handler(1, Some(count)).unwrap();
    call(store);
    store.connection.progress_handler(0, None::<fn() -> bool>).unwrap();
    taken.load(Ordering::Relaxed)
}

#[test]
fn a_hundred_thousand_past_requests_cost_no_call_a_step_more() {
    type Call = (&'static str, fn(&Store));
    const PAST: u32 = 100_000;
    const FIRST: u32 = PAST + 2;
    const OTHER: u32 = 1002;
    let calls: [Call; 13] = [
        ("save", |store| store.save(&request(PAST + 1)).unwrap()),
        ("save again", |store| store.save(&ended(PAST + 1, State::Denied)).unwrap()),
        // The first request is the last one that a search without an index would come to.
        ("by plan", |store| assert!(store.find_by_plan(&digest(FIRST)).unwrap().is_some())),
        ("by id", |store| {
            let id = Selector::Id(digest(FIRST).request_id());
            assert!(store.find(&id).unwrap().is_some());
        }),
        ("by code", |store| {
            assert!(store.find(&Selector::Code(code(FIRST))).unwrap().is_some());
        }),
        ("newest", |store| assert_eq!(store.newest(None, 1).unwrap().len(), 1)),
        ("newest own", |store| assert_eq!(store.newest(Some(OTHER), 9).unwrap().len(), 1)),
        ("trim", |store| {
            let roomy = Limits {
                stored_per_uid: u64::MAX,
                stored_bytes_per_uid: u64::MAX,
                stored_total: u64::MAX,
                stored_bytes_total: u64::MAX,
                ..Limits::default()
            };
            assert!(!store.trim(10_000_000, &roomy).unwrap());
        }),
        ("load open", |store| assert_eq!(store.load_open().unwrap().len(), 1)),
        ("load memory", |store| {
            let limits = Limits { finished_in_memory: 1, ..Limits::default() };
            assert_eq!(store.load_memory(10_000_000, &limits).unwrap().requests.len(), 2);
        }),
        ("save stdin", |store| store.save_stdin(&digest(1), b"x").unwrap()),
        ("load stdin", |store| assert!(store.load_stdin(&digest(1)).unwrap().is_some())),
        ("delete stdin", |store| store.delete_stdin(&digest(1)).unwrap()),
    ];
    let (_small_dir, mut small) = fresh();
    let (_large_dir, mut large) = fresh();
    for store in [&small, &large] {
        store.save(&Request { requester_uid: OTHER, ..request(FIRST) }).unwrap();
        // With a past of one, so that both have something to count.
        store.save(&ended(0, State::Exited)).unwrap();
    }
    large.connection.execute_batch("BEGIN").unwrap();
    for number in 0..PAST {
        large.save(&ended(number, State::Exited)).unwrap();
    }
    large.connection.execute_batch("COMMIT").unwrap();
    for (name, call) in calls {
        let (little, much) = (steps(&mut small, call), steps(&mut large, call));
        assert!(much <= little + 8, "{name}: {little} steps when empty, {much} with {PAST}");
    }
}
