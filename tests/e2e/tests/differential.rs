//! The broker beside sudo and beside a service of systemd: what a command finds itself in. Every
//! difference is listed, with its reason, in docs/differences.md, and everything that is listed
//! there is so.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use olb_e2e_tests::{
    Beside, Context, Dump, From, Listed, PLAIN, Row, Side, Sudo, as_a_service, wait_until,
};

/// What a shell of today exports, and what a hostile one would.
const VARIABLES: &[(&str, &str)] = &[
    ("BASH_ENV", "/tmp/x"),
    ("COLORTERM", "truecolor"),
    ("DISPLAY", ":0"),
    ("EDITOR", "/tmp/x"),
    ("GIT_TEMPLATE_DIR", "/tmp/x"),
    ("HOSTALIASES", "/tmp/x"),
    ("HTTP_PROXY", "http://proxy"),
    ("IFS", "x"),
    ("LC_ALL", "C"),
    ("LD_LIBRARY_PATH", "/tmp"),
    ("LD_PRELOAD", "/tmp/x.so"),
    ("LESSOPEN", "|/tmp/x %s"),
    ("NODE_OPTIONS", "--require /tmp/x"),
    ("PERL5LIB", "/tmp/x"),
    ("PS4", "$(id)"),
    ("PYTHONPATH", "/tmp/x"),
    ("SHELLOPTS", "xtrace"),
    ("SSH_AUTH_SOCK", "/tmp/x"),
    ("SUDO_USER", "root"),
    ("TMPDIR", "/tmp/x"),
    ("TZ", "Europe/Berlin"),
    ("XAUTHORITY", "/tmp/x"),
];

const CONTEXTS: [Context; 19] = [
    PLAIN,
    Context { name: "umask 027", settings: &["umask=027"], ..PLAIN },
    Context { name: "umask 000", settings: &["umask=000"], ..PLAIN },
    Context {
        name: "limits",
        settings: &["limit=7:77:99", "limit=6:5000:6000", "limit=3:4000000:5000000"],
        ..PLAIN
    },
    Context { name: "ignored signals", settings: &["ignore=1,2,3,10,13,15,17,20,34"], ..PLAIN },
    Context { name: "blocked signals", settings: &["block=1,10,12,14,17,34"], ..PLAIN },
    Context { name: "descriptors", settings: &["fd=3:/etc/passwd", "fd=60:/etc"], ..PLAIN },
    Context { name: "no standard input", settings: &["close=0"], ..PLAIN },
    Context {
        name: "priorities",
        settings: &["nice=5", "batch", "idle-io", "slack=90000", "oom=500", "one-processor"],
        ..PLAIN
    },
    Context {
        name: "memory",
        settings: &[
            "core-filter=0x7f",
            "no-huge-pages",
            "memory-policy",
            "machine-check",
            "personality=0040000",
        ],
        ..PLAIN
    },
    Context { name: "namespaces", settings: &["namespaces"], ..PLAIN },
    Context { name: "keyring", own_settings: &["keyring=theirs"], ..PLAIN },
    Context { name: NOT_UNDER_SUDO, settings: &["no-new-privileges"], ..PLAIN },
    Context { name: "variables", variables: VARIABLES, ..PLAIN },
    Context { name: "directory", directory: Some("/usr/share"), ..PLAIN },
    Context { name: "pipe", calls_from: From::Pipe, ..PLAIN },
    Context { name: "terminal", settings: &["terminal"], calls_from: From::Terminal, ..PLAIN },
    Context { name: "-u nobody", options: &["-u", "nobody"], ..PLAIN },
    Context { name: "-u root -g games", options: &["-u", "root", "-g", "games"], ..PLAIN },
];

/// No words behind the command.
const NONE: [&str; 0] = [];

/// The one context in which sudo does not start.
const NOT_UNDER_SUDO: &str = "no new privileges";

/// Contexts in the shortest way to say them. Where one of the two does not run at all, there is
/// nothing else to compare.
fn spoken(contexts: &[&str]) -> String {
    let names = CONTEXTS.iter().map(|context| context.name);
    let others: Vec<&str> =
        names.filter(|name| *name != NOT_UNDER_SUDO && !contexts.contains(name)).collect();
    match others.len() {
        0 => "every".into(),
        1..=3 => format!("every but {}", others.join(", ")),
        _ => contexts.join(", "),
    }
}

/// One row for each difference, whatever the context, and one with the contexts for each other.
fn rows(found: Vec<(String, String, String, &'static str)>) -> Vec<Row> {
    let mut grouped: Vec<(String, String, String, Vec<&str>)> = Vec::new();
    for (name, sudo, here, context) in found {
        let same = |row: &&mut (String, String, String, Vec<&str>)| {
            (&row.0, &row.1, &row.2) == (&name, &sudo, &here)
        };
        match grouped.iter_mut().find(same) {
            Some(row) => row.3.push(context),
            None => grouped.push((name, sudo, here, vec![context])),
        }
    }
    let row = |(name, sudo, here, contexts): (String, String, String, Vec<&str>)| {
        Row::of(&[&name, &spoken(&contexts), &sudo, &here])
    };
    grouped.into_iter().map(row).collect()
}

#[test]
fn every_difference_to_sudo_is_listed_and_every_listed_one_is_there() {
    if !Sudo::is_there() {
        return;
    }
    let mut beside = Beside::started_with(&[]);
    let plain = beside.here(PLAIN, &NONE).expect("it runs");
    let plain = beside.in_words(&plain, &beside.usual);
    let mut found = Vec::new();
    for context in CONTEXTS {
        let caller = beside.direct(context);
        let (sudo, here) = (beside.under_sudo(context, &NONE), beside.here(context, &NONE));
        let (Some(sudo), Some(here)) = (&sudo, &here) else {
            let ran = |dump: &Option<Dump>| if dump.is_some() { "runs" } else { "does not run" };
            let (sudo, here) = (ran(&sudo).into(), ran(&here).into());
            found.push(("start".into(), sudo, here, context.name));
            continue;
        };
        if context.options.is_empty() && context.directory.is_none() {
            // What a caller is, and does not ask for, makes no difference.
            let here = beside.in_words(here, &beside.usual);
            assert_eq!(plain.differences(&here), [].into(), "{}", context.name);
        }
        let (sudo, here) = (beside.in_words(sudo, &caller), beside.in_words(here, &caller));
        let differences = sudo.differences(&here).into_iter();
        found.extend(differences.map(|(name, (sudo, here))| (name, sudo, here, context.name)));
    }
    let found = rows(found);
    if Sudo::is_the_listed_one() {
        Listed::read().table("Beside sudo").expect(&found);
    }
}

/// Whatever a service manager, an administrator or a shell could start the root half with.
const DIRTY: &[&str] = &[
    "umask=077",
    "ignore=1,2,3,10,13,14,15,17,20,34",
    "block=10,12,14,17,34",
    "soft-limit=3:4000000",
    "soft-limit=4:1000",
    "soft-limit=6:5000",
    "soft-limit=7:100",
    "fd=3:/etc/passwd",
    "fd=60:/etc",
    "nice=5",
    "batch",
    "idle-io",
    "slack=90000",
    "oom=500",
    "keyring=theirs",
    "subreaper",
    "securebits=0x4",
    "core-filter=0x7f",
    "no-huge-pages",
    "memory-policy",
    "machine-check",
    "personality=0040000",
    "one-processor",
    "namespaces",
    "drop-bound=25",
    "no-new-privileges",
];

#[test]
fn what_a_command_has_of_the_root_half_s_own_start_is_listed() {
    let mut clean = Beside::started_with(&[]);
    let mut dirty = Beside::started_with(DIRTY);
    let (nobody, usual) = (Dump::default(), clean.usual.clone());
    let words = |beside: &mut Beside| {
        let dump = beside.here(PLAIN, &NONE).expect("it runs");
        dump.in_words(Side { caller: &nobody, usual: &usual }, &beside.names)
    };
    let (clean, dirty) = (words(&mut clean), words(&mut dirty));
    let differences = clean.differences(&dirty).into_iter();
    let row =
        |(name, (clean, dirty)): (String, (String, String))| Row::of(&[&name, &clean, &dirty]);
    let found: Vec<Row> = differences.map(row).collect();
    Listed::read().table("Of how the root half was started").expect(&found);
}

#[test]
fn every_difference_to_a_service_is_listed_and_every_listed_one_is_there() {
    let mut beside = Beside::started_with(&[]);
    let Some(service) = as_a_service(&beside.oracle, beside.oracle.dir()) else { return };
    let here = beside.here(PLAIN, &NONE).expect("it runs").without("namespace.");
    let [service, here] = [service, here].map(|dump| beside.in_words(&dump, &beside.usual));
    let differences = service.differences(&here).into_iter();
    let row =
        |(name, (service, here)): (String, (String, String))| Row::of(&[&name, &service, &here]);
    Listed::read().table("Beside a service").expect(&differences.map(row).collect::<Vec<_>>());
}

/// How a caller saw its command end, without the numbers that were asked for.
fn seen(output: &Output, number: i32) -> String {
    match (output.status.code(), output.status.signal()) {
        (Some(code), None) if code == number => "the same code".into(),
        (Some(code), None) if code == number + 128 => "the code 128 and its number".into(),
        (None, Some(signal)) if signal == number => "the same signal".into(),
        _ => panic!("{number}: {output:?}"),
    }
}

/// The number of the process that the command left behind.
fn left_behind(output: &Output) -> u32 {
    let said = String::from_utf8_lossy(&output.stdout);
    let pid = said.trim().strip_prefix("left=").unwrap_or_else(|| panic!("{output:?}"));
    pid.parse().unwrap()
}

fn is_alive(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[test]
fn what_a_caller_sees_of_the_end_and_what_is_left_is_listed() {
    if !Sudo::is_there() {
        return;
    }
    let mut beside = Beside::started_with(&[]);
    let mut found = Vec::new();
    let mut compare = |name: &str, context, words: &[&str], seen: &dyn Fn(&Output) -> String| {
        let sudo = seen(&beside.call(context, &beside.sudo_words(context, words)));
        let presented = beside.here_words(context, words);
        let here = seen(&beside.call(context, &presented));
        let row = Row::of(&[name, &sudo, &here]);
        if sudo != here && !found.contains(&row) {
            found.push(row);
        }
    };
    for code in [0, 1, 2, 64, 69, 70, 75, 77, 124, 125, 126, 127, 128, 137, 255] {
        let words = ["end", "exit-with", &code.to_string()];
        compare("exits", PLAIN, &words, &|output| seen(output, code));
    }
    for signal in [1, 2, 3, 6, 9, 11, 12, 13, 14, 15, 31, 34, 64] {
        let words = ["end", "die-by", &signal.to_string()];
        compare("dies of a signal", PLAIN, &words, &|output| seen(output, signal));
    }
    let alone = Context { calls_from: From::WhoeverLeft, ..PLAIN };
    let words = ["end", "write-on", "0"];
    compare("writes to nobody", alone, &words, &|output| seen(output, 13));
    let words = ["end", "leave-behind", "0"];
    let sudo = left_behind(&beside.call(PLAIN, &beside.sudo_words(PLAIN, &words)));
    let presented = beside.here_words(PLAIN, &words);
    let here = left_behind(&beside.call(PLAIN, &presented));
    wait_until("what was left here is ended", || !is_alive(here));
    assert!(is_alive(sudo), "sudo's was left first, and is still there");
    let pid = Pid::from_raw(sudo.try_into().unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    found.push(Row::of(&["leaves a process", "lives on", "is ended"]));
    Listed::read().table("Afterwards").expect(&found);
}
