use olb_lease::{Audience, Cti, Epoch};

use super::*;
use crate::testing::{plan, view};
use crate::trust::tests::{keys, receipt};

fn approver() -> SigningKey<Approver> {
    SigningKey::from_seed(&[3; 32].into()).unwrap()
}

fn claims(kind: VerdictKind) -> VerdictClaims {
    VerdictClaims {
        kind,
        plan: plan_digest(&view("pending").plan),
        epoch: Epoch([1; 16]),
        issued_at: 1_795_363_200,
        expires_at: 1_795_364_100,
        evidence: by_id("x"),
        reason: String::new(),
    }
}

fn decided(claims: &VerdictClaims, plan: &[u8]) -> RecordEvent {
    RecordEvent::Decided {
        plan: plan.to_vec(),
        verdict: claims.sign(&approver()).unwrap(),
        approver: "alice".into(),
        approver_uid: 1000,
        cti: Some(Cti([2; 16])),
    }
}

#[test]
fn selectors_are_a_code_in_any_case_or_a_full_id() {
    let id = &view("pending").request_id;
    assert_eq!(Selector::parse(id).unwrap().text(), *id);
    assert_eq!(Selector::parse("7fk-3qx").unwrap(), Selector::Code("7FK-3QX".into()));
    for bad in ["", "7FK3QX", "7FK-3Q", "req_", &id[..29], &id.to_uppercase(), "7FK-3QXX", "é-3qxx"]
    {
        assert_eq!(Selector::parse(bad).unwrap_err().code, 64, "{bad}");
    }
}

#[test]
fn a_plan_that_was_swapped_by_the_broker_is_never_signed() {
    let asked = view("pending");
    let full = Selector::parse(&asked.request_id).unwrap();
    let code = Selector::parse(&asked.code).unwrap();
    for selector in [&full, &code] {
        assert_eq!(identify(selector, &asked).unwrap(), plan_digest(&asked.plan));
    }
    let mut other = plan();
    other.random = [8; 16];
    let mut swapped = asked.clone();
    swapped.plan = other.encode().unwrap().into();
    for selector in [&full, &code] {
        let failure = identify(selector, &swapped).unwrap_err();
        assert_eq!((failure.code, failure.name), (77, "mismatch"));
    }
    swapped.request_id = plan_digest(&swapped.plan).request_id().to_string();
    assert!(identify(&full, &swapped).is_err());
    swapped.code = "AAA-AAA".into();
    assert!(identify(&code, &swapped).is_err());
}

#[test]
fn only_the_signed_record_of_this_decision_confirms_it() {
    let plan = view("pending").plan;
    let ours = claims(VerdictKind::Revoke);
    let good = receipt(decided(&ours, &plan));
    assert!(proves(&keys(), &good, &plan, &ours));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let approval = receipt(decided(&claims(VerdictKind::Approve), &plan));
    let other_plan = receipt(decided(&ours, b"other"));
    let other_epoch = VerdictClaims { epoch: Epoch([2; 16]), ..ours.clone() };
    let other_epoch = receipt(decided(&other_epoch, &plan));
    let burned = receipt(RecordEvent::Burned { plan: ours.plan, cti: Cti([2; 16]) });
    for bad in [forged, approval, other_plan, other_epoch, burned, Vec::new()] {
        assert!(!proves(&keys(), &bad, &plan, &ours));
    }
}

#[test]
fn a_key_counts_only_for_its_own_uid() {
    let caller = olb_sys::harden::effective_uid();
    let key = approver();
    let enrolled = |uid| Enrolment {
        name: "alice".into(),
        uid,
        key: *key.public().as_bytes(),
        kid: key.public().kid(),
        lease_lifetime_secs: 300,
    };
    let info = |enrolments| Info {
        host: "web-1".into(),
        audience: Audience([0; 32]),
        epoch: Epoch([1; 16]),
        lease_key: [0; 32],
        audit_key: [0; 32],
        sequence: 0,
        boundary: true,
        requesters: Vec::new(),
        enrolments,
        limits: Vec::new(),
    };
    assert_eq!(enrolment(&info(vec![enrolled(caller)]), &key).unwrap().uid, caller);
    let failure = enrolment(&info(vec![enrolled(caller + 1)]), &key).unwrap_err();
    assert_eq!((failure.code, failure.name), (77, "not_enrolled"));
}

#[test]
fn a_plan_that_a_hostile_front_built_is_not_signed() {
    // The test plan has no environment at all, which no honest front builds.
    let failure = check_plan(&plan()).unwrap_err();
    assert_eq!((failure.code, failure.name), (77, "mismatch"));
    assert!(failure.text.ends_with("nothing was signed"), "{}", failure.text);
}

#[test]
fn a_reason_that_does_not_fit_is_refused_before_anything_is_asked() {
    let args = DecideArgs { id: "7FK-3QX".into(), key: None, json: false };
    let long = "x".repeat(verdict_limit::REASON_BYTES + 1);
    assert_eq!(decide(VerdictKind::Deny, &args, &long).err().unwrap().code, 64);
}

#[test]
fn an_approver_is_told_the_state_and_not_the_agents_sentence() {
    let denied = olb_exec_api::Reason::Denied as u16;
    let failure = Failure::from_broker(denied, "x", Some(Box::new(view("denied"))));
    let failure = for_approver(failure, VerdictKind::Revoke);
    assert_eq!(failure.text, "7FK-3QX is denied and cannot be revoked any more; nothing changed");
    assert_eq!(failure.code, 77);
}
