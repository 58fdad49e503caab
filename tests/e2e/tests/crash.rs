//! Every named crash point of both halves: the half dies there, is started again, and whatever was
//! under way ends as one approval, at most one execution, and one story for everybody.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use olb_e2e_tests::{Half, Instance, Options, ROOMY, Recovery, Trail, lines};
use serde_json::Value;

/// What a request comes to when its half dies at a point, and how often the command ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing was lost: it ran, once.
    Exited,
    /// It was burned and never started.
    LostBeforeStart,
    /// It was started, and may have run.
    Lost,
    /// It ran, and its outcome was not recorded.
    LostAfterRun,
    /// Any of these, or a new epoch has ended its approval: the point is passed in many places.
    Any,
}

const ROOT: [(&str, End); 14] = [
    ("start-after-ledger", End::Exited),
    ("start-before-ready", End::Exited),
    ("decide-before-record", End::Exited),
    ("decide-after-record", End::Exited),
    ("execute-before-burn", End::Exited),
    ("execute-after-burn", End::LostBeforeStart),
    ("execute-after-burned-reply", End::LostBeforeStart),
    ("run-after-spawn", End::Lost),
    ("run-after-started-frame", End::Lost),
    ("finish-before-record", End::LostAfterRun),
    ("finish-after-record", End::Exited),
    ("finish-after-client-told", End::Exited),
    ("ledger-after-counter", End::Any),
    ("ledger-before-commit", End::Any),
];

/// Passed with every transaction, like the last one above, but nothing is lost after a commit that
/// a run was not waiting for.
const AFTER_COMMIT: &str = "ledger-after-commit";

/// Passed only with staged files, so in `staging.rs`.
const STAGED: [&str; 2] = ["execute-staging", "execute-after-staging"];

const FRONT: [&str; 10] = [
    "front-start-before-ready",
    "front-submit-before-store",
    "front-submit-after-store",
    "front-decide-before-execd",
    "front-decide-after-execd",
    "front-decide-after-store",
    "front-execute-before-handover",
    "front-execute-after-handover",
    "front-burned-before-store",
    "front-finished-before-store",
];

/// Behind the last thing that happens to a request.
const FRONT_LAST: &str = "front-finished-after-store";

/// Starts `half` so that it dies at the `passing`-th passing of `point`, lets a request go through
/// it, and starts it again. How the request ended, or `None` if the point was not passed.
fn die_at(at: &mut Recovery, half: Half, point: &str, passing: u32) -> Option<(Value, usize)> {
    let (command, file) = at.command();
    at.instance.stop(half, "TERM");
    at.instance.set_variables(&[("OLB_CRASH_AT", &format!("{point}:{passing}"))]);
    let started = at.instance.try_start(half);
    at.instance.set_variables(&[]);
    let known = match started {
        Ok(_) => at.drive(&command),
        Err(_) => None,
    };
    // What a run ended with is stored once `olb status` says so; a front that died does not.
    if let (Half::Front, Some(id)) = (half, &known) {
        let ended =
            |request: &Value| request["state"] != "executing" && request["state"] != "approved";
        olb_e2e_tests::wait_until("the front has died or knows the end", || {
            let shown = at.olb(&["status", id, "--json"], &[]);
            shown.code != 0 || ended(&shown.json())
        });
    }
    let ended = match started {
        Ok(_) => at.instance.stop(half, "TERM").expect("it was started"),
        Err(status) => status,
    };
    at.revive(half);
    let id = at.find_or_ask(known, &command);
    let request = at.complete(&id, &command);
    let mut trail = Trail::read(&at.sock);
    trail.update();
    assert!(trail.is_settled(), "a burn without an outcome after {point}:{passing}");
    at.one_story(&request, &file, &trail);
    present_again(at, &request, &command, &file);
    match ended.signal() {
        Some(9) => Some((request, lines(&file))),
        Some(signal) => panic!("{point}:{passing}: killed by {signal}"),
        None => {
            assert_eq!(ended.code(), Some(0), "{point}:{passing}: it did not end in good order");
            None
        }
    }
}

/// What is over stays over, and says so.
fn present_again(at: &Recovery, request: &Value, command: &[String], file: &Path) {
    let id = request["request_id"].as_str().expect("an id");
    let before = lines(file);
    let again = at.olb(&["exec", "--id", id, "--"], command);
    let (code, told) = match request["state"].as_str().expect("a state") {
        "exited" => (77, "exit 0"),
        "outcome_unknown" => (70, "may still be running"),
        _ => (75, "Ask again"),
    };
    assert_eq!(again.code, code, "{again:?}");
    assert!(again.stderr.contains(told), "{again:?}");
    assert_eq!(lines(file), before);
}

fn check_end(point: &str, end: End, (request, runs): &(Value, usize)) {
    let (state, runs) = (request["state"].as_str().expect("a state"), *runs);
    let fits = match end {
        End::Exited => state == "exited",
        End::LostBeforeStart => state == "outcome_unknown" && runs == 0,
        End::Lost => state == "outcome_unknown",
        End::LostAfterRun => state == "outcome_unknown" && runs == 1,
        End::Any => true,
    };
    assert!(fits, "{point}: not {end:?}: ran {runs} times, {request}");
}

/// Straight to the file descriptor: the test harness would swallow it.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

#[test]
fn the_root_half_dies_at_every_point_and_nothing_runs_twice_or_is_lost() {
    let mut at = Recovery::start();
    for (point, end) in ROOT.into_iter().filter(|(_, end)| *end != End::Any) {
        let ended = die_at(&mut at, Half::Root, point, 1);
        check_end(point, end, &ended.unwrap_or_else(|| panic!("{point} was not passed")));
    }
    let line = at.served.show("root half serves again, least / median / most");
    say(&line);
}

#[test]
fn the_root_half_dies_at_every_transaction_of_a_request() {
    let mut at = Recovery::start();
    let everywhere = ROOT.into_iter().filter(|(_, end)| *end == End::Any).map(|(point, _)| point);
    for point in everywhere.chain([AFTER_COMMIT]) {
        let deaths =
            (1..100).take_while(|passing| die_at(&mut at, Half::Root, point, *passing).is_some());
        let deaths = deaths.count();
        assert!((1..99).contains(&deaths), "{point}: died {deaths} times");
        say(&format!("{point}: died at each of {deaths} passings"));
    }
    let line = at.served.show("root half serves again, least / median / most");
    say(&line);
}

#[test]
fn the_front_dies_at_every_point_and_forgets_nothing_that_matters() {
    let mut at = Recovery::start();
    for point in FRONT.into_iter().chain([FRONT_LAST]) {
        let ended = die_at(&mut at, Half::Front, point, 1);
        check_end(point, End::Exited, &ended.unwrap_or_else(|| panic!("{point} was not passed")));
    }
    let line = at.served.show("front serves again, least / median / most");
    say(&line);
}

#[test]
fn a_root_half_that_dies_at_its_very_first_start_starts_the_next_time() {
    let options = Options { brokerd: ROOMY.into(), ..Options::default() };
    let mut instance = Instance::laid_out(options);
    for point in [AFTER_COMMIT, "ledger-before-commit", "start-after-ledger", "start-before-ready"]
    {
        for entry in
            fs::read_dir(instance.state()).unwrap().chain(fs::read_dir(instance.runtime()).unwrap())
        {
            let path = entry.unwrap().path();
            if !path.ends_with("execd.conf") {
                fs::remove_file(path).unwrap();
            }
        }
        instance.set_variables(&[("OLB_CRASH_AT", point)]);
        let died = instance.try_start(Half::Root).expect_err("it was to die");
        assert_eq!(died.signal(), Some(9), "{point}");
        instance.set_variables(&[]);
        instance.start_execd();
        instance.stop_execd("TERM");
    }
    instance.start_execd();
    instance.start_brokerd();
    let mut at = Recovery::of(instance);
    let (command, file) = at.command();
    let id = at.drive(&command).expect("an id");
    let request = at.complete(&id, &command);
    assert_eq!(at.one_story(&request, &file, &Trail::read(&at.sock)), "exited");
}

/// The tables above name exactly the points that the sources have; no default build has any, and
/// a release cannot be built with them.
#[test]
fn every_crash_point_of_the_sources_is_in_these_tests() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let guard = fs::read_to_string(crates.join("olb-sys/src/crash.rs")).unwrap();
    let refusal = "#[cfg(all(feature = \"crash-points\", not(debug_assertions)))]\ncompile_error!";
    assert!(guard.contains(refusal), "a release could have crash points");
    let mut found = BTreeSet::new();
    for name in ["olb-sys", "olb-execd", "olb-ledger", "olb-brokerd"] {
        let manifest = fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("crash-points = ["), "{name}");
        assert!(!manifest.lines().any(|line| line.starts_with("default")), "{name} has defaults");
        for entry in fs::read_dir(crates.join(name).join("src")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            let names = text.split("crash_point(\"").skip(1);
            for name in names.map(|rest| rest.split('"').next().unwrap_or_default()) {
                assert!(found.insert(name.to_owned()), "{name} is in two places");
            }
        }
    }
    let tested = ROOT.into_iter().map(|(point, _)| point).chain(FRONT);
    let tested: BTreeSet<String> =
        tested.chain([AFTER_COMMIT, FRONT_LAST]).chain(STAGED).map(str::to_owned).collect();
    assert_eq!(found, tested);
}
