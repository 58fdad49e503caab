//! Every MUST of SPEC.md has an id, and every id a vector or a test that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::case::{Kind, Loaded};
use super::{folder, top, write_if_asked};

/// A vector, or a test or a list of cases for one, and the ids that it is about.
#[derive(Clone)]
struct Citation {
    place: String,
    ids: Vec<String>,
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

/// The ids that a specification gives: each stands in brackets at the start of an item of a list.
fn specified(specification: &str, complaints: &mut Vec<String>) -> BTreeSet<String> {
    let lines = specification.lines();
    let ids = lines.filter_map(|line| line.strip_prefix("* [")?.split_once(']'));
    let mut seen = BTreeSet::new();
    for (id, _) in ids {
        if !is_id(id) {
            complaints.push(format!("[{id}] is not an id"));
        } else if !seen.insert(id.to_owned()) {
            complaints.push(format!("[{id}] is given twice"));
        }
    }
    seen
}

/// The paragraphs, lists and headings of a text, without the blocks of code.
fn blocks(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    prose.join("\n\n").split("\n\n").map(|block| block.trim().to_owned()).collect()
}

/// Complains of what is a MUST and has no id: a paragraph that says so has a list of ids after it.
fn unnumbered(specification: &str, complaints: &mut Vec<String>) {
    let blocks = blocks(specification);
    let blocks: Vec<&String> = blocks.iter().filter(|block| !block.is_empty()).collect();
    for (at, block) in blocks.iter().enumerate() {
        // Beside items with ids, one that says MUST has its own.
        let items = block.split("\n* ").skip(1);
        let listed = block.contains("\n* [") || block.starts_with("* [");
        for item in items.filter(|item| listed && item.contains("MUST") && !item.starts_with('[')) {
            complaints.push(format!("a MUST without an id: {}", item.lines().next().unwrap_or("")));
        }
        // A list right below its paragraph belongs to it; the paragraph about the word is exempt.
        let (prose, list) = block.split_once("\n* [").unwrap_or((block, ""));
        let is_item = block.starts_with("* [");
        let is_said = prose.contains("MUST") && !prose.contains("BCP 14") && !is_item;
        let next = blocks.get(at + 1).is_some_and(|next| next.starts_with("* ["));
        if is_said && list.is_empty() && !next {
            let start = prose.lines().find(|line| line.contains("MUST")).unwrap_or_default();
            complaints.push(format!("a MUST without an id: {start}"));
        }
    }
}

/// What is wrong between a specification and what cites it.
fn complaints(specification: &str, citations: &[Citation]) -> Vec<String> {
    let mut complaints = Vec::new();
    let specified = specified(specification, &mut complaints);
    unnumbered(specification, &mut complaints);
    let mut cited: BTreeMap<&String, &String> = BTreeMap::new();
    for one in citations {
        cited.extend(one.ids.iter().map(|id| (id, &one.place)));
    }
    let uncited = specified.iter().filter(|id| !cited.contains_key(id));
    complaints.extend(uncited.map(|id| format!("no vector and no test cites [{id}]")));
    let unknown = cited.iter().filter(|(id, _)| !specified.contains(**id));
    complaints.extend(unknown.map(|(id, place)| format!("{place} cites [{id}], which is nowhere")));
    complaints
}

/// Ids in brackets in the comments right above tests and lists of cases for them.
fn in_source(place: &str, text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    let mut ids = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(comment) = line.strip_prefix("//") {
            let brackets = comment.split('[').skip(1);
            let named = brackets.filter_map(|rest| rest.split_once(']')).map(|(id, _)| id);
            ids.extend(named.filter(|id| is_id(id)).map(str::to_owned));
        } else if ["#[test]", "#[tokio::test", "const "].iter().any(|one| line.starts_with(one)) {
            let place = format!("{place}:{number}");
            found.push(Citation { place, ids: std::mem::take(&mut ids) });
        } else {
            assert!(ids.is_empty(), "{place}:{number}: {ids:?} is above no test");
        }
    }
    found
}

fn in_sources(dir: &Path, found: &mut Vec<Citation>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            in_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(in_source(&path.display().to_string(), &text));
        }
    }
}

/// All that there are: in the vectors, and in the sources of `crates` and `tests`.
fn citations() -> Vec<Citation> {
    write_if_asked();
    let mut found = Vec::new();
    for dir in ["crates", "tests"] {
        in_sources(&top().join(dir), &mut found);
    }
    for kind in Kind::ALL {
        for entry in fs::read_dir(folder(kind)).unwrap() {
            let path = entry.unwrap().path();
            let place = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.push(Citation { place, ids: Loaded::read(&path).spec });
        }
    }
    found
}

fn specification() -> String {
    fs::read_to_string(top().join("SPEC.md")).unwrap()
}

#[test]
fn every_must_of_the_specification_is_cited_and_every_citation_has_one() {
    let (specification, citations) = (specification(), citations());
    assert!(specified(&specification, &mut Vec::new()).len() > 80, "SPEC.md was not read");
    assert_eq!(complaints(&specification, &citations), [""; 0]);
}

#[test]
fn a_vector_that_is_removed_is_missed_by_the_ids_that_nothing_else_cites() {
    let (specification, all) = (specification(), citations());
    let without = |place: &str| {
        let kept: Vec<_> = all.iter().filter(|one| one.place != place).cloned().collect();
        assert_eq!(kept.len() + 1, all.len(), "{place}");
        complaints(&specification, &kept)
    };
    assert_eq!(without("lease_uid_minus_one.json"), ["no vector and no test cites [L-12]"]);
    assert_eq!(without("lease_version_2.json"), ["no vector and no test cites [L-9]"]);
    // One of two about the same line.
    assert_eq!(without("lease_uid_3_bytes.json"), [""; 0]);
    let alone = all.iter().filter(|one| one.place.ends_with(".json"));
    let missed = alone.filter(|one| !without(&one.place).is_empty()).count();
    assert!(missed > 5, "only {missed} vectors stand alone for an id");
}

#[test]
fn whichever_id_loses_all_that_cites_it_is_named() {
    let (specification, all) = (specification(), citations());
    for id in specified(&specification, &mut Vec::new()) {
        let mut kept = all.clone();
        kept.iter_mut().for_each(|one| one.ids.retain(|cited| *cited != id));
        assert_eq!(
            complaints(&specification, &kept),
            [format!("no vector and no test cites [{id}]")]
        );
    }
}

#[test]
fn an_id_that_is_renamed_removed_or_made_up_is_named() {
    let (specification, mut citations) = (specification(), citations());
    let renamed = specification.replace("* [L-12]", "* [L-99]");
    let of_citation = "lease_uid_minus_one.json cites [L-12], which is nowhere";
    assert_eq!(
        complaints(&renamed, &citations),
        ["no vector and no test cites [L-99]", of_citation]
    );
    let removed = specification.replace("* [L-12]", "*");
    assert_eq!(complaints(&removed, &citations), [of_citation]);
    citations.push(Citation { place: "here".into(), ids: vec!["L-98".into()] });
    assert_eq!(complaints(&specification, &citations), ["here cites [L-98], which is nowhere"]);
}

#[test]
fn a_citation_is_a_comment_right_above_a_test() {
    let specification = "* [A-1] one\n* [A-2] two\n";
    let source =
        "// [A-1]\n#[test]\nfn one() {}\n\n// See [A-2] there.\n#[tokio::test]\nfn two() {}\n";
    let of = |source: &str| complaints(specification, &in_source("x.rs", source));
    assert_eq!(of(source), [""; 0]);
    assert_eq!(of(&source.replace("// [A-1]\n", "")), ["no vector and no test cites [A-1]"]);
    assert_eq!(of(&source.replace("[A-1]", "A-1")), ["no vector and no test cites [A-1]"]);
    let above_nothing = source.replace("#[test]\n", "");
    let panic = std::panic::catch_unwind(|| in_source("x.rs", &above_nothing)).err().unwrap();
    let text = panic.downcast_ref::<String>().unwrap();
    assert_eq!(text, "x.rs:2: [\"A-1\"] is above no test");
}

#[test]
fn an_id_twice_or_in_another_form_and_a_must_without_one_are_named() {
    let of = |specification: &str| complaints(specification, &[]);
    let uncited = "no vector and no test cites [A-1]";
    assert_eq!(of("* [A-1] x\n* [A-1] y\n"), ["[A-1] is given twice", uncited]);
    assert_eq!(of("* [a-1] x\n"), ["[a-1] is not an id"]);
    assert_eq!(of("A reader MUST\nrefuse:\n\n* [A-1] x\n"), [uncited]);
    assert_eq!(of("A reader MUST refuse:\n* [A-1] it MUST not\n"), [uncited]);
    assert_eq!(
        of("It is so.\nA reader MUST care.\n\nMore.\n"),
        ["a MUST without an id: A reader MUST care."]
    );
    assert_eq!(
        of("A reader MUST refuse:\n\n* this\n"),
        ["a MUST without an id: A reader MUST refuse:"]
    );
    assert_eq!(of("* [A-1] x\n* it MUST be\n"), ["a MUST without an id: it MUST be", uncited]);
    assert_eq!(of("MUST is to be read as in BCP 14.\n\n```text\nMUST\n```\n"), [""; 0]);
}
