//! Who may depend on whom. A failure here is a decision to be taken, not a test to be adjusted.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;

use olb_arch_tests::graph::{Graph, Kind, linked};
use olb_arch_tests::repository;

/// Every crate and its layer; dependencies point to a lower layer only.
const LAYERS: [(&str, u8); 11] = [
    ("olb-lease", 0),
    ("olb-sys", 0),
    ("olb-core", 1),
    ("olb-wire", 1),
    ("olb-exec-api", 1),
    ("olb-review", 1),
    ("olb-store", 2),
    ("olb-ledger", 2),
    ("olb-execd", 3),
    ("olb-brokerd", 3),
    ("olb-cli", 3),
];

/// Packages of tests, which may depend on anything.
const TESTS: [&str; 4] = ["olb-arch-tests", "olb-bench", "olb-e2e-tests", "olb-fuzz-targets"];

/// Crates without I/O, clock and randomness.
const PURE: [&str; 5] = ["olb-lease", "olb-core", "olb-wire", "olb-exec-api", "olb-review"];

const ALL_KINDS: [Kind; 3] = [Kind::Normal, Kind::Build, Kind::Dev];

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// Those of `names` that are in `unwanted`.
fn among(names: &BTreeSet<String>, unwanted: &[&str]) -> Vec<String> {
    names.iter().filter(|name| unwanted.contains(&name.as_str())).cloned().collect()
}

#[test]
fn every_member_has_a_layer() {
    let members = Graph::load().members();
    let unplaced = members.iter().filter(|name| layer(name).is_none());
    let unplaced: Vec<_> = unplaced.filter(|name| !TESTS.contains(&name.as_str())).collect();
    assert!(unplaced.is_empty(), "without a layer: {unplaced:?}");
    assert!(LAYERS.iter().all(|(name, _)| members.contains(*name)), "a layer without its crate");
}

#[test]
fn dependencies_point_downward() {
    let graph = Graph::load();
    for (name, above) in LAYERS {
        for below in graph.direct(name, &ALL_KINDS) {
            let upward = layer(&below).is_some_and(|below| below >= above);
            assert!(!upward, "{name} may not depend on {below}");
            assert!(!TESTS.contains(&below.as_str()), "{name} may not depend on tests");
        }
    }
}

#[test]
fn the_root_half_holds_no_parser_of_foreign_formats_and_no_network_code() {
    let unwanted = [
        "tokio",
        "mio",
        "clap",
        "reqwest",
        "hyper",
        "http",
        "rustls",
        "serde",
        "serde_core",
        "serde_json",
        "serde_cbor",
        "serde_cbor_2",
        "ciborium",
        "toml",
        "olb-wire",
        "olb-core",
        "olb-review",
        "olb-store",
        "socket2",
        "tracing",
        "anyhow",
    ];
    let found = among(&linked("olb-execd"), &unwanted);
    assert!(found.is_empty(), "olb-execd links {found:?}");
}

#[test]
fn what_root_links_is_exactly_what_is_written_down() {
    let closure = linked("olb-execd");
    let list = fs::read_to_string(repository().join("tests/arch/execd-closure.txt")).unwrap();
    let written: BTreeSet<String> = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    let new: Vec<_> = closure.difference(&written).collect();
    let gone: Vec<_> = written.difference(&closure).collect();
    // Straight to the file descriptor: the test harness would swallow it.
    let _shown = writeln!(std::io::stderr(), "olb-execd links {} other crates", closure.len());
    assert!(new.is_empty() && gone.is_empty(), "new: {new:?}, no longer linked: {gone:?}");
}

#[test]
fn pure_crates_reach_no_system_clock_or_randomness() {
    let unwanted = [
        "olb-sys",
        "nix",
        "rustix",
        "mio",
        "tokio",
        "rusqlite",
        "rand",
        "getrandom",
        "tempfile",
        "jiff",
        "chrono",
        "time",
        "socket2",
    ];
    for name in PURE {
        let found = among(&linked(name), &unwanted);
        assert!(found.is_empty(), "{name} links {found:?}");
    }
}

#[test]
fn each_heavy_dependency_has_its_place() {
    let places = [
        ("libc", &["olb-sys"] as &[&str]),
        ("nix", &["olb-sys", "olb-cli"]),
        ("rusqlite", &["olb-ledger", "olb-store"]),
        ("ed25519-dalek", &["olb-lease"]),
        ("tokio", &["olb-brokerd"]),
        ("clap", &["olb-cli"]),
    ];
    let graph = Graph::load();
    for (dependency, allowed) in places {
        for (name, _) in LAYERS {
            let uses = graph.direct(name, &[Kind::Normal]).contains(dependency);
            assert!(!uses || allowed.contains(&name), "{name} may not use {dependency}");
        }
    }
}
