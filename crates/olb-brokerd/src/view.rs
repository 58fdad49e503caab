//! A request as its owner or an approver may see it.

use olb_core::{Request, Viewer};
use olb_lease::Outcome;
use olb_wire::{ByteBuf, RequestView};

/// What is known about a request beside itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside {
    /// It was there before this submit.
    pub(crate) joined: bool,
    /// Seconds until it may be asked for again.
    pub(crate) retry_after_secs: Option<u64>,
}

/// Shows `request` to `viewer` at `now`; only its owner gets the lease, while it can be used.
pub(crate) fn view(request: &Request, viewer: Viewer, now: u64, beside: Beside) -> RequestView {
    let (exit_code, signal, errno, may_be_running) = match request.outcome {
        None => (None, None, None, None),
        Some(Outcome::Exited(code)) => (Some(code), None, None, None),
        Some(Outcome::Killed(signal)) => (None, Some(signal), None, None),
        Some(Outcome::SpawnFailed(errno)) => (None, None, Some(errno), None),
        Some(Outcome::Unknown { may_be_running }) => (None, None, None, Some(may_be_running)),
    };
    let lease = match viewer {
        Viewer::Requester(_) => request.usable_lease(now).map(ByteBuf::from),
        Viewer::Approver => None,
    };
    RequestView {
        request_id: request.id().to_string(),
        code: request.code.to_string(),
        state: request.state.name().to_owned(),
        requester_uid: request.requester_uid,
        plan: ByteBuf::from(request.plan.to_vec()),
        created_at: request.created_at,
        expires_at: request.expires_at,
        joined: beside.joined,
        lease,
        lease_expires_at: request.lease_expires_at,
        decided_by: request.decided_by.clone(),
        reason: request.reason.clone(),
        exit_code,
        signal,
        errno,
        may_be_running,
        receipt: request.receipt.clone().map(ByteBuf::from),
        stdout_tail: ByteBuf::from(request.stdout_tail.clone()),
        stderr_tail: ByteBuf::from(request.stderr_tail.clone()),
        retry_after_secs: beside.retry_after_secs,
    }
}
