//! Connections: who is there, what is asked, what is answered.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use olb_core::{Request as Held, Viewer};
use olb_wire::{Request, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::Receiver;
use tokio::task::spawn_local;

use crate::admission::{Door, Peer, not_listed};
use crate::frame::{self, FrameError};
use crate::front::Front;
use crate::refuse::Refuse;
use crate::room::Share;
use crate::turns::Turn;
use crate::{execute, follow, list, request, review};

/// After a failed accept, for example without descriptors left, others get time to finish.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a request is answered with.
pub(crate) enum Answer {
    /// One message, and the end.
    One(Response),
    /// A request, and with `changes` also what becomes of it.
    Shown { held: Arc<Held>, joined: bool, changes: Option<Receiver<Arc<Held>>> },
    /// Several requests.
    List { open: bool },
    /// Every request that changes.
    Watch(Receiver<Arc<Held>>),
}

impl Answer {
    /// A request as it is; with `wait` also as it will be.
    pub(crate) fn shown(front: &Front, held: Arc<Held>, joined: bool, wait: bool) -> Self {
        let changes = (wait && held.is_open()).then(|| front.changes());
        Self::Shown { held, joined, changes }
    }
}

/// Accepts connections for ever.
pub(crate) async fn accept(front: Rc<Front>, door: Door, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => welcome(&front, door, stream),
            Err(error) => {
                front.journal.failed(door.name(), "accept_failed", &error.to_string());
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
    match places.of(door).take(peer.uid, 1) {
        Ok(place) => {
            let peer = Peer { door, uid: peer.uid };
            spawn_local(converse(Rc::clone(front), peer, stream, place));
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

async fn converse(front: Rc<Front>, peer: Peer, mut stream: UnixStream, place: Share) {
    let Peer { door, uid } = peer;
    let limits = &front.config.connections;
    if let Err(refuse) = front.admit(door, uid).await {
        front.journal.count(door.name(), refuse.reason().name(), Some(uid));
        let response = refused(None, &refuse);
        frame::write(&mut stream, &response, limits.response_write()).await.ok();
        return;
    }
    let turn = |bytes| front.turn(uid, bytes, None);
    let done = match frame::read(&mut stream, limits.request_read(), turn).await {
        Ok((Request::Execute(asked), turn)) if door == Door::Request => {
            let handed_over = execute::execute(&front, uid, stream, &asked, turn).await;
            // The connection is the root half's now; it no longer counts here.
            drop((place, asked));
            if let Some(handed_over) = handed_over {
                handed_over.follow().await;
            }
            return;
        }
        Ok((asked, turn)) => serve(&front, peer, &mut stream, asked, turn).await,
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
    peer: Peer,
    stream: &mut UnixStream,
    asked: Request,
    turn: Option<Turn>,
) -> Result<(), FrameError> {
    let limit = front.config.connections.response_write();
    let (refuse, turn) = match answer(front, peer, stream, asked).await {
        Ok(Answer::One(response)) => return frame::write(stream, &response, limit).await,
        Ok(Answer::Shown { held, joined, changes }) => {
            let turn = front.turn(peer.uid, held.weight(), turn).await;
            let view = Box::new(front.view(&held, peer.viewer(), joined));
            frame::write(stream, &Response::Request(view), limit).await?;
            drop(turn);
            return match changes {
                Some(changes) => follow::one(front, stream, peer, held.digest, changes).await,
                None => Ok(()),
            };
        }
        Ok(Answer::List { open }) => {
            let turn = front.turn(peer.uid, u64::MAX, turn).await;
            match list::send(front, stream, peer.viewer(), open).await? {
                Ok(()) => return Ok(()),
                Err(refuse) => (refuse, turn),
            }
        }
        Ok(Answer::Watch(changes)) => {
            drop(turn);
            return follow::all(front, stream, peer, changes).await;
        }
        Err(refuse) => (refuse, turn),
    };
    front.journal.count("request", refuse.reason().name(), Some(peer.uid));
    let weight = refuse.request().map_or(0, |held| held.weight());
    // Nobody waits for a turn with a turn in hand.
    let _turn = front.turn(peer.uid, weight, turn).await;
    frame::write(stream, &refused(Some((front, peer.viewer())), &refuse), limit).await
}

/// Tells a peer that was let in, and has left the lists since, that it is on none.
pub(crate) async fn send_away(
    front: &Front,
    stream: &mut UnixStream,
    peer: Peer,
) -> Result<(), FrameError> {
    let refuse = Refuse::from(not_listed(peer.door));
    front.journal.count(peer.door.name(), refuse.reason().name(), Some(peer.uid));
    frame::write(stream, &refused(None, &refuse), front.config.connections.response_write()).await
}

async fn answer(
    front: &Rc<Front>,
    peer: Peer,
    stream: &UnixStream,
    asked: Request,
) -> Result<Answer, Refuse> {
    let Peer { door, uid } = peer;
    match (door, asked) {
        (Door::Request, Request::Submit(asked)) => {
            request::submit(front, uid, stream, &asked).await
        }
        (Door::Request, Request::Cancel { selector }) => {
            request::cancel(front, uid, &selector).await
        }
        (Door::Review, Request::Decide { verdict }) => {
            review::decide(front, stream, &verdict).await
        }
        (Door::Review, Request::Watch) => Ok(Answer::Watch(front.changes())),
        (Door::Review, Request::Records { from }) => review::records(front, from).await,
        (_, Request::Show { selector, wait }) => {
            request::show(front, peer.viewer(), &selector, wait)
        }
        (_, Request::List { open }) => Ok(Answer::List { open }),
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
