use super::*;
use crate::audit::sample::{anchor_line, head_after, trail};
use crate::trust::tests::keys;

fn of_text(text: &str) -> Result<Anchors, Unproved> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heads.txt");
    std::fs::write(&path, text).unwrap();
    Anchors::read(From::File(&path), &keys())
}

fn sentence(result: Result<Anchors, Unproved>) -> (bool, String) {
    match result {
        Err(Unproved::Broken(text)) => (true, text),
        Err(Unproved::Cannot(text)) => (false, text),
        Ok(anchors) => panic!("taken: {anchors:?}"),
    }
}

#[test]
fn heads_are_found_among_other_lines_and_behind_what_a_log_puts_first() {
    let trail = trail();
    let [two, four] = [2, 4].map(|count| anchor_line(&trail, count));
    let text = format!(
        "olb-execd: stopping\nNov 22 16:00:00 web-1 olb-execd[12]: {two}\n\n\u{0}\nNov 22 16:00:01 \
         web-1 olb-execd: {four}\n{two}\n"
    );
    let anchors = of_text(&text).unwrap();
    assert_eq!(anchors.heads, [2, 4].map(|at| (at as u64, head_after(&trail, at))).into());
    assert_eq!(anchors.upto(), Some(4));
    assert!(anchors.source.starts_with("the anchor in /"), "{}", anchors.source);
}

// [T-8]
#[test]
fn a_line_that_begins_as_a_head_and_does_not_go_on_as_one_is_not_passed_over() {
    let good = anchor_line(&trail(), 4);
    let (words, kid) = good.rsplit_once(" kid=").unwrap();
    for bad in [
        [NAME, MARK].concat(),
        good[..good.len() - 1].to_owned(),
        words.to_owned(),
        format!("{good} "),
        format!("{good}\r"),
        format!("{good} more"),
        good.replace("sequence=4", "sequence=0"),
        good.replace("sequence=4", "sequence=04"),
        good.replace("sequence=4", "sequence=+4"),
        good.replace("sequence=4", "sequence=18446744073709551616"),
        good.replace("sequence=4 ", ""),
        good.replace("sequence=4 ", "sequence=4  "),
        good.replace("head=", "head=00"),
        good.replace("head=", "Head="),
        format!("{words} kid={}", kid.to_uppercase().replace(char::is_numeric, "A")),
        format!("{good}{good}x"),
    ] {
        let (is_broken, text) = sentence(of_text(&format!("{good}\n{bad}\n")));
        assert!(!is_broken && text.starts_with("line 2 of the anchor in /"), "{bad}: {text}");
    }
}

#[test]
fn what_a_line_quotes_is_no_head() {
    let (two, nine) = (anchor_line(&trail(), 2), anchor_line(&trail(), 9));
    let quoted =
        format!("{two}\nolb-execd: enrolment {nine} is out\nolb-execd: x {nine}\naudit head x\n");
    assert_eq!(of_text(&quoted).unwrap().upto(), Some(2));
}

// [T-9]
#[test]
fn two_heads_for_one_record_are_a_broken_trail() {
    let trail = trail();
    let forked = anchor_line(&trail, 4).replace("sequence=4", "sequence=2");
    let text = [anchor_line(&trail, 2), anchor_line(&trail, 4), forked].join("\n");
    let (is_broken, text) = sentence(of_text(&text));
    assert!(is_broken && text.contains("at record 2: "), "{text}");
}

#[test]
fn heads_under_another_key_are_of_another_broker() {
    let trail = trail();
    let kid = crate::trust::tests::audit_key().public().kid().hex();
    let foreign = anchor_line(&trail, 9).replace(&kid, &Kid([3; 8]).hex());
    let anchors = of_text(&format!("{foreign}\n{}", anchor_line(&trail, 2))).unwrap();
    assert_eq!(anchors.upto(), Some(2));
    assert!(anchors.passed_over().unwrap().starts_with("1 further heads "), "and it says so");
    assert_eq!(of_text(&anchor_line(&trail, 2)).unwrap().passed_over(), None);
    let (is_broken, text) = sentence(of_text(&foreign));
    assert!(!is_broken && text.contains("(1 are of audit keys that were not given)"), "{text}");
}

// [T-11]
#[test]
fn heads_under_another_key_that_are_newer_than_all_others_leave_the_end_open() {
    let trail = trail();
    let kid = crate::trust::tests::audit_key().public().kid().hex();
    let [two, four] = [2, 4].map(|count| anchor_line(&trail, count));
    let foreign = anchor_line(&trail, 9).replace(&kid, &Kid([3; 8]).hex());
    let known = |lines: &[&String]| {
        let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
        of_text(&lines.join("\n")).unwrap().require_all_known()
    };
    assert_eq!(known(&[&two, &four]), Ok(()));
    assert_eq!(known(&[&two, &foreign, &four]), Ok(()), "another broker's");
    let told = known(&[&two, &four, &foreign]).unwrap_err();
    let Unproved::Cannot(told) = told else { panic!("{told:?}") };
    assert!(told.contains("a head for record 9 by audit key 0303030303030303"), "{told}");
    let only = journal(&format!("echo '{foreign}'")).unwrap();
    assert!(only.require_all_known().is_err(), "also where no other is left");
}

#[test]
fn a_file_that_holds_no_head_or_cannot_be_read_proves_nothing() {
    assert!(!sentence(of_text("")).0);
    assert!(!sentence(of_text("audit head\nolb-execd: ready\n")).0);
    let evil = Path::new("/nonexistent/\u{1b}[2J\n");
    let (is_broken, text) = sentence(Anchors::read(From::File(evil), &keys()));
    assert!(!is_broken && text.contains("\\u{1b}[2J\\u{a} cannot be read"), "{text}");
}

/// A program in journalctl's place.
fn journal(script: &str) -> Result<Anchors, Unproved> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journalctl");
    // Written by a process of its own: a descriptor of ours would be open in whatever another test
    // starts just then, and what is open for writing cannot be executed.
    let mut write = std::process::Command::new("/bin/sh");
    write.args(["-c", "printf '#!/bin/sh\\n%s' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"]);
    assert!(write.arg(&path).arg(script).status().unwrap().success());
    Anchors::of_journal(&path, &keys())
}

#[test]
fn the_journal_is_asked_for_lines_of_the_root_half_only() {
    let line = anchor_line(&trail(), 4);
    let anchors = journal(&format!(
        "[ \"$*\" = '--quiet --no-pager --system --output=cat _SYSTEMD_UNIT=olb-execd.service \
         _UID=0 _COMM=olb-execd' ] && [ -z \"$HOME\" ] && echo '{line}'"
    ));
    assert_eq!(anchors.unwrap().upto(), Some(4));
}

#[test]
fn a_journal_that_says_nothing_is_no_proof_and_no_failure() {
    let why = |script: &str| {
        let anchors = journal(script).unwrap();
        assert_eq!(anchors.upto(), None);
        anchors.why_none()
    };
    assert_eq!(why("exit 0"), "no head of it is in what you can read of the journal");
    let denied = why("printf 'no\\033[2J\\nway' >&2; exit 1");
    assert_eq!(denied, "the journal cannot be read (no\\u{1b}[2J\\u{a}way)");
    let missing = Anchors::of_journal(Path::new("/nonexistent"), &keys()).unwrap();
    assert!(missing.why_none().starts_with("journalctl cannot be started ("));
    let none = Anchors::read(From::Nowhere, &keys()).unwrap();
    assert_eq!(none.why_none(), "none was looked for (--no-anchor)");
}

#[test]
fn a_head_counts_also_where_the_journal_fails_behind_it() {
    let line = anchor_line(&trail(), 4);
    assert_eq!(journal(&format!("echo '{line}'; exit 1")).unwrap().upto(), Some(4));
    assert!(!sentence(journal(&format!("echo '{line}.'"))).0);
}
