//! What SPEC.md copies by hand from the code is what the code says.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "to fail loudly is what a test is for")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use olb_arch_tests::repository;
use olb_core::{Event, State, Step, next};
use olb_exec_api::Reason;
use olb_execd::config::Config;

fn specification() -> String {
    fs::read_to_string(repository().join("SPEC.md")).unwrap()
}

/// The cells of the table that begins with the line `header`, without it and the line of dashes.
fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| *line != header)
        .skip(2)
        .map_while(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "SPEC.md has no table {header}");
    rows
}

/// The words in backticks, those in brackets left out.
fn names(cell: &str) -> BTreeSet<String> {
    let mut plain = String::new();
    let mut depth = 0;
    for letter in cell.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    plain.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_of_reasons_has_every_reason_with_its_number_name_and_exit_code() {
    let header = "| No. | Reason | Exit | No. | Reason | Exit | No. | Reason | Exit |";
    let mut written = BTreeMap::new();
    for row in table(&specification(), header) {
        for cells in row.chunks(3).filter(|cells| !cells[0].is_empty()) {
            let number: u16 = cells[0].parse().unwrap();
            let entry = (cells[1].trim_matches('`').to_owned(), cells[2].parse().unwrap());
            assert!(written.insert(number, entry).is_none(), "{number} comes twice");
        }
    }
    let of_code: BTreeMap<u16, (String, u8)> = Reason::ALL
        .iter()
        .map(|reason| (*reason as u16, (reason.name().to_owned(), reason.exit_code())))
        .collect();
    assert_eq!(written, of_code);
}

#[test]
fn every_reason_that_a_requirement_names_exists() {
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let text = specification();
    let after = text.split_once("### 11.1 ").unwrap().1;
    let operations = after.split_once("## 12. ").unwrap().0;
    // They stand in brackets: (`mismatch`), or (`denied`, `revoked`).
    let named: Vec<&str> = operations
        .split("(`")
        .skip(1)
        .filter_map(|rest| rest.split_once("`)"))
        .flat_map(|(inside, _)| inside.split("`, `"))
        // Names of errors of the kernel stand in capitals.
        .filter(|name| !name.bytes().any(|byte| byte.is_ascii_uppercase()))
        .collect();
    assert!(named.len() > 20, "only {named:?} were found");
    let unknown: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
    assert!(unknown.is_empty(), "no such reason: {unknown:?}");
}

#[test]
fn the_table_of_states_is_the_transition_table() {
    let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table(&specification(), "| State | Goes to |") {
        let from = names(&row[0]).pop_first().unwrap();
        assert!(written.insert(from, names(&row[1])).is_none());
    }
    let mut of_code: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for state in State::ALL {
        for event in Event::ALL {
            if let Step::To(to) = next(*state, *event) {
                of_code.entry(state.name().into()).or_default().insert(to.name().into());
            }
        }
    }
    assert_eq!(written, of_code, "every state that is not named is final");
}

#[test]
fn the_defaults_of_the_root_half_are_the_documented_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("execd.conf");
    let mandatory = "host = h\nfront_uid = 7\nruntime_dir = /r\nstate_dir = /s\n\
                     approvers_dir = /a\nrequesters = 1001\n";
    fs::write(&path, mandatory).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let own_uid = olb_sys::harden::effective_uid();
    let config = Config::read(&path, own_uid).unwrap();
    // As in "`max_executions` 64,", wherever the line breaks are.
    let text = specification().split_whitespace().collect::<Vec<_>>().join(" ");
    let section = text.split_once("## 14. ").unwrap().1.split_once("## 15. ").unwrap().0;
    for (name, value) in config.limits.named() {
        let documented = format!("`{name}` {value}");
        let at = section.find(&documented);
        let behind = at.and_then(|at| section[at + documented.len()..].chars().next());
        assert!(behind.is_some_and(|sign| !sign.is_ascii_digit()), "{documented} is not in it");
    }
}
