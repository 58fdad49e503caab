//! `olb approve`, `olb deny` and `olb revoke`: what is shown is what is signed, and nothing is
//! called done without the root half's signed word.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use olb_exec_api::{Enrolment, Info};
use olb_lease::{
    Approver, Digest, Evidence, Plan, PlanDigest, RawVerdict, RecordEvent, RequestId, SigningKey,
    VerdictClaims, VerdictKind, plan_digest, sha256, verdict_limit,
};
use olb_review::display::safe;
use olb_wire::{Request, RequestView, Response};

use crate::args::{ApproveArgs, DecideArgs, DenyArgs, RevokeArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::trust::BrokerKeys;
use crate::{account, json, keys, status, terminal, text};

/// A verdict is good for at most this long, in seconds.
const VERDICT_SECS_MAX: u32 = 900;
/// The root half answers within this time.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// `olb approve`.
pub(crate) fn approve(args: &ApproveArgs) -> ExitCode {
    finish(decide(VerdictKind::Approve, &args.decide, ""), &args.decide)
}

/// `olb deny`.
pub(crate) fn deny(args: &DenyArgs) -> ExitCode {
    finish(decide(VerdictKind::Deny, &args.decide, &args.reason), &args.decide)
}

/// `olb revoke`.
pub(crate) fn revoke(args: &RevokeArgs) -> ExitCode {
    finish(decide(VerdictKind::Revoke, &args.decide, &args.reason), &args.decide)
}

fn finish(result: Result<Confirmed, Failure>, args: &DecideArgs) -> ExitCode {
    match result {
        Ok(confirmed) => {
            if args.json {
                let mut object = json::request(&confirmed.view);
                object.insert("receipt".into(), "verified".into());
                println!("{}", json::line(&object));
            } else {
                println!("{}", confirmed.text);
            }
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

/// A decision that the root half has signed for.
struct Confirmed {
    view: Box<RequestView>,
    text: String,
}

/// How a request is named: a code selects, a full id proves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Full(RequestId),
    Code(String),
}

impl Selector {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("req_") {
            return text.parse().map(Self::Full).map_err(|error: olb_lease::IdError| {
                Failure::usage(format!("{error}; 'olb list --json' prints them"))
            });
        }
        let code = text.to_ascii_uppercase();
        let plain =
            |at: usize, byte: u8| if at == 3 { byte == b'-' } else { byte.is_ascii_alphanumeric() };
        if code.len() == 7 && code.bytes().enumerate().all(|(at, byte)| plain(at, byte)) {
            Ok(Self::Code(code))
        } else {
            Err(Failure::usage("a request is named by its code, XXX-XXX, or its full req_ id"))
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Full(id) => id.to_string(),
            Self::Code(code) => code.clone(),
        }
    }
}

/// A request, with everything that was checked against this host's own knowledge.
struct Subject {
    runtime: Runtime,
    keys: BrokerKeys,
    info: Info,
    view: Box<RequestView>,
    plan: Plan,
    digest: PlanDigest,
}

impl Subject {
    fn fetch(selector: &Selector) -> Result<Self, Failure> {
        let runtime = Runtime::for_operator()?;
        let show = Request::Show { selector: selector.text(), wait: false };
        let Response::Request(view) = runtime.ask(Socket::Review, &show)? else {
            return Err(Failure::bad_answer());
        };
        let info = runtime.info(Socket::Review)?;
        let keys = BrokerKeys::of(&runtime)
            .map_err(|text| Failure::new(code::UNAVAILABLE, "unavailable", text))?;
        let digest = identify(selector, &view)?;
        let plan = Plan::decode(&view.plan)
            .map_err(|error| Failure::refused("malformed", error.to_string()))?;
        let here = |key| olb_lease::audience(&info.host, key) == plan.audience;
        if plan.host != info.host || !keys.lease.iter().any(here) {
            return Err(Failure::refused(
                "wrong_audience",
                "the request is for another broker; decide it on its own host",
            ));
        }
        Ok(Self { runtime, keys, info, view, plan, digest })
    }

    fn name(&self) -> String {
        format!("{} ({})", safe(self.view.code.as_bytes()), status::command_of(&self.plan))
    }
}

/// The digest of the plan that the broker answered with, if it is the one that was asked for.
fn identify(selector: &Selector, view: &RequestView) -> Result<PlanDigest, Failure> {
    let digest = plan_digest(&view.plan);
    let id = digest.request_id();
    let is_it = match selector {
        Selector::Full(asked) => *asked == id,
        Selector::Code(asked) => *asked == view.code,
    };
    if is_it && view.request_id == id.to_string() {
        return Ok(digest);
    }
    Err(Failure::refused(
        "mismatch",
        "the broker answered with another request than the one you named; nothing was signed, and \
         the broker should be looked at",
    ))
}

fn decide(kind: VerdictKind, args: &DecideArgs, reason: &str) -> Result<Confirmed, Failure> {
    if reason.len() > verdict_limit::REASON_BYTES {
        let max = verdict_limit::REASON_BYTES;
        return Err(Failure::usage(format!("the reason is longer than {max} bytes; shorten it")));
    }
    let selector = Selector::parse(&args.id)?;
    let subject = Subject::fetch(&selector)?;
    let key = keys::load(args.key.as_deref(), &subject.runtime)?;
    let enrolment = enrolment(&subject.info, &key)?;
    let evidence = match (kind, &selector) {
        (VerdictKind::Approve, Selector::Code(_)) => shown_and_asked(&subject)?,
        (VerdictKind::Approve, Selector::Full(_)) => {
            check_plan(&subject.plan)?;
            by_id(&args.id)
        }
        (VerdictKind::Deny | VerdictKind::Revoke, _) => by_id(&args.id),
    };
    let issued_at = u32::try_from(olb_sys::clock::unix_secs()).unwrap_or(u32::MAX);
    let life = VERDICT_SECS_MAX.min(enrolment.lease_lifetime_secs);
    let claims = VerdictClaims {
        kind,
        plan: subject.digest,
        epoch: subject.info.epoch,
        issued_at,
        expires_at: issued_at.saturating_add(life),
        evidence,
        reason: reason.to_owned(),
    };
    let verdict = claims.sign(&key).map_err(|error| Failure::usage(error.to_string()))?;
    send(&subject, &claims, verdict)
}

fn enrolment<'a>(info: &'a Info, key: &SigningKey<Approver>) -> Result<&'a Enrolment, Failure> {
    let caller = olb_sys::harden::effective_uid();
    let mine = |one: &&Enrolment| one.key == *key.public().as_bytes() && one.uid == caller;
    info.enrolments.iter().find(mine).ok_or_else(|| {
        Failure::refused(
            "not_enrolled",
            format!(
                "your key is not enrolled for uid {caller}; root runs 'olb keys enroll' for you"
            ),
        )
    })
}

/// What a plan must hold before a yes is signed, besides what the root half checks itself.
fn check_plan(plan: &Plan) -> Result<(), Failure> {
    olb_lease::environment::check(plan)
        .map_err(|error| error.to_string())
        .and_then(|()| account::check(plan))
        .map_err(|text| Failure::refused("mismatch", format!("{text}; nothing was signed")))
}

/// Evidence of a decision by full id, or of one that needs no showing.
fn by_id(id: &str) -> Evidence {
    let nothing = Digest(sha256(b""));
    let reply = Digest(sha256(id.as_bytes()));
    Evidence { channel: "terminal-id".into(), messages: Vec::new(), shown: nothing, reply }
}

/// Shows the request and asks. What is shown is rendered from the very bytes whose digest is
/// signed.
fn shown_and_asked(subject: &Subject) -> Result<Evidence, Failure> {
    let requesters =
        if subject.keys.is_from_root { subject.info.requesters.as_slice() } else { &[] };
    terminal::check_is_own(requesters)?;
    let review = olb_review::render(&subject.plan, &status::facts(&subject.view, &subject.plan));
    print!("{}", review.text);
    check_plan(&subject.plan)?;
    let shown = safe(subject.view.code.as_bytes());
    if !review.can_be_answered {
        return Err(Failure::refused(
            "too_long",
            format!(
                "{shown} is too long to be answered here; read it and approve it by its full id"
            ),
        ));
    }
    let line = terminal::ask("Approve? [y/N]")?;
    if !terminal::is_yes(&line) {
        let text = format!(
            "not approved; {shown} stays open, and 'olb deny --id {shown} --reason ...' closes it"
        );
        return Err(Failure::new(code::PENDING, "not_decided", text));
    }
    Ok(Evidence {
        channel: "terminal".into(),
        messages: Vec::new(),
        shown: Digest(sha256(review.text.as_bytes())),
        reply: Digest(sha256(line.as_bytes())),
    })
}

fn send(subject: &Subject, claims: &VerdictClaims, verdict: Vec<u8>) -> Result<Confirmed, Failure> {
    let mut connection = subject.runtime.connect(Socket::Review)?;
    connection.send(&Request::Decide { verdict: verdict.into() })?;
    let answer = connection.receive(Some(Instant::now() + ANSWER_TIME));
    match answer {
        Ok(Some(Response::Decided { receipt, request }))
            if proves(&subject.keys, &receipt, &subject.view.plan, claims) =>
        {
            let text = done(subject, claims, &request);
            Ok(Confirmed { view: request, text })
        }
        // A refusal is an answer; whether it is true matters only where something may still run.
        Err(failure) if failure.code != code::UNAVAILABLE => {
            Err(for_approver(failure, claims.kind))
        }
        Ok(_) | Err(_) => Err(unconfirmed(subject, claims.kind)),
    }
}

/// Whether `receipt` is the root half's signed record of this decision about this plan.
fn proves(keys: &BrokerKeys, receipt: &[u8], plan: &[u8], claims: &VerdictClaims) -> bool {
    let Some(RecordEvent::Decided { plan: recorded, verdict, .. }) =
        keys.record(receipt).map(|record| record.event)
    else {
        return false;
    };
    let verdict = RawVerdict::parse(&verdict).and_then(|verdict| verdict.unverified_claims());
    recorded == plan
        && verdict.is_ok_and(|verdict| {
            // Another approver's decision of the same kind, recorded before ours, is as good.
            verdict.kind == claims.kind
                && verdict.plan == claims.plan
                && verdict.epoch == claims.epoch
        })
}

/// A refusal that shows the request as it is speaks to the requester; the approver is told plainly.
fn for_approver(mut failure: Failure, kind: VerdictKind) -> Failure {
    if let Some(view) = &failure.view {
        let done = match kind {
            VerdictKind::Approve => "approved",
            VerdictKind::Deny => "denied",
            VerdictKind::Revoke => "revoked",
        };
        let [code, state] = [&view.code, &view.state].map(|text| safe(text.as_bytes()));
        failure.text = format!("{code} is {state} and cannot be {done} any more; nothing changed");
    }
    failure
}

fn done(subject: &Subject, claims: &VerdictClaims, view: &RequestView) -> String {
    let name = subject.name();
    match claims.kind {
        VerdictKind::Approve => {
            let latest = u64::from(claims.expires_at);
            let until = view.lease_expires_at.map_or(latest, |at| at.min(latest));
            format!("Approved {name}: it may run once until {}.", text::time(until))
        }
        VerdictKind::Deny => format!("Denied {name}: it will not run."),
        VerdictKind::Revoke => format!("Revoked {name}: its lease can no longer be used."),
    }
}

fn unconfirmed(subject: &Subject, kind: VerdictKind) -> Failure {
    let name = subject.name();
    let until = subject.view.lease_expires_at.map_or_else(|| "it expires".to_owned(), text::time);
    let text = match kind {
        VerdictKind::Approve => format!(
            "could not confirm the approval of {name}; look at 'olb show' before you approve again"
        ),
        VerdictKind::Deny | VerdictKind::Revoke => {
            format!("could not confirm; the lease of {name} may still run until {until}")
        }
    };
    Failure::new(code::UNAVAILABLE, "not_confirmed", text)
}

#[cfg(test)]
mod tests;
