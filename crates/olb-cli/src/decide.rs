//! `olb approve`, `olb deny` and `olb revoke`: what is shown is what is signed, and nothing is
//! called done without the root half's signed word.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use olb_exec_api::{Enrolment, Info, Reason};
use olb_lease::{
    Approver, Digest, Evidence, Kid, Plan, PlanDigest, SigningKey, VerdictClaims, VerdictKind,
    plan_digest, sha256, verdict_limit,
};
use olb_review::display::safe;
use olb_review::quote;
use olb_wire::{Request, RequestView, Response};

use crate::args::{ApproveArgs, DecideArgs, DenyArgs, RevokeArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::keys::folder::{is_revoked_in, revoked};
use crate::keys::place::approvers_dir;
use crate::out::{say, say_text};
use crate::select::Selector;
use crate::trust::BrokerKeys;
use crate::{account, json, keys, status, terminal};

mod confirm;

use confirm::Confirmed;

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
                say!("{}", json::line(&confirmed.object));
            } else {
                say!("{}", confirmed.text);
            }
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
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
    fn fetch(runtime: Runtime, keys: BrokerKeys, selector: &Selector) -> Result<Self, Failure> {
        let view = runtime.show(Socket::Review, selector)?;
        let info = runtime.info(Socket::Review)?;
        let digest = plan_digest(&view.plan);
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

    /// Code, id and command. The last two come from the plan that is signed; the code is the
    /// broker's word only.
    fn name(&self) -> String {
        let (code, id) = (safe(self.view.code.as_bytes()), self.digest.request_id());
        format!("{code} ({id}: {})", quote::command(&self.plan.argv))
    }
}

/// Before anything is signed, a request that is not the one that was named is a refusal.
fn nothing_signed(mut failure: Failure) -> Failure {
    if failure.name == Reason::Mismatch.name() {
        failure.code = code::REFUSED;
        failure.text.push_str("; nothing was signed");
    }
    failure
}

fn decide(kind: VerdictKind, args: &DecideArgs, reason: &str) -> Result<Confirmed, Failure> {
    if reason.len() > verdict_limit::REASON_BYTES {
        let max = verdict_limit::REASON_BYTES;
        return Err(Failure::usage(format!("the reason is longer than {max} bytes; shorten it")));
    }
    let selector = Selector::parse(&args.id)?;
    let runtime = Runtime::for_operator()?;
    let keys = BrokerKeys::of_running(&runtime)?;
    let subject = Subject::fetch(runtime.clone(), keys, &selector);
    let subject = match subject.map_err(|failure| of_key(failure, args, &runtime)) {
        Ok(subject) => subject,
        // Without a broker nothing was asked and nothing answered: that is plain enough.
        Err(failure) if kind == VerdictKind::Approve || failure.is_no_broker() => {
            return Err(nothing_signed(failure));
        }
        Err(failure) => return Err(confirm::not_found(&selector, &failure)),
    };
    let key = keys::load(args.key.as_deref(), &subject.runtime)?;
    let enrolment =
        enrolment(&subject.info, &key).map_err(|failure| of_key(failure, args, &runtime))?;
    let evidence = evidence(kind, &selector, &subject)?;
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

/// Who is told not to be enrolled hears why where that was the key's end: the caller's own key and
/// the folder of enrolments say so, and nobody has to be believed.
fn of_key(failure: Failure, args: &DecideArgs, runtime: &Runtime) -> Failure {
    let is_it = failure.name == Reason::NotEnrolled.name();
    let Some(dir) = approvers_dir(None).ok().filter(|_| is_it) else { return failure };
    match keys::load(args.key.as_deref(), runtime) {
        Ok(key) => of_key_in(failure, &dir, key.public().kid()),
        Err(_) => failure,
    }
}

fn of_key_in(mut failure: Failure, dir: &Path, kid: Kid) -> Failure {
    if is_revoked_in(dir, kid) {
        failure.text = revoked(kid, "was revoked");
    }
    failure
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

/// How the decision comes about. A full id proves which request is meant; what a code stands for is
/// the broker's word, so a person is shown it. A script's "no" to a code is taken all the same: it
/// can do no more harm than a broker that is asked nothing, and says what it was about.
fn evidence(
    kind: VerdictKind,
    selector: &Selector,
    subject: &Subject,
) -> Result<Evidence, Failure> {
    match (kind, selector) {
        (VerdictKind::Approve, Selector::Code(_)) => {
            terminal::check_is_own(&requesters(subject))?;
            shown_and_asked(kind, subject)
        }
        (VerdictKind::Approve, Selector::Full(_)) => {
            check_plan(&subject.plan)?;
            Ok(by_name(selector))
        }
        (VerdictKind::Deny | VerdictKind::Revoke, Selector::Code(_)) if terminal::is_here() => {
            shown_and_asked(kind, subject)
        }
        (VerdictKind::Deny | VerdictKind::Revoke, _) => Ok(by_name(selector)),
    }
}

/// Who must not have started this session: the request's own account, which the root half compares
/// with the lease's, and whoever else the broker names. Without a boundary everybody is one user.
fn requesters(subject: &Subject) -> Vec<u32> {
    if !subject.keys.is_from_root {
        return Vec::new();
    }
    let listed = subject.info.requesters.iter().copied();
    listed.chain([subject.plan.requester_uid]).collect()
}

/// What a plan must hold before a yes is signed, besides what the root half checks itself.
fn check_plan(plan: &Plan) -> Result<(), Failure> {
    olb_lease::environment::check(plan)
        .map_err(|error| error.to_string())
        .and_then(|()| account::check(plan))
        .map_err(|text| Failure::refused("mismatch", format!("{text}; nothing was signed")))
}

/// Evidence of a decision without showing.
fn by_name(selector: &Selector) -> Evidence {
    let nothing = Digest(sha256(b""));
    let reply = Digest(sha256(selector.text().as_bytes()));
    let channel = match selector {
        Selector::Full(_) => "terminal-id",
        Selector::Code(_) => "terminal-code",
    };
    Evidence { channel: channel.into(), messages: Vec::new(), shown: nothing, reply }
}

/// Shows the request and asks. What is shown is rendered from the very bytes whose digest is
/// signed.
fn shown_and_asked(kind: VerdictKind, subject: &Subject) -> Result<Evidence, Failure> {
    let facts = status::facts(&subject.view, &subject.plan);
    let review = olb_review::render(&subject.plan, &facts);
    say_text!("{}", review.text);
    let shown = safe(subject.view.code.as_bytes());
    if kind == VerdictKind::Approve {
        check_plan(&subject.plan)?;
        if !review.can_be_answered {
            let text = format!(
                "{shown} is too long to be answered here; read it and approve it by its full id"
            );
            return Err(Failure::refused("too_long", text));
        }
    }
    let question = match kind {
        VerdictKind::Approve => "Approve? [y/N]",
        VerdictKind::Deny => "Deny? [y/N]",
        VerdictKind::Revoke => "Revoke? [y/N]",
    };
    let line = terminal::ask(question)?;
    if !terminal::is_yes(&line) {
        return Err(Failure::new(code::PENDING, "not_decided", undecided(kind, &shown)));
    }
    Ok(Evidence {
        channel: "terminal".into(),
        messages: Vec::new(),
        shown: Digest(sha256(review.text.as_bytes())),
        reply: Digest(sha256(line.as_bytes())),
    })
}

fn undecided(kind: VerdictKind, shown: &str) -> String {
    match kind {
        VerdictKind::Approve => format!(
            "not approved; {shown} stays open, and 'olb deny --id {shown} --reason ...' closes it"
        ),
        VerdictKind::Deny => format!("not denied; {shown} stays as it is"),
        VerdictKind::Revoke => format!("nothing was taken back; {shown} stays as it is"),
    }
}

fn send(subject: &Subject, claims: &VerdictClaims, verdict: Vec<u8>) -> Result<Confirmed, Failure> {
    let answer = subject.runtime.connect(Socket::Review).and_then(|mut connection| {
        connection.send(&Request::Decide { verdict: verdict.into() })?;
        connection.receive(Some(Instant::now() + ANSWER_TIME))
    });
    let failure = match answer {
        Ok(Some(Response::Decided { receipt, request })) => {
            match confirm::confirmed(subject, claims, &receipt, &request) {
                Some(confirmed) => return Ok(confirmed),
                None => None,
            }
        }
        Ok(_) => None,
        Err(failure) => Some(failure),
    };
    match (claims.kind, failure) {
        // A refusal is an answer; whether it is true matters only where something may still run.
        (VerdictKind::Approve, Some(failure)) if failure.code != code::UNAVAILABLE => {
            Err(confirm::for_approver(failure))
        }
        (VerdictKind::Approve, _) => Err(confirm::unapproved(subject)),
        (VerdictKind::Deny | VerdictKind::Revoke, failure) => {
            Err(confirm::not_closed(subject, failure.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests;
