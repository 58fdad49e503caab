//! What may be said after a decision. "Denied" and "revoked" are said of what the root half has
//! signed, and of nothing else: a front that swallows a "no" would like it to be believed.

use olb_exec_api::{Info, Reason};
use olb_lease::{
    Plan, PlanDigest, RawVerdict, RecordEvent, VerdictClaims, VerdictKind, plan_digest,
};
use olb_wire::RequestView;
use serde_json::{Map, Value};

use super::Subject;
use crate::client::Socket;
use crate::failure::{Failure, code};
use crate::select::Selector;
use crate::trust::BrokerKeys;
use crate::{exec, json, proof, text};

/// How long a lease may live where nobody has configured it, in seconds: the least that is assumed
/// whatever the broker says.
const LEASE_SECS: u64 = 3600;

/// A decision that the root half has signed for.
pub(super) struct Confirmed {
    /// For programs.
    pub(super) object: Map<String, Value>,
    /// For people.
    pub(super) text: String,
}

/// A decision about a plan, as a signed record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    /// What the approver signed.
    pub(super) claims: VerdictClaims,
    /// The approver's enrolled name.
    pub(super) approver: String,
    /// When it was recorded, in seconds since the Unix epoch.
    pub(super) at: u64,
}

/// The decision about `plan` that `receipt` proves.
pub(super) fn recorded(keys: &BrokerKeys, receipt: &[u8], plan: PlanDigest) -> Option<Recorded> {
    let record = keys.record(receipt)?;
    let at = record.at;
    match record.event {
        RecordEvent::Decided { plan: bytes, verdict, approver, .. } => {
            // The root half checked its signature before it signed the record.
            let claims = RawVerdict::parse(&verdict).ok()?.unverified_claims().ok()?;
            let is_it = plan_digest(&bytes) == plan && claims.plan == plan;
            is_it.then_some(Recorded { claims, approver, at })
        }
        RecordEvent::EpochBegan { .. }
        | RecordEvent::Burned { .. }
        | RecordEvent::Refused { .. }
        | RecordEvent::Finished { .. }
        | RecordEvent::KeyEnded { .. } => None,
    }
}

/// Whether `recorded` is what was just decided. Another approver's decision of the same kind,
/// recorded before ours, is as good.
pub(super) fn is_ours(recorded: &Recorded, claims: &VerdictClaims) -> bool {
    recorded.claims.kind == claims.kind && recorded.claims.epoch == claims.epoch
}

/// What is said once `receipt` proves the decision; `None` where it does not.
pub(super) fn confirmed(
    subject: &Subject,
    claims: &VerdictClaims,
    receipt: &[u8],
    view: &RequestView,
) -> Option<Confirmed> {
    let recorded = recorded(&subject.keys, receipt, subject.digest)?;
    if !is_ours(&recorded, claims) {
        return None;
    }
    let until = lease_until(&recorded, view.lease_expires_at);
    let name = subject.name();
    let text = match claims.kind {
        VerdictKind::Approve => {
            format!("Approved {name}: it may run once until {}.", text::time(until))
        }
        VerdictKind::Deny => format!("Denied {name}: it will not run."),
        VerdictKind::Revoke => format!("Revoked {name}: its lease can no longer be used."),
    };
    let object = object(&subject.plan, subject.digest, &subject.view.code, &recorded, until);
    Some(Confirmed { object, text })
}

/// A lease ends with its verdict at the latest; the broker may say that it ends before.
fn lease_until(recorded: &Recorded, said: Option<u64>) -> u64 {
    let latest = u64::from(recorded.claims.expires_at);
    said.map_or(latest, |said| said.min(latest))
}

/// What the record says, and the plan. Of the broker's own word only the code is left, and the
/// earlier end of a lease.
pub(super) fn object(
    plan: &Plan,
    digest: PlanDigest,
    code: &str,
    recorded: &Recorded,
    until: u64,
) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("request_id", digest.request_id().to_string().into());
    put("code", code.into());
    put("state", word(recorded.claims.kind).into());
    put("requester_uid", plan.requester_uid.into());
    put("decided_by", recorded.approver.as_str().into());
    put("decided_at", text::time(recorded.at).into());
    match recorded.claims.kind {
        VerdictKind::Approve => put("lease_expires_at", text::time(until).into()),
        VerdictKind::Deny | VerdictKind::Revoke => {
            put("reason", recorded.claims.reason.as_str().into())
        }
    };
    put("receipt", "verified".into());
    json::put_plan(&mut object, plan);
    object
}

fn word(kind: VerdictKind) -> &'static str {
    match kind {
        VerdictKind::Approve => "approved",
        VerdictKind::Deny => "denied",
        VerdictKind::Revoke => "revoked",
    }
}

/// A refused approval. What shows the request as it is speaks to the requester; the approver is
/// told plainly.
pub(super) fn for_approver(mut failure: Failure) -> Failure {
    if let Some(view) = &failure.view {
        let [code, state] =
            [&view.code, &view.state].map(|text| olb_review::display::safe(text.as_bytes()));
        failure.text =
            format!("{code} is {state} and cannot be approved any more; nothing changed");
    }
    failure
}

/// An approval without an answer.
pub(super) fn unapproved(subject: &Subject) -> Failure {
    let name = subject.name();
    let text = format!(
        "could not confirm the approval of {name}; look at 'olb show' before you approve again"
    );
    Failure::new(code::UNAVAILABLE, "not_confirmed", text)
}

/// A "no" that was not confirmed: what is proved of the request's end, or else that its lease may
/// still run.
pub(super) fn not_closed(subject: &Subject, refused: Option<&Failure>) -> Failure {
    let answered = refused.filter(|failure| failure.code != code::UNAVAILABLE);
    let view = answered.and_then(|failure| failure.view.clone()).or_else(|| {
        answered?;
        let selector = Selector::Full(subject.digest.request_id());
        subject.runtime.show(Socket::Review, &selector).ok()
    });
    let is_it = |view: &RequestView| plan_digest(&view.plan) == subject.digest;
    let proved = view.filter(|view| is_it(view)).and_then(|view| proved_end(subject, &view));
    proved.unwrap_or_else(|| {
        let until = latest_end(&subject.info, subject.view.lease_expires_at, now());
        unconfirmed(&subject.name(), until, refused)
    })
}

/// A "no" about a request that the broker did not show.
pub(super) fn not_found(selector: &Selector, refused: &Failure) -> Failure {
    unconfirmed(&selector.text(), now().saturating_add(LEASE_SECS), Some(refused))
}

fn now() -> u64 {
    olb_sys::clock::unix_secs()
}

/// What the receipt in `view` proves: that it ran, or that it never will.
fn proved_end(subject: &Subject, view: &RequestView) -> Option<Failure> {
    let name = subject.name();
    if let Some(finished) = proof::finished(&subject.keys, view) {
        let text = format!(
            "{name} ran before this decision arrived and cannot be taken back ({})",
            exec::summary(&finished)
        );
        return Some(Failure::refused(Reason::AlreadyBurned.name(), text));
    }
    let recorded = recorded(&subject.keys, view.receipt.as_ref()?, subject.digest)?;
    let (reason, word) = match recorded.claims.kind {
        VerdictKind::Approve => return None,
        VerdictKind::Deny => (Reason::Denied, "denied"),
        VerdictKind::Revoke => (Reason::Revoked, "revoked"),
    };
    let who = olb_review::display::safe(recorded.approver.as_bytes());
    let at = text::time(recorded.at);
    let text = format!("{name} was {word} before, by {who} at {at}: it will not run");
    Some(Failure::refused(reason.name(), text))
}

/// Until when a lease may live that the broker does not own up to.
pub(super) fn latest_end(info: &Info, said: Option<u64>, now: u64) -> u64 {
    let lives = info.enrolments.iter().map(|one| u64::from(one.lease_lifetime_secs));
    let longest = lives.max().unwrap_or(0).max(LEASE_SECS);
    now.saturating_add(longest).max(said.unwrap_or(0))
}

/// The broker's sentence is left out: it could say that all is well. Of its reason only the name is
/// passed on, as its word, unless that too would claim what is not proved.
pub(super) fn unconfirmed(name: &str, until: u64, refused: Option<&Failure>) -> Failure {
    let claims_an_end = [Reason::Denied, Reason::Revoked].map(Reason::name);
    let said = refused.map(|failure| failure.name).filter(|said| !claims_an_end.contains(said));
    let said = said.map_or(String::new(), |said| {
        format!(" (the broker's reason, which nothing proves: {said})")
    });
    let until = text::time(until);
    let text = format!("could not confirm; the lease of {name} may still run until {until}{said}");
    Failure::new(code::UNAVAILABLE, "not_confirmed", text)
}
