use std::collections::BTreeSet;
use std::thread;

use olb_lease::{RawReceipt, RecordEvent};

use super::*;

#[test]
fn one_verdict_presented_200_times_at_once_gives_one_lease() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    let answers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..200)
            .map(|nonce| {
                let (ledger, request) = (&ledger, &request);
                scope.spawn(move || ledger.decide(request.decision(nonce)).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut leases = BTreeSet::new();
    let mut recorded = 0;
    for answer in answers {
        match answer {
            DecisionResult::Recorded { .. } => recorded += 1,
            DecisionResult::AlreadyDecided { lease, kind: VerdictKind::Approve, .. } => {
                leases.insert(lease.unwrap().bytes);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((recorded, leases.len()), (1, 1));
    assert_eq!(intact(&ledger).records, 2, "one epoch, one decision");
}

#[test]
fn two_approvers_who_say_yes_give_one_lease() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    let first = request.approve(&ledger);
    let mut second = request.clone();
    second.approver = 23;
    match ledger.decide(second.decision(2)).unwrap() {
        DecisionResult::AlreadyDecided { lease: Some(lease), .. } => assert_eq!(lease.bytes, first),
        other => panic!("{other:?}"),
    }
    ledger.burn(verified(&first), check(&ledger)).unwrap();
    let again = ledger.decide(second.decision(3)).unwrap();
    assert_eq!(again, DecisionResult::Burned { recorded: None });
}

//
#[test]
fn an_expired_lease_is_not_handed_out_again_and_not_replaced() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    request.approve(&ledger);
    let lease_ms = u64::from(LEASE_SECS) * 1_000;
    for (now, boot_now_ms) in
        [(NOW, BOOT_NOW_MS + lease_ms), (NOW + u64::from(LEASE_SECS), BOOT_NOW_MS)]
    {
        let mut decision = request.decision(2);
        decision.now = now;
        decision.boot_now_ms = boot_now_ms;
        let answer = ledger.decide(decision).unwrap();
        assert!(
            matches!(answer, DecisionResult::AlreadyDecided { lease: None, .. }),
            "at {now}, {boot_now_ms}: {answer:?}"
        );
    }
}

//
#[test]
fn a_denial_is_final() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    let denied = request.clone().decide(VerdictKind::Deny, &ledger);
    let DecisionResult::Recorded { receipt } = denied else { panic!("{denied:?}") };
    for kind in [VerdictKind::Approve, VerdictKind::Deny, VerdictKind::Revoke] {
        let answer = request.clone().decide(kind, &ledger);
        let kind = VerdictKind::Deny;
        let expected =
            DecisionResult::AlreadyDecided { kind, receipt: receipt.clone(), lease: None };
        assert_eq!(answer, expected);
    }
    let row = ledger.peek(request.digest()).unwrap();
    assert_eq!(row.decided, Some((VerdictKind::Deny, receipt)));
    assert_eq!(row.lease, None);
}

#[test]
fn denying_or_revoking_an_approval_takes_its_lease_back() {
    let (_host, ledger) = fresh();
    for (number, kind) in [(1, VerdictKind::Deny), (2, VerdictKind::Revoke)] {
        let request = Request::new(&ledger, number);
        let lease = request.approve(&ledger);
        assert!(ledger.peek(request.digest()).unwrap().lease.is_some());
        let answer = request.clone().decide(kind, &ledger);
        assert!(matches!(answer, DecisionResult::Recorded { .. }), "{answer:?}");
        let refused = ledger.burn(verified(&lease), check(&ledger)).unwrap_err();
        assert_eq!(refused, crate::BurnError::Closed(kind));
        let row = ledger.peek(request.digest()).unwrap();
        assert_eq!((row.decided.unwrap().0, row.lease, row.burned), (kind, None, false));
    }
}

//
#[test]
fn after_the_burn_nothing_can_be_taken_back() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    let burned = ledger.burn(verified(&request.approve(&ledger)), check(&ledger)).unwrap();
    for kind in [VerdictKind::Revoke, VerdictKind::Deny] {
        let answer = request.clone().decide(kind, &ledger);
        assert_eq!(answer, DecisionResult::Burned { recorded: None });
    }
    let receipt = ledger.finish(burned, exited(3)).unwrap();
    match request.clone().decide(VerdictKind::Revoke, &ledger) {
        DecisionResult::Burned { recorded: Some(recorded) } => {
            assert_eq!(recorded.receipt, receipt);
            assert_eq!(recorded.stdout_tail, b"0\n");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ledger.receipt_of(request.digest()).unwrap(), Some(receipt));
}

//
#[test]
fn approvals_of_one_key_are_limited_per_hour() {
    let (_host, ledger) = fresh();
    let request = |number, now, approver| {
        let mut request = Request::new(&ledger, number);
        (request.per_hour, request.now, request.approver) = (2, now, approver);
        ledger.decide(request.decision(number)).unwrap()
    };
    let recorded = |answer| matches!(answer, DecisionResult::Recorded { .. });
    assert!(recorded(request(1, NOW, 22)) && recorded(request(2, NOW + 10, 22)));
    assert_eq!(request(3, NOW + 20, 22), DecisionResult::RateLimited);
    assert!(recorded(request(4, NOW + 20, 23)), "another key has its own hour");
    assert!(recorded(request(5, NOW + 3_600, 22)), "the first is an hour old");
    assert_eq!(request(6, NOW + 3_600, 22), DecisionResult::RateLimited);
    assert!(recorded(request(7, NOW - 400_000, 22)), "a clock set back does not refuse for ever");
}

#[test]
fn the_limit_does_not_hold_up_a_denial() {
    let (_host, ledger) = fresh();
    let mut request = Request::new(&ledger, 1);
    request.per_hour = 0;
    assert_eq!(ledger.decide(request.decision(1)).unwrap(), DecisionResult::RateLimited);
    let answer = request.decide(VerdictKind::Deny, &ledger);
    assert!(matches!(answer, DecisionResult::Recorded { .. }), "{answer:?}");
}

//
#[test]
fn a_revoked_key_decides_nothing_and_its_live_leases_are_dead() {
    let (_host, ledger) = fresh();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    let kid = key::<Approver>(22).public().kid();
    let receipt = ledger.revoke_key(kid, NOW).unwrap().unwrap();
    let claims = RawReceipt::parse(&receipt).unwrap().unverified_claims().unwrap();
    assert_eq!(claims.decode_record().unwrap().event, RecordEvent::KeyEnded { kid });
    assert_eq!(ledger.revoke_key(kid, NOW).unwrap(), None, "once is for ever");
    assert_eq!(ledger.revoked_keys().unwrap(), [kid].into());
    assert_eq!(intact(&ledger).signed_upto, claims.sequence);
    for kind in [VerdictKind::Approve, VerdictKind::Deny] {
        let answer = Request::new(&ledger, 2).decide(kind, &ledger);
        assert_eq!(answer, DecisionResult::KeyRevoked);
    }
    let refused = ledger.burn(verified(&lease), check(&ledger)).unwrap_err();
    assert_eq!(refused, crate::BurnError::KeyRevoked);
    let row = ledger.peek(Request::new(&ledger, 1).digest()).unwrap();
    assert!(row.decided.is_some() && row.lease.is_none(), "it was approved, and is void");
}

#[test]
fn a_verdict_from_another_epoch_is_void() {
    let (_host, ledger) = fresh();
    let mut request = Request::new(&ledger, 1);
    request.epoch = Epoch([0xee; 16]);
    for kind in [VerdictKind::Approve, VerdictKind::Deny, VerdictKind::Revoke] {
        assert_eq!(request.clone().decide(kind, &ledger), DecisionResult::WrongEpoch);
    }
    assert_eq!(ledger.peek(request.digest()).unwrap(), crate::RequestRow::default());
}

/// Spoils a decision with parts of another one.
type Change = fn(&mut Decision, Decision);

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (_host, ledger) = fresh();
    let (request, other) = (Request::new(&ledger, 1), Request::new(&ledger, 2));
    let mut denial = request.clone();
    denial.kind = VerdictKind::Deny;
    let broken: [(&str, Change); 7] = [
        ("another plan's bytes", |decision, other| decision.plan_bytes = other.plan_bytes),
        ("another plan", |decision, other| {
            (decision.plan, decision.plan_bytes) = (other.plan, other.plan_bytes);
        }),
        ("another verdict's bytes", |decision, other| decision.verdict_bytes = other.verdict_bytes),
        ("another lease", |decision, other| decision.lease = other.lease),
        ("no lease", |decision, _| decision.lease = None),
        ("another lease's bytes", |decision, other| {
            decision.lease.as_mut().unwrap().bytes = other.lease.unwrap().bytes;
        }),
        ("another requester", |decision, _| decision.requester_uid = 1002),
    ];
    for (what, change) in broken {
        let mut decision = request.decision(1);
        change(&mut decision, other.decision(2));
        let answer = ledger.decide(decision);
        assert!(matches!(answer, Err(LedgerError::Input(_))), "{what}: {answer:?}");
    }
    let mut with_lease = denial.decision(1);
    with_lease.lease = request.decision(1).lease;
    assert!(matches!(ledger.decide(with_lease), Err(LedgerError::Input(_))));
    assert_eq!(ledger.head().unwrap().0, 1, "nothing was recorded");
}

#[test]
fn a_receipt_says_who_decided_what() {
    let (_host, ledger) = fresh();
    let request = Request::new(&ledger, 1);
    request.approve(&ledger);
    let receipt = ledger.receipt_of(request.digest()).unwrap().unwrap();
    let raw = RawReceipt::parse(&receipt).unwrap();
    let claims = raw.verify(key::<Audit>(21).public()).unwrap();
    assert_eq!(claims.sequence, 2);
    match claims.decode_record().unwrap().event {
        RecordEvent::Decided { plan, verdict, approver, approver_uid, cti } => {
            assert_eq!((plan, verdict), (request.plan.clone(), request.verdict()));
            assert_eq!((approver.as_str(), approver_uid), ("alice", 1000));
            let issued = ledger.issued(cti.unwrap()).unwrap().unwrap();
            assert_eq!((issued.plan, issued.requester_uid), (request.digest(), 1001));
            assert!(!issued.burned && issued.closed.is_none());
        }
        other => panic!("{other:?}"),
    }
}
