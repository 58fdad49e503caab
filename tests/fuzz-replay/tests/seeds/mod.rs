//! Where the fuzzers begin: the vectors, and one message of each kind.

use std::fs;
use std::path::Path;

use olb_exec_api::{
    ClientFrame, Decided, Enrolment, Info, Limit, Op, Query, Reason, RecordPage, Recorded, Refusal,
    RequestState, SequencedRecord, Status, encode_info, reply, request,
};
use olb_lease::{Audience, Epoch, Kid, PlanDigest};
use olb_wire::{
    ByteBuf, Command, Execute, Health, RESPONSE_BYTES_MAX, Request, RequestView, Response, Submit,
};
use serde_json::Value;

/// Longer vectors are about limits, and slow a fuzzer down.
const VECTOR_BYTES_MAX: usize = 1024;

/// Target, name of the file, bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Every seed.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let kinds = [
        ("lease_decode", "lease"),
        ("lease_decode", "armor"),
        ("plan_decode", "plan"),
        ("verdict_decode", "verdict"),
        ("receipt_decode", "receipt"),
    ];
    for (target, kind) in kinds {
        seeds.extend(vectors(kind).into_iter().map(|(name, bytes)| (target, name, bytes)));
    }
    seeds.extend(edits());
    seeds.extend(datagrams());
    seeds.extend(messages());
    seeds.extend(histories());
    seeds.extend(command_lines());
    seeds
}

fn named(target: &'static str, name: &str, bytes: Vec<u8>) -> Seed {
    (target, format!("seed_{name}"), bytes)
}

fn vectors(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(kind);
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let vector: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), bytes_of(&vector))
        })
        .filter(|(_, bytes)| bytes.len() <= VECTOR_BYTES_MAX)
        .collect();
    found.sort();
    assert!(found.len() > 10, "the vectors of {kind} were not read");
    found
}

/// A vector's bytes: a text, or pieces of which `XX*N` is the byte `XX` N times.
fn bytes_of(vector: &Value) -> Vec<u8> {
    if let Some(text) = vector["text"].as_str() {
        return text.into();
    }
    let pieces = vector["hex"].as_array().unwrap();
    pieces.iter().flat_map(|piece| piece_of(piece.as_str().unwrap())).collect()
}

fn piece_of(piece: &str) -> Vec<u8> {
    match piece.split_once('*') {
        Some((byte, count)) => hex(byte).repeat(count.parse().unwrap()),
        None => hex(piece),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn edits() -> Vec<Seed> {
    vec![
        named("lease_verify", "no_edit", Vec::new()),
        named("lease_verify", "undone", vec![0, 40, 1, 0, 40, 1]),
        named("lease_verify", "first_byte", vec![0, 0, 1]),
        named("lease_verify", "kid", vec![0, 8, 0x80]),
        named("lease_verify", "claims", vec![0, 60, 1, 0, 90, 2]),
        named("lease_verify", "signature", vec![1, 112, 1]),
    ]
}

fn info() -> Info {
    Info {
        host: "web-1".into(),
        audience: Audience([1; 32]),
        epoch: Epoch([2; 16]),
        lease_key: [3; 32],
        audit_key: [4; 32],
        sequence: 77,
        boundary: true,
        requesters: vec![1001],
        enrolments: vec![Enrolment {
            name: "alice".into(),
            uid: 1000,
            key: [5; 32],
            kid: Kid([6; 8]),
            lease_lifetime_secs: 900,
        }],
        limits: vec![Limit { name: "max_executions".into(), value: 64 }],
        staging: b"/var/lib/olb-pin".to_vec(),
    }
}

fn datagrams() -> Vec<Seed> {
    let recorded = Recorded { receipt: vec![4], stdout_tail: vec![5], stderr_tail: vec![6] };
    let decided = Decided { receipt: vec![1], lease: Some(vec![2]), expires_at: 7 };
    let mut refusal = Refusal::new(Reason::AlreadyBurned, "used before");
    refusal.recorded = Some(recorded.clone());
    let page = RecordPage {
        records: vec![SequencedRecord { sequence: 1, record: vec![1], receipt: None }],
    };
    let state = RequestState {
        decided: Some(decided.clone()),
        burned: true,
        recorded: Some(recorded.clone()),
    };
    let frames = [
        ClientFrame::Started.encode(),
        ClientFrame::Outcome { receipt: vec![7; 9] }.encode(),
        ClientFrame::Refused(refusal.clone()).encode(),
    ];
    let bodies = [
        ("refusal", refusal.encode()),
        ("recorded", recorded.encode()),
        ("decided", decided.encode()),
        ("page", page.encode()),
        ("state", state.encode()),
        ("info", encode_info(&info())),
    ];
    let mut seeds = vec![
        named("root_header", "decide", request(Op::Decide, b"verdict", b"plan").unwrap()),
        named("root_header", "execute", request(Op::Execute, b"lease", b"plan").unwrap()),
        named("root_header", "burned", reply(Status::Burned, b"", b"").unwrap()),
        named("root_header", "frames", frames.concat()),
    ];
    for (name, query) in [
        ("info", Query::Info),
        ("records", Query::Records { from: 9 }),
        ("request", Query::Request { plan: PlanDigest([9; 32]) }),
    ] {
        let datagram = request(Op::Read, &query.encode(), b"").unwrap();
        seeds.push(named("root_header", &format!("read_{name}"), datagram));
    }
    for (name, body) in bodies {
        let datagram = reply(Status::Done, &body, b"").unwrap();
        seeds.push(named("root_header", &format!("done_{name}"), datagram));
        seeds.push(named("root_header", &format!("body_{name}"), body));
    }
    seeds
}

fn messages() -> Vec<Seed> {
    let command = Command {
        argv: vec![ByteBuf::from(*b"systemctl"), ByteBuf::from(*b"restart")],
        cwd: ByteBuf::from(*b"/srv/app"),
        cwd_dev: 65025,
        cwd_ino: 262_147,
        environment_words: vec![ByteBuf::from(*b"NO_COLOR=1")],
        user: Some("root".into()),
        group: None,
        stdin: Some(ByteBuf::from(*b"in")),
        cwd_changeable: false,
        staged: Vec::new(),
        unbound: Vec::new(),
    };
    let submit = Submit {
        command: command.clone(),
        reason: "because".into(),
        session: "main".into(),
        wall_clock_secs: Some(60),
        wait: true,
    };
    let lease = Some(ByteBuf::from(*b"lease"));
    let execute = Execute { lease, id: Some("7FK-3QX".into()), command: Some(command) };
    let selector = "7FK-3QX".to_owned();
    let requests = [
        ("submit", Request::Submit(Box::new(submit))),
        ("execute", Request::Execute(Box::new(execute))),
        ("show", Request::Show { selector: selector.clone(), wait: false }),
        ("list", Request::List { open: true }),
        ("cancel", Request::Cancel { selector }),
        ("status", Request::Status),
        ("decide", Request::Decide { verdict: ByteBuf::from(*b"verdict") }),
        ("watch", Request::Watch),
        ("records", Request::Records { from: 1 }),
    ];
    let view = Box::new(RequestView { state: "pending".into(), ..RequestView::default() });
    let receipt = ByteBuf::from(*b"receipt");
    let text = "denied by alice".to_owned();
    let responses = [
        ("request", Response::Request(view.clone())),
        ("requests", Response::Requests(vec![RequestView::default()])),
        ("health", Response::Status(Box::default() as Box<Health>)),
        ("page", Response::Records(receipt.clone())),
        ("decided", Response::Decided { receipt, request: view.clone() }),
        ("refused", Response::Refused { reason: 42, text, request: Some(view) }),
    ];
    let max = RESPONSE_BYTES_MAX;
    let requests = requests.map(|(name, one)| (name, olb_wire::encode(&one, max).unwrap()));
    let responses = responses.map(|(name, one)| (name, olb_wire::encode(&one, max).unwrap()));
    requests
        .into_iter()
        .chain(responses)
        .map(|(name, one)| named("wire_frame", name, one))
        .collect()
}

/// Steps of three bytes: what, which, how.
fn histories() -> Vec<Seed> {
    const SUBMIT: [u8; 3] = [0, 0, 0];
    const APPROVE: [[u8; 3]; 3] = [[1, 0, 0], [3, 0, 0], [4, 0, 0]];
    const RUN: [[u8; 3]; 6] = [[2, 0, 0], [3, 0, 0], [4, 0, 0], [6, 0, 3], [4, 0, 0], [10, 0, 0]];
    let ran = [&[SUBMIT], &APPROVE[..], &RUN[..]].concat().concat();
    let denied = [&[SUBMIT][..], &[[1, 0, 1], [3, 0, 0], [4, 0, 0], SUBMIT]].concat().concat();
    let lost = [&[SUBMIT], &APPROVE[..], &[[2, 0, 0], [3, 0, 0], [5, 0, 0], [9, 0, 0], [10, 0, 0]]];
    let reboot = [&[SUBMIT], &APPROVE[..], &[[13, 0, 1], [9, 0, 0], [10, 0, 0], [2, 0, 0]]];
    let crash = [&[SUBMIT], &APPROVE[..], &[[12, 0, 0], [2, 0, 0], [11, 0, 0], [8, 0, 2]]];
    vec![
        named("machine", "ran", ran),
        named("machine", "denied", denied),
        named("machine", "answer_lost", lost.concat().concat()),
        named("machine", "reboot", reboot.concat().concat()),
        named("machine", "crash", crash.concat().concat()),
    ]
}

/// What agents type, and what they could: words that end with a NUL byte each.
fn command_lines() -> Vec<Seed> {
    let lines = [
        ("plain", "systemctl restart nginx"),
        ("account", "-nHu postgres psql -c select"),
        ("numbers", "-u #007 -g#42 id"),
        ("long", "--user=www-data --group adm --chdir=/srv --non-interactive -- ls -l"),
        ("short_names", "--us root --se --pro= --no-u --close=03 true"),
        ("variables", "DEBIAN_FRONTEND=noninteractive -E TZ=UTC apt-get install -y curl"),
        ("preserve", "--preserve-env=HTTP_PROXY,no_proxy --preserve-env=TZ env"),
        ("twice", "X=1 --preserve-env=X env"),
        ("time", "-T 1h30m -D/var/tmp -C3 make install"),
        ("password", "-S -p %u -k tee /etc/motd"),
        ("probe", "-n true"),
        ("validate", "-Anv"),
        ("list", "-ll -U nobody -u root systemctl restart nginx"),
        ("forget", "-k"),
        ("forget_all", "--remove-timestamp"),
        ("help", "--help"),
        ("version", "-V"),
        ("shell", "-s -u www-data -- ls /root"),
        ("login", "-i"),
        ("edit", "-e -D /etc -T5 hosts passwd"),
        ("dashes", "-- -u root X=1"),
        ("not_a_name", "./a=b -x"),
        ("ambiguous", "--pre id"),
        ("host", "-h db1 id"),
        ("background", "-b sleep 9"),
        ("minus_one", "-u#-1 id"),
    ];
    let bytes = |line: &str| line.split(' ').map(|word| format!("{word}\0")).collect::<String>();
    lines.map(|(name, line)| named("sudo_args", name, bytes(line).into_bytes())).into()
}
