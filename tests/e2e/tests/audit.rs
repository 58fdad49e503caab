//! The audit trail of a real broker in the hands of others: exported, changed, cut, put back,
//! withheld. `olb audit verify` says 0 intact, 1 broken, 2 cannot verify, and where.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use olb_e2e_tests::{
    Archive, ExecSock, Half, Reply, exported, fake_front, forged, recorded, text, written,
};
use olb_exec_api::{Info, Op, Query, RecordPage, SequencedRecord};
use olb_lease::{Audit, RecordEvent, SigningKey};
use olb_wire::{ByteBuf, Request, Response};
use serde_json::json;

#[test]
fn a_real_trail_is_intact_with_a_broker_and_without_one() {
    let mut archive = Archive::open();
    let export = archive.export();
    let count = export.lines().count();
    let log = archive.log();
    let alone = archive.verify(&export, None).expect(0).stdout;
    let open = format!("nothing here says that record {count} is the last one");
    assert!(alone.contains(&open), "{alone}");
    let anchored = archive.verify(&export, Some(&log)).expect(0).stdout;
    let reach = format!("vouches for the records up to {count}\n");
    assert!(anchored.ends_with(&reach), "{anchored}");
    // The journal of this host, if there is one, holds no head of this broker.
    let running = archive.operator(&["audit", "verify"]).expect(0).stdout;
    assert!(running.contains(&open), "{running}");
    let words = ["audit", "verify", "--anchor", text(&log), "--json"];
    let running = archive.operator(&words).expect(0).json();
    assert_eq!((&running["verdict"], &running["anchored_upto"]), (&json!("intact"), &json!(count)));
    // Files alone, while nobody answers: keys, export, and the saved log on standard input.
    let keys = fs::read_to_string(archive.instance.runtime().join("keys.pub")).unwrap();
    let (keys, file) = (archive.file("k", &keys), archive.file("e", &export));
    archive.instance.kill(Half::Front);
    archive.instance.kill(Half::Root);
    let words = ["audit", "verify", "--keys", text(&keys), "--anchor", "-", text(&file)];
    let log = fs::read(log).unwrap();
    let stranger = archive.instance.stranger();
    let offline = archive.instance.olb_with_input(stranger, &words, &log).expect(0).stdout;
    assert!(offline.ends_with(&reach), "{offline}");
    archive.operator(&["audit", "verify"]).expect(2);
}

// [T-1]
// [T-3]
// [T-4]
#[test]
fn every_change_of_an_export_has_its_code_and_is_named() {
    let archive = Archive::open();
    let good = exported(&archive.export());
    let log = archive.log();
    archive.verify(&written(&good), Some(&log)).expect(0);
    let signed: Vec<usize> = (0..good.len()).filter(|at| good[*at].receipt.is_some()).collect();
    let (burned, last) = (2, good.len() - 1);
    assert!(good[burned].receipt.is_none() && signed.contains(&last));

    type Change = fn(&mut Vec<SequencedRecord>, usize);
    let changes: [(&str, Change, usize, &str); 12] = [
        ("a record's time", |all, at| all[at].record[2] ^= 1, burned, "at record"),
        ("a record's end", |all, at| *all[at].record.last_mut().unwrap() ^= 1, last, "at record"),
        ("a record that does not decode", |all, at| all[at].record[0] = 0xff, burned, "record 3"),
        (
            "a signature",
            |all, at| *all[at].receipt.as_mut().unwrap().last_mut().unwrap() ^= 1,
            last,
            "at record",
        ),
        (
            "a receipt's form",
            |all, at| all[at].receipt.as_mut().unwrap()[0] ^= 1,
            last,
            "at record",
        ),
        ("a number", |all, at| all[at].sequence += 1, burned, "at record 4"),
        ("two records swapped", |all, at| all.swap(at, at + 1), burned, "at record 4"),
        ("the first deleted", |all, at| drop(all.remove(at)), 0, "at record 2"),
        ("one deleted", |all, at| drop(all.remove(at)), burned, "at record 4"),
        ("one twice", |all, at| all.insert(at, all[at].clone()), burned, "at record 3"),
        (
            "a signature stripped",
            |all, at| all[at].receipt = None,
            last,
            "its signature is missing",
        ),
        (
            "another's signature",
            |all, at| all[at].receipt = all[1].receipt.clone(),
            last,
            "its receipt belongs to another record",
        ),
    ];
    for (what, change, at, told) in changes {
        let mut changed = good.clone();
        change(&mut changed, at);
        let ran = archive.verify(&written(&changed), None).expect(1);
        assert!(ran.stderr.starts_with("olb: the trail is broken "), "{what}: {ran:?}");
        assert!(ran.stderr.contains(told) && ran.stdout.is_empty(), "{what}: {ran:?}");
    }
    let export = archive.export();
    let middle = export.len() - 200;
    let cut = archive.verify(&export[..middle], None).expect(1);
    assert!(cut.stderr.contains(&format!("line {} of ", good.len())), "{cut:?}");
    let readable = export.replacen("\"decision\":\"deny\"", "\"decision\":\"approve\"", 1);
    assert_ne!(readable, export);
    let prose = archive.verify(&readable, None).expect(1);
    assert!(prose.stderr.contains("the readable \"decision\" beside it"), "{prose:?}");
    // Renumbered after a deletion, as if nothing had been there.
    for at in 0..last {
        let mut closed = good.clone();
        closed.remove(at);
        for (sequence, one) in (1..).zip(&mut closed) {
            one.sequence = sequence;
        }
        archive.verify(&written(&closed), None).expect(1);
    }
}

// [T-5]
#[test]
fn an_older_export_or_a_cut_end_shows_against_the_heads_in_the_log() {
    let archive = Archive::open();
    let old = archive.export();
    let old_heads = archive.file("old-heads", &fs::read_to_string(archive.log()).unwrap());
    archive.run("exit 4", 4);
    let (new, log) = (archive.export(), archive.log());
    let end = old.lines().count();
    // Alone it is what it was, and says what it does not prove.
    let alone = archive.verify(&old, None).expect(0);
    assert!(alone.stdout.contains(&format!("nothing here says that record {end} is the last one")));
    let replayed = archive.verify(&old, Some(&log)).expect(1);
    let told = format!("at record {}: the end was cut off", end + 1);
    assert!(replayed.stderr.contains(&told), "{replayed:?}");
    // An older anchor proves as much as it knows.
    let reach = archive.verify(&new, Some(&old_heads)).expect(0).stdout;
    assert!(reach.ends_with(&format!("up to {end}\n")), "{reach}");
    let lines: Vec<&str> = new.lines().collect();
    for kept in 0..lines.len() {
        let ran = archive.verify(&lines[..kept].join("\n"), Some(&log)).expect(1);
        assert!(ran.stderr.contains(&format!("at record {}: ", kept + 1)), "{kept}: {ran:?}");
    }
    // Nothing at all, or nothing that is signed, is not "intact" for want of an anchor.
    archive.verify("", None).expect(2);
    archive.verify(lines[0], None).expect(2);
}

#[test]
fn whoever_chains_it_anew_is_found_by_the_key_and_whoever_has_the_key_by_the_log() {
    let archive = Archive::open();
    let (lines, log) = (exported(&archive.export()), archive.log());
    let mut others = recorded(&lines);
    // The first approval was never used, says this one.
    others.retain(|record| !matches!(record.event, RecordEvent::Burned { .. }));
    let own: SigningKey<Audit> = SigningKey::from_seed(&[9; 32].into()).unwrap();
    let foreign = archive.verify(&written(&forged(&others, &own)), None).expect(2);
    assert!(foreign.stderr.contains(&own.public().kid().hex()), "{foreign:?}");
    let mut stripped = forged(&others, &own);
    stripped.iter_mut().for_each(|one| one.receipt = None);
    let stripped = archive.verify(&written(&stripped), None).expect(1);
    assert!(stripped.stderr.contains("its signature is missing"), "{stripped:?}");
    // Root has the audit key. What it cannot have any more is the journal of yesterday, elsewhere.
    let rewritten = written(&forged(&others, &archive.audit_key()));
    archive.verify(&rewritten, None).expect(0);
    let found = archive.verify(&rewritten, Some(&log)).expect(1);
    assert!(found.stderr.contains("it is not the record that the anchor vouches for"), "{found:?}");
    let same = written(&forged(&recorded(&lines), &archive.audit_key()));
    archive.verify(&same, Some(&log)).expect(0);
}

#[test]
fn records_and_exports_of_another_broker_do_not_pass() {
    let (archive, other) = (Archive::open(), Archive::open());
    let (ours, theirs) = (exported(&archive.export()), exported(&other.export()));
    let log = archive.log();
    for anchor in [None, Some(log.as_path())] {
        let whole = archive.verify(&written(&theirs), anchor);
        // Before its first signature there may be a head that the log says is another.
        assert_eq!(whole.code, if anchor.is_some() { 1 } else { 2 }, "{whole:?}");
        for from in 1..ours.len() {
            let spliced = [&ours[..from], &theirs[from..]].concat();
            archive.verify(&written(&spliced), anchor).expect(1);
        }
    }
    let foreign = archive.verify(&written(&ours), Some(&other.log())).expect(2);
    assert!(foreign.stderr.contains("are of audit keys that were not given"), "{foreign:?}");
}

#[test]
fn an_older_ledger_put_back_is_found_by_the_heads_in_the_log() {
    let mut archive = Archive::open();
    let ledger = |archive: &Archive| -> Vec<PathBuf> {
        let files = ["ledger.db", "ledger.db-wal", "ledger.db-shm"];
        let paths = files.map(|name| archive.instance.state().join(name)).into_iter();
        paths.filter(|path| path.exists()).collect()
    };
    archive.instance.stop(Half::Root, "TERM");
    let copy: Vec<_> =
        ledger(&archive).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    archive.instance.start_execd();
    archive.run("exit 5", 5);
    let log = archive.log();
    let words = ["audit", "verify", "--anchor", text(&log)];
    archive.operator(&words).expect(0);
    archive.instance.stop(Half::Root, "TERM");
    ledger(&archive).iter().for_each(|path| fs::remove_file(path).unwrap());
    for (bytes, path) in &copy {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    archive.instance.start_execd();
    let alone = archive.operator(&["audit", "verify", "--no-anchor"]).expect(0);
    assert!(
        alone.stdout.contains("nothing here says"),
        "the ledger alone does not know: {alone:?}"
    );
    let found = archive.operator(&words).expect(1);
    assert!(found.stderr.contains("the trail is broken at record "), "{found:?}");
    // Nor does it help to go on until the trail is long enough again.
    archive.run("exit 6", 6);
    archive.run("exit 7", 7);
    archive.log();
    let forked = archive.operator(&words).expect(1);
    assert!(forked.stderr.contains("holds two heads for it"), "{forked:?}");
}

/// A front that claims `info` of the root half and shows the records up to `end`.
fn shows_records_upto(archive: &Archive, info: Info, end: u64) {
    let sock = ExecSock::of(&archive.instance);
    fake_front(&archive.instance, "review.sock", usize::MAX, move |mut caller| {
        while let Some(request) = caller.request() {
            match request {
                Request::Status => caller.answer_status(&info),
                Request::Records { from } => {
                    let query = Query::Records { from }.encode();
                    let Some(Reply::Done(page)) = sock.ask(Op::Read, &query, &[], &[]).next()
                    else {
                        panic!("no page");
                    };
                    let mut page = RecordPage::decode(&page).unwrap();
                    page.records.retain(|one| one.sequence <= end);
                    caller.answer(&Response::Records(ByteBuf::from(page.encode())));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_front_that_withholds_the_end_is_found_by_the_heads_in_the_log() {
    let mut archive = Archive::open();
    let log = archive.log();
    archive.instance.kill(Half::Front);
    let info = ExecSock::of(&archive.instance).info();
    let end = info.sequence - 2;
    shows_records_upto(&archive, Info { sequence: end, ..info.clone() }, end);
    let believed = archive.operator(&["audit", "verify", "--no-anchor"]).expect(0);
    assert!(believed.stdout.contains(&format!("nothing here says that record {end} is the last")));
    let found = archive.operator(&["audit", "verify", "--anchor", text(&log)]).expect(1);
    let told = format!("at record {}: the end was cut off", end + 1);
    assert!(found.stderr.contains(&told), "{found:?}");

    // One that contradicts itself is found without them.
    shows_records_upto(&archive, info, end);
    let found = archive.operator(&["audit", "verify", "--no-anchor"]).expect(1);
    assert!(
        found.stderr.contains(&format!("it ends at record {end}, and the broker")),
        "{found:?}"
    );
}
