//! `olb demo`: the whole flow in a private, throwaway broker, told step by step.
//!
//! As root the front and the requester are two account numbers that nobody uses, and root is real.
//! Otherwise all of it is one user: then there is no privilege boundary, and the demo says so.

mod check;
mod stage;
mod story;
#[cfg(test)]
mod tests;
mod trail;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use olb_lease::Plan;
use olb_review::{Facts, render};
use olb_wire::{Request, RequestView, Response};
use serde::Serialize;
use serde_json::Value;

use crate::args::DemoArgs;
use crate::client::Socket;
use crate::demo::check::Expected;
use crate::demo::stage::Stage;
use crate::demo::story::Story;
use crate::failure::code;
use crate::instance::child::Output;
use crate::instance::daemon::Halves;
use crate::instance::stop::{Stop, Stopped};
use crate::out::tell;
use crate::text;

/// The command that the demo asks for: what it prints differs for the agent and for root.
const COMMAND: [&str; 2] = ["id", "-u"];
/// The agent's words in the demo.
const REASON: &str = "to see whether I would really be root";
/// The human's words in the demo when the answer is no.
const DENIAL: &str = "not now";
/// Exit code after Ctrl-C, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

/// What `--json` ends with. Every word in it was checked; what does not hold is a failed demo.
#[derive(Debug, Serialize)]
struct Summary {
    /// Runs that the audit trail tells of.
    executed: u64,
    /// What became of the lease presented again; null where it was denied.
    replay: Option<&'static str>,
    /// What `olb audit verify` said.
    audit: &'static str,
    /// Whether the agent, the front and root were separate accounts.
    boundary: bool,
    request_id: String,
    /// Exit code of the command; null where it was denied.
    exit_code: Option<u8>,
}

/// Shows the whole flow; what is left on the machine afterwards is nothing.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    match demonstrate(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Stopped>() => {
            tell!("\nolb: stopped; the broker is ended and its folder removed");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            tell!("olb: the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(args: &DemoArgs) -> Result<()> {
    let stop = Stop::new()?;
    let story = Story::new(args.json);
    let stage = Stage::set(&stop)?;
    let result = play(args, &story, &stage);
    stage.clear()?;
    let outcome = result?;
    story.line("Everything that was started is ended, and the folder is removed.")?;
    if args.json { story.json(&outcome) } else { Ok(()) }
}

/// Plays the demo to its end; the halves are ended when this returns.
fn play(args: &DemoArgs, story: &Story, stage: &Stage<'_>) -> Result<Summary> {
    let _halves = open(story, stage)?;
    let id = ask(story, stage)?;
    let (view, plan) = fetch(stage, &id)?;
    story.step(3, "You are asked. This is what would be signed, rendered from the plan itself:")?;
    let facts = Facts {
        request_id: id.clone(),
        code: view.code.clone(),
        requester_name: stage.requester_name(),
        run_as_mismatch: false,
        expires: text::time(view.expires_at),
    };
    let review = render(&plan, &facts);
    ensure!(review.can_be_answered, "the request does not fit a screen");
    story.text(&review.text)?;
    let (exit_code, last_step) = if story.confirm(args.yes, stage.stop())? {
        approve(story, stage, &id)?;
        let exit_code = present(story, stage)?;
        present_again(story, stage)?;
        (Some(exit_code), 6)
    } else {
        deny(story, stage, &id)?;
        (None, 5)
    };
    story.step(
        last_step,
        "The audit trail is verified: its chain, its signatures, and the heads of it in the root \
         half's log, which is the journal where the broker is installed.",
    )?;
    let log = stage.instance().log_file("olb-execd");
    let log = log.to_str().context("the log's path is not UTF-8")?;
    let verified = stage.operator(story, &["audit", "verify", "--anchor", log])?;
    ensure!(verified.code == 0, "the audit trail does not verify");
    let executed = trail::executions(stage, &id)?;
    ensure!(executed == u64::from(exit_code.is_some()), "the trail tells of {executed} runs");
    Ok(Summary {
        executed,
        replay: exit_code.map(|_| "refused"),
        audit: "verified",
        boundary: stage.boundary(),
        request_id: id,
        exit_code,
    })
}

fn open(story: &Story, stage: &Stage<'_>) -> Result<Halves> {
    story.line(&format!("A private, throwaway broker in {}", stage.folder().display()))?;
    if !stage.boundary() {
        story.no_boundary()?;
    }
    story.step(1, "Both halves start.")?;
    let halves = Halves::start(stage.instance(), stage.stop())?;
    for (name, pid) in halves.pids() {
        let uid = if name == "olb-execd" { stage.own_uid() } else { stage.front_uid() };
        let what = if name == "olb-execd" {
            "holds the keys, starts commands"
        } else {
            "reads everything that is sent; no keys"
        };
        story.line(&format!("   {name:<12} uid {uid:<6} process {pid:<8} {what}"))?;
    }
    let info = stage.runtime().info(Socket::Review)?;
    ensure!(info.boundary == stage.boundary(), "the root half disagrees about who it is");
    Ok(halves)
}

/// The agent asks. Returns the request's id as the agent's own process printed it.
fn ask(story: &Story, stage: &Stage<'_>) -> Result<String> {
    let who = stage.requester_uid();
    let target = if stage.boundary() { " that is to run as root" } else { "" };
    story.step(2, &format!("An agent, uid {who}, asks for a command{target}."))?;
    stage.plain(story, &COMMAND)?;
    let asked = ask_for_it(story, stage)?;
    let answer = answer(&asked.stdout)?;
    ensure!(asked.code == code::PENDING, "the request was not held: exit {}", asked.code);
    let Some(id) = answer["request_id"].as_str() else { bail!("the request has no id") };
    story.line(&format!("   exit {}: ask again later", asked.code))?;
    Ok(id.to_owned())
}

/// The agent's `olb request`; its JSON is for the demo, not shown.
fn ask_for_it(story: &Story, stage: &Stage<'_>) -> Result<Output> {
    story.command("$", &[&["olb"], request().as_slice()].concat())?;
    let asked = stage.agent_quietly(&request())?;
    story.messages(&asked)?;
    Ok(asked)
}

fn request() -> Vec<&'static str> {
    [&["request", "--json", "--reason", REASON, "--"] as &[_], &COMMAND].concat()
}

fn answer(stdout: &[u8]) -> Result<Value> {
    match serde_json::from_slice(stdout) {
        Ok(answer) => Ok(answer),
        Err(_) => bail!("the agent's olb printed no JSON"),
    }
}

/// Fetches the plan from the front, which is not believed: it has to be the one plan that this
/// demo can have brought about.
fn fetch(stage: &Stage<'_>, id: &str) -> Result<(RequestView, Plan)> {
    let show = Request::Show { selector: id.to_owned(), wait: false };
    let Response::Request(view) = stage.runtime().ask(Socket::Review, &show)? else {
        bail!("the broker's answer is of the wrong kind");
    };
    let plan = Expected::new(stage, id, &COMMAND, REASON)?.check(&view)?;
    Ok((*view, plan))
}

/// Signs an approval. By its full id nothing is asked again: the id is recomputed from the plan, so
/// it can only be the plan that was checked and shown.
fn approve(story: &Story, stage: &Stage<'_>, id: &str) -> Result<()> {
    let key = stage.instance().operator_key().display().to_string();
    let approved = stage.operator(story, &["approve", "--id", id, "--key", &key])?;
    ensure!(approved.code == 0, "the approval failed: exit {}", approved.code);
    Ok(())
}

/// The agent's retry gets the lease; presenting it runs the command.
fn present(story: &Story, stage: &Stage<'_>) -> Result<u8> {
    story.step(4, "The agent asks again, gets its lease and presents it.")?;
    let asked = ask_for_it(story, stage)?;
    let answer = answer(&asked.stdout)?;
    let Some(lease) = answer["lease"].as_str() else { bail!("the agent got no lease") };
    stage.write_lease(lease)?;
    let ran = stage.agent(story, &execution(&lease_file(stage)))?;
    let want = format!("{}\n", stage.own_uid());
    ensure!(ran.code == 0 && ran.stdout == want.as_bytes(), "the command did not run as asked");
    story.line(&format!("   exit {}", ran.code))?;
    Ok(ran.code)
}

fn execution(lease_file: &str) -> Vec<&str> {
    [&["exec", "--lease-file", lease_file, "--"] as &[_], &COMMAND].concat()
}

fn lease_file(stage: &Stage<'_>) -> String {
    stage.lease_file().display().to_string()
}

fn present_again(story: &Story, stage: &Stage<'_>) -> Result<()> {
    story.step(5, "The agent presents the same lease again.")?;
    let replayed = stage.agent(story, &execution(&lease_file(stage)))?;
    ensure!(replayed.code == code::REFUSED, "it was not refused: exit {}", replayed.code);
    story.line(&format!("   exit {}: refused, nothing ran.", replayed.code))
}

fn deny(story: &Story, stage: &Stage<'_>, id: &str) -> Result<()> {
    let key = stage.instance().operator_key().display().to_string();
    let denied = stage.operator(story, &["deny", "--id", id, "--reason", DENIAL, "--key", &key])?;
    ensure!(denied.code == 0, "the denial failed: exit {}", denied.code);
    story.step(4, "The agent asks again. Nothing ran, and there is no lease.")?;
    let asked = ask_for_it(story, stage)?;
    ensure!(asked.code == code::REFUSED, "it was not refused: exit {}", asked.code);
    story.line(&format!("   exit {}", asked.code))
}
