//! Files that follow a submit: taken in, kept, handed over, forgotten.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use olb_exec_api::Reason;
use olb_lease::{Plan, VerdictKind, sha256};
use olb_wire::{ByteBuf, Command, Request, RequestView, Response, StagedWord, Submit, UnboundWord};

use crate::harness::{Client, Stage, ask_for, by_id, refused, view};

const SCRIPT: &[u8] = b"echo hello\n";

fn staged(word: u32, prefix: u32, path: &str, bytes: &[u8]) -> StagedWord {
    StagedWord {
        word,
        prefix,
        path: ByteBuf::from(path.as_bytes()),
        size: bytes.len() as u64,
        sha256: ByteBuf::from(sha256(bytes)),
        executable: word == 0,
    }
}

/// `sh ./x.sh`, with the script announced.
fn script() -> Submit {
    let mut submit = ask_for(&["sh", "./x.sh"]);
    submit.command.staged = vec![staged(1, 0, "/home/agent/x.sh", SCRIPT)];
    submit
}

fn send(stage: &Stage, submit: &Submit, files: &[&[u8]]) -> Client {
    let mut client = stage.connect("request.sock");
    client.send(&Request::Submit(Box::new(submit.clone())));
    for bytes in files {
        client.0.write_all(bytes).unwrap();
    }
    client
}

fn submitted(stage: &Stage, submit: &Submit, files: &[&[u8]]) -> RequestView {
    view(send(stage, submit, files).receive())
}

fn refusal(stage: &Stage, submit: &Submit, files: &[&[u8]]) -> (Reason, String) {
    refused(send(stage, submit, files).receive())
}

/// Names of the folders with files.
fn kept(stage: &Stage) -> Vec<String> {
    let entries = fs::read_dir(stage.path("state").join("blobs")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until no files are kept: they are deleted beside everything else.
fn wait_until_nothing_is_kept(stage: &Stage) {
    for _ in 0..1000 {
        if kept(stage).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("files are kept: {:?}", kept(stage));
}

fn plan(request: &RequestView) -> Plan {
    Plan::decode(&request.plan).unwrap()
}

#[test]
fn a_plan_names_the_copies_and_they_are_handed_over() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let mut submit = ask_for(&["./tool", "--conf=a/b.conf", "./out"]);
    let (tool, conf) = (vec![7; 300_000], b"x = 1".to_vec());
    submit.command.staged =
        vec![staged(0, 0, "/home/agent/tool", &tool), staged(1, 7, "/home/agent/a/b.conf", &conf)];
    submit.command.unbound =
        vec![UnboundWord { word: 2, path: ByteBuf::from(b"/home/agent/out".as_slice()) }];
    submit.command.cwd_changeable = true;
    let request = submitted(&stage, &submit, &[&tool, &conf]);
    let plan = plan(&request);
    let folder = format!("/pin/{}", plan.random.map(|byte| format!("{byte:02x}")).concat());
    assert_eq!(plan.executable.path, format!("{folder}/0/tool").into_bytes());
    assert_eq!((plan.executable.size, plan.executable.ino), (300_000, 0));
    let conf_word = format!("--conf={folder}/1/b.conf").into_bytes();
    assert_eq!(plan.argv, [b"./tool".to_vec(), conf_word, b"./out".to_vec()]);
    assert!(plan.cwd_changeable && !plan.whole);
    assert_eq!(plan.unbound[0].path, b"/home/agent/out");
    stage.approved(&request);
    stage.execute(by_id(&request)).frame();
    let files = seen.presented.recv().unwrap().files;
    let read = |file| {
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).unwrap();
        bytes
    };
    let files: Vec<_> = files.into_iter().map(read).collect();
    assert_eq!(files, [tool, conf]);
    stage.wait_until_over(&request.request_id);
    wait_until_nothing_is_kept(&stage);
}

#[test]
fn the_same_content_joins_and_another_content_does_not() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let first = submitted(&stage, &script(), &[SCRIPT]);
    let again = submitted(&stage, &script(), &[SCRIPT]);
    assert!(again.joined && again.request_id == first.request_id);
    assert_eq!(kept(&stage).len(), 1);
    let mut other = script();
    other.command.staged[0] = staged(1, 0, "/home/agent/x.sh", b"evil");
    let other = submitted(&stage, &other, &[b"evil"]);
    assert_ne!(other.request_id, first.request_id);
    assert_eq!(kept(&stage).len(), 2);
}

#[test]
fn a_retry_with_another_content_is_refused_by_name_and_the_lease_stays_good() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let request = submitted(&stage, &script(), &[SCRIPT]);
    stage.approved(&request);
    let lease = submitted(&stage, &script(), &[SCRIPT]).lease;
    let execute = |bytes: &[u8]| {
        let staged = vec![staged(1, 0, "/home/agent/x.sh", bytes)];
        let command = Command { staged, ..script().command };
        olb_wire::Execute { lease: lease.clone(), id: None, command: Some(command) }
    };
    let refused = stage.execute(execute(b"evil")).refusal();
    assert_eq!(refused.reason, Reason::Mismatch);
    let text = "/home/agent/x.sh changed since it was approved; ask again";
    assert_eq!(refused.text, text);
    stage.execute(execute(SCRIPT)).frame();
    assert_eq!(seen.presented.recv().unwrap().files.len(), 1);
}

#[test]
fn files_outlive_a_restart_of_the_front_and_others_do_not() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let front = stage.front();
    let request = submitted(&stage, &script(), &[SCRIPT]);
    stage.approved(&request);
    drop(front);
    let blobs = stage.path("state").join("blobs");
    fs::create_dir(blobs.join("incoming-1")).unwrap();
    fs::create_dir(blobs.join("00")).unwrap();
    let _front = stage.front();
    assert_eq!(kept(&stage).len(), 1);
    stage.execute(by_id(&request)).frame();
    assert_eq!(seen.presented.recv().unwrap().files.len(), 1);
}

#[test]
fn a_request_that_is_over_leaves_no_files() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let cancelled = submitted(&stage, &script(), &[SCRIPT]);
    stage.ask("request.sock", &Request::Cancel { selector: cancelled.request_id });
    wait_until_nothing_is_kept(&stage);
    let denied = submitted(&stage, &script(), &[SCRIPT]);
    stage.decide(&denied, VerdictKind::Deny, "no");
    wait_until_nothing_is_kept(&stage);
}

#[test]
fn a_client_that_lies_about_its_files_is_refused_and_leaves_nothing() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("upload_secs = 1");
    let (reason, text) = refusal(&stage, &script(), &[b"echo evil!\n"]);
    assert_eq!(reason, Reason::Malformed);
    assert!(text.contains("what arrived of /home/agent/x.sh is not what was announced"), "{text}");
    let (reason, text) = refusal(&stage, &script(), &[SCRIPT, b"more"]);
    assert_eq!(reason, Reason::Malformed);
    assert!(text.contains("bytes follow the files"), "{text}");
    let (reason, text) = refusal(&stage, &script(), &[&SCRIPT[1..]]);
    assert_eq!(reason, Reason::Malformed);
    assert!(text.contains("did not arrive within 1 seconds"), "{text}");
    let mut gone = send(&stage, &script(), &[&SCRIPT[1..]]);
    gone.0.shutdown(Shutdown::Write).unwrap();
    drop(gone.0.read(&mut [0]));
    wait_until_nothing_is_kept(&stage);
    assert!(stage.pages("request.sock", true).is_empty());
}

#[test]
fn what_no_plan_can_hold_is_refused_before_a_byte_of_it_is_taken() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let with = |change: fn(&mut Command)| {
        let mut submit = script();
        change(&mut submit.command);
        refused(stage.submit(submit))
    };
    type Change = fn(&mut Command);
    let cases: [(Change, &str); 11] = [
        (|command| command.staged[0].size = 64 * 1024 * 1024 + 1, "larger than 67108864 bytes"),
        (|command| command.staged = vec![staged(1, 0, "/x", b"a"); 17], "at most 16 files"),
        (|command| command.staged[0].sha256 = ByteBuf::from(vec![1; 31]), "SHA-256"),
        (|command| command.staged[0].size = u64::MAX, "larger than"),
        (|command| command.staged[0].word = 9, "not announced as"),
        (|command| command.staged[0].prefix = 9, "not announced as"),
        (|command| command.staged[0].path = ByteBuf::from(vec![b'x']), "not announced as"),
        (|command| command.staged[0].word = 0, "not announced as"),
        (|command| command.staged = vec![command.staged[0].clone(); 2], "not announced as"),
        (
            |command| {
                let path = ByteBuf::from(b"/x".as_slice());
                command.unbound = vec![UnboundWord { word: 1, path }];
            },
            "not announced as",
        ),
        (
            |command| {
                let path = ByteBuf::from(b"/x".as_slice());
                command.unbound = vec![UnboundWord { word: 1, path }; 65];
            },
            "at most 64 names",
        ),
    ];
    for (change, want) in cases {
        let (reason, text) = with(change);
        assert_eq!(reason, Reason::Malformed, "{text}");
        assert!(text.contains(want), "{text}");
    }
    assert!(kept(&stage).is_empty());
}

#[test]
fn files_of_one_account_and_of_all_have_limits_with_names() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("staged_bytes_per_uid = 20");
    submitted(&stage, &script(), &[SCRIPT]);
    let mut other = script();
    other.command.staged[0] = staged(1, 0, "/home/agent/x.sh", b"0123456789");
    let (reason, text) = refusal(&stage, &other, &[b"0123456789"]);
    assert_eq!(reason, Reason::Busy);
    assert!(text.contains("staged_bytes_per_uid = 20"), "{text}");
    let names: Vec<_> = stage.health().limits.into_iter().map(|(name, _)| name).collect();
    for name in [
        "staged_bytes_per_uid",
        "staged_bytes_total",
        "transfers_per_uid",
        "handovers_total",
        "upload_secs",
    ] {
        assert!(names.iter().any(|one| one == name), "{name}");
    }
}

#[test]
fn where_no_copies_are_made_files_are_refused_with_what_to_do() {
    let stage = Stage::new();
    let (execd, _seen) = stage.execd();
    execd.keep_no_copies();
    let _front = stage.front();
    let (reason, text) = refusal(&stage, &script(), &[SCRIPT]);
    assert_eq!(reason, Reason::Unsupported);
    assert!(text.contains("/home/agent/x.sh") && text.contains("put a copy where"), "{text}");
}

#[test]
fn a_command_that_must_not_be_cut_is_said_to_be_one_in_its_plan() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let request = stage.submitted(ask_for(&["env", "nice", "dpkg", "--configure", "-a"]));
    assert!(plan(&request).whole);
    assert!(!plan(&stage.submitted(ask_for(&["id"]))).whole);
}

#[test]
fn a_disk_without_room_is_said_to_be_one() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    // Where no folder can be made, nothing can be kept, as on a full disk.
    fs::remove_dir(stage.path("state").join("blobs")).unwrap();
    let Response::Refused { reason, text, .. } = send(&stage, &script(), &[SCRIPT]).receive()
    else {
        panic!("it was taken in");
    };
    assert_eq!(Reason::from_number(reason).unwrap(), Reason::Unavailable);
    assert!(text.contains("see to its disk"), "{text}");
}
