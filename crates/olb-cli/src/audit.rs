//! `olb audit list`, `export` and `verify`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use olb_exec_api::{RecordPage, SequencedRecord};
use olb_lease::trail::{Intact, TrailError, verify_trail};
use olb_lease::{
    EpochReason, Outcome, Plan, PlanDigest, RawVerdict, Record, RecordEvent, VerdictKind,
    plan_digest,
};
use olb_review::display::safe;
use olb_wire::{Request, Response};
use serde_json::{Map, Value};

use crate::args::{AuditCommand, AuditListArgs, AuditVerifyArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::out::{say, tell};
use crate::trust::BrokerKeys;
use crate::{json, status, text};

/// Exit code of `verify` for a trail that is not what the root half wrote.
const BROKEN: u8 = 1;
/// Exit code of `verify` where nothing can be said.
const CANNOT_VERIFY: u8 = 2;

/// `olb audit`.
pub(crate) fn run(command: &AuditCommand) -> ExitCode {
    match command {
        AuditCommand::List(args) => list(args),
        AuditCommand::Export => finish(each(1, |one| Ok(json::line(&export(one))))),
        AuditCommand::Verify(args) => verify(args),
    }
}

fn list(args: &AuditListArgs) -> ExitCode {
    finish(each(args.from, |one| {
        Ok(if args.json { json::line(&export(one)) } else { describe(one) })
    }))
}

fn finish(result: Result<u64, Failure>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => failure.report(false),
    }
}

/// Prints a line for each record of the running broker, from `from` on; the last one's number.
fn each(
    from: u64,
    line: impl Fn(&SequencedRecord) -> Result<String, Failure>,
) -> Result<u64, Failure> {
    let runtime = Runtime::for_operator()?;
    let mut out = std::io::stdout().lock();
    fetch(&runtime, from, |one| {
        let line = line(one)?;
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            // A reader that has seen enough ends the listing; that is no failure of ours.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            // But half a trail must not pass for all of it.
            Err(error) => Err(Failure::new(
                code::UNKNOWN_OUTCOME,
                "output_lost",
                format!("the trail cannot be written ({error}); make room and ask again"),
            )),
        }
    })
}

/// Hands every record from `from` on to `take` until that wants no more; the last one's number.
fn fetch(
    runtime: &Runtime,
    from: u64,
    mut take: impl FnMut(&SequencedRecord) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    let mut next = from;
    loop {
        let Response::Records(page) =
            runtime.ask(Socket::Review, &Request::Records { from: next })?
        else {
            return Err(Failure::bad_answer());
        };
        let page = RecordPage::decode(&page).map_err(|_| Failure::bad_answer())?;
        if page.records.is_empty() {
            return Ok(next.saturating_sub(1));
        }
        for one in &page.records {
            if !take(one)? {
                return Ok(one.sequence);
            }
            // Also where the broker repeats itself, this ends.
            next = next.max(one.sequence).saturating_add(1);
        }
    }
}

/// One exported line: the exact bytes, and beside them what they say.
fn export(one: &SequencedRecord) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("sequence".into(), one.sequence.into());
    object.insert("record".into(), json::hex(&one.record).into());
    object.insert("receipt".into(), one.receipt.as_deref().map(json::hex).into());
    if let Ok(record) = Record::decode(&one.record) {
        object.insert("at".into(), text::time(record.at).into());
        object.insert("epoch".into(), record.epoch.hex().into());
        decoded(&mut object, &record.event);
    }
    object
}

fn decoded(object: &mut Map<String, Value>, event: &RecordEvent) {
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    match event {
        RecordEvent::EpochBegan { reason, lease_kid } => {
            put("event", "epoch_began".into());
            put("reason", epoch_reason(*reason).into());
            put("lease_kid", lease_kid.hex().into());
        }
        RecordEvent::Decided { plan, verdict, approver, approver_uid, cti } => {
            put("event", "decided".into());
            put("decision", kind_of(verdict).into());
            put("approver", approver.as_str().into());
            put("approver_uid", (*approver_uid).into());
            put("cti", cti.map(|cti| cti.hex()).into());
            put("request_id", plan_digest(plan).request_id().to_string().into());
            put("command", command_of(plan).into());
        }
        RecordEvent::Burned { plan, cti } => {
            put("event", "burned".into());
            put("request_id", plan.request_id().to_string().into());
            put("cti", cti.hex().into());
        }
        RecordEvent::Refused { plan, cti, reason } => {
            put("event", "refused".into());
            put("request_id", plan.request_id().to_string().into());
            put("cti", cti.hex().into());
            put("reason", reason.as_str().into());
        }
        RecordEvent::Finished { plan, cti, outcome, stdout, stderr, duration_ms, .. } => {
            put("event", "finished".into());
            put("request_id", plan.request_id().to_string().into());
            put("cti", cti.hex().into());
            put("outcome", outcome_of(*outcome).into());
            put("stdout_bytes", stdout.bytes.into());
            put("stderr_bytes", stderr.bytes.into());
            put("duration_ms", (*duration_ms).into());
        }
    }
}

fn epoch_reason(reason: EpochReason) -> &'static str {
    match reason {
        EpochReason::NewLedger => "new ledger",
        EpochReason::Boot => "boot",
        EpochReason::Restored => "restored ledger",
        EpochReason::NewKey => "new lease key",
    }
}

fn kind_of(verdict: &[u8]) -> &'static str {
    let claims = RawVerdict::parse(verdict).and_then(|verdict| verdict.unverified_claims());
    match claims.map(|claims| claims.kind) {
        Ok(VerdictKind::Approve) => "approve",
        Ok(VerdictKind::Deny) => "deny",
        Ok(VerdictKind::Revoke) => "revoke",
        Err(_) => "unreadable",
    }
}

fn command_of(plan: &[u8]) -> String {
    Plan::decode(plan).map(|plan| status::command_of(&plan)).unwrap_or_default()
}

fn outcome_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Exited(code) => format!("exit {code}"),
        Outcome::Killed(signal) => format!("signal {signal}"),
        Outcome::SpawnFailed(errno) => format!("did not start: {}", text::errno_text(errno)),
        Outcome::Unknown { may_be_running: false } => "not known".to_owned(),
        Outcome::Unknown { may_be_running: true } => "not known, may be running".to_owned(),
    }
}

/// One line for people.
fn describe(one: &SequencedRecord) -> String {
    let Ok(record) = Record::decode(&one.record) else {
        return format!("{:>6} does not decode", one.sequence);
    };
    let name = |plan: &PlanDigest| plan.request_id().to_string();
    let what = match &record.event {
        RecordEvent::EpochBegan { reason, .. } => format!("epoch began: {}", epoch_reason(*reason)),
        RecordEvent::Decided { plan, verdict, approver, approver_uid, .. } => format!(
            "{} {} by {} (uid {approver_uid}): {}",
            kind_of(verdict),
            name(&plan_digest(plan)),
            safe(approver.as_bytes()),
            command_of(plan)
        ),
        RecordEvent::Burned { plan, .. } => format!("burned {}", name(plan)),
        RecordEvent::Refused { plan, reason, .. } => {
            format!("refused {}: {}", name(plan), safe(reason.as_bytes()))
        }
        RecordEvent::Finished { plan, outcome, stdout, duration_ms, .. } => format!(
            "finished {}: {}, {} bytes of output, {duration_ms} ms",
            name(plan),
            outcome_of(*outcome),
            stdout.bytes
        ),
    };
    let signed = if one.receipt.is_some() { "signed" } else { "" };
    format!("{:>6} {} {signed:<6} {what}", one.sequence, text::time(record.at))
}

fn verify(args: &AuditVerifyArgs) -> ExitCode {
    let result = match &args.file {
        Some(path) => verify_file(path, args.keys.as_deref()),
        None => verify_running(args.keys.as_deref()),
    };
    match result {
        Ok(intact) => {
            say!(
                "intact: {} records, signed up to record {}, head {}",
                intact.records,
                intact.signed_upto,
                intact.head.hex()
            );
            ExitCode::SUCCESS
        }
        Err(Unproved::Broken(text)) => {
            tell!("olb: {text}");
            ExitCode::from(BROKEN)
        }
        Err(Unproved::Cannot(text)) => {
            tell!("olb: {text}");
            ExitCode::from(CANNOT_VERIFY)
        }
    }
}

/// Why a trail is not called intact, as a sentence.
#[derive(Debug, PartialEq, Eq)]
enum Unproved {
    Broken(String),
    Cannot(String),
}

impl From<TrailError> for Unproved {
    fn from(error: TrailError) -> Self {
        match error {
            TrailError::Broken { .. } => Self::Broken(error.to_string()),
            TrailError::CannotVerify { .. } => {
                Self::Cannot(format!("{error}; add the retired key to the file of --keys"))
            }
        }
    }
}

impl From<Failure> for Unproved {
    fn from(failure: Failure) -> Self {
        Self::Cannot(failure.text)
    }
}

fn keys(path: Option<&Path>, runtime: &Runtime) -> Result<BrokerKeys, Unproved> {
    let keys = path.map_or_else(|| BrokerKeys::of(runtime), BrokerKeys::read);
    keys.map_err(|text| Unproved::Cannot(safe(text.as_bytes())))
}

fn verify_running(keys_file: Option<&Path>) -> Result<Intact, Unproved> {
    let runtime = Runtime::for_operator()?;
    let keys = keys(keys_file, &runtime)?;
    let expected = runtime.info(Socket::Review)?.sequence;
    let mut records = Vec::new();
    let last = fetch(&runtime, 1, |one| {
        records.push((one.sequence, one.record.clone(), one.receipt.clone()));
        Ok(true)
    })?;
    if last < expected {
        return Err(Unproved::Broken(format!(
            "the trail is broken: it ends at record {last}, and the broker says it has {expected}"
        )));
    }
    Ok(verify_trail(records, &keys.audit, None)?)
}

fn verify_file(path: &Path, keys_file: Option<&Path>) -> Result<Intact, Unproved> {
    let keys = keys(keys_file, &Runtime::for_requester())?;
    let shown = safe(path.as_os_str().as_encoded_bytes());
    let unreadable = |error: std::io::Error| {
        Unproved::Cannot(format!("{shown} cannot be read ({error}); give an exported trail"))
    };
    let lines = BufReader::new(File::open(path).map_err(unreadable)?).lines();
    let mut stopped = None;
    let entries = (1_u64..).zip(lines).map_while(|(number, line)| {
        let entry = line.map_err(unreadable).and_then(|line| {
            parse(&line).ok_or_else(|| {
                Unproved::Broken(format!(
                    "the trail is broken: line {number} of {shown} is no record"
                ))
            })
        });
        entry.map_err(|error| stopped = Some(error)).ok()
    });
    let result = verify_trail(entries, &keys.audit, None);
    match stopped {
        Some(error) => Err(error),
        None => {
            let intact = result?;
            if intact.records == 0 {
                return Err(Unproved::Cannot(format!(
                    "{shown} holds no records; export them first"
                )));
            }
            Ok(intact)
        }
    }
}

type Entry = (u64, Vec<u8>, Option<Vec<u8>>);

fn parse(line: &str) -> Option<Entry> {
    let object: Value = serde_json::from_str(line).ok()?;
    let receipt = match object.get("receipt")? {
        Value::Null => None,
        receipt => Some(json::unhex(receipt.as_str()?)?),
    };
    Some((
        object.get("sequence")?.as_u64()?,
        json::unhex(object.get("record")?.as_str()?)?,
        receipt,
    ))
}

#[cfg(test)]
mod tests;
