//! DECIDE: records a signed verdict; for an approval mints the one lease.

use std::os::fd::OwnedFd;

use olb_exec_api::{Decided, Enrolled, Reason, Refusal};
use olb_lease::{
    Cti, LeaseClaims, Plan, PlanDigest, RawVerdict, VerdictClaims, VerdictKind, VerifiedVerdict,
    argv_digest, cwd_digest, env_digest, plan_digest,
};
use olb_ledger::{Decision, DecisionResult, NewLease};
use olb_sys::clock::{boottime_ms, unix_secs};
use olb_sys::crash::crash_point;
use olb_sys::peer::stream_peer;

use crate::bind::{bind, check_broker};
use crate::broker::Broker;
use crate::keys::random;

/// A verdict may be this far ahead of our clock, in seconds.
const CLOCK_SKEW_SECS: u64 = 60;

/// Checks and records a verdict.
///
/// # Errors
/// The first thing that does not hold; nothing is recorded then.
pub fn decide(
    broker: &Broker,
    verdict_bytes: &[u8],
    plan_bytes: &[u8],
    approver: &OwnedFd,
) -> Result<Decided, Refusal> {
    let now = unix_secs();
    let (verdict, enrolled) = verify(broker, verdict_bytes, now)?;
    let digest = plan_digest(plan_bytes);
    if verdict.claims().plan != digest {
        let text = "the verdict is about another plan than the one beside it";
        return Err(Refusal::new(Reason::Mismatch, text));
    }
    let plan = Plan::decode(plan_bytes)
        .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
    let checked = check_approver(broker, &enrolled, &plan, approver)
        .and_then(|()| check_freshness(broker, verdict.claims(), now))
        .and_then(|()| enrolled.permits_requester(plan.requester_uid))
        .and_then(|()| check_broker(broker, &plan));
    if let Err(refusal) = checked {
        // A good signature under a bad verdict: the sign of a stolen key, or of a front that lies.
        broker.journal.warn(&format!(
            "a verdict signed with the key of {} is refused: {}",
            enrolled.name,
            refusal.reason.name()
        ));
        return Err(refusal);
    }
    let lease = match verdict.claims().kind {
        VerdictKind::Approve => {
            enrolled.permits_target(&plan.run_as)?;
            bind(broker, &plan)?;
            Some(mint(broker, &verdict, &enrolled, &plan, digest, now)?)
        }
        VerdictKind::Deny | VerdictKind::Revoke => None,
    };
    let decision = Decision {
        verdict,
        verdict_bytes: verdict_bytes.to_vec(),
        plan_bytes: plan_bytes.to_vec(),
        plan: digest,
        requester_uid: plan.requester_uid,
        approver_name: enrolled.name,
        approver_uid: enrolled.uid,
        now,
        boot_now_ms: boottime_ms(),
        lease,
        max_approvals_per_hour: enrolled.max_approvals_per_hour,
    };
    record(broker, decision)
}

/// Envelope, key, signature: nothing of the verdict is decoded before they hold.
fn verify(broker: &Broker, bytes: &[u8], now: u64) -> Result<(VerifiedVerdict, Enrolled), Refusal> {
    let bad =
        |error: olb_lease::VerdictError| Refusal::new(Reason::BadSignature, error.to_string());
    let raw = RawVerdict::parse(bytes).map_err(bad)?;
    let enrolled = broker.enrolled(raw.kid(), None, now)?;
    let verdict = raw.verify(&enrolled.key).map_err(bad)?;
    Ok((verdict, enrolled))
}

/// The approver's own socket has to be that of the uid the key is enrolled for, and never that of
/// the requester. The one exception: without a boundary everybody is one user.
fn check_approver(
    broker: &Broker,
    enrolled: &Enrolled,
    plan: &Plan,
    socket: &OwnedFd,
) -> Result<(), Refusal> {
    let peer = stream_peer(socket).map_err(|error| {
        Refusal::new(Reason::WrongApprover, format!("the approver is not known: {error}"))
    })?;
    if peer.uid != enrolled.uid {
        let text = format!(
            "the key of {} is enrolled for uid {}, but uid {} used it",
            enrolled.name, enrolled.uid, peer.uid
        );
        return Err(Refusal::new(Reason::WrongApprover, text));
    }
    let one_user = !broker.has_boundary() && peer.uid == broker.own_uid;
    let is_requester = peer.uid == plan.requester_uid || broker.may_request(peer.uid);
    if is_requester && !one_user {
        let text = "a requester is never an approver, whatever key it holds";
        return Err(Refusal::new(Reason::SelfApproval, text));
    }
    Ok(())
}

fn check_freshness(broker: &Broker, claims: &VerdictClaims, now: u64) -> Result<(), Refusal> {
    let stale = |text: &str| Err(Refusal::new(Reason::StaleVerdict, text));
    if claims.epoch != broker.epoch {
        return stale("the broker was restarted since the verdict was signed; decide again");
    }
    let issued_at = u64::from(claims.issued_at);
    if issued_at > now.saturating_add(CLOCK_SKEW_SECS) {
        return stale("the verdict was signed in the future; set the clocks right");
    }
    let age = now.saturating_sub(issued_at);
    if age > u64::from(broker.config.limits.verdict_age_secs) {
        return stale("the verdict was signed too long ago; decide again");
    }
    if u64::from(claims.expires_at) <= now {
        return stale("the verdict has expired; decide again");
    }
    Ok(())
}

/// Signs a lease over what the plan says; it becomes good only when the ledger takes it.
fn mint(
    broker: &Broker,
    verdict: &VerifiedVerdict,
    enrolled: &Enrolled,
    plan: &Plan,
    digest: PlanDigest,
    now: u64,
) -> Result<NewLease, Refusal> {
    let unavailable = |text: &str| Refusal::new(Reason::Unavailable, text);
    let issued_at =
        u32::try_from(now).map_err(|_| unavailable("the clock is past the year 2105"))?;
    let lifetime = enrolled.max_lease_secs.min(broker.config.limits.lease_lifetime_secs);
    let expires_at = verdict.claims().expires_at.min(issued_at.saturating_add(lifetime));
    let cti = Cti(random().ok_or_else(|| unavailable("no random numbers to be had"))?);
    let claims = LeaseClaims {
        audience: broker.audience,
        expires_at,
        issued_at,
        cti,
        argv: argv_digest(&plan.argv),
        requester_uid: plan.requester_uid,
        environment: env_digest(&plan.environment),
        cwd: cwd_digest(&plan.cwd),
        plan: digest,
        verdict: verdict.digest(),
        epoch: broker.epoch,
    };
    let bytes = claims
        .sign(&broker.lease_key)
        .map_err(|error| Refusal::new(Reason::NotPermitted, error.to_string()))?;
    let lives_ms = u64::from(expires_at.saturating_sub(issued_at)).saturating_mul(1000);
    Ok(NewLease { bytes, claims, deadline_boot_ms: boottime_ms().saturating_add(lives_ms) })
}

/// Hands the decision to the ledger, which has the last word.
fn record(broker: &Broker, decision: Decision) -> Result<Decided, Refusal> {
    let new_lease = decision.lease.as_ref();
    let new_lease = new_lease.map(|lease| (lease.bytes.clone(), lease.claims.expires_at));
    crash_point("decide-before-record");
    let result = broker.ledger.decide(decision).map_err(|error| broker.ledger_refusal(&error))?;
    crash_point("decide-after-record");
    match result {
        DecisionResult::Recorded { receipt } => {
            let (lease, expires_at) = new_lease.unzip();
            Ok(Decided { receipt, lease, expires_at: expires_at.unwrap_or(0) })
        }
        DecisionResult::AlreadyDecided {
            kind: VerdictKind::Approve,
            receipt,
            lease: Some(lease),
        } => Ok(Decided { receipt, lease: Some(lease.bytes), expires_at: lease.expires_at }),
        DecisionResult::AlreadyDecided { kind, .. } => {
            let text = format!("the request was decided before ({}); that stands", word(kind));
            Err(Refusal::new(Reason::AlreadyDecided, text))
        }
        DecisionResult::Burned { recorded } => Err(Refusal {
            reason: Reason::AlreadyBurned,
            text: "the lease was used before this decision arrived; it cannot be taken back".into(),
            recorded: recorded.map(to_recorded),
        }),
        DecisionResult::RateLimited => {
            let text = "this key has given all the approvals it may give within an hour";
            Err(Refusal::new(Reason::NotPermitted, text))
        }
        DecisionResult::KeyRevoked => {
            Err(Refusal::new(Reason::NotEnrolled, "the key was revoked; enrol a new one"))
        }
        DecisionResult::WrongEpoch => {
            let text = "the broker was restarted since the verdict was signed; decide again";
            Err(Refusal::new(Reason::StaleVerdict, text))
        }
    }
}

fn word(kind: VerdictKind) -> &'static str {
    match kind {
        VerdictKind::Approve => "approved",
        VerdictKind::Deny => "denied",
        VerdictKind::Revoke => "revoked",
    }
}

/// The ledger's record of an outcome, as the protocol has it.
pub(crate) fn to_recorded(recorded: olb_ledger::Recorded) -> olb_exec_api::Recorded {
    olb_exec_api::Recorded {
        receipt: recorded.receipt,
        stdout_tail: recorded.stdout_tail,
        stderr_tail: recorded.stderr_tail,
    }
}
