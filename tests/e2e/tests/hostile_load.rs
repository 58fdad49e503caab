//! Floods: what is refused costs little, is bounded in memory and on disk, and keeps nobody from
//! being served.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use olb_e2e_tests::{
    Door, ExecSock, ROOMY, Raw, Reply, Scene, Seeded, open_files, refused, resident_kib, submit_of,
    view, wait_until,
};
use olb_exec_api::{ClientFrame, Op, Query, Reason, RecordPage};
use olb_lease::{Record, RecordEvent, VerdictKind};
use olb_wire::{ByteBuf, Request, Response};

/// What a flood may add to the memory of a half, in KiB.
const ROOM_KIB: u64 = 64 * 1024;

fn is_soak() -> bool {
    std::env::var_os("OLB_SOAK").is_some()
}

/// Memory and descriptors of both halves before something; says and judges them after it.
struct Before {
    pids: [u32; 2],
    memory: [u64; 2],
    files: [usize; 2],
}

impl Before {
    fn of(scene: &Scene) -> Self {
        let pids = [scene.instance.brokerd_pid(), scene.instance.execd_pid()];
        Self { pids, memory: pids.map(resident_kib), files: pids.map(open_files) }
    }

    fn assert_memory(&self, what: &str) {
        let now = self.pids.map(resident_kib);
        println!("{what}: KiB of front and root half {:?} before, {now:?} after", self.memory);
        assert!((0..2).all(|half| now[half] < self.memory[half] + ROOM_KIB), "{what}");
    }

    fn assert_files(&self) {
        wait_until("every descriptor is closed again", || {
            (0..2).all(|half| open_files(self.pids[half]) <= self.files[half])
        });
    }
}

/// Bytes of the ledger on disk, its log included.
fn ledger_bytes(scene: &Scene) -> u64 {
    let length =
        |name: &str| fs::metadata(scene.instance.state().join(name)).map(|file| file.len());
    length("ledger.db").unwrap() + length("ledger.db-wal").unwrap_or(0)
}

fn log_bytes(scene: &Scene) -> u64 {
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    length(&scene.instance.log("execd")) + length(&scene.instance.log("brokerd"))
}

fn assert_served(door: &mut Door) {
    let answer = door.ask(&Request::Status);
    assert!(matches!(&answer, Response::Status(health) if health.execd), "{answer:?}");
}

/// Which of these connections were answered already, without having sent anything.
fn answered(connections: &mut [Raw]) -> usize {
    let mut count = 0;
    for raw in connections {
        raw.stream.set_nonblocking(true).unwrap();
        let mut start = [0; 4];
        count += usize::from(raw.stream.read(&mut start).is_ok());
    }
    count
}

#[test]
fn five_thousand_idle_connections_hold_the_places_of_their_uid_and_no_more() {
    olb_sys::harden::raise_nofile().unwrap();
    // They stay as long as the test does.
    let mut scene = Scene::with(&format!("{ROOMY}request_read_secs = 600\n"), "");
    let mut other = Door::request(&scene.instance, scene.instance.requester(1));
    assert_served(&mut scene.agent);
    assert_served(&mut other);
    assert_served(&mut scene.desk);
    let before = Before::of(&scene);
    for (door, per_uid) in [(&mut scene.agent, 64), (&mut scene.desk, 64)] {
        let mut idle: Vec<Raw> = (0..5000).map(|_| door.connect()).collect();
        assert_served(&mut other);
        let refusals = answered(&mut idle);
        assert_eq!(refusals, idle.len() - per_uid, "sent away without a word");
        assert_eq!(refused(door.ask(&Request::Status)).0, Reason::Busy);
        drop(idle);
        wait_until("there is room again", || {
            matches!(door.ask(&Request::Status), Response::Status(_))
        });
    }
    before.assert_memory("10000 idle connections");
    before.assert_files();
}

#[test]
fn slow_senders_of_large_messages_and_slow_readers_of_large_lists_hold_little() {
    let mut scene = Scene::with(&format!("{ROOMY}request_read_secs = 600\n"), "");
    for number in 0..120 {
        scene.ask(&["true", &number.to_string(), &"x".repeat(60_000)]);
    }
    let before = Before::of(&scene);
    let body = vec![0; olb_wire::REQUEST_BYTES_MAX];
    let mut large = olb_e2e_tests::framed(&body);
    large.pop();
    let mut senders: Vec<(Raw, usize)> = (0..50).map(|_| (scene.agent.connect(), 0)).collect();
    let (mut idle, mut peak) = (0, 0);
    // As much as the front takes, until it takes no more; never the last byte.
    while idle < 50 {
        idle += 1;
        for (raw, sent) in &mut senders {
            if let Ok(more @ 1..) = olb_sys::socket::send_now(&raw.stream, &large[*sent..]) {
                (*sent, idle) = (*sent + more, 0);
            }
        }
        peak = peak.max(resident_kib(before.pids[0]));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let whole = senders.iter().filter(|(_, sent)| *sent == large.len()).count();
    println!("50 senders of 1.25 MiB: {whole} were read to the last byte but one, peak {peak} KiB");
    assert!(peak < before.memory[0] + ROOM_KIB);
    assert_eq!(whole, 2, "large_messages_per_uid");
    drop(senders);
    before.assert_files();
    let mut readers: Vec<Raw> = Vec::new();
    for _ in 0..50 {
        let mut raw = scene.agent.connect();
        raw.send(&olb_e2e_tests::message(&Request::List { open: true })).unwrap();
        readers.push(raw);
    }
    assert_served(&mut scene.desk);
    let mut peak = resident_kib(before.pids[0]);
    for mut raw in readers {
        let (mut listed, mut pages) = (0, 0);
        loop {
            let Some(Response::Requests(page)) = raw.answer() else { panic!("no page") };
            peak = peak.max(resident_kib(before.pids[0]));
            match page.len() {
                0 => break,
                count => (listed, pages) = (listed + count, pages + 1),
            }
        }
        assert_eq!(listed, 120);
        assert!(pages >= 14, "{pages} pages of a mebibyte");
    }
    println!("50 readers of a list of 14 MB: peak {peak} KiB");
    assert!(peak < before.memory[0] + ROOM_KIB / 4);
    before.assert_files();
}

#[test]
fn all_uids_together_hold_the_places_of_all_and_no_more() {
    let limits = format!("{ROOMY}request_read_secs = 600\nconnections_total = 100\n");
    let scene = Scene::with(&limits, "");
    let mut doors: Vec<Door> =
        (0..3).map(|at| Door::request(&scene.instance, scene.instance.requester(at))).collect();
    let mut idle: Vec<Raw> = doors
        .iter_mut()
        .flat_map(|door| (0..100).map(|_| door.connect()).collect::<Vec<_>>())
        .collect();
    // Whoever comes after them hears it, and by then they were all looked at.
    assert_eq!(refused(doors[2].ask(&Request::Status)).0, Reason::Busy);
    assert_eq!(answered(&mut idle), 200);
}

#[test]
fn a_flood_from_uids_on_no_list_is_sent_away_before_a_word_is_read() {
    const FIRST_SUBUID: u32 = 100_000;
    let mut scene = Scene::start();
    let before = Before::of(&scene);
    let log = log_bytes(&scene);
    let uids = if is_soak() { 3000 } else { 300 };
    let mut flood = Vec::new();
    for uid in FIRST_SUBUID..FIRST_SUBUID + uids {
        for socket in [Door::request, Door::review] {
            let mut door = socket(&scene.instance, uid);
            flood.extend((0..3).map(|_| door.connect()));
        }
        if uid % 50 == 0 {
            assert_served(&mut scene.agent);
            assert_served(&mut scene.desk);
        }
    }
    for raw in &mut flood {
        // Nothing was sent, and this is the answer; a few too many at once get no other.
        let (reason, _) = refused(raw.answer().unwrap());
        assert!([Reason::NotListed, Reason::NotEnrolled, Reason::Busy].contains(&reason));
        assert_eq!(raw.answer(), None);
    }
    drop(flood);
    let grown = log_bytes(&scene) - log;
    println!("{} connections of {uids} uids: log grew by {grown} bytes", uids * 6);
    assert!(grown < 4096, "a line a minute and no more");
    before.assert_memory("uids on no list");
    before.assert_files();
}

#[test]
fn a_flood_of_submits_meets_the_limits_and_makes_no_flood_of_log() {
    let mut scene = Scene::with("", "");
    let before = Before::of(&scene);
    let log = log_bytes(&scene);
    let asked = if is_soak() { 50_000 } else { 3000 };
    let mut taken = Vec::new();
    for number in 0..asked {
        let submit = submit_of(&scene.instance, &["echo", &number.to_string()]);
        match scene.agent.submit(submit) {
            Response::Request(view) => taken.push(view.request_id.clone()),
            other => assert_eq!(refused(other).0, Reason::Busy),
        }
    }
    assert_eq!(taken.len(), 10, "pending_per_uid");
    let mut other = Door::request(&scene.instance, scene.instance.requester(1));
    let submit = submit_of(&scene.instance, &["true"]);
    assert_eq!(view(other.submit(submit)).state, "pending", "others have limits of their own");
    let grown = log_bytes(&scene) - log;
    println!("{asked} submits: log grew by {grown} bytes");
    assert!(grown < 8192, "{grown}");
    before.assert_memory("submits");
    before.assert_files();
    // The ten are a screen of work for the approver, not more.
    let Response::Requests(open) = scene.desk.ask(&Request::List { open: true }) else {
        panic!("no list");
    };
    assert_eq!(open.len(), 11);
}

/// Things that look like a lease, each a little more.
fn junk_lease(random: &mut Seeded, real: &[u8]) -> Vec<u8> {
    let mut bytes = real.to_vec();
    match random.below(4) {
        0 => (0..random.below(600)).map(|_| random.below(256) as u8).collect(),
        1 => {
            bytes.truncate(random.below(real.len() as u64) as usize);
            bytes
        }
        2 => {
            // The signature is the last 64 bytes: only the check of it can tell.
            let at = real.len() - 1 - random.below(64) as usize;
            bytes[at] ^= 1 + random.below(255) as u8;
            bytes
        }
        _ => {
            let at = random.below(real.len() as u64) as usize;
            bytes[at] ^= 1 + random.below(255) as u8;
            bytes
        }
    }
}

#[test]
fn junk_leases_cost_the_ledger_nothing() {
    let mut scene = Scene::start();
    let (asked, real) = scene.approved(&["echo", "still good"]);
    let sock = ExecSock::of(&scene.instance);
    let mut random = Seeded::new("junk_leases");
    let (client, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let before = Before::of(&scene);
    let (ledger, log) = (ledger_bytes(&scene), log_bytes(&scene));
    let direct: u32 = if is_soak() { 1_000_000 } else { 100_000 };
    for _ in 0..direct {
        let junk = junk_lease(&mut random, &real);
        match sock.ask(Op::Execute, &junk, &asked.plan, &[client.as_fd()]).next() {
            Some(Reply::Refused(refusal)) => assert_eq!(refusal.reason, Reason::BadSignature),
            other => panic!("{other:?} to {junk:?}"),
        }
    }
    let through_the_front = if is_soak() { 50_000 } else { 3000 };
    for _ in 0..through_the_front {
        let junk = junk_lease(&mut random, &real);
        match scene.agent.execute(&junk).frame() {
            Some((ClientFrame::Refused(_), _)) => {}
            other => panic!("{other:?} to {junk:?}"),
        }
    }
    let (ledger, log) = (ledger_bytes(&scene) - ledger, log_bytes(&scene) - log);
    println!(
        "{direct} junk leases on exec.sock and {through_the_front} through the front: ledger grew \
         by {ledger} bytes, logs by {log}"
    );
    assert!(ledger < 64 * 1024, "{ledger}");
    assert!(log < 8192, "{log}");
    before.assert_memory("junk leases");
    let (mut client, _out) = scene.started(&real);
    assert!(matches!(client.frame(), Some((ClientFrame::Outcome { .. }, _))));
    before.assert_files();
}

/// The refusals in the trail.
fn recorded_refusals(sock: &ExecSock) -> usize {
    let (mut from, mut count) = (1, 0);
    loop {
        let answer = sock.ask(Op::Read, &Query::Records { from }.encode(), &[], &[]).next();
        let Some(Reply::Done(page)) = answer else { panic!("{answer:?}") };
        let page = RecordPage::decode(&page).unwrap().records;
        let Some(last) = page.last() else { return count };
        from = last.sequence + 1;
        for entry in &page {
            let refused = |record: Record| matches!(record.event, RecordEvent::Refused { .. });
            count += usize::from(Record::decode(&entry.record).is_ok_and(refused));
        }
    }
}

#[test]
fn a_valid_lease_refused_a_thousand_times_is_ten_records() {
    let mut scene = Scene::start();
    let sock = ExecSock::of(&scene.instance);
    let (asked, lease) = scene.approved(&["echo", "mine"]);
    let other = scene.instance.requester(1);
    let peers = olb_e2e_tests::Peers::of(&scene.instance);
    let (stranger, _keep) = peers.connected_by(other);
    for _ in 0..1000 {
        match sock.ask(Op::Execute, &lease, &asked.plan, &[stranger.as_fd()]).next() {
            Some(Reply::Refused(refusal)) => assert_eq!(refusal.reason, Reason::NotYours),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(recorded_refusals(&sock), 10);
    let mut client = scene.started(&lease).0;
    assert!(matches!(client.frame(), Some((ClientFrame::Outcome { .. }, _))));
    let ledger = ledger_bytes(&scene);
    for _ in 0..200 {
        let frame = scene.agent.execute(&lease).frame();
        assert!(matches!(frame, Some((ClientFrame::Refused(_), _))), "{frame:?}");
    }
    assert_eq!(recorded_refusals(&sock), 10, "the tenth was the last of this lease");
    assert!(ledger_bytes(&scene) - ledger < 64 * 1024);
}

#[test]
fn a_flood_of_bad_verdicts_leaves_no_trace_and_keeps_no_approver_waiting() {
    let mut scene = Scene::start();
    let asked = scene.ask(&["true"]);
    let mallory = olb_e2e_tests::Approver::new(scene.alice.uid, "mallory");
    let digest = olb_lease::plan_digest(&asked.plan);
    let before = Before::of(&scene);
    let (ledger, log) = (ledger_bytes(&scene), log_bytes(&scene));
    let mut random = Seeded::new("bad verdicts");
    let sequence = ExecSock::of(&scene.instance).info().sequence;
    let good = scene.alice.sign(VerdictKind::Approve, digest, scene.epoch);
    for round in 0..2000 {
        let verdict = match round % 2 {
            0 => mallory.sign(VerdictKind::Approve, digest, scene.epoch),
            _ => {
                let mut verdict = good.clone();
                let at = verdict.len() - 1 - random.below(64) as usize;
                verdict[at] ^= 1 + random.below(255) as u8;
                verdict
            }
        };
        let answer = scene.desk.ask(&Request::Decide { verdict: ByteBuf::from(verdict) });
        let (reason, _) = refused(answer);
        assert!([Reason::NotEnrolled, Reason::BadSignature].contains(&reason));
    }
    let (ledger, log) = (ledger_bytes(&scene) - ledger, log_bytes(&scene) - log);
    println!("2000 bad verdicts: ledger grew by {ledger} bytes, logs by {log}");
    // What was in the log may move to the file; the trail is as long as before.
    assert!(ledger < 64 * 1024, "{ledger}");
    assert_eq!(ExecSock::of(&scene.instance).info().sequence, sequence);
    assert!(log < 8192, "{log}");
    before.assert_memory("bad verdicts");
    assert_eq!(view(scene.decide(VerdictKind::Approve, &asked.plan)).state, "approved");
}

#[test]
fn executions_above_the_limit_of_a_uid_wait_for_nobody() {
    let mut scene = Scene::with(ROOMY, "max_executions_per_uid = 2\n");
    let mut running = Vec::new();
    for number in 0..2 {
        let (_, lease) = scene.approved(&["sleep", &format!("100{number}")]);
        running.push(scene.started(&lease));
    }
    let (_, lease) = scene.approved(&["echo", "third"]);
    let Some((ClientFrame::Refused(refusal), _)) = scene.agent.execute(&lease).frame() else {
        panic!("a third one runs");
    };
    assert_eq!(refusal.reason, Reason::Busy);
    let mut other = Door::request(&scene.instance, scene.instance.requester(1));
    let theirs = view(other.submit(submit_of(&scene.instance, &["echo", "other"])));
    view(scene.decide(VerdictKind::Approve, &theirs.plan));
    let again = view(other.submit(submit_of(&scene.instance, &["echo", "other"])));
    let frame = other.execute(&again.lease.unwrap()).frame();
    assert!(matches!(frame, Some((ClientFrame::Started, _))), "others have places of their own");
    running.clear();
    wait_until("there is room again", || {
        matches!(scene.agent.execute(&lease).frame(), Some((ClientFrame::Started, _)))
    });
}
