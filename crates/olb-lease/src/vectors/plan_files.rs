//! Plans with staged and unbound files: one defect each.

use crate::staging;
use crate::{Digest, Plan, Staged, Unbound, sha256};

use super::case::Stage;
use super::fixture::plan;
use super::plan_cases::{Defect, with};
use super::raw::{Map, array, bytes, items, replaced, text, uint};

/// A script and a file that it is told to read are staged; a third file stays unbound.
pub(super) fn staged_plan() -> Plan {
    let words = ["./job.sh", "--config=conf/job.conf", "out.log", "--fast"];
    let typed_argv: Vec<Vec<u8>> = words.map(Into::into).into();
    let file = |word, prefix, path: &str, content: &[u8]| Staged {
        word,
        prefix,
        path: path.into(),
        size: content.len() as u64,
        sha256: Digest(sha256(content)),
        executable: word == 0,
    };
    let staged = vec![
        file(0, 0, "/srv/app/job.sh", b"#!/bin/sh\nexit 0\n"),
        file(1, 9, "/srv/app/conf/job.conf", b"fast = no\n"),
    ];
    let base = plan();
    let dir = b"/var/lib/olb-pin";
    let mut executable = base.executable.clone();
    let places = staging::places(dir, &base.random, &typed_argv, &staged).unwrap();
    executable.path.clone_from(&places[0]);
    executable.size = staged[0].size;
    (executable.dev, executable.ino) = (0, 0);
    (executable.ctime_secs, executable.ctime_nanos) = (0, 0);
    Plan {
        argv: staging::argv(dir, &base.random, &typed_argv, &staged).unwrap(),
        typed_argv,
        executable,
        staged,
        unbound: vec![Unbound { word: 2, path: b"/srv/app/out.log".into() }],
        whole: true,
        ..base
    }
}

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Defect> {
    [staged(), unbound(), life()].concat()
}

/// The staged plan with other staged files.
fn with_staged(staged: &[Vec<u8>]) -> Vec<u8> {
    Map::of(&staged_plan().encode().unwrap()).with(13, array(staged)).encode()
}

#[rustfmt::skip]
fn staged() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let files = items(&Map::of(&staged_plan().encode().unwrap()).get(13));
    let (command, config) = (items(&files[0]), items(&files[1]));
    let second = |at, value| with_staged(&[files[0].clone(), replaced(&config, at, value)]);
    let first = |at, value| with_staged(&[replaced(&command, at, value), files[1].clone()]);
    let many: Vec<_> = (0..17).map(|word| replaced(&config, 0, uint(word))).collect();
    let large = uint(64 * 1024 * 1024 + 1);
    vec![
        ("staged_file", &["P-6"], Schema, "A staged file that is a number.",
            with(13, array(&[uint(0)]))),
        ("staged_5_items", &["P-6"], Schema, "Not said whether the copy is executable.",
            with_staged(&[array(&command[..5])])),
        ("staged_digest_31_bytes", &["P-6"], Schema, "The digest is one byte short.",
            second(4, bytes(&[1; 31]))),
        ("staged_path_text", &["P-6"], Schema, "The path is text in place of bytes.",
            second(2, text("/srv/app/conf/job.conf"))),
        ("staged_17", &["P-18"], Limit, "One staged file too many.", with_staged(&many)),
        ("staged_descending", &["P-18"], Limit, "The staged words descend.",
            with_staged(&[files[1].clone(), files[0].clone()])),
        ("staged_word_twice", &["P-18"], Limit, "A word is staged twice.",
            with_staged(&[files[1].clone(), files[1].clone()])),
        ("staged_path_relative", &["P-11"], Limit, "The path is relative.",
            second(2, bytes(b"conf/job.conf"))),
        ("staged_path_nul", &["P-10"], Limit, "The path holds a NUL byte.",
            second(2, bytes(b"/srv/\0"))),
        ("staged_no_such_word", &["P-21"], Limit, "The staged word is behind the last one.",
            second(0, uint(4))),
        ("staged_word_64_bits", &["P-21"], Limit, "The staged word does not fit 32 bits.",
            second(0, uint(1 << 32))),
        ("staged_prefix_longer", &["P-21"], Limit, "The prefix is longer than the word.",
            second(1, uint(23))),
        ("staged_prefix_whole", &["P-21"], Limit, "The prefix leaves no name.",
            second(1, uint(22))),
        ("staged_command_prefix", &["P-21"], Limit, "What is executed has a prefix.",
            first(1, uint(2))),
        ("staged_command_not_executable", &["P-21"], Limit,
            "What is executed cannot be executed.", first(5, vec![0xf4])),
        ("staged_67108865_bytes", &["P-22"], Limit, "A file that is one byte too large.",
            second(3, large)),
        ("staged_sum_67108865", &["P-22"], Limit, "All files together are one byte too large.",
            second(3, uint(64 * 1024 * 1024 - 16))),
        ("staged_sum_overflows", &["P-22"], Limit, "Sizes whose sum does not fit 64 bits.",
            second(3, uint(u64::MAX))),
    ]
}

#[rustfmt::skip]
fn unbound() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let map = || Map::of(&staged_plan().encode().unwrap());
    let one = |word: u64, path: &[u8]| array(&[uint(word), bytes(path)]);
    let with = |files: &[Vec<u8>]| map().with(14, array(files)).encode();
    let many: Vec<_> = (0..65).map(|word| one(word, b"/x")).collect();
    vec![
        ("unbound_file", &["P-6"], Schema, "An unbound file that is a number.", with(&[uint(2)])),
        ("unbound_3_items", &["P-6"], Schema, "A third item.",
            with(&[array(&[uint(2), bytes(b"/x"), uint(0)])])),
        ("unbound_65", &["P-23"], Limit, "One unbound file too many.", with(&many)),
        ("unbound_descending", &["P-23"], Limit, "The unbound words descend.",
            with(&[one(3, b"/x"), one(2, b"/x")])),
        ("unbound_command", &["P-23"], Limit, "What is executed is unbound.", with(&[one(0, b"/x")])),
        ("unbound_no_such_word", &["P-23"], Limit, "The unbound word is behind the last one.",
            with(&[one(4, b"/x")])),
        ("unbound_and_staged", &["P-23"], Limit, "A word is staged and unbound.",
            with(&[one(1, b"/x")])),
        ("unbound_path_dot_dot", &["P-11"], Limit, "The path goes up.", with(&[one(2, b"/x/..")])),
    ]
}

#[rustfmt::skip]
fn life() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let life = |seconds| array(&[uint(seconds), vec![0xf4]]);
    vec![
        ("wall_clock_0", &["P-19"], Limit, "A wall-clock limit of 0.", with(15, life(0))),
        ("wall_clock_86401", &["P-19"], Limit, "A wall-clock limit of a day and a second.",
            with(15, life(86_401))),
        ("whole_missing", &["P-6"], Schema, "Not said whether the command may be cut.",
            with(15, uint(3600))),
        ("whole_number", &["P-6"], Schema, "Whether the command may be cut is a number.",
            with(15, array(&[uint(3600), uint(1)]))),
        ("cwd_not_said_changeable", &["P-6"], Schema,
            "Not said whether the working directory can be changed.",
            { let cwd = items(&Map::of(&plan().encode().unwrap()).get(10)); with(10, array(&cwd[..3])) }),
    ]
}
