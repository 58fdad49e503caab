//! `olb request`, `olb cancel`, and the asking half of `olb run`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use olb_wire::{Command, Request, RequestView, Response, Submit};

use crate::args::{AskArgs, RequestArgs, SelectArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::out::{say, tell};
use crate::select::Selector;
use crate::trust::BrokerKeys;
use crate::{ask, asked, bind, json, text};

/// How long to wait for a human.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until there is a decision, or this moment.
    Until(Option<Instant>),
}

impl Wait {
    /// At most `seconds` from now; for ever without a number.
    pub(crate) fn at_most(seconds: Option<u32>) -> Self {
        let after = |seconds: u32| Instant::now() + Duration::from_secs(seconds.into());
        Self::Until(seconds.map(after))
    }
}

/// `olb request`.
pub(crate) fn run(args: &RequestArgs) -> ExitCode {
    let wait = args.wait.map_or(Wait::No, |seconds| Wait::at_most(Some(seconds)));
    match submit(&Runtime::for_requester(), &args.ask, wait) {
        Ok((view, _)) => print(&view, args.json),
        Err(failure) => failure.report(args.json),
    }
}

/// `olb cancel`.
pub(crate) fn cancel(args: &SelectArgs) -> ExitCode {
    match take_back(&args.id) {
        Ok(view) => {
            if args.json {
                say!("{}", json::line(&json::request(&view)));
            } else {
                say!("cancelled {} ({}).", shown(&view), text::command(&view));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

fn take_back(id: &str) -> Result<Box<RequestView>, Failure> {
    let selector = Selector::parse(id)?;
    let cancel = Request::Cancel { selector: selector.text() };
    match Runtime::for_requester().ask(Socket::Request, &cancel)? {
        Response::Request(view) if selector.means(&view) => Ok(view),
        Response::Request(_) => Err(Failure::mismatch(text::OTHER_REQUEST)),
        _ => Err(Failure::bad_answer()),
    }
}

/// Asks; with `wait` until the request is neither pending nor running.
pub(crate) fn submit(
    runtime: &Runtime,
    args: &AskArgs,
    wait: Wait,
) -> Result<(Box<RequestView>, Command), Failure> {
    let options = ask::Options {
        user: args.user.as_deref(),
        group: args.group.as_deref(),
        chdir: args.chdir.as_deref(),
        stdin: args.stdin,
    };
    let mut command = ask::command(&args.words, options)?;
    let files = bind::bind(runtime, &mut command, args.allow_unbound)?;
    let submit = Submit {
        command: command.clone(),
        reason: args.reason.clone(),
        session: args.session.clone(),
        wall_clock_secs: args.timeout,
        wait: wait != Wait::No,
    };
    let request = Request::Submit(Box::new(submit));
    let view = follow(runtime, &request, &files, &command, wait)?;
    Ok((view, command))
}

/// Sends `request`, with the `files` that belong to it, and takes the last of its answers that `wait` asks for. Every one of them has to
/// be about `command`.
pub(crate) fn follow(
    runtime: &Runtime,
    request: &Request,
    files: &[Vec<u8>],
    command: &Command,
    wait: Wait,
) -> Result<Box<RequestView>, Failure> {
    let mut connection = runtime.connect(Socket::Request)?;
    connection.send(request)?;
    connection.send_files(files)?;
    let keys = BrokerKeys::of_running(runtime)?;
    let mut latest: Option<Box<RequestView>> = None;
    let deadline = match wait {
        Wait::No => Some(Instant::now() + Duration::from_secs(30)),
        Wait::Until(deadline) => deadline,
    };
    loop {
        match connection.receive(deadline)? {
            Some(Response::Request(view)) => {
                asked::check_plan(&keys, command, &view.plan)?;
                let is_open = ["pending", "executing"].contains(&view.state.as_str());
                if wait == Wait::No || !is_open {
                    return Ok(view);
                }
                if latest.is_none() {
                    tell!("olb: waiting for {} ({}).", shown(&view), text::command(&view));
                }
                latest = Some(view);
            }
            Some(_) => return Err(Failure::bad_answer()),
            None => return Err(wait_over(latest)),
        }
    }
}

fn wait_over(latest: Option<Box<RequestView>>) -> Failure {
    let Some(view) = latest else {
        return Failure::no_broker();
    };
    let text = format!(
        "the wait is over and {} is still {}. Nothing was decided; run the same again to go on \
         waiting.",
        shown(&view),
        olb_review::display::safe(view.state.as_bytes())
    );
    Failure { code: code::WAIT_OVER, name: "wait_over", text, view: Some(view) }
}

fn shown(view: &RequestView) -> String {
    olb_review::display::safe(view.code.as_bytes())
}

/// Prints a request to its requester: the sentence on standard error, and on standard output the
/// object, or the bare lease.
fn print(view: &RequestView, is_json: bool) -> ExitCode {
    let (exit_code, sentence) = text::of_state(view);
    tell!("olb: {sentence}");
    if is_json {
        say!("{}", json::line(&json::request(view)));
    } else if let Some(lease) = &view.lease {
        say!("{}", olb_lease::armor::encode(lease));
    }
    ExitCode::from(exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::view;

    #[test]
    fn a_wait_that_is_over_is_told_apart_from_every_other_end() {
        let failure = wait_over(Some(Box::new(view("pending"))));
        assert_eq!((failure.code, failure.name), (124, "wait_over"));
        assert!(failure.text.contains("7FK-3QX is still pending"));
        assert_eq!(wait_over(None).code, 69);
    }
}
