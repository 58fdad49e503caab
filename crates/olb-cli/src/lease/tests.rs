use olb_lease::{
    Cti, CutBy, Epoch, LeaseClaims, LeaseIssuer, Outcome, Plan, RecordEvent, SigningKey,
    VerdictDigest, argv_digest, cwd_digest, env_digest, plan_digest,
};
use serde_json::json;

use super::*;
use crate::testing::{info, plan, view};
use crate::trust::tests::{audit_key, finished, receipt};

const NOW: u64 = 1_795_363_200;

fn issuer() -> SigningKey<LeaseIssuer> {
    SigningKey::from_seed(&[4; 32].into()).unwrap()
}

fn keys() -> BrokerKeys {
    BrokerKeys {
        lease: vec![issuer().public().clone()],
        audit: vec![audit_key().public().clone()],
        ..BrokerKeys::default()
    }
}

/// A lease for the plan of every test's request.
fn claims() -> LeaseClaims {
    let plan = plan();
    LeaseClaims {
        audience: olb_lease::audience("web-1", issuer().public()),
        expires_at: 1_795_363_500,
        issued_at: 1_795_363_100,
        // As in the receipts of tests.
        cti: Cti([2; 16]),
        argv: argv_digest(&plan.argv),
        requester_uid: plan.requester_uid,
        environment: env_digest(&plan.environment),
        cwd: cwd_digest(&plan.cwd),
        plan: plan_digest(&plan.encode().unwrap()),
        verdict: VerdictDigest([6; 32]),
        epoch: Epoch([1; 16]),
    }
}

fn armored(claims: &LeaseClaims) -> String {
    armor::encode(&claims.sign(&issuer()).unwrap())
}

fn known() -> Known {
    Known { keys: keys(), info: Some(info()), request: Ok(Box::new(view("approved"))) }
}

fn stage_of(claims: &LeaseClaims, known: &Known) -> &'static str {
    Inspection::new(&armored(claims), known, NOW).stage()
}

/// The verdict of a check, and why.
fn check_of(inspection: &Inspection, stage: &str) -> (String, String) {
    let object = inspection.json();
    let checks = object["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == stage).unwrap();
    let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("why"))
}

#[test]
fn each_defect_shows_at_its_own_stage() {
    let good = armored(&claims());
    let stage = |lease: &str, known: &Known, now| Inspection::new(lease, known, now).stage();
    assert_eq!(stage(&good, &known(), NOW), "valid");
    assert_eq!(stage("olbl2_x", &known(), NOW), "armor");
    let other: SigningKey<LeaseIssuer> = SigningKey::from_seed(&[5; 32].into()).unwrap();
    let of_other = BrokerKeys { lease: vec![other.public().clone()], ..keys() };
    assert_eq!(stage(&good, &Known { keys: of_other, ..known() }, NOW), "key");
    assert_eq!(stage(&good, &known(), NOW + 299), "valid");
    assert_eq!(stage(&good, &known(), NOW + 300), "expired");
    assert_eq!(stage(&good, &known(), NOW - 100), "valid");
    assert_eq!(stage(&good, &known(), NOW - 101), "not_yet_valid");
    let elsewhere = Known { info: Some(Info { host: "web-2".into(), ..info() }), ..known() };
    assert_eq!(stage(&good, &elsewhere, NOW), "audience");
    let later = Known { info: Some(Info { epoch: Epoch([8; 16]), ..info() }), ..known() };
    assert_eq!(stage(&good, &later, NOW), "epoch");
    let mut bytes = claims().sign(&issuer()).unwrap();
    bytes[0] ^= 1;
    assert_eq!(stage(&armor::encode(&bytes), &known(), NOW), "form");
    bytes[0] ^= 1;
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(stage(&armor::encode(&bytes), &known(), NOW), "signature");
}

#[test]
fn a_lease_that_is_for_another_plan_than_its_request_says_so() {
    let digest = olb_lease::Digest([9; 32]);
    let swapped = [
        LeaseClaims { argv: digest, ..claims() },
        LeaseClaims { environment: digest, ..claims() },
        LeaseClaims { cwd: digest, ..claims() },
        LeaseClaims { requester_uid: 1002, ..claims() },
    ];
    for claims in swapped {
        assert_eq!(stage_of(&claims, &known()), "plan");
    }
    let other = Plan { random: [8; 16], ..plan() }.encode().unwrap();
    let mut view = view("approved");
    view.plan = other.into();
    assert_eq!(stage_of(&claims(), &Known { request: Ok(Box::new(view)), ..known() }), "plan");
}

#[test]
fn a_lease_that_was_used_or_taken_back_says_so_and_on_whose_word() {
    let in_state = |state: &str| Known { request: Ok(Box::new(view(state))), ..known() };
    let burned = ["executing", "exited", "killed", "spawn_failed", "outcome_unknown"];
    for (state, stage) in burned.map(|state| (state, "burned")).into_iter().chain([
        ("denied", "revoked"),
        ("revoked", "revoked"),
        ("approved", "valid"),
        ("expired", "expired"),
        ("pending", "unverified"),
    ]) {
        assert_eq!(stage_of(&claims(), &in_state(state)), stage, "{state}");
    }
    let inspect = |known: &Known| Inspection::new(&armored(&claims()), known, NOW);
    let (verdict, why) = check_of(&inspect(&in_state("pending")), "burned");
    assert_eq!(verdict, "not_checked", "{why}");
    let approved = inspect(&in_state("approved"));
    for (stage, what) in [("burned", "it was not used"), ("revoked", "it was not taken back")] {
        let (verdict, why) = check_of(&approved, stage);
        let want = format!("{what}, says the front; the root half's trail was not asked");
        assert_eq!((verdict.as_str(), why), ("said", want));
    }
    assert_eq!(approved.json()["unproved"], json!(["epoch", "burned", "revoked"]));
    let last = "stage          valid (not proved: epoch, burned, revoked)\n";
    assert!(approved.lines().ends_with(last), "{}", approved.lines());
    let (_, why) = check_of(&inspect(&in_state("executing")), "burned");
    assert!(why.starts_with("it was used, says the front without proof: "), "{why}");
    // A receipt of this very lease's run, and of another lease's run of the same plan.
    let ended = finished(claims().plan, Outcome::Exited(3), b"");
    let proved = |event| {
        let view = RequestView { receipt: Some(receipt(event).into()), ..view("exited") };
        check_of(&inspect(&Known { request: Ok(Box::new(view)), ..known() }), "burned").1
    };
    assert!(proved(ended.clone()).starts_with("it was used, as a receipt proves: "));
    let RecordEvent::Finished { plan, outcome, stdout, stderr, .. } = ended else { panic!() };
    let (cti, cut_by) = (Cti([3; 16]), CutBy::Nobody);
    let other = RecordEvent::Finished {
        plan,
        cti,
        outcome,
        stdout,
        stderr,
        cut_by,
        duration_ms: 4,
        usage: None,
    };
    assert!(proved(other).starts_with("it was used, says the front without proof: "));
}

#[test]
fn words_of_others_cannot_act_on_a_terminal() {
    let evil = "x\u{1b}[2J\n\u{202e}";
    let mut view = view("revoked");
    let plan = Plan { argv: vec!["echo".into(), evil.into()], ..plan() };
    view.plan = plan.encode().unwrap().into();
    (view.reason, view.decided_by) = (Some(evil.into()), Some(evil.into()));
    let known = Known {
        info: Some(Info { host: evil.into(), ..info() }),
        request: Ok(Box::new(view)),
        ..known()
    };
    let inspection = Inspection::new(&armored(&claims()), &known, NOW);
    for line in inspection.lines().lines().chain([json::line(&inspection.json()).as_str()]) {
        assert!(line.chars().all(olb_review::display::is_safe), "{line}");
    }
    assert!(inspection.lines().contains("\ncommand        echo "));
}

#[test]
fn the_documented_object_has_stage_signature_and_every_claim() {
    let offline = Known::offline(keys());
    let object = Inspection::new(&armored(&claims()), &offline, NOW + 300).json();
    let line = json::line(&object);
    assert!(
        line.starts_with("{\"stage\":\"expired\",\"valid_signature\":true,\"claims\":{"),
        "{line}"
    );
    assert_eq!(object["claims"].as_object().unwrap().len(), 12);
    assert_eq!(object["claims"]["expires_at"], "2026-11-22T16:05:00Z");
    let verdicts = |name| {
        let checks = object["checks"].as_array().unwrap().iter();
        checks.filter(|check| check["verdict"] == name).count()
    };
    assert_eq!([verdicts("ok"), verdicts("not_checked"), verdicts("failed")], [6, 5, 1]);
    let open = ["audience", "epoch", "plan", "burned", "revoked"];
    assert_eq!(object["unproved"], json!(open));
    let in_time = Inspection::new(&armored(&claims()), &offline, NOW);
    assert_eq!((in_time.stage(), in_time.is_good()), ("unverified", true), "open is not good");
    let explained =
        |check: &serde_json::Value| check["verdict"] == "ok" || check["why"].is_string();
    assert!(object["checks"].as_array().unwrap().iter().all(explained));
    assert_eq!(object["command"], json!(null));
}

#[test]
fn claims_without_a_signature_are_said_to_be_unsigned() {
    let unknown = Known::offline(BrokerKeys::default());
    let lines = Inspection::new(&armored(&claims()), &unknown, NOW).lines();
    assert!(lines.contains("--- claims (NOT SIGNED by a key given) ---"));
    assert!(lines.contains("key            FAILED: "));
}
