//! Every MUST-reject line of SPEC.md has a vector or a test that names it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::case::{Kind, Loaded};
use super::{folder, top, write_if_asked};

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

/// Ids in brackets in the comments right above tests and lists of cases for them, in Rust sources under `dir`.
fn cited_in_sources(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cited_in_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            cited_in_source(&path, found);
        }
    }
}

fn cited_in_source(path: &Path, found: &mut BTreeSet<String>) {
    let text = fs::read_to_string(path).unwrap();
    let mut open = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("//") {
            let brackets = comment.split('[').skip(1);
            let ids = brackets.filter_map(|rest| rest.split_once(']')).map(|(id, _)| id);
            open.extend(ids.filter(|id| is_id(id)).map(str::to_owned));
        } else if ["#[test]", "#[tokio::test", "const "].iter().any(|one| line.starts_with(one)) {
            found.extend(open.drain(..));
        } else {
            assert!(open.is_empty(), "{}: {open:?} is above no test", path.display());
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
    let uncited: Vec<_> = specified.difference(&cited).collect();
    assert!(uncited.is_empty(), "no vector and no test cites {uncited:?}");
    let unknown: Vec<_> = cited.difference(&specified).collect();
    assert!(unknown.is_empty(), "cited, but not in SPEC.md: {unknown:?}");
}
