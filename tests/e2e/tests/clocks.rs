//! A wall clock that jumps: time only ever ends a lease, and a clock that comes back gives
//! everything back at once.

use std::fs;
use std::path::{Path, PathBuf};

use olb_e2e_tests::{Instance, Options, ROOMY, Recovery, Reply, lines, plan_for, wait_until};
use olb_exec_api::Reason;
use olb_sys::clock::{boottime_ms, unix_secs};

const YEAR: u64 = 365 * 24 * 3600;

/// Where the distribution keeps the library behind `faketime`.
fn library() -> PathBuf {
    let found = fs::read_dir("/usr/lib").expect("/usr/lib").filter_map(|entry| {
        let path = entry.ok()?.path().join("faketime/libfaketime.so.1");
        path.exists().then_some(path)
    });
    found.chain([PathBuf::from("/usr/lib/faketime/libfaketime.so.1")]).next().expect("faketime")
}

/// A wall clock that the test can set, for both halves and `olb`; other clocks go on as they do.
struct Clock(PathBuf);

impl Clock {
    fn over(instance: &Path) -> Self {
        let clock = Self(instance.join("clock"));
        clock.set("+0");
        clock
    }

    fn variables(&self) -> Vec<(String, String)> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let (library, file) = (library(), &self.0);
        [
            ("LD_PRELOAD", library.to_str().expect("UTF-8")),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().expect("UTF-8")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            // Times of files are what they are.
            ("NO_FAKE_STAT", "1"),
        ]
        .map(own)
        .into()
    }

    /// In one step, so that nobody reads half of it.
    fn set(&self, offset: &str) {
        let draft = self.0.with_extension("new");
        fs::write(&draft, offset).expect("the draft");
        fs::rename(draft, &self.0).expect("the clock");
    }
}

fn with_clock() -> (Recovery, Clock) {
    let dir = tempfile::Builder::new().prefix("olb-clock-").tempdir_in("/run").expect("/run");
    let dir = dir.keep();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let clock = Clock::over(&dir);
    let variables = clock.variables();
    let options = Options { brokerd: ROOMY.into(), ..Options::default() };
    let options = Options { variables: variables.clone(), olb_variables: variables, ..options };
    (Recovery::of(Instance::with(options)), clock)
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some(dir) = self.0.parent() {
            fs::remove_dir_all(dir).ok();
        }
    }
}

#[test]
fn fifteen_years_ahead_leases_have_expired_and_new_requests_work_there_and_back() {
    let (mut at, clock) = with_clock();
    let (old, old_file) = at.command();
    let old_id = at.approved(&old);
    let (pending, pending_file) = at.command();
    let pending_id = at.ask(&pending);

    clock.set("+15y");
    at.exec(&old_id, &old).expect(75);
    assert_eq!(at.status(&pending_id)["state"], "expired");
    let (ahead, ahead_file) = at.command();
    let ahead_id = at.approved(&ahead);
    at.ran_once(&ahead_id, &ahead, &ahead_file);
    let (unused, unused_file) = at.command();
    let unused_id = at.approved(&unused);
    let (waiting, _) = at.command();
    let waiting_id = at.ask(&waiting);
    let made = at.status(&ahead_id)["created_at"].as_str().expect("a time").to_owned();
    let year: u64 = made[..4].parse().expect("a year");
    assert!(year > 1970 + unix_secs() / YEAR + 10, "the clock did not jump: {made}");

    clock.set("+0");
    let (new, new_file) = at.command();
    let new_id = at.approved(&new);
    at.ran_once(&new_id, &new, &new_file);
    // Asked for in what is the far future now: waits as long as others, not for fifteen years.
    let asked = at.status(&waiting_id);
    assert_eq!(asked["state"], "pending");
    let expires = asked["expires_at"].as_str().expect("a time");
    assert!(expires[..4].parse::<u64>().expect("a year") < year - 10, "{expires}");
    assert_eq!((lines(&old_file), lines(&pending_file)), (0, 0));
    let again = at.approved(&pending);
    at.ran_once(&again, &pending, &pending_file);
    // Approved in what is the far future now: good for as long as it was meant to be.
    at.ran_once(&unused_id, &unused, &unused_file);
}

#[test]
fn a_lease_that_is_over_stays_over_when_the_wall_clock_is_set_back() {
    let (at, clock) = with_clock();
    let bob = at.instance.enrol_as(at.alice.uid + 1, "bob", "max_lease_secs = 1");
    let file = at.instance.work().join("late");
    let script = format!("echo ran >> {}", file.display());
    let info = at.sock.info();
    let plan = plan_for(&at.instance, &info, at.agent, &["/bin/sh", "-c", &script]);
    let bytes = plan.encode().expect("a plan");
    let lease = at.sock.approve(&bob, &bytes);
    let over = boottime_ms() + 1000;
    wait_until("its time is over", || boottime_ms() > over);
    clock.set("-1h");
    let (mut replies, _client) = at.sock.execute(&lease, &bytes, at.agent);
    match replies.next() {
        Some(Reply::Refused(refusal)) => assert_eq!(refusal.reason, Reason::Expired),
        other => panic!("{other:?}"),
    }
    assert_eq!(lines(&file), 0);
}
