//! Lists, a page at a time: what a client does not read is at most one page in memory, and others are
//! served between two pages.

use std::sync::Arc;

use olb_core::{Request, Viewer};
use olb_lease::PlanDigest;
use olb_wire::{RequestView, Response};
use tokio::net::UnixStream;

use crate::frame::{FrameError, write};
use crate::front::Front;
use crate::refuse::Refuse;

/// The newest requests that a list shows.
const LISTED_MAX: u32 = 256;
/// Bytes of the requests on a page, of which there is at least one.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a request beside what [`Request::weight`] counts.
const FIELDS_BYTES: u64 = 1024;

/// Sends all open requests, or the newest of all, with an empty page at the end.
pub(crate) async fn send(
    front: &Front,
    stream: &mut UnixStream,
    viewer: Viewer,
    open: bool,
) -> Result<Result<(), Refuse>, FrameError> {
    let plans = match plans(front, viewer, open) {
        Ok(plans) => plans,
        Err(refuse) => return Ok(Err(refuse)),
    };
    let limit = front.config.connections.response_write();
    let mut rest = plans.as_slice();
    loop {
        let page = match page(front, viewer, &mut rest) {
            Ok(page) => page,
            Err(refuse) => return Ok(Err(refuse)),
        };
        let is_last = page.is_empty();
        write(stream, &Response::Requests(page), limit).await?;
        if is_last {
            return Ok(Ok(()));
        }
    }
}

/// What is listed, the oldest first.
fn plans(front: &Front, viewer: Viewer, open: bool) -> Result<Vec<PlanDigest>, Refuse> {
    front.expire();
    if open {
        let open = front.lifecycle.borrow().list(viewer, true);
        return Ok(open.iter().map(|request| request.digest).collect());
    }
    let uid = match viewer {
        Viewer::Requester(uid) => Some(uid),
        Viewer::Approver => None,
    };
    let mut plans = front.store.newest(uid, LISTED_MAX)?;
    plans.reverse();
    Ok(plans)
}

/// The next page of `rest`; an empty one is the last.
fn page(
    front: &Front,
    viewer: Viewer,
    rest: &mut &[PlanDigest],
) -> Result<Vec<RequestView>, Refuse> {
    let mut room = PAGE_BYTES_MAX;
    let mut page = Vec::new();
    while let Some((plan, others)) = rest.split_first() {
        if let Some(request) = front.find_plan(plan)? {
            match room.checked_sub(bytes(&request)) {
                Some(left) => room = left,
                None if page.is_empty() => room = 0,
                None => break,
            }
            page.push(front.view(&request, viewer, false));
        }
        *rest = others;
    }
    Ok(page)
}

fn bytes(request: &Arc<Request>) -> u64 {
    request.weight().saturating_add(FIELDS_BYTES)
}
