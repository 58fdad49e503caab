//! What the audit trail, its log and a lease show, and to whom.

use std::fs;

use olb_e2e_tests::{Archive, Half, exported, text};
use serde_json::{Value, json};

#[test]
fn the_log_has_the_newest_head_after_every_answer_and_each_start_and_never_goes_back() {
    let mut archive = Archive::open();
    archive.log();
    archive.run("exit 0", 0);
    archive.log();
    archive.instance.stop(Half::Root, "TERM");
    archive.instance.start_execd();
    let log = archive.instance.read_log("execd");
    let heads = log.lines().filter_map(|line| line.strip_prefix("olb-execd: audit head sequence="));
    let numbers: Vec<u64> =
        heads.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers.first(), Some(&1), "a new ledger has its first record when it serves");
    let (last, before) = numbers.split_last().unwrap();
    assert!(before.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert_eq!(before.last(), Some(last), "the second start found what the first had left");
    assert_eq!(exported(&archive.export()).last().unwrap().sequence, *last);
}

#[test]
fn words_of_others_cannot_act_on_a_terminal_or_write_a_line_of_a_log() {
    let evil =
        "x\u{1b}[2J\u{9b}\u{202e}y\r\nolb-execd: audit head sequence=99 head=0 kid=0\u{2028}";
    let archive = Archive::open();
    let (instance, alice) = (&archive.instance, &archive.alice);
    let words = ["request", "--json", "--reason", evil, "--session", evil, "--", "echo", evil];
    let id = instance.olb(archive.agent, &words).expect(75).json()["request_id"].clone();
    instance.olb_as(alice, &["approve", "--id", id.as_str().unwrap()]).expect(0);
    let ran = instance.olb(archive.agent, &["exec", "--id", id.as_str().unwrap()]).expect(0);
    assert_eq!(ran.stdout, format!("{evil}\n"), "the command itself had it as it is");
    let denied = instance.olb(archive.agent, &["request", "--json", "--", "false", evil]);
    let denied = denied.expect(75).json()["request_id"].as_str().unwrap().to_owned();
    instance.olb_as(alice, &["deny", "--id", &denied, "--reason", evil]).expect(0);
    instance.olb(archive.agent, &["request", "--", evil]).expect(127);
    // Whoever can write here is root; a line break in a name is none in the log all the same.
    let odd = instance.path("approvers.d").join(evil.replace('/', "") + ".conf");
    fs::write(&odd, "no enrolment").unwrap();
    archive.run("exit 0", 0);
    let log = archive.log();
    let told = [
        archive.operator(&["audit", "list"]).expect(0).stdout,
        archive.operator(&["audit", "list", "--json"]).expect(0).stdout,
        archive.export(),
        archive.operator(&["audit", "verify", evil]).stderr,
        archive.operator(&["audit", "verify", "--keys", evil]).stderr,
        archive.operator(&["audit", "verify", "--anchor", evil]).stderr,
        instance.read_log("execd"),
        instance.read_log("brokerd"),
    ];
    for text in &told {
        let unsafe_line = text.lines().find(|line| {
            line.chars().any(|sign| sign.is_control() || ['\u{202e}', '\u{2028}'].contains(&sign))
        });
        assert_eq!(unsafe_line, None);
        assert!(!text.contains("\nolb-execd: audit head sequence=99"), "{text}");
    }
    let listed: Vec<Value> =
        told[1].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(told[6].contains("olb-execd: enrolment "), "{}", told[6]);
    let commands: Vec<_> = listed.iter().filter_map(|one| one["command"].as_str()).collect();
    assert!(
        commands.iter().any(|command| command.contains("\\x1b") || command.contains("\\u{1b}")),
        "{commands:?}"
    );
    archive.operator(&["audit", "verify", "--anchor", text(&log)]).expect(0);
}

#[test]
fn a_requester_sees_its_own_outcomes_and_no_trail() {
    let archive = Archive::open();
    let (instance, agent) = (&archive.instance, archive.agent);
    let other = instance.requester(1);
    for uid in [agent, other, instance.stranger()] {
        for words in [&["audit", "list"][..], &["audit", "list", "--json"], &["audit", "export"]] {
            let refused = instance.olb(uid, words).expect(77);
            assert!(refused.stdout.is_empty(), "{refused:?}");
            assert!(refused.stderr.starts_with("olb: ") && refused.stderr.lines().count() == 1);
        }
        let verify = instance.olb(uid, &["audit", "verify"]).expect(2);
        assert!(verify.stdout.is_empty(), "{verify:?}");
    }
    let (id, lease) = instance.approved(agent, &archive.alice, &["echo", "secret"]);
    let pending =
        instance.olb(agent, &["request", "--json", "--", "echo", "more"]).expect(75).json();
    let (code, pending) =
        (pending["code"].as_str().unwrap(), pending["request_id"].as_str().unwrap());
    let same_as_unknown = |words: &[&str], own: &str| {
        let unknown_code = if code == "000-000" { "000-001" } else { "000-000" };
        let unknown = match own.starts_with("req_") {
            true => "req_00000000000000000000000000",
            false => unknown_code,
        };
        let [told, want] = [own, unknown].map(|id| {
            let ran = instance.olb(other, &[words, &[id]].concat());
            (ran.code, ran.stdout.replace(id, "ID"), ran.stderr.replace(id, "ID"))
        });
        assert_eq!(told, want, "{words:?} {own}");
        assert_ne!(told.0, 0, "{words:?} {own}: {told:?}");
        assert!(!told.2.contains("secret") && !told.1.contains("secret"), "{told:?}");
    };
    let by_other = |own: &str| {
        for words in [
            &["result"][..],
            &["result", "--json"],
            &["status"],
            &["status", "--json"],
            &["cancel"],
            &["show", "--json"],
            &["exec", "--id"],
        ] {
            same_as_unknown(words, own);
        }
    };
    [id.as_str(), pending, code].into_iter().for_each(by_other);
    instance.exec(agent, &lease, &["echo", "secret"]).expect(0);
    by_other(&id);
    let mine = instance.olb(agent, &["result", &id]).expect(0);
    assert_eq!(mine.stdout.lines().last(), Some("secret"), "{mine:?}");
    let listed = instance.olb(other, &["status", "--json"]).expect(0).json();
    assert_eq!(listed["requests"], json!([]));
    let inspected = instance.olb(other, &["lease", "inspect", &lease]).expect(0).json();
    assert_eq!(inspected["command"], Value::Null, "what it was for is not the other's to know");
    assert_eq!(inspected["stage"], "unverified");
}

#[test]
fn inspect_says_of_a_lease_what_became_of_it() {
    let archive = Archive::open();
    let (instance, agent) = (&archive.instance, archive.agent);
    let inspect = |lease: &str, code: i32| {
        instance.olb(agent, &["lease", "inspect", lease]).expect(code).json()
    };
    let why = |object: &Value, stage: &str| {
        let checks = object["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == stage).unwrap();
        check["why"].as_str().unwrap_or_default().to_owned()
    };
    let (_, lease) = instance.approved(agent, &archive.alice, &["id", "-r", "-u"]);
    let fresh = inspect(&lease, 0);
    assert_eq!((&fresh["stage"], &fresh["valid_signature"]), (&json!("valid"), &json!(true)));
    assert_eq!(fresh["command"], "id -r -u");
    // Nobody but the front was asked whether it is still good.
    assert_eq!(fresh["unproved"], json!(["epoch", "burned", "revoked"]));
    assert!(why(&fresh, "burned").contains("says the front"), "{fresh}");
    instance.exec(agent, &lease, &["id", "-r", "-u"]).expect(0);
    let used = inspect(&lease, 77);
    assert_eq!(used["stage"], "burned");
    assert!(why(&used, "burned").starts_with("it was used, as a receipt proves: "), "{used}");
    let (id, taken_back) = instance.approved(agent, &archive.alice, &["id", "-r", "-g"]);
    instance.olb_as(&archive.alice, &["revoke", "--id", &id]).expect(0);
    let revoked = inspect(&taken_back, 77);
    assert_eq!(revoked["stage"], "revoked");
    assert!(why(&revoked, "revoked").contains("by approver-0"), "{revoked}");
    let other = Archive::open();
    let (_, foreign) = other.instance.approved(other.agent, &other.alice, &["id"]);
    let foreign = inspect(&foreign, 77);
    assert_eq!((&foreign["stage"], &foreign["valid_signature"]), (&json!("key"), &json!(false)));
    let mut changed = taken_back.clone().into_bytes();
    changed[450] = if changed[450] == b'A' { b'B' } else { b'A' };
    assert_eq!(inspect(&String::from_utf8(changed).unwrap(), 77)["stage"], "signature");
    // Offline the rest is said to be open, not to be good.
    let keys = instance.runtime().join("keys.pub");
    let words = ["lease", "inspect", "--keys", text(&keys), "--text", &taken_back];
    let offline = instance.olb(instance.stranger(), &words).expect(0).stdout;
    assert!(offline.contains("revoked        not checked: "), "{offline}");
    assert!(offline.contains("\nstage          unverified (not proved: audience, "), "{offline}");
    let missing = instance.olb(agent, &["lease", "inspect"]).expect(64);
    assert!(missing.stderr.contains("--lease-file"), "{missing:?}");
}
