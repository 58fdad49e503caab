//! Pushing changes to clients that wait: for one request, or for all. Whoever is on no list any more
//! is told so and sent away, before anything else is sent.

use std::sync::Arc;

use olb_core::{Request, Viewer};
use olb_lease::PlanDigest;
use olb_wire::Response;
use tokio::net::UnixStream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::admission::Peer;
use crate::frame::{FrameError, gone, write};
use crate::front::Front;
use crate::serve::send_away;

/// What a client that waits is woken by.
enum Woken {
    Changed(Arc<Request>),
    /// It fell behind by too much.
    Behind,
    /// Nobody is there any more, or somebody who is not welcome.
    Over,
}

/// Sends the request each time it changes, until it is over or the client is gone. `changes` has to
/// be older than what the client was sent first, so that nothing falls between.
pub(crate) async fn one(
    front: &Front,
    stream: &mut UnixStream,
    peer: Peer,
    plan: PlanDigest,
    mut changes: Receiver<Arc<Request>>,
) -> Result<(), FrameError> {
    loop {
        let request = match next(front, stream, peer, Some(plan), &mut changes).await? {
            Woken::Changed(request) => request,
            // Where it stands now is all that matters.
            Woken::Behind => match front.by_plan(&plan) {
                Ok(request) => request,
                Err(_) => return Ok(()),
            },
            Woken::Over => return Ok(()),
        };
        send(front, stream, peer, &request).await?;
        if !request.is_open() {
            return Ok(());
        }
    }
}

/// Sends every request that changes, until the client is gone. A client that fell behind is sent
/// all requests in memory again.
pub(crate) async fn all(
    front: &Front,
    stream: &mut UnixStream,
    peer: Peer,
    mut changes: Receiver<Arc<Request>>,
) -> Result<(), FrameError> {
    loop {
        let requests = match next(front, stream, peer, None, &mut changes).await? {
            Woken::Changed(request) => vec![request],
            Woken::Behind => front.lifecycle.borrow().list(Viewer::Approver, false),
            Woken::Over => return Ok(()),
        };
        for request in requests {
            send(front, stream, peer, &request).await?;
        }
    }
}

/// Waits for a change, of `plan` only where one is given.
async fn next(
    front: &Front,
    stream: &mut UnixStream,
    peer: Peer,
    plan: Option<PlanDigest>,
    changes: &mut Receiver<Arc<Request>>,
) -> Result<Woken, FrameError> {
    let mut lists = front.lists();
    let mut woken = None;
    while woken.is_none() && front.is_listed(peer.door, peer.uid) {
        woken = tokio::select! {
            changed = changes.recv() => match changed {
                Ok(request) if plan.is_some_and(|plan| request.digest != plan) => None,
                Ok(request) => Some(Woken::Changed(request)),
                Err(RecvError::Lagged(_)) => Some(Woken::Behind),
                Err(RecvError::Closed) => return Ok(Woken::Over),
            },
            // An error would mean that the front is gone.
            Ok(()) = lists.changed() => None,
            () = gone(stream) => return Ok(Woken::Over),
        };
    }
    match woken {
        Some(woken) if front.is_welcome(peer).await => Ok(woken),
        Some(_) | None => {
            send_away(front, stream, peer).await?;
            Ok(Woken::Over)
        }
    }
}

async fn send(
    front: &Front,
    stream: &mut UnixStream,
    peer: Peer,
    request: &Request,
) -> Result<(), FrameError> {
    let _turn = front.turn(peer.uid, request.weight(), None).await;
    let view = Box::new(front.view(request, peer.viewer(), false));
    let limit = front.config.connections.response_write();
    write(stream, &Response::Request(view), limit).await
}
