//! The checks of a lease, in the order in which the root half makes them.

use olb_exec_api::Info;
use olb_lease::{
    EnvelopeError, LeaseClaims, LeaseError, Plan, RawLease, argv_digest, armor, cwd_digest,
    env_digest, plan_digest,
};
use olb_review::display::safe;
use olb_review::quote;
use olb_wire::RequestView;
use serde_json::{Value, json};

use super::Known;
use crate::text;
use crate::trust::{BrokerKeys, Run};

/// What a check says.
enum Verdict {
    Holds,
    /// It holds if the front, which may lie, says the truth: what it says.
    Said(String),
    Fails(String),
    /// It could not be made.
    Open(String),
}

/// One check and what it says.
struct Check {
    stage: &'static str,
    verdict: Verdict,
}

/// What was found.
pub(super) struct Inspection {
    checks: Vec<Check>,
    claims: Option<LeaseClaims>,
    is_signed: bool,
    /// The command that the lease is for, where its plan is at hand.
    command: Option<String>,
}

impl Inspection {
    /// Inspects `lease` at the time `now`, in seconds since the Unix epoch.
    pub(super) fn new(lease: &str, known: &Known, now: u64) -> Self {
        let mut found = Self { checks: Vec::new(), claims: None, is_signed: false, command: None };
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
        found.check_signature(&bytes, &known.keys);
        if let Some(claims) = found.claims.clone() {
            found.check_broker(&claims, &known.keys, known.info.as_ref());
            found.check_request(&claims, known);
            found.check_times(&claims, known.request.as_deref().ok(), now);
        }
        found
    }

    fn check<T>(&mut self, stage: &'static str, result: Result<T, String>) -> Option<T> {
        let (verdict, value) = match result {
            Ok(value) => (Verdict::Holds, Some(value)),
            Err(why) => (Verdict::Fails(why), None),
        };
        self.checks.push(Check { stage, verdict });
        value
    }

    fn require(&mut self, stage: &'static str, holds: bool, why: impl FnOnce() -> String) {
        self.check(stage, if holds { Ok(()) } else { Err(why()) });
    }

    /// What only the front can tell here. That somebody lies in it is noticed by the root half alone.
    fn believe(&mut self, stage: &'static str, what: &str) {
        let why = format!("{what}, says the front; the root half's trail was not asked");
        self.checks.push(Check { stage, verdict: Verdict::Said(why) });
    }

    fn leave_open(&mut self, stage: &'static str, why: &str) {
        self.checks.push(Check { stage, verdict: Verdict::Open(why.to_owned()) });
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

    /// Whether it is meant for this broker, as it is since its last new epoch.
    fn check_broker(&mut self, claims: &LeaseClaims, keys: &BrokerKeys, info: Option<&Info>) {
        let Some(info) = info else {
            for stage in ["audience", "epoch"] {
                self.leave_open(stage, "no broker was asked");
            }
            return;
        };
        let mut keys = keys.lease.iter();
        let here = keys.any(|key| olb_lease::audience(&info.host, key) == claims.audience);
        let host = safe(info.host.as_bytes());
        self.require("audience", here, || format!("it is not meant for the broker on {host}"));
        if info.epoch == claims.epoch {
            self.believe("epoch", "the broker is in the lease's epoch");
        } else {
            let why = "the broker began a new epoch since; ask again";
            self.check::<()>("epoch", Err(why.to_owned()));
        }
    }

    /// Whether it is for the plan that the broker has, and can still be used.
    fn check_request(&mut self, claims: &LeaseClaims, known: &Known) {
        let view = match &known.request {
            Ok(view) => view,
            Err(why) => {
                for stage in ["plan", "burned", "revoked"] {
                    self.leave_open(stage, why);
                }
                return;
            }
        };
        let plan = Plan::decode(&view.plan).ok();
        self.command = plan.as_ref().map(|plan| quote::command(&plan.argv));
        let is_for = |plan: Plan| {
            claims.plan == plan_digest(&view.plan)
                && claims.requester_uid == plan.requester_uid
                && claims.argv == argv_digest(&plan.argv)
                && claims.environment == env_digest(&plan.environment)
                && claims.cwd == cwd_digest(&plan.cwd)
        };
        self.require("plan", plan.is_some_and(is_for), || {
            "its digests are not those of the plan that it names".to_owned()
        });
        self.check_standing(claims, &known.keys, view);
    }

    fn check_standing(&mut self, claims: &LeaseClaims, keys: &BrokerKeys, view: &RequestView) {
        let run = Run { plan: claims.plan, cti: claims.cti };
        let receipt = view.receipt.as_ref();
        let is_proved = receipt.is_some_and(|receipt| keys.finished(receipt, run).is_some());
        let (_, said) = text::of_state(view);
        match view.state.as_str() {
            _ if is_proved => {
                self.check::<()>(
                    "burned",
                    Err(format!("it was used, as a receipt proves: {said}")),
                );
            }
            "executing" | "exited" | "killed" | "spawn_failed" | "outcome_unknown" => {
                let why = format!("it was used, says the front without proof: {said}");
                self.check::<()>("burned", Err(why));
            }
            "approved" | "denied" | "revoked" | "expired" => {
                self.believe("burned", "it was not used");
            }
            _ => self.leave_open("burned", &format!("the front knows no approval: {said}")),
        }
        if ["denied", "revoked"].contains(&view.state.as_str()) {
            let why = format!("it was taken back, says the front: {said}");
            self.check::<()>("revoked", Err(why));
        } else {
            self.believe("revoked", "it was not taken back");
        }
    }

    fn check_times(&mut self, claims: &LeaseClaims, view: Option<&RequestView>, now: u64) {
        let from = u64::from(claims.issued_at);
        let until = u64::from(claims.expires_at);
        self.require("not_yet_valid", from <= now, || {
            format!("issued in the future, at {}", text::time(from))
        });
        // An approval can be over before its time, as when its approver's key was revoked.
        let over = view.filter(|view| view.state == "expired");
        self.require("expired", now < until && over.is_none(), || match over {
            Some(view) if now < until => text::of_state(view).1,
            Some(_) | None => format!("expired at {}", text::time(until)),
        });
    }

    /// The first stage that fails; else `unverified` where a check could not be made, else `valid`.
    pub(super) fn stage(&self) -> &'static str {
        let is_open = |check: &Check| matches!(check.verdict, Verdict::Open(_));
        match self.failed() {
            Some(check) => check.stage,
            None if self.checks.iter().any(is_open) => "unverified",
            None => "valid",
        }
    }

    fn failed(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.verdict, Verdict::Fails(_)))
    }

    /// Whether nothing fails.
    pub(super) fn is_good(&self) -> bool {
        self.failed().is_none()
    }

    /// The checks that were not made, or hold on the front's word only.
    fn unproved(&self) -> Vec<&'static str> {
        let is_unproved =
            |check: &&Check| matches!(check.verdict, Verdict::Said(_) | Verdict::Open(_));
        self.checks.iter().filter(is_unproved).map(|check| check.stage).collect()
    }

    /// The documented object.
    pub(super) fn json(&self) -> Value {
        let checks = self.checks.iter().map(|check| match &check.verdict {
            Verdict::Holds => json!({ "check": check.stage, "verdict": "ok" }),
            Verdict::Said(why) => {
                json!({ "check": check.stage, "verdict": "said", "why": why })
            }
            Verdict::Open(why) => {
                json!({ "check": check.stage, "verdict": "not_checked", "why": why })
            }
            Verdict::Fails(why) => json!({ "check": check.stage, "verdict": "failed", "why": why }),
        });
        json!({
            "stage": self.stage(),
            "valid_signature": self.is_signed,
            "claims": self.claims.as_ref().map(claims_json),
            "command": self.command,
            "unproved": self.unproved(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    /// The same for people.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::new();
        for check in &self.checks {
            let verdict = match &check.verdict {
                Verdict::Holds => "ok".to_owned(),
                Verdict::Said(why) => format!("ok, but not proved: {why}"),
                Verdict::Open(why) => format!("not checked: {why}"),
                Verdict::Fails(why) => format!("FAILED: {why}"),
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
        if let Some(command) = &self.command {
            lines.push_str(&format!("command        {command}\n"));
        }
        let unproved = self.unproved().join(", ");
        let unproved =
            if unproved.is_empty() { unproved } else { format!(" (not proved: {unproved})") };
        lines.push_str(&format!("stage          {}{unproved}\n", self.stage()));
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
