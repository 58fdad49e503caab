//! The checks of a presented lease that need no look at the file system: signature first, then
//! every claim against the plan, the caller and this broker.

use std::os::fd::OwnedFd;

use olb_exec_api::{Reason, Refusal};
use olb_lease::{
    LeaseClaims, Plan, RawLease, VerifiedLease, argv_digest, cwd_digest, env_digest, plan_digest,
};
use olb_ledger::Issued;
use olb_sys::peer::stream_peer;

use crate::broker::Broker;

/// Length, envelope, key id, signature, decoding: in this order, and nothing else is looked at
/// before.
///
/// # Errors
/// The stage that failed.
pub fn signature(broker: &Broker, bytes: &[u8]) -> Result<VerifiedLease, Refusal> {
    let bad = |error: olb_lease::LeaseError| Refusal::new(Reason::BadSignature, error.to_string());
    let raw = RawLease::parse(bytes).map_err(bad)?;
    raw.verify(broker.lease_key.public()).map_err(bad)
}

/// Every claim that repeats the plan has to agree with it.
///
/// # Errors
/// The first claim that does not.
pub fn agreement(
    broker: &Broker,
    claims: &LeaseClaims,
    plan_bytes: &[u8],
) -> Result<Plan, Refusal> {
    if claims.audience != broker.audience {
        let text = "the lease is for another broker; ask for one here";
        return Err(Refusal::new(Reason::WrongAudience, text));
    }
    if claims.epoch != broker.epoch {
        let text = "the broker was restarted since the approval; ask again";
        return Err(Refusal::new(Reason::BrokerRestarted, text));
    }
    let mismatch = |what: &str| {
        let text = format!("the lease is for another command: its {what} differs; ask again");
        Refusal::new(Reason::Mismatch, text)
    };
    if claims.plan != plan_digest(plan_bytes) {
        return Err(mismatch("plan"));
    }
    let plan = Plan::decode(plan_bytes)
        .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
    let agrees = [
        (claims.argv == argv_digest(&plan.argv), "argument vector"),
        (claims.environment == env_digest(&plan.environment), "environment"),
        (claims.cwd == cwd_digest(&plan.cwd), "working directory"),
        (claims.requester_uid == plan.requester_uid, "requester"),
    ];
    match agrees.into_iter().find(|(holds, _)| !holds) {
        Some((_, what)) => Err(mismatch(what)),
        None => Ok(plan),
    }
}

/// Whether a socket is that of a client who may ask for anything at all.
#[must_use]
pub fn is_requester(broker: &Broker, client: &OwnedFd) -> bool {
    stream_peer(client).is_ok_and(|peer| broker.may_request(peer.uid))
}

/// The client is who the kernel says it is, and has to be the one the lease is for.
///
/// # Errors
/// Another uid, or a socket that is no client's.
pub fn presenter(broker: &Broker, claims: &LeaseClaims, client: &OwnedFd) -> Result<(), Refusal> {
    let peer = stream_peer(client).map_err(|error| {
        Refusal::new(Reason::NotListed, format!("the client is not known: {error}"))
    })?;
    if !broker.may_request(peer.uid) {
        let text = format!("uid {} is not on the list of requesters (execd.conf)", peer.uid);
        return Err(Refusal::new(Reason::NotListed, text));
    }
    if peer.uid != claims.requester_uid {
        let text = "the lease is not yours: it is for another user; ask for one of your own";
        return Err(Refusal::new(Reason::NotYours, text));
    }
    Ok(())
}

/// The ledger issued this lease, for this verdict, and the approver's key is still enrolled. The
/// burn checks all of the ledger's part again, in the transaction that decides.
///
/// # Errors
/// It was not, or is not.
pub fn standing(
    broker: &Broker,
    claims: &LeaseClaims,
    plan: &Plan,
    issued: Option<Issued>,
    now: u64,
) -> Result<(), Refusal> {
    let issued = issued.filter(|row| row.verdict == claims.verdict && row.plan == claims.plan);
    let Some(issued) = issued else {
        let text = "this broker has no record of issuing the lease; ask again";
        return Err(Refusal::new(Reason::NotIssued, text));
    };
    // What the key may approve can have become less since it did.
    let enrolled = broker.enrolled(issued.kid, Some(issued.approver_uid), now)?;
    enrolled.permits_requester(plan.requester_uid)?;
    enrolled.permits_target(&plan.run_as)
}
