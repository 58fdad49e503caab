//! `olb exec`: present a lease. This is the hot path: no argument parser, one connection.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use olb_exec_api::{ClientFrame, Reason, Refusal};
use olb_lease::{LEASE_TEXT_MAX, Outcome, Plan, PlanDigest, armor, plan_digest};
use olb_review::display::safe;
use olb_wire::{Command, Execute, RequestView};

use crate::args::ExecArgs;
use crate::client::{Connection, Runtime, Socket};
use crate::failure::{Failure, code};
use crate::out::tell;
use crate::outcome::{self, OutcomeFile};
use crate::relay::{self, First, Signals, Stream};
use crate::select::Selector;
use crate::trust::{BrokerKeys, Finished, Run};
use crate::{ask, asked, text};

/// A lease and what it is presented with.
#[derive(Debug)]
pub(crate) struct Presentation {
    /// In binary.
    pub(crate) lease: Vec<u8>,
    /// The request it belongs to, where only that is known.
    pub(crate) id: Option<String>,
    /// The command as typed now.
    pub(crate) command: Option<Command>,
    /// The plan of the lease, where it was needed to compare files.
    pub(crate) plan: Option<Plan>,
}

/// `olb exec` with its arguments as clap would read them; `None` leaves it to clap to say what is
/// wrong with them.
pub(crate) fn parse(words: &[OsString]) -> Option<ExecArgs> {
    let mut args = ExecArgs::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--" => break,
            "--lease-file" => args.lease_file = Some(words.next()?.into()),
            "--id" => args.id = Some(words.next()?.to_str()?.to_owned()),
            "--outcome-file" => args.outcome_file = Some(words.next()?.into()),
            _ => return None,
        }
    }
    args.words = words.cloned().collect();
    (args.lease_file.is_some() != args.id.is_some()).then_some(args)
}

/// `olb exec`.
pub(crate) fn run(args: &ExecArgs) -> ExitCode {
    let mut file = match OutcomeFile::create(args.outcome_file.as_deref()) {
        Ok(file) => file,
        Err(failure) => return failure.report(false),
    };
    let runtime = Runtime::for_requester();
    let connect = || runtime.connect(Socket::Request);
    // The broker gets ready for us while we do for it. By id there is something else to ask first.
    let early = args.id.is_none().then(connect);
    let result = prepare(&runtime, args)
        .and_then(|one| present(&runtime, early.unwrap_or_else(connect)?, &one, &mut file));
    conclude(result, &mut file)
}

/// Tells how a run ended, and gives its exit code.
pub(crate) fn conclude(result: Result<u8, Failure>, file: &mut OutcomeFile) -> ExitCode {
    match result {
        Ok(exit_code) => ExitCode::from(exit_code),
        Err(failure) => {
            file.put_failure(&failure);
            failure.report(false)
        }
    }
}

fn prepare(runtime: &Runtime, args: &ExecArgs) -> Result<Presentation, Failure> {
    let options = ask::Options {
        user: args.user.as_deref(),
        group: args.group.as_deref(),
        chdir: args.chdir.as_deref(),
        stdin: args.stdin,
    };
    let mut command =
        if args.words.is_empty() { None } else { Some(ask::command(&args.words, options)?) };
    let path: Option<PathBuf> = match args.lease_fd {
        Some(fd) => Some(format!("/proc/self/fd/{fd}").into()),
        None => args.lease_file.clone(),
    };
    match (path, &args.id) {
        (Some(path), None) if command.is_some() => {
            let lease = read_lease(path)?;
            let plan = asked::read_files_again(runtime, command.as_mut(), &lease)?;
            Ok(Presentation { lease, id: None, command, plan })
        }
        (Some(_), None) => Err(Failure::usage("no command is given; write it after '--'")),
        (None, Some(id)) => {
            let (lease, plan) = kept_lease(runtime, id, command.as_mut())?;
            Ok(Presentation { lease, id: Some(id.clone()), command, plan })
        }
        _ => Err(Failure::usage("give the lease with --lease-file or --lease-fd, or --id")),
    }
}

fn read_lease(path: PathBuf) -> Result<Vec<u8>, Failure> {
    // All of it at once, and its end.
    let mut text = String::with_capacity(LEASE_TEXT_MAX + 2);
    let opened = std::fs::File::open(&path);
    let limit = LEASE_TEXT_MAX as u64 + 2;
    let read = opened.and_then(|file| file.take(limit).read_to_string(&mut text));
    read.map_err(|error| {
        let shown = safe(path.as_os_str().as_encoded_bytes());
        Failure::usage(format!("the lease in {shown} cannot be read ({error})"))
    })?;
    armor::decode(&text).map_err(|error| {
        Failure::new(
            Reason::Malformed.exit_code(),
            Reason::Malformed.name(),
            format!("the lease does not read: {error}; give it as 'olb request' printed it"),
        )
    })
}

/// The lease that the broker keeps for an approved request of the caller's.
fn kept_lease(
    runtime: &Runtime,
    id: &str,
    mut command: Option<&mut Command>,
) -> Result<(Vec<u8>, Option<Plan>), Failure> {
    let view = runtime.show(Socket::Request, &Selector::parse(id)?)?;
    let Some(lease) = &view.lease else {
        return Err(no_lease(view));
    };
    let keys = BrokerKeys::of_running(runtime)?;
    let plan = asked::read_files_again(runtime, command.as_deref_mut(), lease)?;
    let claims = asked::claims_for(command.as_deref(), plan.as_ref(), lease)?;
    asked::check_signature(&keys, lease)?;
    if claims.plan == plan_digest(&view.plan) {
        Ok((lease.to_vec(), plan))
    } else {
        Err(Failure::mismatch(text::OTHER_REQUEST))
    }
}

/// Why a request without a lease cannot be run: never a success, whatever the broker says.
fn no_lease(view: Box<RequestView>) -> Failure {
    let (exit_code, text) = text::of_state(&view);
    let (code, name, text) = match view.state.as_str() {
        // What ran before is presented again: that is refused, whatever its own code was.
        "exited" | "killed" | "spawn_failed" => (code::REFUSED, Reason::AlreadyBurned.name(), text),
        "approved" => {
            let text = "the lease of this request is over and was not used; ask again".to_owned();
            (code::PENDING, Reason::Expired.name(), text)
        }
        _ => (exit_code, "not_approved", text),
    };
    Failure { code, name, text, view: Some(view) }
}

/// Presents the lease and stays until the command is over. The exit code is the command's, once
/// its receipt was verified.
pub(crate) fn present(
    runtime: &Runtime,
    connection: Connection,
    presentation: &Presentation,
    file: &mut OutcomeFile,
) -> Result<u8, Failure> {
    let Presentation { lease, id: _, command, plan } = presentation;
    let claims = asked::claims_for(command.as_ref(), plan.as_ref(), lease)?;
    // Without keys nothing that comes back could be believed: then nothing is burned either.
    let keys = BrokerKeys::of_running(runtime)?;
    let (plan, run) = (claims.plan, Run { plan: claims.plan, cti: claims.cti });
    let execute = Execute {
        lease: Some(presentation.lease.clone().into()),
        id: presentation.id.clone(),
        command: presentation.command.clone(),
    };
    let signals = Signals::take().map_err(lost)?;
    let frames = connection.execute(execute, keys.root_half())?;
    // While the broker works: it refuses what it did not sign, so this is about what may be believed
    // of its answers.
    let signed = asked::check_signature(&keys, &presentation.lease);
    let first = match relay::first(&frames, &signals) {
        // No frame: the front turned us away before it knew what was asked.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => First::End,
        first => first.map_err(lost)?,
    };
    signed.map_err(|failure| unsigned(&first, failure))?;
    match first {
        First::Frame(ClientFrame::Started, pipes) => {
            let (out, err) = (io::stdout(), io::stderr());
            let [stdout, stderr] = <[OwnedFd; 2]>::try_from(pipes)
                .map_err(|_| unknown("the broker sent no pipes for the output"))?;
            let mut streams = [Stream::new(stdout, out.as_fd()), Stream::new(stderr, err.as_fd())];
            let last = relay::relay(&frames, &signals, &mut streams).map_err(lost)?;
            let finished = check(&keys, &receipt_of(last)?, run, Some(&streams))?;
            file.put(|| outcome::finished(plan, &finished));
            end(plan, &finished)
        }
        First::Frame(ClientFrame::Outcome { receipt }, _) => {
            let finished = check(&keys, &receipt, run, None)?;
            file.put(|| outcome::finished(plan, &finished));
            end(plan, &finished)
        }
        First::Frame(ClientFrame::Refused(refusal), _) => Err(refused(&keys, &refusal, run, file)),
        First::Silence => Err(unknown("interrupted while the broker did not say whether it began")),
        First::End => Err(silence(runtime, plan)),
    }
}

/// A lease that this broker did not sign was presented: it ran nothing, unless the broker says so.
fn unsigned(first: &First, failure: Failure) -> Failure {
    match first {
        First::Frame(ClientFrame::Refused(_), _) | First::End => failure,
        First::Frame(ClientFrame::Started | ClientFrame::Outcome { .. }, _) | First::Silence => {
            unknown("the lease was not signed by this broker, which took it all the same")
        }
    }
}

/// The receipt in the last frame of a run that had begun. Without one nothing is known of its end,
/// whatever else that frame says.
fn receipt_of(last: Option<ClientFrame>) -> Result<Vec<u8>, Failure> {
    match last {
        Some(ClientFrame::Outcome { receipt }) => Ok(receipt),
        Some(ClientFrame::Refused(_)) => Err(unknown("the broker could not record how it ended")),
        Some(ClientFrame::Started) | None => {
            Err(unknown("the broker went away while the command ran"))
        }
    }
}

/// Checks the receipt, and that what arrived here is what it says was written.
fn check(
    keys: &BrokerKeys,
    receipt: &[u8],
    run: Run,
    streams: Option<&[Stream<'_>; 2]>,
) -> Result<Finished, Failure> {
    let finished = keys.finished(receipt, run);
    let finished = finished.ok_or_else(|| unknown("the receipt does not prove how it ended"))?;
    let Some([out, err]) = streams else {
        return Ok(finished);
    };
    for (name, stream, said) in
        [("output", out, finished.stdout), ("error output", err, finished.stderr)]
    {
        if let Some(error) = stream.lost() {
            // Whoever read it has had enough; there is nothing left to compare.
            if error.kind() == io::ErrorKind::BrokenPipe {
                continue;
            }
            return Err(unknown(&format!("its {name} could not be passed on ({error})")));
        }
        // Whose bytes they are is known from where the pipe came from; here, that none is missing.
        if stream.bytes() != said.bytes {
            return Err(unknown(&format!("the {name} that arrived is not what the receipt says")));
        }
    }
    Ok(finished)
}

/// The exit code of a run, with a word where a code alone would mislead.
fn end(plan: PlanDigest, finished: &Finished) -> Result<u8, Failure> {
    use olb_lease::CutBy;
    match finished.cut_by {
        CutBy::Nobody | CutBy::Requester => {}
        CutBy::Limit => tell!("olb: ended by its time limit; ask with a longer --timeout."),
        CutBy::Broker => tell!("olb: ended because the broker was stopped."),
    }
    match finished.outcome {
        Outcome::Exited(exit_code) => Ok(exit_code),
        Outcome::Killed(signal) => Ok(signal.saturating_add(128)),
        Outcome::SpawnFailed(errno) => {
            tell!("olb: {} did not start: {}.", plan.request_id(), text::errno_text(errno));
            Ok(text::of_errno(errno))
        }
        Outcome::Unknown { .. } => Err(unknown("the broker stopped while the command ran")),
    }
}

fn refused(keys: &BrokerKeys, refusal: &Refusal, run: Run, file: &mut OutcomeFile) -> Failure {
    let mut failure = Failure::from_broker(refusal.reason as u16, &refusal.text, None);
    let Some(recorded) = &refusal.recorded else {
        return failure;
    };
    match keys.finished(&recorded.receipt, run) {
        Some(finished) => {
            failure.text.push_str(&format!(" ({})", summary(&finished)));
            file.put(|| {
                let mut object = outcome::finished(run.plan, &finished);
                object.append(&mut crate::json::failure(&failure));
                object
            });
        }
        None => failure.text.push_str(" (the recorded outcome could not be verified)"),
    }
    failure
}

/// The end of a run in a few words.
pub(crate) fn summary(finished: &Finished) -> String {
    let end = match finished.outcome {
        Outcome::Exited(exit_code) => format!("exit {exit_code}"),
        Outcome::Killed(signal) => format!("ended by signal {signal}"),
        Outcome::SpawnFailed(errno) => format!("did not start: {}", text::errno_text(errno)),
        Outcome::Unknown { .. } => "outcome not known".to_owned(),
    };
    format!("recorded: {end}, {} bytes of output", finished.stdout.bytes)
}

/// The connection ended without a word: what the broker holds on the request decides whether
/// something may have run.
fn silence(runtime: &Runtime, plan: PlanDigest) -> Failure {
    match runtime.show(Socket::Request, &Selector::Full(plan.request_id())) {
        Ok(view) if view.state == "approved" => Failure::new(
            code::UNAVAILABLE,
            Reason::Unavailable.name(),
            "the broker ended the connection and says that nothing ran; present the lease again",
        ),
        Err(failure) if failure.code == code::REFUSED || failure.name == Reason::Busy.name() => {
            failure
        }
        Ok(_) | Err(_) => unknown("the broker ended the connection without an answer"),
    }
}

fn lost(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return unknown("what came in the name of the root half was sent by another account");
    }
    unknown(&format!("the connection to the broker failed ({error})"))
}

fn unknown(why: &str) -> Failure {
    Failure::new(
        code::UNKNOWN_OUTCOME,
        Reason::OutcomeUnknown.name(),
        format!("{why}; the command may have run, so look at what it changes before you ask anew"),
    )
}

#[cfg(test)]
mod tests;
