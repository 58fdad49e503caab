//! What approvers ask on `review.sock` beyond looking.

use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Instant;

use olb_core::{Decision, Reject, Viewer};
use olb_lease::RawVerdict;
use olb_sys::crash::crash_point;
use olb_wire::{ByteBuf, Response};
use tokio::net::UnixStream;

use crate::execd::ExecdError;
use crate::front::Front;
use crate::operation::Operation;
use crate::refuse::Refuse;
use crate::serve::Answer;

/// Hands a signed verdict to the root half, together with the approver's own connection. The front
/// reads the verdict only to find the plan; whether it holds is not for the front to say.
pub(crate) async fn decide(
    front: &Rc<Front>,
    approver: &UnixStream,
    verdict: &[u8],
) -> Result<Answer, Refuse> {
    let claims = RawVerdict::parse(verdict)?.unverified_claims()?;
    // The epoch of the decision is compared with the one learnt last.
    front.info_since(Instant::now()).await?;
    let (operation, request) = match Operation::decide(front, claims.plan, claims.kind) {
        Ok(begun) => begun,
        // It may be an old one that only the store has: then it is over.
        Err(Refuse::Reject(Reject::NotYours)) => {
            let request = front.by_plan(&claims.plan)?;
            return Err(Reject::NotDecidable { request }.into());
        }
        Err(refuse) => return Err(refuse),
    };
    crash_point("front-decide-before-execd");
    let decided = match front.execd.decide(verdict, &request.plan, approver.as_fd()).await {
        Ok(decided) => decided,
        Err(error) => {
            operation.failed(&error);
            return Err(error.into());
        }
    };
    crash_point("front-decide-after-execd");
    let receipt = ByteBuf::from(decided.receipt.clone());
    let decision = Decision::read(decided.receipt, decided.lease, decided.expires_at);
    operation.decided(decision.map_err(|_| ExecdError::Unexpected)?)?;
    crash_point("front-decide-after-store");
    let request = front.by_plan(&claims.plan)?;
    let request = Box::new(front.view(&request, Viewer::Approver, false));
    Ok(Answer::One(Response::Decided { receipt, request }))
}

/// A page of the audit trail.
pub(crate) async fn records(front: &Front, from: u64) -> Result<Answer, Refuse> {
    let page = front.execd.records(from).await?;
    Ok(Answer::One(Response::Records(ByteBuf::from(page))))
}
