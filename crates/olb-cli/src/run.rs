//! `olb run`: ask, wait for the human, run.

use std::io::Write as _;
use std::process::ExitCode;

use olb_exec_api::Reason;
use olb_lease::Plan;
use olb_wire::{Command, Request, RequestView};

use crate::args::RunArgs;
use crate::client::{Runtime, Socket};
use crate::exec::{self, Presentation};
use crate::failure::Failure;
use crate::out::tell;
use crate::outcome::OutcomeFile;
use crate::request::{self, Wait};
use crate::trust::{BrokerKeys, Finished};
use crate::{proof, text};

/// `olb run`.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    let mut file = match OutcomeFile::create(args.outcome_file.as_deref()) {
        Ok(file) => file,
        Err(failure) => return failure.report(false),
    };
    let result = ask_and_run(args, &mut file);
    exec::conclude(result, &mut file)
}

fn ask_and_run(args: &RunArgs, file: &mut OutcomeFile) -> Result<u8, Failure> {
    let runtime = Runtime::for_requester();
    let wait = Wait::at_most(args.wait);
    let (view, command) = request::submit(&runtime, &args.ask, wait)?;
    if view.state != "approved" {
        return recorded(&runtime, &view, file);
    }
    let Some(lease) = &view.lease else {
        return Err(Failure::bad_answer());
    };
    let (lease, joined) = (lease.to_vec(), view.joined);
    let plan = Plan::decode(&view.plan).ok();
    let presentation = Presentation { lease, id: None, command: Some(command.clone()), plan };
    let connection = runtime.connect(Socket::Request)?;
    match exec::present(&runtime, connection, &presentation, file) {
        // Somebody else waited for the same request and was first: theirs is the outcome.
        Err(failure) if joined && failure.name == Reason::AlreadyBurned.name() => {
            let view = others(&runtime, &view, &command, wait)?;
            recorded(&runtime, &view, file)
        }
        result => result,
    }
}

/// The same request when it is over, run by somebody else.
fn others(
    runtime: &Runtime,
    view: &RequestView,
    command: &Command,
    wait: Wait,
) -> Result<Box<RequestView>, Failure> {
    let show = Request::Show { selector: view.request_id.clone(), wait: true };
    let over = request::follow(runtime, &show, &[], command, wait)?;
    if over.request_id == view.request_id {
        Ok(over)
    } else {
        Err(Failure::mismatch(text::OTHER_REQUEST))
    }
}

/// The end of a request that this process does not run: the recorded tail and code, as far as its
/// receipt proves them.
fn recorded(runtime: &Runtime, view: &RequestView, file: &mut OutcomeFile) -> Result<u8, Failure> {
    let (exit_code, sentence) = text::of_state(view);
    let proved = proof::of(&BrokerKeys::of_running(runtime)?, view)?;
    tell!("olb: {sentence}");
    file.put(|| proof::json(view, proved.as_ref()));
    // What is no run of its own has no output either, whatever comes along.
    let Some(finished) = proved else {
        return Ok(exit_code);
    };
    for line in cut(view, &finished) {
        tell!("olb: {line}");
    }
    let written = std::io::stdout().write_all(&view.stdout_tail);
    let written = written.and_then(|()| std::io::stdout().flush());
    written.and_then(|()| std::io::stderr().write_all(&view.stderr_tail)).map_err(|error| {
        Failure::new(
            crate::failure::code::UNKNOWN_OUTCOME,
            "output_lost",
            format!("the recorded output cannot be written ({error}); see 'olb result'"),
        )
    })?;
    Ok(exit_code)
}

/// A sentence for each stream of which the broker kept the end only: no receipt vouches for that.
fn cut(view: &RequestView, finished: &Finished) -> Vec<String> {
    let streams = [
        ("output", &view.stdout_tail, finished.stdout),
        ("error output", &view.stderr_tail, finished.stderr),
    ];
    let cut = streams.into_iter().filter(|(_, tail, whole)| !proof::is_whole(tail, *whole));
    cut.map(|(name, tail, whole)| {
        let (kept, all) = (tail.len(), whole.bytes);
        format!("of {all} bytes of {name} the last {kept} follow, which no receipt vouches for.")
    })
    .collect()
}
