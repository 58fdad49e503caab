//! The files in `install/` are true: systemd takes the units, the daemons take the configurations,
//! the root half is restricted by nothing, the front by nearly everything.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "to fail loudly is what a test is for")]

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use olb_arch_tests::repository;
use olb_execd::config::Config;

const UNITS: [&str; 4] =
    ["olb-execd.service", "olb-brokerd.service", "olb-request.socket", "olb-review.socket"];

/// In tenths of systemd's points: above 20 is no longer "safe", 96 is no restriction at all.
const EXPOSURE_MAX: u32 = 10;

fn install() -> PathBuf {
    repository().join("install")
}

fn unit(name: &str) -> String {
    fs::read_to_string(install().join("systemd").join(name)).unwrap()
}

/// The keys of a unit's section.
fn keys(text: &str, section: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|line| *line != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .collect()
}

/// Lines without comments, and comments that are settings with a `#` before them.
fn with_defaults(text: &str) -> String {
    let bare = |line: &str| line.strip_prefix("# ").unwrap_or(line).to_owned();
    let is_setting = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let lines = text.lines().map(bare).filter(|line| line.starts_with('[') || is_setting(line));
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

#[test]
fn the_root_half_s_unit_restricts_nothing_that_a_command_needs() {
    // What is not here is not allowed: commands inherit it.
    let harmless = [
        "Delegate",
        "ExecStart",
        "KillMode",
        "OOMPolicy",
        "Restart",
        "RestartSec",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "RuntimeDirectoryPreserve",
        "StateDirectory",
        "StateDirectoryMode",
        "TasksMax",
        "TimeoutStopSec",
        "Type",
    ];
    let text = unit("olb-execd.service");
    let found = keys(&text, "[Service]");
    let strange: Vec<_> = found.iter().filter(|key| !harmless.contains(&key.as_str())).collect();
    assert!(strange.is_empty(), "commands would inherit {strange:?}");
    for line in
        ["KillMode=process", "RuntimeDirectoryPreserve=yes", "TasksMax=infinity", "Delegate=yes"]
    {
        assert!(text.lines().any(|one| one == line), "{line} is missing");
    }
}

#[test]
fn no_unit_takes_away_who_a_peer_is() {
    for name in UNITS {
        let text = unit(name);
        for key in ["PrivateUsers", "DynamicUser"] {
            assert!(!keys(&text, "[Service]").contains(key), "{name} has {key}");
        }
    }
}

#[test]
fn each_socket_has_the_name_and_place_that_the_front_expects() {
    for name in ["request", "review"] {
        let text = unit(&format!("olb-{name}.socket"));
        for line in [
            format!("ListenStream=/run/olb/{name}.sock"),
            format!("FileDescriptorName={name}"),
            "Service=olb-brokerd.service".to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{name}: {line} is missing");
        }
    }
}

#[test]
fn the_example_configurations_are_taken_and_their_defaults_are_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("execd.conf");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Config::read(&path, olb_sys::harden::effective_uid()).unwrap()
    };
    let example = fs::read_to_string(install().join("etc/execd.conf")).unwrap();
    let plain = read(&example);
    assert_eq!(plain.requesters, [1001]);
    assert_eq!(plain.limits.named(), read(&with_defaults(&example)).limits.named());
    let shown = plain.limits.named().map(|(name, _)| name);
    assert!(shown.iter().all(|name| with_defaults(&example).contains(name)), "all are shown");

    let example = fs::read_to_string(install().join("etc/brokerd.toml")).unwrap();
    let front = |text: &str| olb_brokerd::Config::parse(text.as_bytes()).unwrap();
    assert_eq!(front(&example), front(""));
    assert_eq!(front(&with_defaults(&example)), front(""));
    let shown = front("").named();
    assert!(shown.iter().all(|(name, _)| with_defaults(&example).contains(name)), "all are shown");
}

/// The units in a folder of their own, with programs that exist in place of ours.
fn staged() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in UNITS {
        let text = unit(name);
        let text = text.replace("/usr/lib/olb/olb-execd ", "/bin/true ");
        let text = text.replace("/usr/lib/olb/olb-brokerd ", "/bin/true ");
        // The account exists where sysusers.d was applied.
        let text = text.replace("User=olb\nGroup=olb\n", "User=daemon\nGroup=daemon\n");
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// What systemd-analyze says; `None`, and a word about it, where it is not installed.
fn analyze(dir: &Path, words: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new("systemd-analyze");
    command.args(words).current_dir(dir).env("SYSTEMD_LOG_LEVEL", "notice");
    command.env("SYSTEMD_UNIT_PATH", format!("{}:", dir.display()));
    match command.output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            // Straight to the file descriptor: the test harness would swallow it.
            let mut stderr = std::io::stderr();
            let _shown = writeln!(stderr, "units are not checked: systemd-analyze: {error}");
            None
        }
    }
}

#[test]
fn systemd_takes_every_unit_without_a_word() {
    let dir = staged();
    let paths = UNITS.map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let words: Vec<&str> =
        ["verify", "--man=no"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    if let Some((is_fine, said)) = analyze(dir.path(), &words) {
        let ours: Vec<_> = said.lines().filter(|line| line.contains("olb-")).collect();
        assert!(is_fine && ours.is_empty(), "{said}");
    }
}

#[test]
fn the_front_is_exposed_to_almost_nothing() {
    let dir = staged();
    let path = dir.path().join("olb-brokerd.service");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let words =
        ["security", "--offline=yes", "--no-pager", threshold.as_str(), path.to_str().unwrap()];
    if let Some((is_fine, said)) = analyze(dir.path(), &words) {
        assert!(is_fine, "{said}");
    }
}
