//! What a long past costs: every look-up goes through an index, so no call takes a step more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::*;
use crate::tx::{Tx, to_db};
use crate::writer::load;
use crate::{burn, decide, read, schema};

const PAST: u32 = 100_000;

/// `past` requests that were approved, run and recorded, and as many that were denied: rows of the
/// right shape, with nothing in them that is ever decoded.
fn put_past(db: &Connection, past: u32, kid: Kid) {
    let statements = [
        "INSERT INTO records (sequence, head, record) \
         SELECT n + 1, zeroblob(32), zeroblob(9) FROM past",
        "INSERT INTO issued SELECT randomblob(32), randomblob(32), randomblob(16), zeroblob(32), \
         zeroblob(9), :kid, 1000, 1001, n, 0, 0, zeroblob(16), n FROM past",
        "INSERT INTO burned SELECT rowid * 2, cti, 0 FROM issued",
        "INSERT INTO outcomes SELECT number, 1, zeroblob(9), zeroblob(9) FROM burned",
        "INSERT INTO closed SELECT n * 2 + 1, randomblob(32), 2, n FROM past",
        "INSERT INTO refusals SELECT randomblob(16), 10 FROM past",
        "INSERT INTO revoked_keys SELECT randomblob(8), n FROM past",
    ];
    let past = format!(
        "WITH RECURSIVE past (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM past WHERE n < {past})"
    );
    db.execute_batch("BEGIN").unwrap();
    for statement in statements {
        let named = [(":kid", &kid.0)];
        let values: &[_] = if statement.contains(":kid") { &named } else { &[] };
        let values: Vec<(&str, &dyn rusqlite::ToSql)> =
            values.iter().map(|(name, value)| (*name, value as &dyn rusqlite::ToSql)).collect();
        db.execute(&format!("{past} {statement}"), values.as_slice()).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// The steps that SQLite takes for each call on a ledger with such a past.
fn steps(past: u32) -> Vec<(&'static str, u64)> {
    let (mut host, ledger) = fresh();
    let epoch = ledger.epoch();
    let [approved, denied, refused] = [1, 2, 3].map(|number| Request::new(&ledger, number));
    ledger.close();
    let mut db = schema::open(&host.path()).unwrap();
    if past > 0 {
        put_past(&db, past, key::<Approver>(22).public().kid());
    }
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    db.progress_handler(1, Some(count)).unwrap();
    let stored = load(&db).unwrap();
    let (mut tip, mut spent) = (stored.tip, stored.spent);
    let audit = key::<Audit>(21);
    let mut tx = Tx {
        db: &db,
        tip: &mut tip,
        spent: &mut spent,
        epoch,
        audit: &audit,
        counter: &mut host.counter,
    };
    let mut all = vec![("load", taken.swap(0, Ordering::Relaxed))];
    let mut note = |name| all.push((name, taken.swap(0, Ordering::Relaxed)));
    let decision = approved.decision(1);
    let lease = decision.lease.clone().unwrap();
    let recorded =
        |result| assert!(matches!(result, DecisionResult::Recorded { .. }), "{result:?}");
    recorded(decide::decide(&mut tx, &decision).unwrap());
    note("approve");
    recorded(
        decide::decide(&mut tx, &Request { kind: VerdictKind::Deny, ..denied }.decision(1))
            .unwrap(),
    );
    note("deny");
    let again = decide::decide(&mut tx, &approved.decision(2)).unwrap();
    assert!(matches!(again, DecisionResult::AlreadyDecided { .. }));
    note("approve again");
    assert!(read::issued(&tx, lease.claims.cti).unwrap().is_some());
    note("issued");
    let (plan, cti) = (lease.claims.plan, lease.claims.cti);
    let check = BurnCheck { now: NOW + 1, boot_now_ms: BOOT_NOW_MS + 1, epoch };
    let digest = Digest(sha256(&lease.bytes));
    let number = burn::burn(&mut tx, &lease.claims, digest, check).unwrap();
    note("burn");
    burn::finish(&mut tx, to_db(number).unwrap(), plan, cti, &exited(0)).unwrap();
    note("finish");
    assert!(read::peek(&tx, plan).unwrap().recorded.is_some());
    note("peek");
    assert!(read::peek(&tx, refused.digest()).unwrap().decided.is_none());
    note("peek at nothing");
    assert!(burn::refuse(&mut tx, plan, cti, "why", NOW).unwrap());
    note("refuse");
    assert!(tx.is_key_revoked(Kid([9; 8])).is_ok_and(|revoked| !revoked));
    note("is a key revoked");
    all
}

#[test]
fn a_hundred_thousand_past_requests_cost_no_call_a_step_more() {
    for ((name, little), (_, much)) in steps(0).into_iter().zip(steps(PAST)) {
        assert!(little > 0, "{name}: nothing was counted");
        assert!(much <= little + 16, "{name}: {little} steps when empty, {much} with {PAST}");
    }
}
