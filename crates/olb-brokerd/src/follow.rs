//! Pushing changes to clients that wait: for one request, or for all.

use std::sync::Arc;

use olb_core::{Request, Viewer};
use olb_lease::PlanDigest;
use olb_wire::Response;
use tokio::net::UnixStream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::frame::{FrameError, gone, write};
use crate::front::Front;

/// Sends the request each time it changes, until it is over or the client is gone. `changes` has to
/// be older than what the client was sent first, so that nothing falls between.
pub(crate) async fn one(
    front: &Front,
    stream: &mut UnixStream,
    plan: PlanDigest,
    viewer: Viewer,
    mut changes: Receiver<Arc<Request>>,
) -> Result<(), FrameError> {
    loop {
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = gone(stream) => return Ok(()),
        };
        let request = match changed {
            Ok(request) if request.digest != plan => continue,
            Ok(request) => request,
            // Behind by too much: where it stands now is all that matters.
            Err(RecvError::Lagged(_)) => match front.by_plan(&plan) {
                Ok(request) => request,
                Err(_) => return Ok(()),
            },
            Err(RecvError::Closed) => return Ok(()),
        };
        send(front, stream, &request, viewer).await?;
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
    mut changes: Receiver<Arc<Request>>,
) -> Result<(), FrameError> {
    loop {
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = gone(stream) => return Ok(()),
        };
        let requests = match changed {
            Ok(request) => vec![request],
            Err(RecvError::Lagged(_)) => front.lifecycle.borrow().list(Viewer::Approver, false),
            Err(RecvError::Closed) => return Ok(()),
        };
        for request in requests {
            send(front, stream, &request, Viewer::Approver).await?;
        }
    }
}

async fn send(
    front: &Front,
    stream: &mut UnixStream,
    request: &Request,
    viewer: Viewer,
) -> Result<(), FrameError> {
    let view = Box::new(front.view(request, viewer, false));
    let limit = front.config.connections.response_write();
    write(stream, &Response::Request(view), limit).await
}
