//! `olb lease inspect`: every claim of a lease, the verdict of each check, and why.

use std::process::ExitCode;

use olb_exec_api::Info;
use olb_lease::{EnvelopeError, LeaseClaims, LeaseError, RawLease, armor};
use olb_review::display::safe;
use serde_json::{Value, json};

use crate::args::{InspectArgs, LeaseCommand};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::out::{say, say_text};
use crate::trust::BrokerKeys;
use crate::{json, text};

/// `olb lease`.
pub(crate) fn run(command: &LeaseCommand) -> ExitCode {
    let LeaseCommand::Inspect(args) = command;
    match inspect(args) {
        Ok(inspection) => {
            if args.text {
                say_text!("{}", inspection.lines());
            } else {
                say!("{}", json::line(&inspection.json()));
            }
            if inspection.is_good() { ExitCode::SUCCESS } else { ExitCode::from(code::REFUSED) }
        }
        Err(failure) => failure.report(!args.text),
    }
}

/// One check: its stage, and why it fails; `Ok(false)` where it could not be made.
struct Check {
    stage: &'static str,
    result: Result<bool, String>,
}

/// What was found, in the order in which the root half checks.
struct Inspection {
    checks: Vec<Check>,
    claims: Option<LeaseClaims>,
    is_signed: bool,
}

impl Inspection {
    fn new(lease: &str, keys: &BrokerKeys, info: Option<&Info>, now: u64) -> Self {
        let mut found = Self { checks: Vec::new(), claims: None, is_signed: false };
        let Some(bytes) =
            found.check("armor", armor::decode(lease).map_err(|error| error.to_string()))
        else {
            return found;
        };
        let Some(raw) =
            found.check("form", RawLease::parse(&bytes).map_err(|error| error.to_string()))
        else {
            return found;
        };
        found.claims = raw.unverified_claims().ok();
        found.check_signature(&bytes, keys);
        if let Some(claims) = found.claims.clone() {
            found.check_claims(&claims, keys, info, now);
        }
        found
    }

    fn check<T>(&mut self, stage: &'static str, result: Result<T, String>) -> Option<T> {
        let (result, value) = match result {
            Ok(value) => (Ok(true), Some(value)),
            Err(why) => (Err(why), None),
        };
        self.checks.push(Check { stage, result });
        value
    }

    fn skip(&mut self, stage: &'static str) {
        self.checks.push(Check { stage, result: Ok(false) });
    }

    fn check_signature(&mut self, bytes: &[u8], keys: &BrokerKeys) {
        let verify = |key| RawLease::parse(bytes).and_then(|lease| lease.verify(key));
        let mut worst = LeaseError::Envelope(EnvelopeError::UnknownKey);
        for key in &keys.lease {
            match verify(key) {
                Ok(_) => {
                    self.is_signed = true;
                    break;
                }
                Err(LeaseError::Envelope(EnvelopeError::UnknownKey)) => {}
                Err(error) => worst = error,
            }
        }
        if self.is_signed {
            for stage in ["key", "signature", "decode"] {
                self.check(stage, Ok(()));
            }
            return;
        }
        let stage = match worst {
            LeaseError::Envelope(EnvelopeError::UnknownKey) => "key",
            LeaseError::Envelope(EnvelopeError::Signature) => "signature",
            LeaseError::Envelope(EnvelopeError::Form | EnvelopeError::TooLong { .. })
            | LeaseError::Length => "form",
            LeaseError::Cbor(_) | LeaseError::Limit(_) => "decode",
        };
        self.check(stage, Err::<(), _>(worst.to_string()));
    }

    fn check_claims(
        &mut self,
        claims: &LeaseClaims,
        keys: &BrokerKeys,
        info: Option<&Info>,
        now: u64,
    ) {
        match info {
            Some(info) => {
                let here = keys
                    .lease
                    .iter()
                    .any(|key| olb_lease::audience(&info.host, key) == claims.audience);
                let host = safe(info.host.as_bytes());
                self.require("audience", here, || {
                    format!("it is not meant for the broker on {host}")
                });
            }
            None => self.skip("audience"),
        }
        let from = u64::from(claims.issued_at);
        let until = u64::from(claims.expires_at);
        self.require("not_yet_valid", from <= now, || {
            format!("issued in the future, at {}", text::time(from))
        });
        self.require("expired", now < until, || format!("expired at {}", text::time(until)));
        match info {
            Some(info) => self.require("epoch", info.epoch == claims.epoch, || {
                "the broker began a new epoch since; ask again".to_owned()
            }),
            None => self.skip("epoch"),
        }
    }

    fn require(&mut self, stage: &'static str, holds: bool, why: impl FnOnce() -> String) {
        self.check(stage, if holds { Ok(()) } else { Err(why()) });
    }

    /// The first stage that fails, or `valid`.
    fn stage(&self) -> &'static str {
        self.checks.iter().find(|check| check.result.is_err()).map_or("valid", |check| check.stage)
    }

    fn is_good(&self) -> bool {
        self.stage() == "valid"
    }

    fn json(&self) -> Value {
        let checks = self.checks.iter().map(|check| match &check.result {
            Ok(true) => json!({ "check": check.stage, "verdict": "ok" }),
            Ok(false) => json!({ "check": check.stage, "verdict": "not_checked" }),
            Err(why) => json!({ "check": check.stage, "verdict": "failed", "why": why }),
        });
        json!({
            "stage": self.stage(),
            "valid_signature": self.is_signed,
            "claims": self.claims.as_ref().map(claims_json),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    fn lines(&self) -> String {
        let mut lines = String::new();
        for check in &self.checks {
            let verdict = match &check.result {
                Ok(true) => "ok".to_owned(),
                Ok(false) => "not checked: no broker answers here".to_owned(),
                Err(why) => format!("FAILED: {why}"),
            };
            lines.push_str(&format!("{:<14} {verdict}\n", check.stage));
        }
        if let Some(claims) = &self.claims {
            let signed = if self.is_signed { "signed" } else { "NOT SIGNED by a key given" };
            lines.push_str(&format!("--- claims ({signed}) ---\n"));
            if let Value::Object(claims) = claims_json(claims) {
                for (name, value) in &claims {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    lines.push_str(&format!("{name:<14} {value}\n"));
                }
            }
        }
        lines.push_str(&format!("stage          {}\n", self.stage()));
        lines
    }
}

fn claims_json(claims: &LeaseClaims) -> Value {
    json!({
        "audience": claims.audience.hex(),
        "expires_at": text::time(claims.expires_at.into()),
        "issued_at": text::time(claims.issued_at.into()),
        "cti": claims.cti.hex(),
        "argv": claims.argv.hex(),
        "requester_uid": claims.requester_uid,
        "environment": claims.environment.hex(),
        "cwd": claims.cwd.hex(),
        "plan": claims.plan.hex(),
        "request_id": claims.plan.request_id().to_string(),
        "verdict": claims.verdict.hex(),
        "epoch": claims.epoch.hex(),
    })
}

fn inspect(args: &InspectArgs) -> Result<Inspection, Failure> {
    let lease = match (&args.lease, &args.lease_file) {
        (Some(lease), _) => lease.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
            let shown = safe(path.as_os_str().as_encoded_bytes());
            Failure::usage(format!("the lease in {shown} cannot be read ({error})"))
        })?,
        (None, None) => return Err(Failure::usage("give the lease, or --lease-file")),
    };
    let runtime = Runtime::for_requester();
    // With keys given the check is offline: they may be of another host.
    let (keys, info) = match &args.keys {
        Some(path) => (BrokerKeys::read(path).map_err(Failure::usage)?, None),
        None => {
            let keys = BrokerKeys::of(&runtime).map_err(|error| {
                Failure::new(
                    code::UNAVAILABLE,
                    "unavailable",
                    format!("{error}; or give the keys with --keys"),
                )
            })?;
            (keys, runtime.info(Socket::Request).or_else(|_| runtime.info(Socket::Review)).ok())
        }
    };
    Ok(Inspection::new(&lease, &keys, info.as_ref(), olb_sys::clock::unix_secs()))
}

#[cfg(test)]
mod tests {
    use olb_lease::{
        Audience, Cti, Digest, Epoch, LeaseIssuer, PlanDigest, SigningKey, VerdictDigest,
    };

    use super::*;

    const NOW: u64 = 1_795_363_200;

    fn issuer() -> SigningKey<LeaseIssuer> {
        SigningKey::from_seed(&[4; 32].into()).unwrap()
    }

    fn keys() -> BrokerKeys {
        BrokerKeys { lease: vec![issuer().public().clone()], ..BrokerKeys::default() }
    }

    fn claims() -> LeaseClaims {
        LeaseClaims {
            audience: olb_lease::audience("web-1", issuer().public()),
            expires_at: 1_795_363_500,
            issued_at: 1_795_363_100,
            cti: Cti([1; 16]),
            argv: Digest([2; 32]),
            requester_uid: 1001,
            environment: Digest([3; 32]),
            cwd: Digest([4; 32]),
            plan: PlanDigest([5; 32]),
            verdict: VerdictDigest([6; 32]),
            epoch: Epoch([7; 16]),
        }
    }

    fn info() -> Info {
        Info {
            host: "web-1".into(),
            audience: Audience([0; 32]),
            epoch: Epoch([7; 16]),
            lease_key: [0; 32],
            audit_key: [0; 32],
            sequence: 0,
            boundary: true,
            requesters: Vec::new(),
            enrolments: Vec::new(),
            limits: Vec::new(),
        }
    }

    fn armored(claims: &LeaseClaims) -> String {
        armor::encode(&claims.sign(&issuer()).unwrap())
    }

    #[test]
    fn each_defect_shows_at_its_own_stage() {
        let good = armored(&claims());
        let stage = |lease: &str, keys: &BrokerKeys, info: &Info, now| {
            Inspection::new(lease, keys, Some(info), now).stage()
        };
        assert_eq!(stage(&good, &keys(), &info(), NOW), "valid");
        assert_eq!(stage("olbl2_x", &keys(), &info(), NOW), "armor");
        assert_eq!(stage(&good, &BrokerKeys::default(), &info(), NOW), "key");
        assert_eq!(stage(&good, &keys(), &info(), NOW + 300), "expired");
        assert_eq!(stage(&good, &keys(), &info(), NOW - 101), "not_yet_valid");
        assert_eq!(
            stage(&good, &keys(), &Info { host: "web-2".into(), ..info() }, NOW),
            "audience"
        );
        assert_eq!(stage(&good, &keys(), &Info { epoch: Epoch([8; 16]), ..info() }, NOW), "epoch");
        let mut bytes = claims().sign(&issuer()).unwrap();
        bytes[0] ^= 1;
        assert_eq!(stage(&armor::encode(&bytes), &keys(), &info(), NOW), "form");
        bytes[0] ^= 1;
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(stage(&armor::encode(&bytes), &keys(), &info(), NOW), "signature");
    }

    #[test]
    fn the_documented_object_has_stage_signature_and_every_claim() {
        let object = Inspection::new(&armored(&claims()), &keys(), None, NOW + 300).json();
        assert_eq!(
            (&object["stage"], &object["valid_signature"]),
            (&json!("expired"), &json!(true))
        );
        assert_eq!(object["claims"].as_object().unwrap().len(), 12);
        assert_eq!(object["claims"]["expires_at"], "2026-11-22T16:05:00Z");
        let verdicts = |name| {
            let checks = object["checks"].as_array().unwrap().iter();
            checks.filter(|check| check["verdict"] == name).count()
        };
        assert_eq!([verdicts("ok"), verdicts("not_checked"), verdicts("failed")], [6, 2, 1]);
    }

    #[test]
    fn claims_without_a_signature_are_said_to_be_unsigned() {
        let lines = Inspection::new(&armored(&claims()), &BrokerKeys::default(), None, NOW).lines();
        assert!(lines.contains("--- claims (NOT SIGNED by a key given) ---"));
        assert!(lines.contains("key            FAILED: "));
    }
}
