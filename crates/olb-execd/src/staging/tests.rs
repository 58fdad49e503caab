use std::os::unix::fs::MetadataExt as _;

use olb_lease::{Audience, Digest, Directory, Executable, RunAs, sha256};
use olb_sys::memfd::sealed_memfd;

use super::*;

const CONTENT: &[u8] = b"#!/bin/sh\nexit 0\n";

fn plan(random: u8, contents: &[&[u8]]) -> Plan {
    let words = || [&b"run"[..], b"--one=a/x", b"y"].map(<[u8]>::to_vec).into();
    let staged = (1..).zip(contents).map(|(word, content)| Staged {
        word,
        prefix: if word == 1 { 6 } else { 0 },
        path: b"/home/agent/a/x".to_vec(),
        size: content.len() as u64,
        sha256: Digest(sha256(content)),
        executable: word == 1,
    });
    let directory = b"/".to_vec();
    Plan {
        random: [random; 16],
        host: "h".into(),
        audience: Audience([1; 32]),
        requester_uid: 1001,
        typed_argv: words(),
        argv: words(),
        executable: Executable {
            path: b"/bin/run".to_vec(),
            dev: 0,
            ino: 0,
            size: 0,
            ctime_secs: 0,
            ctime_nanos: 0,
        },
        environment: [].into(),
        environment_words: [].into(),
        cwd: Directory { path: directory, dev: 1, ino: 1 },
        cwd_changeable: false,
        run_as: RunAs { name: "root".into(), uid: 0, gid: 0, groups: vec![0] },
        stdin: None,
        staged: staged.collect(),
        unbound: Vec::new(),
        wall_clock_secs: 1,
        whole: false,
        reason: String::new(),
        session: String::new(),
    }
}

fn memory(contents: &[&[u8]]) -> Vec<OwnedFd> {
    contents.iter().map(|content| sealed_memfd("test", content).unwrap()).collect()
}

fn folder(bytes_max: u64) -> (tempfile::TempDir, Staging) {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::open(&dir.path().join("pin"), bytes_max, false).unwrap();
    (dir, staging)
}

#[test]
fn copies_have_their_modes_and_go_when_they_are_dropped() {
    let (dir, staging) = folder(1000);
    let contents = [CONTENT, b"data"];
    let copies = staging.copy(&plan(0xab, &contents), memory(&contents)).unwrap();
    let run = dir.path().join("pin").join("ab".repeat(16));
    let mode = |name: &str| fs::metadata(run.join(name)).unwrap().mode() & 0o7777;
    assert_eq!([".", "0", "1"].map(mode), [0o711; 3]);
    assert_eq!((mode("0/x"), mode("1/y")), (0o555, 0o444));
    assert_eq!(fs::read(run.join("0/x")).unwrap(), CONTENT);
    let place = run.join("0/x");
    let executables: Vec<_> = copies.executables().collect();
    assert_eq!(executables, [place.as_os_str().as_bytes()]);
    drop(copies);
    assert!(!run.exists());
}

#[test]
fn what_is_not_the_approved_bytes_leaves_nothing_and_takes_no_room() {
    let (dir, staging) = folder(CONTENT.len() as u64);
    let plan = plan(1, &[CONTENT]);
    let refused = |files: Vec<OwnedFd>| staging.copy(&plan, files).unwrap_err().reason;
    for other in [&CONTENT[1..], b"", &[CONTENT, b"x"].concat(), b"#!/bin/sh\nexit 1\n"] {
        assert_eq!(refused(memory(&[other])), Reason::Mismatch);
    }
    assert_eq!(refused(memory(&[])), Reason::Mismatch);
    assert_eq!(refused(memory(&[CONTENT, CONTENT])), Reason::Mismatch);
    assert_eq!(fs::read_dir(dir.path().join("pin")).unwrap().count(), 0);
    assert!(staging.copy(&plan, memory(&[CONTENT])).is_ok());
}

#[test]
fn a_plan_is_copied_once_at_a_time_and_all_together_within_the_limit() {
    let (_dir, staging) = folder(2 * CONTENT.len() as u64);
    let copy = |random| staging.copy(&plan(random, &[CONTENT]), memory(&[CONTENT]));
    let first = copy(1).unwrap();
    assert_eq!(copy(1).unwrap_err().reason, Reason::Busy);
    let second = copy(2).unwrap();
    assert_eq!(copy(3).unwrap_err().reason, Reason::Busy);
    drop(first);
    assert!(copy(3).is_ok());
    drop(second);
    assert!(copy(1).is_ok());
}

#[test]
fn a_start_removes_what_runs_left_and_nothing_else() {
    let (dir, staging) = folder(1000);
    let pin = dir.path().join("pin");
    std::mem::forget(staging.copy(&plan(7, &[CONTENT]), memory(&[CONTENT])).unwrap());
    fs::write(pin.join("07".repeat(15)), "one digit pair less").unwrap();
    Staging::open(&pin, 1000, false).unwrap();
    let left: Vec<_> = fs::read_dir(&pin).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, [std::ffi::OsString::from("07".repeat(15))]);
}
