//! `olb status`, `olb result`, `olb list` and `olb show`: looking, never deciding.

use std::process::ExitCode;

use olb_exec_api::{Info, Reason};
use olb_lease::{Plan, plan_digest};
use olb_review::display::safe;
use olb_review::{Facts, quote};
use olb_wire::{Health, Request, RequestView, Response};
use serde_json::{Map, Value};

use crate::args::{ListArgs, SelectArgs, StatusArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::out::{say, say_text, tell};
use crate::select::Selector;
use crate::trust::{BrokerKeys, Finished};
use crate::{account, json, proof, text};

/// `olb status`.
pub(crate) fn status(args: &StatusArgs) -> ExitCode {
    let runtime = Runtime::for_requester();
    let result = match &args.id {
        Some(id) => one(&runtime, id, args.json),
        None => overview(&runtime, args.json),
    };
    result.unwrap_or_else(|failure| failure.report(args.json))
}

fn one(runtime: &Runtime, id: &str, is_json: bool) -> Result<ExitCode, Failure> {
    let (view, proved) = proved(runtime, Door::Requester, id)?;
    if is_json {
        say!("{}", json::line(&proof::json(&view, proved.as_ref())));
    } else {
        say!("{}", text::of_state(&view).1);
    }
    Ok(ExitCode::SUCCESS)
}

fn overview(runtime: &Runtime, is_json: bool) -> Result<ExitCode, Failure> {
    let status = |socket| runtime.ask(socket, &Request::Status);
    let Response::Status(health) = Door::Requester.through(status)? else {
        return Err(Failure::bad_answer());
    };
    let requests = Door::Requester.through(|socket| runtime.list(socket, false))?;
    let keys = BrokerKeys::of(runtime).ok();
    let info = health.info.as_ref().and_then(|info| olb_exec_api::decode_info(info).ok());
    if is_json {
        let requests = list_json(keys.as_ref(), &requests);
        say!("{}", json::line(&json::status(&health, info.as_ref(), requests)));
    } else {
        say_text!("{}{}", health_lines(&health, info.as_ref()), table(keys.as_ref(), &requests));
    }
    Ok(if health.execd { ExitCode::SUCCESS } else { ExitCode::from(code::UNAVAILABLE) })
}

fn health_lines(health: &Health, info: Option<&Info>) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| lines.push_str(&format!("{name:<9} {value}\n"));
    line("broker", if health.execd { "ok" } else { "the root half does not answer" });
    if let Some(problem) = &health.problem {
        line("problem", &safe(problem.as_bytes()));
    }
    if let Some(info) = info {
        line("host", &safe(info.host.as_bytes()));
        let boundary = "none: the root half does not run as root; for trying out only";
        line("boundary", if info.boundary { "root" } else { boundary });
    }
    line("version", &safe(health.version.as_bytes()));
    let limits = health.limits.iter().map(|(name, value)| (name.as_str(), *value));
    let execd = info.into_iter().flat_map(|info| &info.limits);
    for (name, value) in limits.chain(execd.map(|limit| (limit.name.as_str(), limit.value))) {
        line("limit", &format!("{} {value}", safe(name.as_bytes())));
    }
    lines
}

/// `olb result`.
pub(crate) fn result(args: &SelectArgs) -> ExitCode {
    match proved(&Runtime::for_requester(), Door::Requester, &args.id) {
        Ok((view, proved)) => print_result(&view, proved.as_ref(), args.json),
        Err(failure) => failure.report(args.json),
    }
}

/// The recorded code and tail. A decision alone is no result: an approved request is still open.
fn print_result(view: &RequestView, proved: Option<&Finished>, is_json: bool) -> ExitCode {
    let (exit_code, sentence) = text::of_state(view);
    let exit_code = if view.state == "approved" { code::PENDING } else { exit_code };
    tell!("olb: {sentence}");
    if is_json {
        say!("{}", json::line(&proof::json(view, proved)));
        return ExitCode::from(exit_code);
    }
    let Some(finished) = proved else {
        return ExitCode::from(exit_code);
    };
    for (name, tail, whole) in [
        ("output", &view.stdout_tail, finished.stdout),
        ("error output", &view.stderr_tail, finished.stderr),
    ] {
        let proved = if proof::is_whole(tail, whole) { "" } else { ", not covered by the receipt" };
        if !tail.is_empty() {
            say!("--- last {} of {} bytes of {name}{proved} ---", tail.len(), whole.bytes);
            say_text!("{}", safe_lines(tail));
        }
    }
    ExitCode::from(exit_code)
}

/// Output of a command for a terminal: lines stay lines, everything else is display-safe.
fn safe_lines(bytes: &[u8]) -> String {
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    lines.map(|line| safe(line) + "\n").collect()
}

/// `olb list`.
pub(crate) fn list(args: &ListArgs) -> ExitCode {
    let listed = Runtime::for_operator().and_then(|runtime| {
        let listed = Door::Operator.through(|socket| runtime.list(socket, !args.all))?;
        Ok((listed, BrokerKeys::of(&runtime).ok()))
    });
    match listed {
        Ok((requests, keys)) if args.json => {
            let requests = list_json(keys.as_ref(), &requests);
            say!("{}", json::line(&serde_json::json!({ "requests": requests })));
            ExitCode::SUCCESS
        }
        Ok((requests, keys)) => {
            say_text!("{}", table(keys.as_ref(), &requests));
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

fn list_json(keys: Option<&BrokerKeys>, requests: &[RequestView]) -> Vec<Map<String, Value>> {
    requests.iter().map(|view| proof::json_in_list(keys, view)).collect()
}

/// One line per request: code, state, who, until when, command.
fn table(keys: Option<&BrokerKeys>, requests: &[RequestView]) -> String {
    if requests.is_empty() {
        return "no requests\n".to_owned();
    }
    let mut lines =
        format!("{:<8} {:<15} {:>6} {:<20} COMMAND\n", "CODE", "STATE", "UID", "EXPIRES");
    for view in requests {
        let code = safe(view.code.as_bytes());
        let state = state(keys, view);
        let until = text::time(view.lease_expires_at.unwrap_or(view.expires_at));
        let uid = view.requester_uid;
        let command = text::command(view);
        lines.push_str(&format!("{code:<8} {state:<15} {uid:>6} {until:<20} {command}\n"));
    }
    lines
}

/// The state as the broker gives it, unless it says how a run ended and cannot prove that.
fn state(keys: Option<&BrokerKeys>, view: &RequestView) -> String {
    let is_proved = keys.is_some_and(|keys| proof::of(keys, view).is_ok());
    if proof::is_of_a_run(view) && !is_proved {
        return "not verified".to_owned();
    }
    safe(view.state.as_bytes())
}

/// `olb show`.
pub(crate) fn show(args: &SelectArgs) -> ExitCode {
    let shown = Runtime::for_operator().and_then(|runtime| {
        let view = fetch(&runtime, Door::Operator, &args.id)?;
        Ok((view, BrokerKeys::of(&runtime).ok()))
    });
    let (view, keys) = match shown {
        Ok(shown) => shown,
        Err(failure) => return failure.report(args.json),
    };
    if args.json {
        say!("{}", json::line(&proof::json_in_list(keys.as_ref(), &view)));
        return ExitCode::SUCCESS;
    }
    match Plan::decode(&view.plan) {
        Ok(plan) => {
            let text = olb_review::render(&plan, &facts(&view, &plan)).text;
            say_text!("{text}State    {}\n", state(keys.as_ref(), &view));
            ExitCode::SUCCESS
        }
        Err(_) => Failure::bad_answer().report(false),
    }
}

/// What this process knows about a request besides its plan. The id is recomputed.
pub(crate) fn facts(view: &RequestView, plan: &Plan) -> Facts {
    Facts {
        request_id: plan_digest(&view.plan).request_id().to_string(),
        code: view.code.clone(),
        requester_name: account::name_of(plan.requester_uid),
        run_as_mismatch: account::check(plan).is_err(),
        expires: text::time(view.expires_at),
    }
}

/// Whose command this is: it decides at which door is knocked first.
#[derive(Debug, Clone, Copy)]
enum Door {
    Requester,
    Operator,
}

impl Door {
    /// Asks at the own door and, where that is not for this account, at the other one. The door
    /// that admits the caller has the last word; where neither does, the own one.
    fn through<T>(self, ask: impl Fn(Socket) -> Result<T, Failure>) -> Result<T, Failure> {
        let (own, other) = match self {
            Self::Requester => (Socket::Request, Socket::Review),
            Self::Operator => (Socket::Review, Socket::Request),
        };
        let is_closed = |failure: &Failure| {
            // In a container there may be one door only.
            failure.is_no_broker()
                || [Reason::NotListed, Reason::NotEnrolled]
                    .map(Reason::name)
                    .contains(&failure.name)
        };
        match ask(own) {
            Err(closed) if is_closed(&closed) => match ask(other) {
                Err(failure) if is_closed(&failure) => Err(closed),
                answer => answer,
            },
            answer => answer,
        }
    }
}

/// What the broker shows the caller of the request with this id, at either door.
pub(crate) fn find(runtime: &Runtime, id: &str) -> Result<Box<RequestView>, Failure> {
    fetch(runtime, Door::Requester, id)
}

fn fetch(runtime: &Runtime, door: Door, id: &str) -> Result<Box<RequestView>, Failure> {
    let selector = Selector::parse(id)?;
    door.through(|socket| runtime.show(socket, &selector))
}

/// A request, with the proof of what it says of its run.
fn proved(
    runtime: &Runtime,
    door: Door,
    id: &str,
) -> Result<(Box<RequestView>, Option<Finished>), Failure> {
    let view = fetch(runtime, door, id)?;
    if !proof::is_of_a_run(&view) {
        return Ok((view, None));
    }
    let proved = proof::of(&BrokerKeys::of_running(runtime)?, &view)?;
    Ok((view, proved))
}

/// The command of a plan, for a line of prose.
pub(crate) fn command_of(plan: &Plan) -> String {
    text::shortened(&quote::command(&plan.argv))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::view;

    #[test]
    fn a_table_cannot_act_on_a_terminal() {
        let mut evil = view("pending");
        evil.code = "\u{1b}[2J".into();
        evil.state = "x\ny".into();
        let table = table(None, &[view("pending"), evil]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            "7FK-3QX  pending           1001 2026-11-22T16:00:00Z systemctl restart nginx"
        );
        assert!(lines.iter().all(|line| line.chars().all(olb_review::display::is_safe)));
    }

    #[test]
    fn an_end_that_is_not_proved_is_not_in_the_table() {
        let table = table(Some(&BrokerKeys::default()), &[view("exited"), view("denied")]);
        assert!(table.contains("not verified") && !table.contains("exited"), "{table}");
        assert!(table.contains("denied"));
    }

    #[test]
    fn the_door_that_admits_has_the_last_word() {
        let closed = |socket| match socket {
            Socket::Request => Failure::refused(Reason::NotListed.name(), "you may not ask"),
            Socket::Review => Failure::refused(Reason::NotEnrolled.name(), "you may not decide"),
        };
        let unknown = || Failure::refused(Reason::NotYours.name(), "no such request");
        for (door, own, other) in [
            (Door::Requester, Socket::Request, Socket::Review),
            (Door::Operator, Socket::Review, Socket::Request),
        ] {
            let at = |open: Socket| {
                let ask =
                    |socket| if socket == open { Err(unknown()) } else { Err(closed(socket)) };
                door.through::<()>(ask).unwrap_err().name
            };
            assert_eq!((at(own), at(other)), ("not_yours", "not_yours"));
            let nobody = door.through::<()>(|socket| Err(closed(socket))).unwrap_err();
            assert_eq!(nobody.name, closed(own).name);
        }
    }

    #[test]
    fn output_of_a_command_keeps_its_lines_and_nothing_else() {
        assert_eq!(safe_lines(b"a\nb\x1b[2J\n\n"), "a\nb\\u{1b}[2J\n\n");
        assert_eq!(safe_lines(b"a\xff"), "a\\xff\n");
    }

    #[test]
    fn health_says_where_there_is_no_boundary() {
        let health = Health { problem: Some("x\ny".into()), ..Health::default() };
        let lines = health_lines(&health, None);
        assert!(lines.starts_with("broker    the root half does not answer\nproblem   x\\u{a}y\n"));
    }
}
