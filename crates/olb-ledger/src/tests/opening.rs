use std::fs;

use olb_lease::{EpochReason, RawReceipt, Record, RecordEvent};

use super::*;
use crate::BurnError;

fn refusal(ledger: &Ledger, lease: &[u8]) -> BurnError {
    ledger.burn(verified(lease), check(ledger)).unwrap_err()
}

#[test]
fn a_restart_within_a_boot_keeps_epoch_leases_and_burns() {
    let mut host = Host::new();
    let (ledger, opened) = host.try_open().unwrap();
    assert_eq!(opened.epoch_reason, Some(EpochReason::NewLedger));
    let used = Request::new(&ledger, 1).approve(&ledger);
    let unused = Request::new(&ledger, 2).approve(&ledger);
    let burned = ledger.burn(verified(&used), check(&ledger)).unwrap();
    ledger.finish(burned, exited(0)).unwrap();
    ledger.close();
    let (ledger, again) = host.try_open().unwrap();
    assert_eq!((again.epoch, again.epoch_reason), (opened.epoch, None));
    assert_eq!((again.unknown.len(), again.burns), (0, 1));
    assert!(matches!(refusal(&ledger, &used), BurnError::AlreadyBurned(Some(_))));
    ledger.burn(verified(&unused), check(&ledger)).unwrap();
    intact(&ledger);
}

#[test]
fn a_burn_without_outcome_is_unknown_after_a_restart_and_only_once() {
    let mut host = Host::new();
    let ledger = host.open();
    let requests: Vec<_> = (1..=3).map(|number| Request::new(&ledger, number)).collect();
    for request in &requests {
        let burned = ledger.burn(verified(&request.approve(&ledger)), check(&ledger)).unwrap();
        if request.digest() == requests[1].digest() {
            ledger.finish(burned, exited(0)).unwrap();
        }
    }
    ledger.close();
    let mut options = host.options(&host.path());
    options.may_be_running = true;
    let (ledger, opened) = Ledger::open(options).unwrap();
    assert_eq!(opened.unknown, vec![requests[0].digest(), requests[2].digest()]);
    let outcome = outcome_of(&ledger, &requests[0]);
    assert_eq!(outcome, Outcome::Unknown { may_be_running: true });
    ledger.close();
    let (ledger, opened) = host.try_open().unwrap();
    assert_eq!(opened.unknown, Vec::new());
    intact(&ledger);
}

/// The recorded end of a request.
fn outcome_of(ledger: &Ledger, request: &Request) -> Outcome {
    let recorded = ledger.peek(request.digest()).unwrap().recorded.unwrap();
    let claims = RawReceipt::parse(&recorded.receipt).unwrap().unverified_claims().unwrap();
    let RecordEvent::Finished { outcome, .. } = claims.decode_record().unwrap().event else {
        panic!("not an outcome")
    };
    outcome
}

#[test]
fn what_an_earlier_boot_started_is_not_running_any_more() {
    let mut host = Host::new();
    let ledger = host.open();
    let request = Request::new(&ledger, 1);
    ledger.burn(verified(&request.approve(&ledger)), check(&ledger)).unwrap();
    ledger.close();
    host.boot_id = [2; 16];
    let mut options = host.options(&host.path());
    options.may_be_running = true;
    let (ledger, _) = Ledger::open(options).unwrap();
    assert_eq!(outcome_of(&ledger, &request), Outcome::Unknown { may_be_running: false });
    intact(&ledger);
}

#[test]
fn what_was_answered_is_in_a_copy_taken_at_that_moment() {
    let mut host = Host::new();
    let ledger = host.open();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    ledger.burn(verified(&lease), check(&ledger)).unwrap();
    // What a power cut would leave: the files as they are, without a clean close.
    let mut after = Host::new();
    after.counter = host.counter.clone();
    for name in ["ledger.db", "ledger.db-wal"] {
        fs::copy(host.directory.path().join(name), after.directory.path().join(name)).unwrap();
    }
    let (copy, opened) = after.try_open().unwrap();
    assert_eq!((opened.epoch_reason, opened.unknown.len()), (None, 1));
    assert!(matches!(refusal(&copy, &lease), BurnError::AlreadyBurned(Some(_))));
    intact(&copy);
}

// [T-6]
#[test]
fn another_audit_key_signs_first_that_the_one_before_has_ended() {
    let mut host = Host::new();
    let ledger = host.open();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    ledger.close();
    let reopen = |host: &mut Host| {
        let mut options = host.options(&host.path());
        options.audit_key = key::<Audit>(31);
        Ledger::open(options).unwrap()
    };
    let (ledger, opened) = reopen(&mut host);
    assert_eq!(opened.epoch_reason, None, "leases live on");
    let burned = ledger.burn(verified(&lease), check(&ledger)).unwrap();
    ledger.finish(burned, exited(0)).unwrap();
    ledger.close();
    let (ledger, _) = reopen(&mut host);
    let trail = ledger.records(1, 1 << 20).unwrap();
    let ended: Vec<_> = trail
        .iter()
        .filter(|(_, record, _)| {
            let kid = key::<Audit>(21).public().kid();
            Record::decode(record).unwrap().event == RecordEvent::KeyEnded { kid }
        })
        .map(|(sequence, ..)| *sequence)
        .collect();
    assert_eq!(ended, [3], "after the epoch and the decision, and said once");
    let keys = [21, 31].map(|seed| key::<Audit>(seed).public().clone());
    let intact = verify_trail(trail, &keys, BEGINNING, &[ledger.head().unwrap()].into()).unwrap();
    assert_eq!(intact.signed_by, Some(keys[1].kid()));
}

#[test]
fn a_boot_begins_an_epoch_and_ends_the_leases_of_the_one_before() {
    let mut host = Host::new();
    let ledger = host.open();
    let request = Request::new(&ledger, 1);
    let lease = request.approve(&ledger);
    ledger.close();
    host.boot_id = [2; 16];
    *host.counter.value.lock().unwrap() = None;
    let (ledger, opened) = host.try_open().unwrap();
    assert_eq!(opened.epoch_reason, Some(EpochReason::Boot));
    assert_eq!(refusal(&ledger, &lease), BurnError::WrongEpoch);
    assert_eq!(ledger.peek(request.digest()).unwrap().lease, None);
    let answer = Request::new(&ledger, 1).decide(VerdictKind::Approve, &ledger);
    assert!(matches!(answer, DecisionResult::AlreadyDecided { lease: None, .. }), "{answer:?}");
    assert_eq!(intact(&ledger).records, 3);
}

#[test]
fn an_older_copy_put_back_is_noticed_every_time() {
    let mut host = Host::new();
    let ledger = host.open();
    let (burned, revoked) = (Request::new(&ledger, 1), Request::new(&ledger, 2));
    let leases = [burned.approve(&ledger), revoked.approve(&ledger)];
    ledger.close();
    let copy = fs::read(host.path()).unwrap();
    let put_back = |host: &Host| {
        fs::write(host.path(), &copy).unwrap();
        drop(fs::remove_file(host.directory.path().join("ledger.db-wal")));
    };
    let ledger = host.open();
    ledger.burn(verified(&leases[0]), check(&ledger)).unwrap();
    ledger.close();
    for _ in 0..3 {
        put_back(&host);
        let (ledger, opened) = host.try_open().unwrap();
        assert_eq!(opened.epoch_reason, Some(EpochReason::Restored));
        for lease in &leases {
            assert_eq!(refusal(&ledger, lease), BurnError::WrongEpoch);
        }
        ledger.close();
        let (ledger, opened) = host.try_open().unwrap();
        assert_eq!(opened.epoch_reason, None, "once noticed, the new epoch stays");
        let fresh = Request::new(&ledger, 3).approve(&ledger);
        ledger.burn(verified(&fresh), check(&ledger)).unwrap();
        ledger.close();
    }
}

#[test]
fn an_older_copy_that_forgot_a_revocation_is_noticed() {
    let mut host = Host::new();
    let ledger = host.open();
    let request = Request::new(&ledger, 1);
    let lease = request.approve(&ledger);
    ledger.close();
    let copy = fs::read(host.path()).unwrap();
    let ledger = host.open();
    request.decide(VerdictKind::Revoke, &ledger);
    ledger.close();
    fs::write(host.path(), copy).unwrap();
    let (ledger, opened) = host.try_open().unwrap();
    assert_eq!(opened.epoch_reason, Some(EpochReason::Restored));
    assert_eq!(refusal(&ledger, &lease), BurnError::WrongEpoch);
}

#[test]
fn a_removed_or_emptied_ledger_has_issued_nothing() {
    for empty in [false, true] {
        let mut host = Host::new();
        let ledger = host.open();
        let leases = [1, 2].map(|number| Request::new(&ledger, number).approve(&ledger));
        ledger.burn(verified(&leases[0]), check(&ledger)).unwrap();
        ledger.close();
        fs::remove_file(host.path()).unwrap();
        if empty {
            fs::write(host.path(), b"").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(host.path(), mode).unwrap();
        }
        let (ledger, opened) = host.try_open().unwrap();
        assert_eq!(opened.epoch_reason, Some(EpochReason::NewLedger));
        assert_eq!(opened.burns, 1, "the burn counter goes on where it was");
        for lease in &leases {
            assert_eq!(refusal(&ledger, lease), BurnError::NotIssued);
        }
    }
}

#[test]
fn a_missing_or_foreign_burn_counter_ends_the_epoch() {
    for value in [None, Some(0), Some(7)] {
        let mut host = Host::new();
        let ledger = host.open();
        let lease = Request::new(&ledger, 1).approve(&ledger);
        ledger.burn(verified(&lease), check(&ledger)).unwrap();
        ledger.close();
        *host.counter.value.lock().unwrap() = value;
        let (_ledger, opened) = host.try_open().unwrap();
        assert_eq!(opened.epoch_reason, Some(EpochReason::Restored), "{value:?}");
        assert_eq!(opened.burns, value.unwrap_or(0).max(1));
    }
}

#[test]
fn a_new_lease_key_begins_an_epoch() {
    let mut host = Host::new();
    host.open().close();
    host.lease_seed = 24;
    let (_ledger, opened) = host.try_open().unwrap();
    assert_eq!(opened.epoch_reason, Some(EpochReason::NewKey));
}

#[test]
fn a_counter_that_cannot_be_written_keeps_the_ledger_closed() {
    let mut host = Host::new();
    *host.counter.fails.lock().unwrap() = true;
    assert!(matches!(host.try_open(), Err(LedgerError::Counter(_))));
}
