//! The real demo, run as a program.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

use olb_sys::harden::effective_uid;
use serde_json::{Value, json};

use crate::instance::built::{Seen, olb};

/// The folder that the demo said it works in.
fn folder(line: &str) -> PathBuf {
    line.trim_end().rsplit(' ').next().expect("a path").into()
}

fn summary(output: &Output) -> Value {
    let story = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{story}");
    assert!(!folder(story.lines().next().unwrap()).exists(), "the folder is left");
    let last = output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    serde_json::from_slice(last.expect("a line")).expect("an object")
}

#[test]
fn one_approval_is_one_run_and_the_trail_tells_it() {
    let output = olb().args(["demo", "--yes", "--json"]).output().unwrap();
    let summary = summary(&output);
    assert_eq!(summary["executed"], 1);
    assert_eq!(summary["replay"], "refused");
    assert_eq!(summary["audit"], "verified");
    assert_eq!(summary["exit_code"], 0);
    assert_eq!(summary["boundary"], effective_uid() == 0);
    assert!(summary["request_id"].as_str().unwrap().starts_with("req_"));
}

#[test]
fn silence_is_no_and_nothing_runs() {
    let output = olb().args(["demo", "--json"]).output().unwrap();
    let summary = summary(&output);
    assert_eq!((&summary["executed"], &summary["exit_code"]), (&json!(0), &Value::Null));
    assert_eq!(summary["audit"], "verified");
}

/// Reads the story up to the question; the folder and the two daemons' processes.
fn until_the_question(demo: &mut Child) -> (PathBuf, Vec<Seen>) {
    let mut story = BufReader::new(demo.stdout.take().unwrap());
    let mut first = String::new();
    story.read_line(&mut first).unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"[y/N] ") {
        let mut byte = [0];
        story.read_exact(&mut byte).expect("the demo goes on to its question");
        text.extend(byte);
    }
    let text = String::from_utf8(text).unwrap();
    let pids = text.lines().filter_map(|line| line.split(" process ").nth(1));
    let pids = pids.map(|rest| rest.split(' ').next().unwrap().parse().unwrap());
    (folder(&first), pids.map(Seen::now).collect())
}

#[test]
fn a_stop_at_the_question_leaves_nothing_behind() {
    for signal in [1, 2, 15] {
        let mut demo = olb().arg("demo").stdin(Stdio::piped()).spawn().unwrap();
        let own = Seen::now(demo.id().try_into().unwrap());
        let (folder, daemons) = until_the_question(&mut demo);
        assert!(folder.exists() && daemons.len() == 2, "{daemons:?}");
        assert!(daemons.iter().all(|daemon| daemon.find().is_some()));
        own.find().unwrap().signal(signal).unwrap();
        assert_eq!(demo.wait().unwrap().code(), Some(130), "signal {signal}");
        assert!(!folder.exists(), "signal {signal} leaves the folder");
        assert!(daemons.iter().all(|daemon| daemon.find().is_none()), "signal {signal}");
    }
}

#[test]
fn what_nobody_can_be_told_is_a_failed_demo_and_no_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = olb().args(["demo", "--yes", "--json"]).stderr(full).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

#[test]
fn a_reader_that_goes_away_ends_the_demo_cleanly() {
    let mut demo = olb().args(["demo", "--yes"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(demo.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert!(!folder(&first).exists(), "the folder is left");
}
