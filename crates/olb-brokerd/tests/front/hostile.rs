//! Clients that do not behave, and peers that are on no list.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use olb_exec_api::Reason;
use olb_sys::harden::effective_uid;
use olb_sys::pipe::pipe;
use olb_sys::socket::send_with_fds;
use olb_wire::{ByteBuf, Execute, REQUEST_BYTES_MAX, Request, Response};

use crate::harness::{Client, Stage, ask_for, refused, view};

/// An account that no host gives out.
const STRANGER: u32 = 54_321;

fn submit_bytes() -> Vec<u8> {
    let submit = Request::Submit(Box::new(ask_for(&["id"])));
    olb_wire::encode(&submit, REQUEST_BYTES_MAX).unwrap()
}

#[test]
fn a_giant_length_is_refused_before_a_body_is_there() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let mut client = stage.connect("request.sock");
    client.0.write_all(&[0xff; 4]).unwrap();
    assert_eq!(refused(client.receive()).0, Reason::Malformed);
}

#[test]
fn half_a_request_is_given_up_and_a_cut_one_is_not_answered() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("request_read_secs = 1");
    let bytes = submit_bytes();
    let mut slow = stage.connect("request.sock");
    slow.0.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let (reason, text) = refused(slow.receive());
    assert_eq!(reason, Reason::Malformed);
    assert!(text.contains("not complete"), "{text}");
    let mut cut = stage.connect("request.sock");
    cut.0.write_all(&bytes[..bytes.len() - 1]).unwrap();
    cut.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(cut.0.read(&mut [0]).unwrap(), 0);
}

#[test]
fn bytes_behind_a_request_are_refused() {
    let stage = Stage::new();
    let (_execd, seen) = stage.execd();
    let _front = stage.front();
    let execute = Execute { lease: Some(ByteBuf::from(vec![0; 369])), id: None, command: None };
    let execute = Request::Execute(Box::new(execute));
    let execute = olb_wire::encode(&execute, REQUEST_BYTES_MAX).unwrap();
    for bytes in [submit_bytes(), execute] {
        let mut client = stage.connect("request.sock");
        client.0.write_all(&[bytes.as_slice(), b"I"].concat()).unwrap();
        let (reason, text) = refused(client.receive());
        assert_eq!(reason, Reason::Malformed);
        assert!(text.contains("bytes follow"), "{text}");
    }
    assert!(seen.presented.try_recv().is_err());
}

#[test]
fn junk_is_refused_and_the_next_client_is_served() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    for body in [&[0x81; 1000][..], b"", b"\xff", b"\xa1\x66Submit\xf6"] {
        let mut client = stage.connect("request.sock");
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        client.0.write_all(&[&length, body].concat()).unwrap();
        assert_eq!(refused(client.receive()).0, Reason::Malformed);
    }
    assert_eq!(stage.submitted(ask_for(&["id"])).state, "pending");
}

#[test]
fn a_descriptor_of_a_client_never_becomes_ours() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let (read, write) = pipe().unwrap();
    let mut client = stage.connect("request.sock");
    let bytes = submit_bytes();
    let sent = send_with_fds(&client.0, &bytes, &[write.as_fd()]).unwrap();
    assert_eq!(sent, bytes.len());
    drop(write);
    assert_eq!(view(client.receive()).state, "pending");
    // The front and this test are one process: an end of file says that nobody has it.
    assert_eq!(std::fs::File::from(read).read(&mut [0]).unwrap(), 0);
}

#[test]
fn each_socket_serves_its_own_side_only() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front();
    let verdict = ByteBuf::from(vec![0; 10]);
    for (socket, request) in [
        ("request.sock", Request::Decide { verdict }),
        ("request.sock", Request::Watch),
        ("request.sock", Request::Records { from: 1 }),
        ("review.sock", Request::Submit(Box::new(ask_for(&["id"])))),
        ("review.sock", Request::Cancel { selector: "7FK-3QX".into() }),
        (
            "review.sock",
            Request::Execute(Box::new(Execute { lease: None, id: None, command: None })),
        ),
    ] {
        let (reason, text) = refused(stage.ask(socket, &request).1);
        assert_eq!(reason, Reason::Malformed, "{socket}: {text}");
        assert!(text.contains("socket"), "{text}");
    }
}

#[test]
fn connections_of_one_uid_are_limited_and_come_back() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("connections_per_uid = 2");
    let waiting = |argv: &[&str]| {
        let mut submit = ask_for(argv);
        submit.wait = true;
        let (client, response) = stage.ask("request.sock", &Request::Submit(Box::new(submit)));
        assert_eq!(view(response).state, "pending");
        client
    };
    let first = waiting(&["id", "1"]);
    let _second = waiting(&["id", "2"]);
    let (reason, text) = refused(stage.connect("request.sock").receive());
    assert_eq!(reason, Reason::Busy);
    assert!(text.contains("connections_per_uid = 2"), "{text}");
    drop(first);
    // The place is free once the front has noticed; until then it refuses without reading.
    loop {
        let mut client = stage.connect("request.sock");
        let bytes = submit_bytes();
        // Sent to a connection that was closed already, this fails: the answer is there all the same.
        client.0.write_all(&bytes).ok();
        match client.receive() {
            Response::Refused { reason, .. } => {
                assert_eq!(reason, Reason::Busy as u16);
            }
            response => break assert_eq!(view(response).state, "pending"),
        }
    }
}

#[test]
fn requesters_cannot_take_the_places_of_approvers() {
    let stage = Stage::new();
    let (_execd, _seen) = stage.execd();
    let _front = stage.front_with("connections_total = 1\nreview_connections_total = 1");
    let mut submit = ask_for(&["id"]);
    submit.wait = true;
    let (_first, response) = stage.ask("request.sock", &Request::Submit(Box::new(submit)));
    assert_eq!(view(response).state, "pending");
    let (_, text) = refused(stage.connect("request.sock").receive());
    assert!(text.contains("connections_total = 1"), "{text}");
    let (_desk, response) = stage.ask("review.sock", &Request::Status);
    assert!(matches!(response, Response::Status(_)), "{response:?}");
}

#[test]
fn a_uid_on_no_list_is_refused_before_a_byte_is_read() {
    if effective_uid() != 0 {
        eprintln!("skipped: only root can act as another account");
        return;
    }
    let stage = Stage::new();
    let (execd, _seen) = stage.execd();
    let _front = stage.front();
    assert_eq!(act_as_stranger(&stage, "request.sock", Stranger::Listens), "not_listed");
    assert_eq!(act_as_stranger(&stage, "review.sock", Stranger::Listens), "not_enrolled");
    execd.list_requesters(&[0, STRANGER]);
    assert_eq!(act_as_stranger(&stage, "request.sock", Stranger::Speaks), "served");
    assert_eq!(act_as_stranger(&stage, "review.sock", Stranger::Listens), "not_enrolled");
}

/// Whether the process of the other account sends a request first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stranger {
    Listens,
    Speaks,
}

/// Runs [`as_stranger`] below in a process of that uid; returns what it got.
fn act_as_stranger(stage: &Stage, socket: &str, stranger: Stranger) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "hostile::as_stranger", "--ignored", "--nocapture", "--test-threads=1"])
        .env("OLB_TEST_SOCKET", stage.path("run").join(socket))
        .current_dir("/")
        .uid(STRANGER)
        .gid(STRANGER);
    if stranger == Stranger::Speaks {
        command.env("OLB_TEST_SPEAKS", "1");
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let got = text.lines().find_map(|line| line.split("got: ").nth(1));
    got.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Not a test of its own: what [`act_as_stranger`] runs.
#[test]
#[ignore = "run by another test, as another account"]
fn as_stranger() {
    let socket = std::env::var_os("OLB_TEST_SOCKET").unwrap();
    let mut client = Client(std::os::unix::net::UnixStream::connect(socket).unwrap());
    if std::env::var_os("OLB_TEST_SPEAKS").is_some() {
        client.send(&Request::Status);
    }
    let got = match client.receive() {
        Response::Status(_) => "served",
        other => refused(other).0.name(),
    };
    println!("\ngot: {got}");
}
