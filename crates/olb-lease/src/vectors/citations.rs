//! Every MUST-reject line of SPEC.md has a vector or a test that names it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::case::{Kind, Loaded};
use super::{folder, top, write_if_asked};

/// Lines whose test belongs to a crate that does not name them yet. A line leaves this list when a
/// test cites it; the list can only become shorter without somebody noticing.
#[rustfmt::skip]
const AWAITED: &[&str] = &[
    "K-5", "T-1", "T-2", "T-3", "T-4", "T-5", "R-20", "R-21", "X-1", "X-2", "X-3", "X-4", "X-5",
    "X-6", "X-7", "X-8", "X-9", "X-20", "X-21", "X-22", "X-23", "X-24", "X-25", "X-26", "X-27",
    "X-28", "X-29", "X-40", "X-41", "X-42", "X-43", "X-44", "X-45", "X-46", "X-47", "X-48",
    "X-49", "X-50", "X-51", "X-52", "X-53", "X-60", "X-61", "X-70", "X-71", "X-72", "X-73",
    "X-74", "X-75", "X-76", "X-77", "X-78", "F-1", "F-2", "F-3", "F-4", "F-5", "F-6", "F-7",
    "F-8",
];

/// The ids that SPEC.md gives: each stands in brackets at the start of an item of a list.
fn specified() -> BTreeSet<String> {
    let text = fs::read_to_string(top().join("SPEC.md")).unwrap();
    let ids = text.lines().filter_map(|line| line.strip_prefix("* [")?.split_once(']'));
    let mut seen = BTreeSet::new();
    for (id, _) in ids {
        assert!(is_id(id), "[{id}] is not an id");
        assert!(seen.insert(id.to_owned()), "[{id}] is given twice");
    }
    seen
}

fn is_id(text: &str) -> bool {
    let plain = |family: &str, number: &str| {
        (1..=2).contains(&family.len())
            && family.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.split_once('-').is_some_and(|(family, number)| plain(family, number))
}

/// Ids in brackets in the comments of Rust sources under `dir`.
fn cited_in_sources(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cited_in_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let comments = text.lines().filter_map(|line| Some(line.split_once("//")?.1));
            let brackets = comments.flat_map(|comment| comment.split('[').skip(1));
            let ids = brackets.filter_map(|rest| rest.split_once(']')).map(|(id, _)| id);
            found.extend(ids.filter(|id| is_id(id)).map(Into::into));
        }
    }
}

fn cited() -> BTreeSet<String> {
    write_if_asked();
    let mut found = BTreeSet::new();
    cited_in_sources(&top().join("crates"), &mut found);
    cited_in_sources(&top().join("tests"), &mut found);
    for kind in Kind::ALL {
        for entry in fs::read_dir(folder(kind)).unwrap() {
            found.extend(Loaded::read(&entry.unwrap().path()).spec);
        }
    }
    found
}

#[test]
fn every_line_of_the_specification_is_cited_and_every_citation_has_a_line() {
    let (specified, cited) = (specified(), cited());
    assert!(specified.len() > 80, "SPEC.md was not read");
    let awaited: BTreeSet<String> = AWAITED.iter().map(|id| (*id).to_owned()).collect();
    let uncited: Vec<_> =
        specified.difference(&cited).filter(|id| !awaited.contains(*id)).collect();
    assert!(uncited.is_empty(), "no vector and no test cites {uncited:?}");
    let unknown: Vec<_> = cited.union(&awaited).filter(|id| !specified.contains(*id)).collect();
    assert!(unknown.is_empty(), "cited, but not in SPEC.md: {unknown:?}");
    let done: Vec<_> = awaited.intersection(&cited).collect();
    assert!(done.is_empty(), "cited now, so take it off AWAITED: {done:?}");
}
