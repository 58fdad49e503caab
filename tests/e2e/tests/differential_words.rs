//! The words of a command, and the variables before it, beside sudo: what arrives, and what is refused.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::chown;

use olb_e2e_tests::{
    Beside, Context, Dump, Listed, Oracle, PLAIN, Row, Seeded, Sudo, refused, said, view,
    words_of_a_service,
};
use olb_exec_api::Reason;
use olb_lease::VerdictKind;
use olb_wire::{ByteBuf, Response};

/// No words behind the command.
const NONE: [&str; 0] = [];

/// Words that a shell, a parser of options, a log or a text protocol would trip over.
fn odd_words() -> Vec<Vec<Vec<u8>>> {
    let alone: [&[u8]; 62] = [
        b"",
        b" ",
        b"  two  spaces  ",
        b"\t",
        b"\n",
        b"a\nb",
        b"\r\n",
        b"\x0b\x0c",
        b"\x01",
        b"\x1b[2J",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xfe\xff",
        b"\xc3\xa9",
        b"\xc3",
        b"\xe2\x80\xae",
        b"\xe2\x80\x8b",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        b"'",
        b"\"",
        b"`",
        b"\\",
        b"\\\\",
        b"\\n",
        b"$",
        b"$HOME",
        b"${IFS}",
        b"$(id)",
        b"`id`",
        b"*",
        b"?",
        b"[a-z]",
        b"{a,b}",
        b"~",
        b"~root",
        b"!",
        b"!!",
        b"#",
        b"#0",
        b"%s%n",
        b"&",
        b"&&",
        b"|",
        b";",
        b"<",
        b">",
        b">/x",
        b"(",
        b")",
        b"=",
        b"a=b",
        b"LD_PRELOAD=x",
        b"@",
        b"@@",
        b":",
        b",",
        b"-",
        b"--",
        b".",
        b"..",
    ];
    let options = [
        "-n",
        "-u",
        "-u root",
        "-h",
        "--help",
        "--version",
        "--id",
        "--lease-file",
        "--json",
        "-S",
        "-s",
        "-i",
        "-e",
        "-E",
        "--preserve-env",
        "--preserve-env=LD_PRELOAD",
        "-C",
        "-R /",
        "--",
        "-c",
    ];
    let mut vectors: Vec<Vec<Vec<u8>>> = alone.iter().map(|word| vec![word.to_vec()]).collect();
    vectors.extend(options.iter().map(|word| vec![word.as_bytes().to_vec(), b"x".to_vec()]));
    vectors.push(vec![]);
    vectors.push(vec![vec![]; 8]);
    vectors.push(alone.iter().map(|word| word.to_vec()).collect());
    vectors.push(vec![b"w".to_vec(); 1000]);
    vectors.push((0..1000).map(|at: u32| vec![b'a'; at as usize % 90]).collect());
    vectors.push(vec![vec![b'l'; 60_000]]);
    vectors.push(vec![(1..=255).collect()]);
    vectors.push((1..=255).map(|byte| vec![byte]).collect());
    vectors
}

/// The words as the probe prints them.
fn escaped(words: &[Vec<u8>]) -> Vec<String> {
    let escape = |byte: &u8| match byte {
        b' '..=b'~' if *byte != b'\\' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    words.iter().map(|word| word.iter().map(escape).collect()).collect()
}

fn os(words: &[Vec<u8>]) -> Vec<OsString> {
    words.iter().map(|word| OsString::from_vec(word.clone())).collect()
}

/// Two hundred and ten vectors: odd ones, and random bytes.
fn vectors() -> Vec<Vec<Vec<u8>>> {
    let mut vectors = odd_words();
    let mut seeded = Seeded::new("two_hundred_argument_vectors");
    while vectors.len() < 210 {
        // No slash, so that no word is the name of a file.
        let byte = |seeded: &mut Seeded| match u8::try_from(1 + seeded.below(255)).unwrap() {
            b'/' => b'\\',
            byte => byte,
        };
        let word = |seeded: &mut Seeded| (0..seeded.below(40)).map(|_| byte(seeded)).collect();
        vectors.push((0..=seeded.below(12)).map(|_| word(&mut seeded)).collect());
    }
    vectors
}

#[test]
fn two_hundred_argument_vectors_arrive_byte_for_byte_as_under_sudo() {
    let mut beside = Beside::started_with(&[]);
    let is_compared = Sudo::is_there();
    for words in vectors() {
        let (expected, typed) = (escaped(&words), os(&words));
        let typed = [&[OsString::from("argv-only")], typed.as_slice()].concat();
        let here = beside.here(PLAIN, &typed).unwrap_or_else(|| panic!("{expected:?}"));
        assert_eq!(here.arguments()[1..], expected);
        if is_compared {
            let sudo = beside.under_sudo(PLAIN, &typed).expect("it runs under sudo");
            assert_eq!(here.differences(&sudo), [].into());
        }
    }
}

#[test]
fn the_same_two_hundred_vectors_arrive_in_a_service() {
    let vectors = vectors();
    let Some(arrived) = words_of_a_service(&Oracle::new(), &vectors) else { return };
    for (words, arrived) in vectors.iter().zip(arrived) {
        assert_eq!(arrived, escaped(words));
    }
}

#[test]
fn what_sudo_runs_and_the_broker_refuses_is_listed() {
    if !Sudo::is_there() {
        return;
    }
    let mut beside = Beside::started_with(&[]);
    let theirs = beside.oracle.dir().join("theirs");
    fs::write(&theirs, "").unwrap();
    chown(&theirs, Some(beside.scene.instance.requester(0)), None).unwrap();
    let mut found = Vec::new();
    for (name, words) in [
        ("1025 words", vec!["w".to_owned(); 1024]),
        ("a word of 70000 bytes", vec!["l".repeat(70_000)]),
        ("theirs", vec!["theirs".into()]),
        ("--file=theirs", vec!["--file=theirs".into()]),
        ("@theirs", vec!["@theirs".into()]),
        ("/proc/self/environ", vec!["/proc/self/environ".into()]),
        ("/dev/stdin", vec!["/dev/stdin".into()]),
        ("/dev/fd/0", vec!["/dev/fd/0".into()]),
    ] {
        assert!(beside.under_sudo(PLAIN, &words).is_some(), "{name}");
        let answer = match beside.scene.agent.submit(beside.submit(PLAIN, &words)) {
            Response::Request(asked) => beside.scene.decide(VerdictKind::Approve, &asked.plan),
            other => other,
        };
        found.push(Row::of(&[name, refused(answer).0.name()]));
    }
    Listed::read().table("Refused here, run by sudo").expect(&found);
}

#[test]
fn a_group_alone_is_taken_with_roots_account_and_by_sudo_with_the_callers() {
    if !Sudo::is_there() {
        return;
    }
    let mut beside = Beside::started_with(&[]);
    let context = Context { options: &["-g", "games"], ..PLAIN };
    let sudo = beside.under_sudo(context, &NONE).expect("it runs under sudo");
    let here = beside.here(context, &NONE).expect("it runs");
    let agent = beside.scene.instance.requester(0);
    assert_eq!(sudo.get("status.Uid"), format!("{agent} {agent} {agent} {agent}"));
    assert_eq!(here.get("status.Uid"), "0 0 0 0");
    assert_eq!(sudo.get("status.Gid"), here.get("status.Gid"));
}

#[test]
fn which_variables_can_be_given_before_the_command_is_listed() {
    if !Sudo::is_there() {
        return;
    }
    let mut beside = Beside::started_with(&[]);
    let mut found = Vec::new();
    for word in [
        "COLORTERM=x",
        "COLUMNS=80",
        "DEBIAN_FRONTEND=noninteractive",
        "DISPLAY=:0",
        "EDITOR=vi",
        "FOO=x",
        "HOME=/x",
        "LANG=C",
        "LC_ALL=C",
        "LD_PRELOAD=/x",
        "NO_COLOR=1",
        "PATH=/x",
        "SUDO_USER=x",
        "TERM=dumb",
        "TZ=UTC",
        "TZ=/etc/x",
        "LC_ALL=/x",
        "XAUTHORITY=/x",
    ] {
        let (name, _) = word.split_once('=').unwrap();
        let given = |dump: Option<Dump>| {
            dump.map_or_else(
                || "refused".to_owned(),
                |dump| dump.get(&format!("env.{name}")).into(),
            )
        };
        let probe = beside.oracle.probe();
        let sudo = given(said(&beside.call(PLAIN, &["/usr/bin/sudo", "-n", word, &probe])));
        let mut submit = beside.submit(PLAIN, &NONE);
        submit.command.environment_words = vec![ByteBuf::from(word.as_bytes())];
        let here = match beside.scene.agent.submit(submit) {
            Response::Request(asked) => {
                view(beside.scene.decide(VerdictKind::Approve, &asked.plan));
                let olb = beside.scene.instance.path("bin/olb");
                let olb = olb.to_str().unwrap();
                let words = [olb, "exec", "--id", &asked.request_id, "--", word, &probe];
                given(said(&beside.call(PLAIN, &words)))
            }
            other => {
                let (reason, text) = refused(other);
                assert!(reason == Reason::Unsupported && text.contains(name), "{text}");
                "refused".into()
            }
        };
        if sudo != here {
            found.push(Row::of(&[word, &sudo, &here]));
        }
    }
    if Sudo::is_the_listed_one() {
        Listed::read().table("Variables before the command").expect(&found);
    }
}
