//! What requesters ask on `request.sock`, but for executions.

use std::rc::Rc;
use std::time::Instant;

use olb_core::{Reject, Request, Selector, SubmittedAs, Viewer};
use olb_exec_api::{Info, encode_info};
use olb_lease::Plan;
use olb_review::display::safe;
use olb_sys::crash::crash_point;
use olb_wire::{ByteBuf, Health, Response, Submit};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::net::UnixStream;

use crate::admission::{Door, check};
use crate::blobs::Incoming;
use crate::environment;
use crate::front::Front;
use crate::lookup;
use crate::plan::{self, Resolved};
use crate::refuse::Refuse;
use crate::serve::Answer;
use crate::settle;
use crate::upload::{self, UploadError};

/// A new request, or the one that asks for the same.
pub(crate) async fn submit(
    front: &Rc<Front>,
    uid: u32,
    stream: &UnixStream,
    submit: &Submit,
) -> Result<Answer, Refuse> {
    plan::check_submit(submit)?;
    let words = environment::words(&submit.command.environment_words)?;
    let admission = front.lifecycle.borrow_mut().admit(front.uptime(), uid)?;
    let info = front.info().await?;
    check(&info, Door::Request, uid)?;
    let resolved = resolve(front, uid, submit, words, &info).await?;
    let files = files(front, uid, stream, submit, &info).await?;
    let (_, bytes) = build(front, &info, uid, submit, resolved)?;
    // From here to the end nothing waits: the request, its input and its answer are one step.
    let random = random()?;
    front.expire();
    let submitted = front.lifecycle.borrow_mut().submit(front.now(), admission, bytes, &random)?;
    let request = submitted.request;
    let stored = match submitted.how {
        SubmittedAs::New => keep(front, submit, &request, files).and_then(|()| {
            crash_point("front-submit-before-store");
            Ok(front.apply(submitted.effects)?)
        }),
        SubmittedAs::Joined | SubmittedAs::Approved => heal(front, &request, files),
        SubmittedAs::DeniedBefore { .. } => Ok(()),
    };
    stored.inspect_err(|_| withdraw(front, uid, &request, submitted.how))?;
    crash_point("front-submit-after-store");
    match submitted.how {
        SubmittedAs::DeniedBefore { .. } => Err(front.standing(request)),
        SubmittedAs::New => Ok(Answer::shown(front, request, false, submit.wait)),
        SubmittedAs::Joined | SubmittedAs::Approved => {
            Ok(Answer::shown(front, request, true, submit.wait))
        }
    }
}

/// A power cut can leave a request without its files: whoever asks again has just handed them in.
fn heal(front: &Front, request: &Request, files: Option<Incoming>) -> Result<(), Refuse> {
    match files {
        Some(incoming) if !front.blobs.folder_of(&request.digest).exists() => {
            Ok(front.blobs.keep(&request.digest, incoming).map_err(UploadError::Disk)?)
        }
        Some(_) | None => Ok(()),
    }
}

/// A new request that could not be stored is not asked for: the next one like it must not join it.
fn withdraw(front: &Front, uid: u32, request: &Request, how: SubmittedAs) {
    let id: Result<Selector, _> = request.id().to_string().parse();
    let Some(id) = id.ok().filter(|_| how == SubmittedAs::New) else { return };
    if let Ok((_, effects)) = front.lifecycle.borrow_mut().cancel(front.now(), &id, uid) {
        // What cannot be stored either is forgotten with this process.
        front.apply(effects).ok();
    }
}

/// Takes in the files that follow the submit, if any do.
async fn files(
    front: &Front,
    uid: u32,
    stream: &UnixStream,
    submit: &Submit,
    info: &Info,
) -> Result<Option<Incoming>, Refuse> {
    let staged = plan::staged_of(&submit.command);
    let Some(first) = staged.first() else { return Ok(None) };
    if info.staging.is_empty() {
        return Err(Refuse::NoStaging { file: safe(&first.path) });
    }
    Ok(Some(upload::receive(front, uid, stream, &staged).await?))
}

async fn resolve(
    front: &Front,
    uid: u32,
    submit: &Submit,
    words: environment::Variables,
    info: &Info,
) -> Result<Resolved, Refuse> {
    let command = submit.command.clone();
    let own_only = (!info.boundary).then_some(uid);
    front.lookups.run(uid, move || lookup::resolve(&command, words, own_only)).await
}

/// Builds the plan of a submit.
pub(crate) fn build(
    front: &Front,
    info: &Info,
    uid: u32,
    submit: &Submit,
    resolved: Resolved,
) -> Result<(Plan, Vec<u8>), Refuse> {
    let default = front.config.connections.wall_clock_secs;
    let default = u32::try_from(default).unwrap_or(olb_lease::plan_limit::WALL_CLOCK_SECS);
    let wall_clock = submit.wall_clock_secs.unwrap_or(default);
    let whole = front.rules.examine(&submit.command.argv).whole;
    Ok(plan::build(info, uid, submit, resolved, wall_clock, whole, random()?)?)
}

/// Stores the input and the files of a new request: it is never there without its bytes.
fn keep(
    front: &Front,
    submit: &Submit,
    request: &Request,
    files: Option<Incoming>,
) -> Result<(), Refuse> {
    if let Some(bytes) = &submit.command.stdin {
        front.store.save_stdin(&request.digest, bytes)?;
    }
    match files {
        Some(files) => {
            front.blobs.keep(&request.digest, files).map_err(|e| UploadError::Disk(e).into())
        }
        None => Ok(()),
    }
}

fn random<const N: usize>() -> Result<[u8; N], Refuse> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| Refuse::Random)?;
    Ok(bytes)
}

/// Takes back one's own pending request. Where a decision may have been recorded that the front was
/// not told of, the ledger is asked first.
pub(crate) async fn cancel(front: &Rc<Front>, uid: u32, selector: &str) -> Result<Answer, Refuse> {
    let parsed: Selector = selector.parse()?;
    let mut cancelled = front.lifecycle.borrow_mut().cancel(front.now(), &parsed, uid);
    if cancelled == Err(Reject::Unconfirmed) {
        front.info_since(Instant::now()).await?;
        settle::reconcile(front).await;
        cancelled = front.lifecycle.borrow_mut().cancel(front.now(), &parsed, uid);
    }
    match cancelled {
        Ok((request, effects)) => {
            front.apply(effects)?;
            Ok(Answer::shown(front, request, false, false))
        }
        // It may be an old one that only the store has: then it is over.
        Err(Reject::NotYours) => {
            let request = front.select(selector, Viewer::Requester(uid))?;
            Err(Reject::NotCancellable { request }.into())
        }
        Err(reject) => Err(reject.into()),
    }
}

/// One request.
pub(crate) fn show(
    front: &Rc<Front>,
    viewer: Viewer,
    selector: &str,
    wait: bool,
) -> Result<Answer, Refuse> {
    let request = front.select(selector, viewer)?;
    Ok(Answer::shown(front, request, false, wait))
}

/// Health, limits and keys.
pub(crate) async fn status(front: &Front) -> Answer {
    let info = front.info_since(Instant::now()).await;
    let problem = match &info {
        Ok(_) => front.problem(),
        Err(error) => {
            tracing::debug!(event = "execd_unavailable", cause = ?error);
            front.journal.count("status", error.reason().name(), None);
            Some(error.to_string())
        }
    };
    let health = Health {
        execd: info.is_ok(),
        problem,
        info: info.ok().map(|info| ByteBuf::from(encode_info(&info))),
        limits: front.config.named(),
        open_requests: front.lifecycle.borrow().open_requests(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    Answer::One(Response::Status(Box::new(health)))
}
