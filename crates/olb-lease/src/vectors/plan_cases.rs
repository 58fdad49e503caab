//! Plans: good ones, and one defect each.

use std::collections::BTreeMap;

use crate::plan::limit;
use crate::{Digest, PLAN_BYTES_MAX, Plan, RunAs, Staged, Stdin, Unbound, plan_digest, sha256};

use super::case::{Case, Kind, Stage};
use super::fixture::plan;
use super::plan_files::{self, staged_plan};
use super::raw::{Map, array, bytes, head, items, null, replaced, text, uint};

pub(super) type Defect = (&'static str, &'static [&'static str], Stage, &'static str, Vec<u8>);

fn map() -> Map {
    Map::of(&plan().encode().unwrap())
}

/// The good plan with one value replaced.
pub(super) fn with(key: i64, value: Vec<u8>) -> Vec<u8> {
    map().with(key, value).encode()
}

fn accepted(name: &'static str, comment: &'static str, plan: &Plan) -> Case {
    let bytes = plan.encode().unwrap();
    let digest = plan_digest(&bytes);
    let names = [("plan_digest", digest.hex()), ("request_id", digest.request_id().to_string())];
    Case::new(Kind::Plan, name, &[], Stage::Accept, comment, bytes).named(&names)
}

/// As much of everything as is permitted.
fn at_every_limit() -> Plan {
    let word = |byte, length| vec![byte; length];
    Plan {
        host: "h".repeat(limit::NAME_BYTES),
        requester_uid: u32::MAX - 1,
        argv: vec![word(b'a', 1); limit::ARGV_WORDS],
        typed_argv: [vec![word(b'b', limit::ARGV_WORD_BYTES)], vec![word(b'c', 1); 80]].concat(),
        environment: (0..limit::ENV_VARS)
            .map(|number| (format!("V{number}").into_bytes(), Vec::new()))
            .collect(),
        environment_words: BTreeMap::new(),
        run_as: RunAs {
            name: "n".repeat(limit::NAME_BYTES),
            uid: u32::MAX - 1,
            gid: u32::MAX - 1,
            groups: (0..256).collect(),
        },
        stdin: Some(Stdin { size: limit::STDIN_BYTES, sha256: Digest([0; 32]) }),
        cwd_changeable: true,
        staged: (1..=16)
            .map(|word| Staged {
                word,
                prefix: 0,
                path: b"/f".into(),
                size: limit::STAGED_BYTES / 16,
                sha256: Digest([0; 32]),
                executable: true,
            })
            .collect(),
        unbound: (17..=80).map(|word| Unbound { word, path: b"/f".into() }).collect(),
        wall_clock_secs: limit::WALL_CLOCK_SECS,
        whole: true,
        reason: "r".repeat(limit::REASON_BYTES),
        session: "s".repeat(limit::SESSION_BYTES),
        ..plan()
    }
}

pub(super) fn cases() -> Vec<Case> {
    let bound = Plan {
        stdin: Some(Stdin { size: 5, sha256: Digest(sha256(b"bytes")) }),
        typed_argv: vec![b"tee".into(), b"\xff\x80 not text".into(), Vec::new()],
        ..plan()
    };
    let good = [
        accepted("valid", "A good plan.", &plan()),
        accepted("valid_stdin", "Standard input bound; words that are not text.", &bound),
        accepted(
            "valid_staged",
            "Two copies, a file that stays unbound; not to be cut.",
            &staged_plan(),
        ),
        accepted(
            "valid_at_every_limit",
            "As much of everything as is permitted.",
            &at_every_limit(),
        ),
    ];
    let refused = [
        form(),
        whole(),
        arguments(),
        files(),
        environment(),
        account(),
        rest(),
        plan_files::cases(),
    ]
    .concat();
    let refused = refused.into_iter().map(|(name, spec, stage, comment, bytes)| {
        Case::new(Kind::Plan, name, spec, stage, comment, bytes)
    });
    good.into_iter().chain(refused).collect()
}

/// Plans that are too long or not deterministic CBOR.
#[rustfmt::skip]
fn form() -> Vec<Defect> {
    use Stage::{Cbor, Length};
    let encoded = plan().encode().unwrap();
    let words = |length| array(&[bytes(b"x"), bytes(&vec![b'a'; length])]);
    let mut long = map().with(5, words(limit::ARGV_WORD_BYTES)).with(6, words(0)).encode();
    let more = PLAN_BYTES_MAX + 1 - long.len();
    long = map().with(5, words(limit::ARGV_WORD_BYTES)).with(6, words(more - 2)).encode();
    assert_eq!(long.len(), PLAN_BYTES_MAX + 1);
    vec![
        ("longer_than_131072", &["P-1", "C-11"], Length,
            "131073 bytes; every field is within its own limit.", long),
        ("empty", &["P-2", "C-1"], Cbor, "No bytes at all.", Vec::new()),
        ("cut_by_one", &["P-2", "C-1"], Cbor, "The last byte is missing.",
            encoded[..encoded.len() - 1].into()),
        ("byte_after", &["P-2", "C-2"], Cbor, "One byte follows.", [&encoded[..], &[0]].concat()),
        ("uid_not_shortest", &["P-2", "C-3"], Cbor,
            "The requester's uid takes five bytes where three do.",
            with(4, [&[0x1a][..], &1001_u32.to_be_bytes()].concat())),
        ("host_in_chunks", &["P-2", "C-4"], Cbor, "The host name is a text of indefinite length.",
            with(2, [vec![0x7f], text("web"), text("-1"), vec![0xff]].concat())),
        ("tag_self_described", &["P-2", "C-5"], Cbor, "The plan is tagged as CBOR (55799).",
            [&[0xd9, 0xd9, 0xf7], &encoded[..]].concat()),
        ("wall_clock_float", &["P-2", "C-6"], Cbor, "The wall-clock limit is the float 1.0.",
            with(15, array(&[vec![0xf9, 0x3c, 0], vec![0xf4]]))),
        ("reason_not_utf8", &["P-2", "C-7"], Cbor, "The reason is not UTF-8.",
            with(16, vec![0x61, 0xff])),
        ("keys_swapped", &["P-2", "C-8"], Cbor, "The typed arguments come after the arguments.",
            map().swapped(5, 6).encode()),
        ("argv_twice", &["P-2", "C-8"], Cbor,
            "The arguments come twice, with other words the second time.",
            map().inserted(7, uint(6), array(&[bytes(b"id")])).encode()),
        ("env_name_array", &["P-2", "C-9"], Cbor, "A variable's name is an array.",
            with(9, [head(5, 1), array(&[]), bytes(b"1")].concat())),
        ("stdin_nested", &["P-2", "C-10"], Cbor, "Seven arrays within each other.",
            with(12, vec![0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x80])),
    ]
}

/// Defects of keys, version, random bytes, audience, host and requester.
#[rustfmt::skip]
fn whole() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    vec![
        ("array", &["P-3"], Schema, "An array of the same items.",
            map().flat()),
        ("session_missing", &["P-3"], Schema, "No session: every key is mandatory.",
            map().without(17).encode()),
        ("key_18_added", &["P-3"], Schema, "A pair more.", map().plus(uint(18), uint(0)).encode()),
        ("session_under_key_18", &["P-3"], Schema, "The session stands under key 18.",
            map().rekeyed(17, uint(18)).encode()),
        ("session_under_text_key", &["P-3"], Schema, "The session stands under a text.",
            map().rekeyed(17, text("session")).encode()),
        ("version_0", &["P-4"], Schema, "The version is 0.", with(0, uint(0))),
        ("version_2", &["P-4"], Schema, "The version is 2.", with(0, uint(2))),
        ("random_15_bytes", &["P-5"], Schema, "One random byte is missing.",
            with(1, bytes(&[1; 15]))),
        ("audience_31_bytes", &["P-5"], Schema, "The audience is one byte short.",
            with(3, bytes(&[1; 31]))),
        ("host_bytes", &["P-6"], Schema, "The host name is a byte string.",
            with(2, bytes(b"web-1"))),
        ("uid_text", &["P-6"], Schema, "The requester's uid is text.", with(4, text("1001"))),
        ("reason_null", &["P-6"], Schema, "The reason is null.", with(16, null())),
        ("host_empty", &["P-7"], Limit, "The host has no name.", with(2, text(""))),
        ("host_254_bytes", &["P-7"], Limit, "The host name is one byte too long.",
            with(2, text(&"h".repeat(254)))),
        ("uid_minus_one", &["P-8"], Limit, "The requester's uid is (uid_t)-1.",
            with(4, uint(u64::from(u32::MAX)))),
        ("uid_64_bits", &["P-8"], Limit, "The requester's uid does not fit 32 bits.",
            with(4, uint(1 << 32))),
    ]
}

/// Defects of the two argument vectors.
#[rustfmt::skip]
fn arguments() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let words = |words: &[&[u8]]| array(&words.iter().map(|word| bytes(word)).collect::<Vec<_>>());
    vec![
        ("argv_empty", &["P-9"], Limit, "No arguments, not even a name.", with(6, array(&[]))),
        ("typed_argv_empty", &["P-9"], Limit, "Nothing was typed.", with(5, array(&[]))),
        ("argv_name_empty", &["P-9"], Limit, "The name is empty.", with(6, words(&[b"", b"x"]))),
        ("argv_1025_words", &["P-9"], Limit, "One word too many.",
            with(6, array(&vec![bytes(b"x"); 1025]))),
        ("argv_word_too_long", &["P-9"], Limit, "A word of 98305 bytes.",
            with(6, words(&[b"x", &vec![b'a'; 98_305]]))),
        ("argv_string", &["P-6"], Schema, "The arguments are one string.",
            with(6, bytes(b"systemctl restart nginx"))),
        ("argv_word_text", &["P-6"], Schema, "A word is text in place of bytes.",
            with(6, array(&[bytes(b"echo"), text("x")]))),
        ("argv_nul", &["P-10"], Limit, "A word holds a NUL byte.",
            with(6, words(&[b"echo", b"a\0b"]))),
        ("typed_argv_nul", &["P-10"], Limit, "A typed word holds a NUL byte.",
            with(5, words(&[b"echo", b"a\0b"]))),
    ]
}

/// Defects of the executable and the working directory.
#[rustfmt::skip]
fn files() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let (file, cwd) = (items(&map().get(7)), items(&map().get(10)));
    let file_with = |at, value| with(7, replaced(&file, at, value));
    let cwd_with = |at, value| with(10, replaced(&cwd, at, value));
    vec![
        ("executable_nul", &["P-10"], Limit, "The executable's path holds a NUL byte.",
            file_with(0, bytes(b"/usr/bin/a\0b"))),
        ("executable_relative", &["P-11"], Limit, "The executable's path is relative.",
            file_with(0, bytes(b"bin/ls"))),
        ("executable_empty", &["P-11"], Limit, "The executable has no path.",
            file_with(0, bytes(b""))),
        ("executable_dot_dot", &["P-11"], Limit, "The executable's path goes up.",
            file_with(0, bytes(b"/usr/bin/../bin/ls"))),
        ("executable_4096_bytes", &["P-11"], Limit, "The executable's path is one byte too long.",
            file_with(0, bytes(format!("/{}", "p".repeat(4095)).as_bytes()))),
        ("executable_5_items", &["P-6"], Schema, "The executable without the nanoseconds.",
            with(7, array(&file[..5]))),
        ("executable_inode_negative", &["P-6"], Schema, "A negative inode number.",
            file_with(2, vec![0x20])),
        ("executable_nanoseconds", &["P-16"], Limit, "A thousand million nanoseconds are a second.",
            file_with(5, uint(1_000_000_000))),
        ("cwd_nul", &["P-10"], Limit, "The working directory holds a NUL byte.",
            cwd_with(0, bytes(b"/srv\0"))),
        ("cwd_double_slash", &["P-11"], Limit, "The working directory has an empty part.",
            cwd_with(0, bytes(b"/srv//app"))),
        ("cwd_slash_at_end", &["P-11"], Limit, "The working directory ends in a slash.",
            cwd_with(0, bytes(b"/srv/app/"))),
        ("cwd_dot", &["P-11"], Limit, "The working directory has a '.' part.",
            cwd_with(0, bytes(b"/srv/./app"))),
        ("cwd_5_items", &["P-6"], Schema, "A fifth item.",
            with(10, array(&[cwd.clone(), vec![uint(0)]].concat()))),
    ]
}

/// Defects of the environment.
#[rustfmt::skip]
fn environment() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let vars = |pairs: &[(&[u8], &[u8])]| {
        let body: Vec<u8> = pairs.iter().flat_map(|(n, v)| [bytes(n), bytes(v)].concat()).collect();
        [head(5, pairs.len() as u64), body].concat()
    };
    // Key 9 without words, so that the defect is in key 8 alone.
    let without_words = || map().with(9, vars(&[]));
    let final_env = |pairs: &[(&[u8], &[u8])]| without_words().with(8, vars(pairs)).encode();
    let many: Vec<_> = (0..257).map(|number| format!("V{number:03}").into_bytes()).collect();
    let many: Vec<(&[u8], &[u8])> = many.iter().map(|name| (name.as_slice(), &b""[..])).collect();
    vec![
        ("env_name_empty", &["P-12"], Limit, "A variable has no name.", final_env(&[(b"", b"x")])),
        ("env_name_digit", &["P-12"], Limit, "A name begins with a digit.",
            final_env(&[(b"1A", b"x")])),
        ("env_name_equals", &["P-12"], Limit, "A name holds '='.", final_env(&[(b"A=B", b"x")])),
        ("env_name_function", &["P-12"], Limit, "A name as bash exports functions.",
            final_env(&[(b"BASH_FUNC_ls%%", b"() { id; }")])),
        ("env_name_254_bytes", &["P-12"], Limit, "A name is one byte too long.",
            final_env(&[(&[b'A'; 254], b"x")])),
        ("env_value_too_long", &["P-12"], Limit, "A value of 32769 bytes.",
            final_env(&[(b"A", &[b'a'; 32_769])])),
        ("env_257_variables", &["P-12"], Limit, "One variable too many.", final_env(&many)),
        ("env_value_nul", &["P-10"], Limit, "A value holds a NUL byte.",
            final_env(&[(b"A", b"a\0b")])),
        ("env_array", &["P-6"], Schema, "The environment is an array of words.",
            with(8, array(&[bytes(b"A=b")]))),
        ("env_name_text", &["P-6"], Schema, "A name is text in place of bytes.",
            without_words().with(8, [head(5, 1), text("A"), bytes(b"b")].concat()).encode()),
        ("word_not_in_environment", &["P-13"], Limit,
            "A typed word that the environment does not hold.", with(9, vars(&[(b"TZ", b"UTC")]))),
        ("word_with_other_value", &["P-13"], Limit,
            "A typed word has another value in the environment.",
            with(9, vars(&[(b"NO_COLOR", b"0")]))),
    ]
}

/// Defects of the target account.
#[rustfmt::skip]
fn account() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let account = items(&map().get(11));
    let with = |at, value| with(11, replaced(&account, at, value));
    let numbers = |numbers: &[u64]| numbers.iter().map(|number| uint(*number)).collect::<Vec<_>>();
    let groups = |groups: &[u64]| with(3, array(&numbers(groups)));
    let last = u64::from(u32::MAX);
    let many: Vec<u64> = (0..257).collect();
    vec![
        ("account_name_empty", &["P-7"], Limit, "The target account has no name.",
            with(0, text(""))),
        ("account_name_254_bytes", &["P-7"], Limit,
            "The target account's name is one byte too long.", with(0, text(&"n".repeat(254)))),
        ("account_uid_minus_one", &["P-14"], Limit,
            "The target uid is (uid_t)-1, which setresuid takes for 'leave it'.",
            with(1, uint(last))),
        ("account_gid_minus_one", &["P-14"], Limit, "The target gid is (gid_t)-1.",
            with(2, uint(last))),
        ("account_uid_64_bits", &["P-14"], Limit,
            "The target uid is 2^32, which a cast makes root.", with(1, uint(1 << 32))),
        ("account_group_minus_one", &["P-14"], Limit, "A target group is (gid_t)-1.",
            groups(&[0, last])),
        ("account_uid_name", &["P-6"], Schema, "The target uid is a name.", with(1, text("root"))),
        ("groups_descending", &["P-15"], Limit, "The target groups descend.", groups(&[4, 0])),
        ("groups_twice", &["P-15"], Limit, "A target group comes twice.", groups(&[0, 0])),
        ("groups_257", &["P-15"], Limit, "One target group too many.", groups(&many)),
    ]
}

/// Defects of standard input, files, limit, reason and session.
#[rustfmt::skip]
fn rest() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let digest = || bytes(&[1; 32]);
    vec![
        ("stdin_too_long", &["P-17"], Limit, "1048577 bytes of standard input.",
            with(12, array(&[uint(1_048_577), digest()]))),
        ("stdin_without_size", &["P-17"], Schema, "Standard input without its size.",
            with(12, array(&[digest()]))),
        ("stdin_false", &["P-17"], Schema, "Standard input is false.", with(12, vec![0xf4])),
        ("stdin_digest_31_bytes", &["P-17"], Schema,
            "The digest of standard input is one byte short.",
            with(12, array(&[uint(1), bytes(&[1; 31])]))),
        ("reason_1025_bytes", &["P-20"], Limit, "The reason is one byte too long.",
            with(16, text(&"r".repeat(1025)))),
        ("session_257_bytes", &["P-20"], Limit, "The session is one byte too long.",
            with(17, text(&"s".repeat(257)))),
    ]
}
