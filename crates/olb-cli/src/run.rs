//! `olb run`: ask, wait for the human, run.

use std::io::Write as _;
use std::process::ExitCode;

use olb_exec_api::Reason;
use olb_wire::{Request, RequestView};

use crate::args::RunArgs;
use crate::client::Runtime;
use crate::exec::{self, Presentation};
use crate::failure::Failure;
use crate::outcome::OutcomeFile;
use crate::request::{self, Wait};
use crate::text;

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
        return recorded(&view, file);
    }
    let Some(lease) = &view.lease else {
        return Err(Failure::bad_answer());
    };
    let presentation = Presentation { lease: lease.to_vec(), id: None, command: Some(command) };
    match exec::present(&runtime, &presentation, file) {
        // Somebody else waited for the same request and was first: theirs is the outcome.
        Err(failure) if view.joined && failure.name == Reason::AlreadyBurned.name() => {
            let selector = view.request_id.clone();
            let show = Request::Show { selector, wait: true };
            let view = request::follow(&runtime, &show, wait)?;
            recorded(&view, file)
        }
        result => result,
    }
}

/// The end of a request that this process does not run: the recorded tail and code.
fn recorded(view: &RequestView, file: &mut OutcomeFile) -> Result<u8, Failure> {
    let (exit_code, sentence) = text::of_state(view);
    eprintln!("olb: {sentence}");
    file.put_view(view);
    let written = std::io::stdout().write_all(&view.stdout_tail);
    written.and_then(|()| std::io::stderr().write_all(&view.stderr_tail)).map_err(|error| {
        Failure::new(
            crate::failure::code::UNKNOWN_OUTCOME,
            "output_lost",
            format!("the recorded output cannot be written ({error}); see 'olb result'"),
        )
    })?;
    Ok(exit_code)
}
