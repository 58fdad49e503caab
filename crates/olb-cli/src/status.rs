//! `olb status`, `olb result`, `olb list` and `olb show`: looking, never deciding.

use std::process::ExitCode;

use olb_exec_api::Info;
use olb_lease::{Plan, plan_digest};
use olb_review::display::safe;
use olb_review::{Facts, quote};
use olb_wire::{Health, Request, RequestView, Response};

use crate::args::{ListArgs, SelectArgs, StatusArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::{account, json, text};

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
    let view = fetch(runtime, id)?;
    if is_json {
        println!("{}", json::line(&json::request(&view)));
    } else {
        println!("{}", text::of_state(&view).1);
    }
    Ok(ExitCode::SUCCESS)
}

fn overview(runtime: &Runtime, is_json: bool) -> Result<ExitCode, Failure> {
    let Response::Status(health) = either(runtime, &Request::Status)? else {
        return Err(Failure::bad_answer());
    };
    let Response::Requests(requests) = either(runtime, &Request::List { open: false })? else {
        return Err(Failure::bad_answer());
    };
    let info = health.info.as_ref().and_then(|info| olb_exec_api::decode_info(info).ok());
    if is_json {
        println!("{}", json::line(&json::status(&health, info.as_ref(), &requests)));
    } else {
        print!("{}", health_lines(&health, info.as_ref()));
        print!("{}", table(&requests));
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
    match fetch(&Runtime::for_requester(), &args.id) {
        Ok(view) => print_result(&view, args.json),
        Err(failure) => failure.report(args.json),
    }
}

/// The recorded code and tail. A decision alone is no result: an approved request is still open.
fn print_result(view: &RequestView, is_json: bool) -> ExitCode {
    let (exit_code, sentence) = text::of_state(view);
    let exit_code = if view.state == "approved" { code::PENDING } else { exit_code };
    eprintln!("olb: {sentence}");
    if is_json {
        println!("{}", json::line(&json::request(view)));
        return ExitCode::from(exit_code);
    }
    for (name, tail) in [("output", &view.stdout_tail), ("error output", &view.stderr_tail)] {
        if !tail.is_empty() {
            println!("--- last {} bytes of {name} ---", tail.len());
            print!("{}", safe_lines(tail));
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
    let listed = Runtime::for_operator()
        .and_then(|runtime| either(&runtime, &Request::List { open: !args.all }));
    match listed {
        Ok(Response::Requests(requests)) if args.json => {
            let requests: Vec<_> = requests.iter().map(json::request).collect();
            println!("{}", json::line(&serde_json::json!({ "requests": requests })));
            ExitCode::SUCCESS
        }
        Ok(Response::Requests(requests)) => {
            print!("{}", table(&requests));
            ExitCode::SUCCESS
        }
        Ok(_) => Failure::bad_answer().report(args.json),
        Err(failure) => failure.report(args.json),
    }
}

/// One line per request: code, state, who, until when, command.
fn table(requests: &[RequestView]) -> String {
    if requests.is_empty() {
        return "no requests\n".to_owned();
    }
    let mut lines =
        format!("{:<8} {:<15} {:>6} {:<20} COMMAND\n", "CODE", "STATE", "UID", "EXPIRES");
    for view in requests {
        let [code, state] = [&view.code, &view.state].map(|text| safe(text.as_bytes()));
        let until = text::time(view.lease_expires_at.unwrap_or(view.expires_at));
        let uid = view.requester_uid;
        let command = text::command(view);
        lines.push_str(&format!("{code:<8} {state:<15} {uid:>6} {until:<20} {command}\n"));
    }
    lines
}

/// `olb show`.
pub(crate) fn show(args: &SelectArgs) -> ExitCode {
    let shown = Runtime::for_operator().and_then(|runtime| fetch(&runtime, &args.id));
    let view = match shown {
        Ok(view) => view,
        Err(failure) => return failure.report(args.json),
    };
    if args.json {
        println!("{}", json::line(&json::request(&view)));
        return ExitCode::SUCCESS;
    }
    match Plan::decode(&view.plan) {
        Ok(plan) => {
            print!("{}", olb_review::render(&plan, &facts(&view, &plan)).text);
            println!("State    {}", safe(view.state.as_bytes()));
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

fn fetch(runtime: &Runtime, id: &str) -> Result<Box<RequestView>, Failure> {
    let show = Request::Show { selector: id.to_owned(), wait: false };
    match either(runtime, &show)? {
        Response::Request(view) => Ok(view),
        _ => Err(Failure::bad_answer()),
    }
}

/// Asks as one who asks and, where that is refused, as one who decides. The first refusal counts.
fn either(runtime: &Runtime, request: &Request) -> Result<Response, Failure> {
    let refused = match runtime.ask(Socket::Request, request) {
        Ok(response) => return Ok(response),
        Err(failure) => failure,
    };
    runtime.ask(Socket::Review, request).map_err(|_| refused)
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
        let table = table(&[view("pending"), evil]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            "7FK-3QX  pending           1001 2026-11-22T16:00:00Z systemctl restart nginx"
        );
        assert!(lines.iter().all(|line| line.chars().all(olb_review::display::is_safe)));
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
