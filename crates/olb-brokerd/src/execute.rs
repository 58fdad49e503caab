//! Presenting a lease: the front finds the plan, compares what is typed now with it, and hands the
//! client's socket to the root half, which decides everything that matters again.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use olb_core::{Finish, MatchKey, Reject, Request, State, Viewer};
use olb_exec_api::ClientFrame;
use olb_lease::{Plan, RawLease};
use olb_review::display::safe;
use olb_sys::crash::crash_point;
use olb_sys::memfd::sealed_memfd;
use olb_wire::{Command, Execute, Submit};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::account::target;
use crate::blobs;
use crate::environment;
use crate::execd::{ExecdError, Run};
use crate::frame::write_bytes;
use crate::front::Front;
use crate::lookup;
use crate::operation::Operation;
use crate::plan::{argv_of, check_command, cwd_of, staged_of, stdin_of};
use crate::refuse::Refuse;
use crate::request::build;
use crate::turns::Turn;

/// Of a run that is over after this only its end is stored: a write while the command starts makes it
/// wait for a processor. A front that dies in between forgets that it runs, and asks the ledger about
/// it at its next start, as about every open request.
const SHORT_RUN: Duration = Duration::from_millis(50);

/// A presentation that the root half has taken over: what is left to do once the client's socket is
/// closed here.
pub(crate) struct HandedOver {
    /// Absent where somebody presents another's lease, or one that was burned already: the root half
    /// gets to see and refuse it, and the request is not touched.
    operation: Option<Operation>,
    run: Run,
    /// Kept while files are in memory for the root half, which has copied them when it answers.
    transfer: Vec<Turn>,
}

/// Serves one EXECUTE to its end. The client's socket is closed here as soon as the root half has
/// it; without the root half the client gets the refusal from here.
pub(crate) async fn execute(
    front: &Rc<Front>,
    uid: u32,
    mut stream: UnixStream,
    execute: &Execute,
    turn: Option<Turn>,
) -> Option<HandedOver> {
    match hand_over(front, uid, &stream, execute).await {
        Ok(handed_over) => Some(handed_over),
        Err(refuse) => {
            front.journal.count("execute", refuse.reason().name(), Some(uid));
            let weight = refuse.request().map_or(0, |request| request.weight());
            let _turn = front.turn(uid, weight, turn).await;
            let frame = ClientFrame::Refused(refuse.refusal()).encode();
            let limit = front.config.connections.response_write();
            // A client that is gone needs no refusal.
            write_bytes(&mut stream, &frame, limit).await.ok();
            None
        }
    }
}

impl HandedOver {
    /// Follows the run to its end, on behalf of the lifecycle.
    pub(crate) async fn follow(self) {
        let Self { operation, run, transfer } = self;
        let Some(operation) = operation else {
            if run.burned().await.is_ok() {
                tracing::error!(event = "lease_burned_without_operation");
            }
            return;
        };
        let front = operation.front();
        if let Err(refuse) = follow_run(operation, &run, transfer).await {
            tracing::debug!(event = "run_not_followed", cause = ?refuse);
            front.journal.count("run", refuse.reason().name(), None);
        }
    }
}

async fn follow_run(operation: Operation, run: &Run, transfer: Vec<Turn>) -> Result<(), Refuse> {
    let burned = run.burned().await;
    drop(transfer);
    if let Err(error) = burned {
        operation.not_burned(&error);
        return Err(error.into());
    }
    crash_point("front-burned-before-store");
    operation.burned()?;
    let mut outcome = pin!(run.outcome());
    let recorded = match timeout(SHORT_RUN, &mut outcome).await {
        Ok(recorded) => recorded,
        Err(_) => {
            operation.store_burned();
            outcome.await
        }
    }?;
    let finish = Finish::read(recorded.receipt, recorded.stdout_tail, recorded.stderr_tail);
    crash_point("front-finished-before-store");
    operation.finished(finish.map_err(|_| ExecdError::Unexpected)?)?;
    crash_point("front-finished-after-store");
    Ok(())
}

async fn hand_over(
    front: &Rc<Front>,
    uid: u32,
    client: &UnixStream,
    execute: &Execute,
) -> Result<HandedOver, Refuse> {
    let request = find(front, uid, execute).await?;
    let plan = Plan::decode(&request.plan)?;
    if let Some(command) = &execute.command {
        compare(front, uid, command, &plan).await?;
    }
    let (operation, request) = begin(front, uid, execute, request)?;
    let kept = request.lease.as_deref();
    let presented = execute.lease.as_ref().map(|lease| lease.as_slice()).or(kept);
    let Some(lease) = presented else { return Err(front.standing(request)) };
    let stdin = stdin(front, &request, &plan)?;
    let (files, transfer) = files(front, uid, &request, &plan).await?;
    let memory = stdin.iter().chain(&files).map(OwnedFd::as_fd);
    let descriptors: Vec<_> = [client.as_fd()].into_iter().chain(memory).collect();
    crash_point("front-execute-before-handover");
    match front.execd.execute(lease, &request.plan, &descriptors) {
        Ok(run) => {
            crash_point("front-execute-after-handover");
            Ok(HandedOver { operation, run, transfer })
        }
        Err(error) => {
            if let Some(operation) = operation {
                operation.failed(&error);
            }
            Err(error.into())
        }
    }
}

/// The request that is meant: by the lease's plan, by id, or by what is typed.
async fn find(front: &Rc<Front>, uid: u32, execute: &Execute) -> Result<Arc<Request>, Refuse> {
    match (&execute.lease, &execute.id, &execute.command) {
        (Some(lease), _, _) => {
            let claims = RawLease::parse(lease)?.unverified_claims()?;
            front.by_plan(&claims.plan)
        }
        (None, Some(id), _) => front.select(id, Viewer::Requester(uid)),
        (None, None, Some(command)) => find_by_command(front, uid, command).await,
        (None, None, None) => Err(Refuse::NothingToRun),
    }
}

/// Begins the operation. Whoever presents another's lease is not told whose it is.
fn begin(
    front: &Rc<Front>,
    uid: u32,
    execute: &Execute,
    request: Arc<Request>,
) -> Result<(Option<Operation>, Arc<Request>), Refuse> {
    match Operation::execute(front, request.digest, uid) {
        Ok((operation, request)) => Ok((Some(operation), request)),
        // An old one that only the store has.
        Err(Refuse::Reject(Reject::NotYours)) if request.requester_uid == uid => {
            Err(front.standing(request))
        }
        Err(Refuse::Reject(Reject::NotYours)) if execute.lease.is_some() => {
            front.journal.count("execute", "foreign_lease", Some(uid));
            Ok((None, request))
        }
        // The run may be over and recorded while its end is still on the way here: the root half
        // knows, and answers with the outcome.
        Err(Refuse::Reject(Reject::NotPresentable { request }))
            if request.state == State::Executing && execute.lease.is_some() =>
        {
            Ok((None, request))
        }
        Err(Refuse::Reject(Reject::NotPresentable { request })) => Err(front.standing(request)),
        Err(refuse) => Err(refuse),
    }
}

/// The bytes that were bound, in a file that nobody can change any more.
fn stdin(front: &Front, request: &Request, plan: &Plan) -> Result<Option<OwnedFd>, Refuse> {
    if plan.stdin.is_none() {
        return Ok(None);
    }
    let bytes = front.store.load_stdin(&request.digest)?;
    let bytes = bytes.ok_or(Refuse::Differs { what: "the standard input that is kept" })?;
    let file = sealed_memfd("olb-stdin", &bytes).map_err(ExecdError::Unreachable)?;
    Ok(Some(file))
}

/// The files of which copies were promised, and the turns that bound how much memory they take.
async fn files(
    front: &Front,
    uid: u32,
    request: &Request,
    plan: &Plan,
) -> Result<(Vec<OwnedFd>, Vec<Turn>), Refuse> {
    if plan.staged.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // Its own first, so that nobody waits in the line of all with another's turn.
    let own = front.transfers.take(uid).await.ok();
    let of_all = Arc::clone(&front.handovers).acquire_owned().await.ok();
    let (folder, staged) = (front.blobs.folder_of(&request.digest), plan.staged.clone());
    let loaded = spawn_blocking(move || blobs::load(&folder, &staged)).await;
    let files = loaded.map_err(io::Error::other).and_then(|files| files).map_err(Refuse::Files)?;
    Ok((files, own.into_iter().chain(of_all).collect()))
}

/// What is typed now has to be what was asked for: a lease that was mixed up is noticed here, in
/// words, and not only by its effect.
async fn compare(front: &Front, uid: u32, command: &Command, plan: &Plan) -> Result<(), Refuse> {
    check_command(command)?;
    let words = environment::words(&command.environment_words)?;
    let stdin = stdin_of(command);
    let rules = [
        (argv_of(command) == plan.typed_argv, "the command"),
        (words == plan.environment_words, "the environment"),
        (cwd_of(command) == plan.cwd, "the working directory"),
        (stdin.is_none() || stdin == plan.stdin, "the standard input"),
    ];
    if let Some((_, what)) = rules.into_iter().find(|(holds, _)| !holds) {
        return Err(Refuse::Differs { what });
    }
    // Whoever says nothing of files gets those that were approved.
    let staged = staged_of(command);
    let changed = staged.iter().find(|file| !plan.staged.contains(file));
    if let Some(file) = changed {
        return Err(Refuse::Changed { file: safe(&file.path) });
    }
    let (user, group) = (command.user.clone(), command.group.clone());
    let own_only = own_only(front, uid);
    let bound = (plan.run_as.uid, plan.run_as.gid);
    // By far the most frequent case needs no look-up.
    if user.is_none() && group.is_none() && own_only.is_none() && bound == (0, 0) {
        return Ok(());
    }
    let look = move || Ok(target(user.as_deref(), group.as_deref(), own_only)?);
    let target = front.lookups.run(uid, look).await?;
    if (target.uid, target.gid) == bound {
        Ok(())
    } else {
        Err(Refuse::Differs { what: "the target account" })
    }
}

fn own_only(front: &Front, uid: u32) -> Option<u32> {
    front.known_info().is_some_and(|info| !info.boundary).then_some(uid)
}

/// The approved request for a command, or else the newest one for it, which says why not.
async fn find_by_command(
    front: &Rc<Front>,
    uid: u32,
    command: &Command,
) -> Result<Arc<Request>, Refuse> {
    check_command(command)?;
    let words = environment::words(&command.environment_words)?;
    // Host and audience are no part of the match: what was learnt last will do.
    let info = match front.known_info() {
        Some(info) => info,
        None => front.info().await?,
    };
    let submit = Submit {
        command: command.clone(),
        reason: String::new(),
        session: String::new(),
        wall_clock_secs: None,
        wait: false,
    };
    let own_only = own_only(front, uid);
    let typed = command.clone();
    let look = move || lookup::resolve(&typed, words, own_only);
    let resolved = front.lookups.run(uid, look).await?;
    let (plan, _) = build(front, &info, uid, &submit, resolved)?;
    let key = MatchKey::of(&plan);
    let lifecycle = front.lifecycle.borrow();
    if let Some(request) = lifecycle.approved(key, front.now()) {
        return Ok(Arc::clone(request));
    }
    let own = lifecycle.list(Viewer::Requester(uid), false);
    own.into_iter().rfind(|request| request.match_key == key).ok_or(Refuse::NotAsked)
}
