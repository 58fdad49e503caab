use std::thread;

use olb_lease::{RawReceipt, RecordEvent};

use super::*;
use crate::{BurnError, REFUSALS_PER_LEASE, TAIL_BYTES_MAX};

/// Burns every lease in a thread of its own, all at once; returns how many could.
fn burn_at_once(ledger: &Ledger, leases: &[Vec<u8>]) -> usize {
    thread::scope(|scope| {
        let threads: Vec<_> = leases
            .iter()
            .map(|lease| scope.spawn(|| ledger.burn(verified(lease), check(ledger))))
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for refused in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(*refused, BurnError::AlreadyBurned(None));
        }
        results.iter().filter(|result| result.is_ok()).count()
    })
}

#[test]
fn of_200_who_burn_one_lease_at_once_one_succeeds() {
    let (_host, ledger) = fresh();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    assert_eq!(burn_at_once(&ledger, &vec![lease; 200]), 1);
    assert_eq!(intact(&ledger).records, 3);
}

#[test]
fn of_200_leases_burned_at_once_all_succeed_and_none_twice() {
    let (_host, ledger) = fresh();
    let leases: Vec<_> =
        (0..200).map(|number| Request::new(&ledger, number).approve(&ledger)).collect();
    assert_eq!(burn_at_once(&ledger, &leases), 200);
    assert_eq!(burn_at_once(&ledger, &leases), 0);
    assert_eq!(intact(&ledger).records, 1 + 2 * 200);
}

//
#[test]
fn a_lease_that_was_never_issued_is_refused_whatever_its_signature() {
    let (_host, ledger) = fresh();
    let stranger = Request::new(&ledger, 1).decision(1).lease.unwrap();
    let refused = ledger.burn(verified(&stranger.bytes), check(&ledger)).unwrap_err();
    assert_eq!(refused, BurnError::NotIssued);
    // The same nonce in another lease is another lease.
    let request = Request::new(&ledger, 2);
    request.approve(&ledger);
    let mut twin = request.decision(1).lease.unwrap().claims;
    twin.argv = Digest([0xaa; 32]);
    let twin = twin.sign(&key::<LeaseIssuer>(20)).unwrap();
    let refused = ledger.burn(verified(&twin), check(&ledger)).unwrap_err();
    assert_eq!(refused, BurnError::NotIssued);
}

//
#[test]
fn either_clock_can_end_a_lease() {
    let (_host, ledger) = fresh();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    let last_boot_ms = BOOT_NOW_MS + u64::from(LEASE_SECS) * 1_000;
    let last = NOW + u64::from(LEASE_SECS);
    let late_boot = BurnCheck { boot_now_ms: last_boot_ms, ..check(&ledger) };
    let late_wall = BurnCheck { now: last, ..check(&ledger) };
    for late in [late_boot, late_wall] {
        assert_eq!(ledger.burn(verified(&lease), late).unwrap_err(), BurnError::Expired);
    }
    // A wall clock set back does not make it live longer, and the last moment counts.
    let set_back = BurnCheck { now: 0, ..late_boot };
    assert_eq!(ledger.burn(verified(&lease), set_back).unwrap_err(), BurnError::Expired);
    let in_time = BurnCheck { now: last - 1, boot_now_ms: last_boot_ms - 1, epoch: ledger.epoch() };
    ledger.burn(verified(&lease), in_time).unwrap();
}

//
#[test]
fn a_caller_who_believes_in_another_epoch_burns_nothing() {
    let (_host, ledger) = fresh();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    let other = BurnCheck { epoch: Epoch([0xee; 16]), ..check(&ledger) };
    assert_eq!(ledger.burn(verified(&lease), other).unwrap_err(), BurnError::WrongEpoch);
    ledger.burn(verified(&lease), check(&ledger)).unwrap();
}

//
#[test]
fn without_the_burn_counter_nothing_is_burned_and_nothing_closed() {
    let mut host = Host::new();
    let ledger = host.open();
    let request = Request::new(&ledger, 1);
    let lease = request.approve(&ledger);
    *host.counter.fails.lock().unwrap() = true;
    let refused = ledger.burn(verified(&lease), check(&ledger)).unwrap_err();
    assert!(matches!(refused, BurnError::Ledger(LedgerError::Counter(_))), "{refused:?}");
    let mut denial = request.clone();
    denial.kind = VerdictKind::Deny;
    assert!(matches!(ledger.decide(denial.decision(1)), Err(LedgerError::Counter(_))));
    assert_eq!(intact(&ledger).records, 2, "neither left a record");
    *host.counter.fails.lock().unwrap() = false;
    let burned = ledger.burn(verified(&lease), check(&ledger)).unwrap();
    assert_eq!(*host.counter.value.lock().unwrap(), Some(burned.number()));
}

#[test]
fn a_lease_presented_again_is_answered_with_the_outcome() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    let lease = request.approve(&ledger);
    let burned = ledger.burn(verified(&lease), check(&ledger)).unwrap();
    let again = |ledger: &Ledger| ledger.burn(verified(&lease), check(ledger)).unwrap_err();
    assert_eq!(again(&ledger), BurnError::AlreadyBurned(None));
    let cti = burned.claims().cti;
    let receipt = ledger.finish(burned, exited(7)).unwrap();
    let BurnError::AlreadyBurned(Some(recorded)) = again(&ledger) else { panic!() };
    assert_eq!(recorded.receipt, receipt);
    assert!(ledger.issued(cti).unwrap().unwrap().burned);
    let row = ledger.peek(request.digest()).unwrap();
    assert_eq!((row.burned, row.recorded, row.lease), (true, Some(recorded), None));
}

#[test]
fn an_outcome_is_signed_and_its_tails_are_the_last_bytes() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    let burned = ledger.burn(verified(&request.approve(&ledger)), check(&ledger)).unwrap();
    let mut finish = exited(3);
    finish.stdout_tail = vec![b'x'; TAIL_BYTES_MAX + 5];
    finish.stdout_tail.extend_from_slice(b"end");
    let receipt = ledger.finish(burned, finish).unwrap();
    let raw = RawReceipt::parse(&receipt).unwrap();
    let event = raw.verify(key::<Audit>(21).public()).unwrap().decode_record().unwrap().event;
    let RecordEvent::Finished { plan, outcome, duration_ms, .. } = event else { panic!() };
    assert_eq!((plan, outcome, duration_ms), (request.digest(), Outcome::Exited(3), 12));
    let recorded = ledger.peek(request.digest()).unwrap().recorded.unwrap();
    assert_eq!(recorded.stdout_tail.len(), TAIL_BYTES_MAX);
    assert!(recorded.stdout_tail.ends_with(b"xend"));
    assert_eq!(intact(&ledger).signed_upto, 4);
}

#[test]
fn refusals_are_recorded_ten_times_per_lease() {
    let (_host, ledger) = fresh();
    let plan = Request::new(&ledger, 1).digest();
    for lease in [[1; 16], [2; 16]] {
        for _ in 0..REFUSALS_PER_LEASE {
            assert_eq!(ledger.refuse(plan, Cti(lease), &"é".repeat(400), NOW), Ok(true));
        }
        for _ in 0..3 {
            assert_eq!(ledger.refuse(plan, Cti(lease), "once more", NOW), Ok(false));
        }
    }
    assert_eq!(intact(&ledger).records, u64::from(1 + 2 * REFUSALS_PER_LEASE));
}
