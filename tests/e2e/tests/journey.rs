//! The journeys of the README with the real programs: agent, operator, and what each is told.

use olb_e2e_tests::{Approver, Instance, Options};
use serde_json::json;

fn instance() -> (Instance, Approver, u32) {
    let instance = Instance::start();
    let alice = instance.enrol(0);
    let agent = instance.requester(0);
    (instance, alice, agent)
}

#[test]
fn the_agent_asks_the_operator_approves_and_the_retry_runs_as_root() {
    let (instance, alice, agent) = instance();
    let asked =
        instance.olb(agent, &["request", "--json", "--reason", "why not", "--", "id", "-u"]);
    let asked = asked.expect(75).json();
    assert_eq!(asked["state"], "pending");
    let id = asked["request_id"].as_str().unwrap();
    assert!(id.starts_with("req_") && id.len() == 30, "{id}");
    let code = asked["code"].as_str().unwrap();
    assert_eq!((code.len(), &code[3..4]), (7, "-"), "{code}");

    let again = instance.olb(agent, &["request", "--json", "--", "id", "-u"]).expect(75).json();
    assert_eq!(again["request_id"], id, "the same command joins the request");

    instance.olb_as(&alice, &["approve", "--id", id]).expect(0);
    let granted = instance.olb(agent, &["request", "--json", "--", "id", "-u"]).expect(0).json();
    assert_eq!((&granted["request_id"], &granted["state"]), (&json!(id), &json!("approved")));
    let lease = granted["lease"].as_str().unwrap();
    assert!(lease.starts_with("olbl1_") && lease.len() <= 512, "{lease}");

    let ran = instance.exec(agent, lease, &["id", "-u"]).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("0\n", ""));
    let replay = instance.exec(agent, lease, &["id", "-u"]).expect(77);
    assert!(replay.stderr.contains("ran already and exited with 0"), "{replay:?}");
    assert_eq!(replay.stdout, "", "nothing ran");

    let new = instance.request(agent, &["id", "-u"]);
    assert_ne!(new, id, "once means once: asking again is a new request");
}

#[test]
fn exit_codes_and_streams_come_back_exactly() {
    let (instance, alice, agent) = instance();
    for (script, code, stdout, stderr) in [
        ("exit 0", 0, "", ""),
        ("echo out; echo err >&2; exit 3", 3, "out\n", "err\n"),
        ("kill -9 $$", 128 + 9, "", ""),
        ("kill -15 $$", 128 + 15, "", ""),
        ("printf 'no newline'; exit 255", 255, "no newline", ""),
    ] {
        let command = ["sh", "-c", script];
        let (_, lease) = instance.approved(agent, &alice, &command);
        let ran = instance.exec(agent, &lease, &command).expect(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (stdout, stderr), "{script}");
    }
}

#[test]
fn large_output_comes_back_byte_for_byte() {
    use std::io::Read as _;
    let (instance, alice, agent) = instance();
    let command = ["head", "-c", "20000000", "/dev/zero"];
    let (_, lease) = instance.approved(agent, &alice, &command);
    let file = instance.path("lease");
    std::fs::write(&file, lease).unwrap();
    std::os::unix::fs::chown(&file, Some(agent), None).unwrap();
    let words = ["exec", "--lease-file", file.to_str().unwrap(), "--"];
    let mut child = instance.olb_command(agent, &[&words[..], &command].concat()).spawn().unwrap();
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(bytes.len(), 20_000_000);
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn run_with_wait_asks_waits_for_the_push_and_runs() {
    use std::io::{BufRead as _, BufReader};
    let (instance, alice, agent) = instance();
    let mut child = instance
        .olb_command(agent, &["run", "--wait", "60s", "--", "sh", "-c", "echo done; exit 4"])
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    let code = line.split_whitespace().find(|word| word.len() >= 7 && word.as_bytes()[3] == b'-');
    let code = code.unwrap_or_else(|| panic!("no code in {line:?}")).to_owned();
    let shown = instance.olb_as_operator(&alice, &["show", &code[..7], "--json"]).expect(0).json();
    let id = shown["request_id"].as_str().unwrap();
    instance.olb_as(&alice, &["approve", "--id", id]).expect(0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(output.stdout, b"done\n");
}

#[test]
fn a_denial_is_final_and_carries_the_reason_back() {
    let (instance, alice, agent) = instance();
    let id = instance.request(agent, &["id"]);
    let reason = "use reload, not restart";
    instance.olb_as(&alice, &["deny", "--id", &id, "--reason", reason]).expect(0);
    let told = instance.olb(agent, &["request", "--", "id"]).expect(77);
    for part in ["denied by approver-0", reason, "Do not try another way around it"] {
        assert!(told.stderr.contains(part), "{part}: {told:?}");
    }
    let told = instance.olb(agent, &["status", &id, "--json"]).json();
    assert_eq!((&told["state"], &told["reason"]), (&json!("denied"), &json!(reason)));
    instance.olb_as(&alice, &["approve", "--id", &id]).expect(77);
}

#[test]
fn a_revoked_lease_is_refused_and_revocation_is_confirmed() {
    let (instance, alice, agent) = instance();
    let (id, lease) = instance.approved(agent, &alice, &["id"]);
    let revoked = instance.olb_as(&alice, &["revoke", "--id", &id]).expect(0);
    assert!(revoked.stdout.to_lowercase().contains("revoked"), "{revoked:?}");
    let told = instance.exec(agent, &lease, &["id"]).expect(77);
    assert!(told.stderr.contains("taken back by approver-0"), "{told:?}");
    assert_eq!(instance.olb(agent, &["status", &id, "--json"]).json()["state"], "revoked");
}

#[test]
fn user_b_cannot_use_see_or_cancel_what_is_user_a_s() {
    let (instance, alice, agent) = instance();
    let other = instance.requester(1);
    let (id, lease) = instance.approved(agent, &alice, &["id", "-u"]);
    let refused = instance.exec(other, &lease, &["id", "-u"]).expect(77);
    assert_eq!(refused.stdout, "");
    let unknown = format!("req_{}", "0".repeat(26));
    for words in [["status"], ["cancel"], ["result"]] {
        let theirs = instance.olb(other, &[words[0], &id]).expect(77);
        let nobodys = instance.olb(other, &[words[0], &unknown]).expect(77);
        assert_eq!(theirs.stderr.replace(&id, &unknown), nobodys.stderr, "not told apart");
    }
    instance.exec(agent, &lease, &["id", "-u"]).expect(0);
}

#[test]
fn the_requester_cannot_approve_with_any_key() {
    let (instance, alice, agent) = instance();
    let id = instance.request(agent, &["id"]);
    let stolen = instance.path("stolen.key");
    std::fs::copy(instance.key_file(&alice.name), &stolen).unwrap();
    std::os::unix::fs::chown(&stolen, Some(agent), Some(agent)).unwrap();
    let key = stolen.to_str().unwrap();
    for uid in [agent, instance.requester(1), instance.stranger()] {
        std::os::unix::fs::chown(&stolen, Some(uid), Some(uid)).unwrap();
        let refused = instance.olb(uid, &["approve", "--key", key, "--id", &id]);
        assert_eq!(refused.code, 77, "{refused:?}");
    }
    assert_eq!(instance.olb(agent, &["status", &id, "--json"]).json()["state"], "pending");
}

#[test]
fn a_uid_that_is_not_listed_is_refused_before_a_frame_is_read() {
    use std::io::Read as _;
    let (instance, _, _) = instance();
    let refused = instance.olb(instance.stranger(), &["request", "--", "id"]).expect(77);
    assert!(refused.stderr.contains("may not ask for privileged commands"), "{refused:?}");
    // Root connects and sends nothing: the answer comes all the same, and then the end.
    let path = instance.runtime().join("request.sock");
    let mut socket = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("may not ask for privileged commands"), "{text}");
}

#[test]
fn what_cannot_be_asked_for_is_one_clear_sentence_with_its_code() {
    let (instance, _, agent) = instance();
    let script = instance.path("agent.sh");
    std::fs::write(&script, "#!/bin/sh\nid\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&script, Some(agent), Some(agent)).unwrap();
    let script = script.to_str().unwrap();
    let long = "x".repeat(100_000);
    for (words, code, part) in [
        (vec!["no-such-command-anywhere"], 127, "there is no command"),
        (vec!["/etc/passwd"], 126, "is not an executable file"),
        (vec!["/etc"], 126, "is not an executable file"),
        (vec!["id", script], 64, "there is no rule that says"),
        (vec!["systemctl", "link", script], 64, "install(1)"),
        (vec!["echo", long.as_str()], 64, "shorten it"),
        (vec!["LD_PRELOAD=/x", "id"], 64, "LD_PRELOAD"),
        (vec![""], 64, "empty"),
    ] {
        let ran = instance.olb(agent, &[&["request", "--"], &words[..]].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        assert!(ran.stderr.starts_with("olb: "), "{ran:?}");
        assert_eq!(ran.stdout, "");
    }
    let words = [&["request", "--", "echo"], &[long.as_str(); 15][..]].concat();
    let ran = instance.olb(agent, &words).expect(64);
    assert!(ran.stderr.contains("the command is too long"), "{ran:?}");
    let unknown = instance.olb(agent, &["request", "-u", "no-such-user", "--", "id"]).expect(64);
    assert!(unknown.stderr.contains("no-such-user"), "{unknown:?}");
}

#[test]
fn arguments_that_are_not_utf_8_are_run_as_they_are_and_shown_escaped() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let (instance, alice, agent) = instance();
    let odd = OsStr::from_bytes(b"a\xff\x1b[2Jb");
    let ask = || {
        let mut command = instance.olb_command(agent, &["request", "--json", "--", "printf", "%s"]);
        serde_json::from_slice::<serde_json::Value>(&command.arg(odd).output().unwrap().stdout)
            .unwrap()
    };
    let id = ask()["request_id"].as_str().unwrap().to_owned();
    let shown = instance.olb_as_operator(&alice, &["show", &id]).expect(0);
    assert!(!shown.stdout.contains('\u{1b}') && shown.stdout.contains("\\xff"), "{shown:?}");
    instance.olb_as(&alice, &["approve", "--id", &id]).expect(0);
    let lease = instance.path("lease");
    std::fs::write(&lease, ask()["lease"].as_str().unwrap()).unwrap();
    std::os::unix::fs::chown(&lease, Some(agent), None).unwrap();
    let file = lease.to_str().unwrap();
    let mut exec =
        instance.olb_command(agent, &["exec", "--lease-file", file, "--", "printf", "%s"]);
    let output = exec.arg(odd).output().unwrap();
    assert_eq!(output.stdout, odd.as_bytes());
}

#[test]
fn without_a_broker_the_text_and_the_code_say_so() {
    let (mut instance, alice, agent) = instance();
    let (id, lease) = instance.approved(agent, &alice, &["id", "-u"]);
    instance.stop_execd("TERM");
    let text = "broker unavailable; host bootstrap required (see 'olb doctor')";
    for ran in [
        instance.exec(agent, &lease, &["id", "-u"]),
        instance.olb_as(&alice, &["deny", "--id", &id]),
    ] {
        assert_eq!(ran.code, 69, "{ran:?}");
        assert!(ran.stderr.contains("broker unavailable") || ran.stderr.contains("not confirm"));
    }
    instance.stop_brokerd("TERM");
    let ran = instance.olb(agent, &["request", "--", "id"]).expect(69);
    assert_eq!(ran.stderr, format!("olb: {text}\n"));
    instance.start_execd();
    instance.start_brokerd();
    instance.exec(agent, &lease, &["id", "-u"]).expect(0);
}

#[test]
fn an_unanswered_request_expires_and_that_is_not_a_denial() {
    let options = Options { brokerd: "[limits]\npending_secs = 1\n".into(), ..Options::default() };
    let instance = Instance::with(options);
    let agent = instance.requester(0);
    let ran = instance.olb(agent, &["run", "--wait", "60s", "--", "id"]).expect(75);
    assert!(ran.stderr.contains("expired unanswered"), "{ran:?}");
    assert!(ran.stderr.contains("this is not a denial"), "{ran:?}");
}

#[test]
fn waiting_ends_with_124_when_nobody_answers_in_time() {
    let (instance, _, agent) = instance();
    let ran = instance.olb(agent, &["run", "--wait", "1s", "--", "id"]).expect(124);
    assert_eq!(ran.stdout, "");
}

#[test]
fn the_outcome_file_has_a_verified_receipt() {
    let (instance, alice, agent) = instance();
    let (id, lease) = instance.approved(agent, &alice, &["sh", "-c", "exit 5"]);
    let (file, outcome) = (instance.path("lease"), instance.path("outcome.json"));
    std::fs::write(&file, lease).unwrap();
    std::fs::write(&outcome, "").unwrap();
    for path in [&file, &outcome] {
        std::os::unix::fs::chown(path, Some(agent), None).unwrap();
    }
    let words = ["exec", "--lease-file", file.to_str().unwrap(), "--outcome-file"];
    let words = [&words[..], &[outcome.to_str().unwrap(), "--", "sh", "-c", "exit 5"]].concat();
    instance.olb(agent, &words).expect(5);
    let outcome: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(outcome).unwrap()).unwrap();
    assert_eq!(outcome["request_id"], json!(id));
    assert_eq!((&outcome["state"], &outcome["exit_code"]), (&json!("exited"), &json!(5)));
    assert_eq!(outcome["receipt"], "verified");
}

#[test]
fn the_trail_of_a_run_verifies_offline() {
    let (instance, alice, agent) = instance();
    let (_, lease) = instance.approved(agent, &alice, &["true"]);
    instance.exec(agent, &lease, &["true"]).expect(0);
    let export = instance.olb_as_operator(&alice, &["audit", "export"]).expect(0);
    assert!(export.stdout.lines().count() >= 4, "{export:?}");
    let file = instance.path("audit.jsonl");
    std::fs::write(&file, &export.stdout).unwrap();
    let keys = instance.runtime().join("keys.pub");
    let words = [
        "audit",
        "verify",
        "--no-anchor",
        "--keys",
        keys.to_str().unwrap(),
        file.to_str().unwrap(),
    ];
    instance.olb(instance.stranger(), &words).expect(0);
    let cut: String = export.stdout.lines().skip(1).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(&file, cut).unwrap();
    instance.olb(instance.stranger(), &words).expect(1);
    let elsewhere = ["audit", "verify", "--keys", "/nonexistent", file.to_str().unwrap()];
    instance.olb(instance.stranger(), &elsewhere).expect(2);
}

#[test]
fn a_full_disk_or_a_reader_that_left_changes_no_exit_code() {
    use std::process::Stdio;
    let (instance, alice, agent) = instance();
    let command = ["sh", "-c", "exit 3"];
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(olb_sys::pipe::pipe().unwrap().1);
    let ended = |uid, words: &[&str], command: &[&str], code| {
        for (out, err) in [(full(), full()), (closed(), closed())] {
            let mut olb = instance.olb_command(uid, &[words, command].concat());
            let status = olb.stdout(out).stderr(err).status().unwrap();
            assert_eq!(status.code(), Some(code), "{words:?}: {status:?}");
        }
    };
    ended(agent, &["request", "--json", "--"], &command, 75);
    ended(agent, &["status"], &[], 0);
    ended(alice.uid, &["list", "--json"], &[], 0);
    ended(alice.uid, &["show", "req_00000000000000000000000000"], &[], 77);
    // Half a trail is none, except for a reader that has seen enough.
    for (out, code) in [(full(), 70), (closed(), 0)] {
        let mut export = instance.olb_command(alice.uid, &["audit", "export"]);
        assert_eq!(export.stdout(out).status().unwrap().code(), Some(code));
    }
    ended(agent, &["request", "--", "no-such-command-anywhere"], &[], 127);
    let lease = instance.approved(agent, &alice, &command).1;
    let file = instance.lease_file(agent, &lease);
    let words = ["exec", "--lease-file", &file, "--"];
    let mut olb = instance.olb_command(agent, &[&words[..], &command].concat());
    assert_eq!(olb.stdout(closed()).stderr(closed()).status().unwrap().code(), Some(3));
    ended(agent, &words, &command, 77);
}
