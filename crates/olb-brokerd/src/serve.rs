//! Connections: who is there, what is asked, what is answered.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use olb_core::{Request as Held, Viewer};
use olb_lease::PlanDigest;
use olb_wire::{Request, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::Receiver;
use tokio::task::spawn_local;

use crate::admission::{Door, Place};
use crate::frame::{self, FrameError};
use crate::front::Front;
use crate::refuse::Refuse;
use crate::turns::Turn;
use crate::{execute, follow, request, review};

/// After a failed accept, for example without descriptors left, others get time to finish.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a request is answered with.
pub(crate) enum Answer {
    /// One message, and the end.
    One(Response),
    /// One message, then the request each time it changes.
    Follow(Response, PlanDigest, Viewer, Receiver<Arc<Held>>),
    /// Every request that changes.
    Watch(Receiver<Arc<Held>>),
}

impl Answer {
    /// A request as its owner sees it.
    pub(crate) fn request(front: &Front, held: &Held, uid: u32, joined: bool, wait: bool) -> Self {
        Self::shown(front, held, Viewer::Requester(uid), joined, wait)
    }

    /// A request as `viewer` sees it; with `wait` also as it will be.
    pub(crate) fn shown(
        front: &Front,
        held: &Held,
        viewer: Viewer,
        joined: bool,
        wait: bool,
    ) -> Self {
        let response = Response::Request(Box::new(front.view(held, viewer, joined)));
        if wait && held.is_open() {
            Self::Follow(response, held.digest, viewer, front.changes())
        } else {
            Self::One(response)
        }
    }
}

/// Accepts connections for ever.
pub(crate) async fn accept(front: Rc<Front>, door: Door, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => welcome(&front, door, stream),
            Err(error) => {
                tracing::error!(event = "accept_failed", ?door, %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes the kernel's word on who is there and gives out a place; nothing is read yet.
fn welcome(front: &Rc<Front>, door: Door, stream: UnixStream) {
    let Ok(peer) = olb_sys::peer::stream_peer(&stream) else {
        front.journal.count(door.name(), "unknown_peer", None);
        return;
    };
    let stranger = front.known_info().is_some() && !front.is_listed(door, peer.uid);
    let places = if stranger { &front.strangers } else { &front.places };
    match places.take(peer.uid) {
        Ok(place) => {
            spawn_local(converse(Rc::clone(front), door, peer.uid, stream, place));
        }
        Err(error) => {
            let refuse = Refuse::from(error);
            front.journal.count(door.name(), refuse.reason().name(), Some(peer.uid));
            refuse_now(&stream, &refuse);
        }
    }
}

/// Tells a peer for whom there is no room why, if its socket takes the message at once.
fn refuse_now(stream: &UnixStream, refuse: &Refuse) {
    let response = refused(None, refuse);
    if let Ok(bytes) = olb_wire::encode(&response, olb_wire::RESPONSE_BYTES_MAX) {
        olb_sys::socket::send_now(stream, &bytes).ok();
    }
}

async fn converse(front: Rc<Front>, door: Door, uid: u32, mut stream: UnixStream, place: Place) {
    let limits = &front.config.connections;
    if let Err(refuse) = front.admit(door, uid).await {
        front.journal.count(door.name(), refuse.reason().name(), Some(uid));
        let response = refused(None, &refuse);
        frame::write(&mut stream, &response, limits.response_write()).await.ok();
        return;
    }
    let turn = front.large_messages.take(uid);
    let done = match frame::read(&mut stream, limits.request_read(), turn).await {
        Ok((Request::Execute(asked), turn)) if door == Door::Request => {
            let handed_over = execute::execute(&front, uid, stream, &asked).await;
            // The connection is the root half's now; it no longer counts here.
            drop((place, asked, turn));
            if let Some(handed_over) = handed_over {
                handed_over.follow().await;
            }
            return;
        }
        Ok((asked, turn)) => {
            let mut turn = turn.and_then(Result::ok);
            if matches!(asked, Request::List { .. }) {
                // Given back first: nobody waits for a turn with a turn in hand.
                drop(turn.take());
                turn = front.large_messages.take(uid).await.ok();
            }
            serve(&front, door, uid, &mut stream, asked, turn).await
        }
        Err(error) => refuse_frame(&front, uid, &mut stream, error).await,
    };
    if let Err(error) = done {
        tracing::debug!(event = "connection_ended", uid, %error);
    }
}

async fn refuse_frame(
    front: &Front,
    uid: u32,
    stream: &mut UnixStream,
    error: FrameError,
) -> Result<(), FrameError> {
    let Some(reason) = error.reason() else { return Err(error) };
    front.journal.count("request", reason.name(), Some(uid));
    let response =
        Response::Refused { reason: reason as u16, text: error.to_string(), request: None };
    frame::write(stream, &response, front.config.connections.response_write()).await
}

async fn serve(
    front: &Rc<Front>,
    door: Door,
    uid: u32,
    stream: &mut UnixStream,
    asked: Request,
    turn: Option<Turn>,
) -> Result<(), FrameError> {
    let viewer = match door {
        Door::Request => Viewer::Requester(uid),
        Door::Review => Viewer::Approver,
    };
    let limit = front.config.connections.response_write();
    match answer(front, door, uid, viewer, stream, asked).await {
        Ok(Answer::One(response)) => frame::write(stream, &response, limit).await,
        Ok(Answer::Follow(response, plan, viewer, changes)) => {
            drop(turn);
            frame::write(stream, &response, limit).await?;
            follow::one(front, stream, plan, viewer, changes).await
        }
        Ok(Answer::Watch(changes)) => {
            drop(turn);
            follow::all(front, stream, changes).await
        }
        Err(refuse) => {
            front.journal.count("request", refuse.reason().name(), Some(uid));
            frame::write(stream, &refused(Some((front, viewer)), &refuse), limit).await
        }
    }
}

async fn answer(
    front: &Rc<Front>,
    door: Door,
    uid: u32,
    viewer: Viewer,
    stream: &UnixStream,
    asked: Request,
) -> Result<Answer, Refuse> {
    match (door, asked) {
        (Door::Request, Request::Submit(asked)) => request::submit(front, uid, &asked).await,
        (Door::Request, Request::Cancel { selector }) => request::cancel(front, uid, &selector),
        (Door::Review, Request::Decide { verdict }) => {
            review::decide(front, stream, &verdict).await
        }
        (Door::Review, Request::Watch) => Ok(Answer::Watch(front.changes())),
        (Door::Review, Request::Records { from }) => review::records(front, from).await,
        (_, Request::Show { selector, wait }) => request::show(front, viewer, &selector, wait),
        (_, Request::List { open }) => request::list(front, viewer, open),
        (_, Request::Status) => Ok(request::status(front).await),
        (Door::Request, Request::Decide { .. } | Request::Watch | Request::Records { .. })
        | (Door::Review, Request::Submit(_) | Request::Cancel { .. })
        | (_, Request::Execute(_)) => Err(Refuse::WrongDoor),
    }
}

/// A refusal as a message; with the request it is about where the viewer may see it.
fn refused(to: Option<(&Rc<Front>, Viewer)>, refuse: &Refuse) -> Response {
    let about = to.zip(refuse.request()).filter(|((_, viewer), held)| viewer.sees(held));
    let request = about.map(|((front, viewer), held)| Box::new(front.view(held, viewer, false)));
    Response::Refused { reason: refuse.reason() as u16, text: refuse.to_string(), request }
}
