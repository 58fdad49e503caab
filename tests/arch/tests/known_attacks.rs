//! Every attack in docs/known-attacks.md says what stops it, and names tests that exist.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "to fail loudly is what a test is for")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use olb_arch_tests::repository;

const HEADER: &str = "| Id | Attack | What stops it | Shown by |";
const RULE: &str = "|---|---|---|---|";
/// What a row says in place of a test, or beside one that shows only a part.
const NOT_BUILT: &str = "not built yet";

struct Row {
    id: String,
    shown_by: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(repository().join("docs/known-attacks.md")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines.filter(|line| *line != HEADER && *line != RULE).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let ["", id, attack, stop, shown_by, ""] = cells.as_slice() else {
        panic!("not four cells: {line}");
    };
    let is_id = id.starts_with(|first: char| first.is_ascii_uppercase())
        && id.chars().skip(1).all(|sign| sign.is_ascii_digit() || sign.is_ascii_lowercase())
        && id.contains(|sign: char| sign.is_ascii_digit());
    assert!(is_id, "{id} is not an id");
    assert!(!attack.is_empty() && !stop.is_empty(), "{id} says too little");
    Row { id: (*id).to_owned(), shown_by: shown_by.split(", ").map(str::to_owned).collect() }
}

/// The names of the tests in a source file.
fn tests_in(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(name) = name.filter(|_| is_test) {
            names.insert(name.split('(').next().unwrap().to_owned());
            is_test = false;
        }
    }
    names
}

#[test]
fn every_named_test_exists_where_it_is_said_to_be() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for row in rows() {
        for shown in row.shown_by.iter().filter(|shown| *shown != NOT_BUILT) {
            let bare = shown.strip_prefix('`').and_then(|shown| shown.strip_suffix('`'));
            let (path, name) = bare
                .and_then(|bare| bare.split_once("::"))
                .unwrap_or_else(|| panic!("{}: {shown} is not `file::test`", row.id));
            let tests = files.entry(path.to_owned()).or_insert_with(|| tests_in(path));
            if !tests.contains(name) {
                missing.push(format!("{}: {shown}", row.id));
            }
        }
    }
    assert!(missing.is_empty(), "tests that do not exist: {missing:#?}");
}

#[test]
fn no_row_comes_twice_and_none_is_without_an_answer() {
    let mut seen = BTreeSet::new();
    let rows = rows();
    assert!(rows.len() > 80, "the table was not read");
    for row in rows {
        assert!(seen.insert(row.id.clone()), "{} comes twice", row.id);
        let unique: BTreeSet<_> = row.shown_by.iter().collect();
        assert_eq!(unique.len(), row.shown_by.len(), "{} names a test twice", row.id);
    }
}
