use olb_lease::{Cti, Epoch, RecordEvent};

use super::confirm::{for_approver, is_ours, latest_end, object, recorded, unconfirmed};
use super::*;
use crate::testing::{self, plan, view};
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
        evidence: by_name(&Selector::Code("7FK-3QX".into())),
        reason: String::new(),
    }
}

fn enrolled(uid: u32, lease_lifetime_secs: u32) -> Enrolment {
    let key = approver();
    Enrolment {
        name: "alice".into(),
        uid,
        key: *key.public().as_bytes(),
        kid: key.public().kid(),
        lease_lifetime_secs,
    }
}

fn info(enrolments: Vec<Enrolment>) -> Info {
    Info { enrolments, ..testing::info() }
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
fn only_the_signed_record_of_this_decision_confirms_it() {
    let plan = view("pending").plan;
    let ours = claims(VerdictKind::Revoke);
    let proves = |receipt: &[u8]| {
        recorded(&keys(), receipt, plan_digest(&plan)).is_some_and(|found| is_ours(&found, &ours))
    };
    let good = receipt(decided(&ours, &plan));
    assert!(proves(&good));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let approval = receipt(decided(&claims(VerdictKind::Approve), &plan));
    let other_plan = receipt(decided(&ours, b"other"));
    let other_epoch = VerdictClaims { epoch: Epoch([2; 16]), ..ours.clone() };
    let other_epoch = receipt(decided(&other_epoch, &plan));
    let burned = receipt(RecordEvent::Burned { plan: ours.plan, cti: Cti([2; 16]) });
    for bad in [forged, approval, other_plan, other_epoch, burned, Vec::new()] {
        assert!(!proves(&bad));
    }
}

#[test]
fn the_object_says_what_the_record_says() {
    let bytes = view("pending").plan;
    let digest = plan_digest(&bytes);
    let ours = VerdictClaims { reason: "use reload".into(), ..claims(VerdictKind::Deny) };
    let found = recorded(&keys(), &receipt(decided(&ours, &bytes)), digest).unwrap();
    let object = object(&plan(), digest, "7FK-3QX", &found, 0);
    for (name, value) in [
        ("request_id", digest.request_id().to_string()),
        ("state", "denied".into()),
        ("decided_by", "alice".into()),
        ("reason", "use reload".into()),
        ("receipt", "verified".into()),
        ("command", "systemctl restart nginx".into()),
    ] {
        assert_eq!(object[name], value.as_str(), "{name}");
    }
}

#[test]
fn a_lease_that_nobody_owns_up_to_is_taken_for_long_lived() {
    let lives = |secs| {
        let mut info = info(vec![]);
        info.enrolments = vec![enrolled(1, secs)];
        info
    };
    for (info, said, want) in [
        (info(vec![]), None, 3700),
        (lives(900), Some(0), 3700),
        (lives(900), Some(5000), 5000),
        (lives(86_400), Some(5000), 86_500),
    ] {
        assert_eq!(latest_end(&info, said, 100), want);
    }
}

#[test]
fn nothing_that_the_broker_claims_without_proof_is_repeated() {
    let revoked = Failure::from_broker(olb_exec_api::Reason::Revoked as u16, "it is revoked", None);
    let expired = Failure::from_broker(olb_exec_api::Reason::Expired as u16, "all revoked", None);
    for (refused, said) in [(&revoked, ""), (&expired, "which nothing proves: expired")] {
        let failure = unconfirmed("x", 1_795_363_200, Some(refused));
        assert_eq!((failure.code, failure.name), (69, "not_confirmed"));
        let start = "could not confirm; the lease of x may still run until 2026-11-22T16:00:00Z";
        assert!(failure.text.starts_with(start) && failure.text.contains(said), "{}", failure.text);
        assert!(!failure.text.contains("revoked"), "{}", failure.text);
    }
}

#[test]
fn a_key_counts_only_for_its_own_uid() {
    let caller = olb_sys::harden::effective_uid();
    let key = approver();
    assert_eq!(enrolment(&info(vec![enrolled(caller, 300)]), &key).unwrap().uid, caller);
    let failure = enrolment(&info(vec![enrolled(caller + 1, 300)]), &key).unwrap_err();
    assert_eq!((failure.code, failure.name), (77, "not_enrolled"));
}

#[test]
fn a_key_that_a_file_revokes_is_said_to_be_revoked_and_not_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let key = approver();
    let kid = key.public().kid();
    let told = || of_key_in(enrolment(&info(vec![]), &key).unwrap_err(), dir.path(), kid);
    assert!(told().text.starts_with("your key is not enrolled"), "{}", told().text);
    std::fs::write(dir.path().join(format!("{}.revoked", kid.hex())), "").unwrap();
    assert!(told().text.starts_with(&format!("key {} was revoked, for ever", kid.hex())));
    assert_eq!((told().code, told().name), (77, "not_enrolled"));
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
    let failure = for_approver(failure);
    assert_eq!(failure.text, "7FK-3QX is denied and cannot be approved any more; nothing changed");
    assert_eq!(failure.code, 77);
}
