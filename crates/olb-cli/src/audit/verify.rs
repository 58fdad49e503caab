//! `olb audit verify`: 0 intact, 1 broken, 2 cannot verify, each with the reason in a sentence.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::ExitCode;

use olb_exec_api::SequencedRecord;
use olb_lease::trail::{BEGINNING, Intact, TrailError, verify_trail};
use olb_review::display::safe;
use serde_json::{Value, json};

use super::Trail;
use super::anchor::{Anchors, From as AnchorsFrom};
use super::line::{Fault, read};
use super::lines::lines;
use crate::args::AuditVerifyArgs;
use crate::client::{Runtime, Socket};
use crate::failure::Failure;
use crate::json;
use crate::out::{say, tell};
use crate::trust::BrokerKeys;

/// Exit code for a trail that is not what the root half wrote.
const BROKEN: u8 = 1;
/// Exit code where nothing can be said.
const CANNOT_VERIFY: u8 = 2;

/// Why a trail is not called intact, as a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unproved {
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

/// A trail that holds, and how far anchors reach that it passed through.
#[derive(Debug)]
struct Verified {
    intact: Intact,
    anchors: Anchors,
}

/// `olb audit verify`.
pub(super) fn run(args: &AuditVerifyArgs) -> ExitCode {
    let from = match &args.anchor {
        Some(path) => AnchorsFrom::File(path),
        None if args.no_anchor => AnchorsFrom::Nowhere,
        None => AnchorsFrom::Journal,
    };
    let result = match &args.file {
        Some(path) => of_file(path, args.keys.as_deref(), from),
        None => of_running(args.keys.as_deref(), from),
    };
    report(&result.and_then(|verified| verified.by(args.keys.as_deref())), args.json)
}

fn report(result: &Result<Verified, Unproved>, is_json: bool) -> ExitCode {
    let (verdict, message, code) = match result {
        Ok(verified) => {
            if is_json {
                say!("{}", json::line(&verified.json()));
            } else {
                say!("{}", verified.lines());
            }
            return ExitCode::SUCCESS;
        }
        Err(Unproved::Broken(message)) => ("broken", message, BROKEN),
        Err(Unproved::Cannot(message)) => ("cannot_verify", message, CANNOT_VERIFY),
    };
    tell!("olb: {message}");
    if is_json {
        say!("{}", json::line(&json!({ "verdict": verdict, "message": message })));
    }
    ExitCode::from(code)
}

impl Verified {
    /// The same, where the keys can have said all: those of `keys_file` may be older than the
    /// anchors, those of the running broker are not.
    fn by(self, keys_file: Option<&Path>) -> Result<Self, Unproved> {
        keys_file.map_or(Ok(()), |_| self.anchors.require_all_known())?;
        Ok(self)
    }

    fn lines(&self) -> String {
        let Intact { records, head, signed_upto, .. } = self.intact;
        let head = head.hex();
        let whole =
            format!("intact: {records} records, signed up to record {signed_upto}, head {head}");
        let end = match self.anchors.upto() {
            Some(upto) => {
                format!("anchored: {} vouches for the records up to {upto}", self.anchors.source)
            }
            None => format!(
                "not anchored: nothing here says that record {records} is the last one; {}",
                self.anchors.why_none()
            ),
        };
        let passed_over = self.anchors.passed_over();
        let passed_over = passed_over.map_or(String::new(), |text| format!("\nbut: {text}"));
        format!("{whole}\n{end}{passed_over}")
    }

    fn json(&self) -> Value {
        let anchors = &self.anchors;
        let upto = anchors.upto();
        json!({
            "verdict": "intact",
            "records": self.intact.records,
            "signed_upto": self.intact.signed_upto,
            "head": self.intact.head.hex(),
            "anchored_upto": upto,
            "anchor": upto.map(|_| anchors.source.as_str()),
            "message": if upto.is_none() { Some(anchors.why_none()) } else { anchors.passed_over() },
        })
    }
}

fn keys(path: Option<&Path>, runtime: &Runtime) -> Result<BrokerKeys, Unproved> {
    let keys = path.map_or_else(|| BrokerKeys::of(runtime), BrokerKeys::read);
    keys.map_err(|text| Unproved::Cannot(safe(text.as_bytes())))
}

fn of_running(keys_file: Option<&Path>, from: AnchorsFrom<'_>) -> Result<Verified, Unproved> {
    let runtime = Runtime::for_operator()?;
    let keys = keys(keys_file, &runtime)?;
    // Before the records: what is written meanwhile would look cut off.
    let anchors = Anchors::read(from, &keys)?;
    let expected = runtime.info(Socket::Review)?.sequence;
    let records = Trail::of(&runtime, 1).map(|one| one.map_err(Unproved::from));
    let verified = check(records, &keys, anchors)?;
    let last = verified.intact.records;
    if last < expected {
        return Err(Unproved::Broken(format!(
            "the trail is broken: it ends at record {last}, and the broker says it has {expected}"
        )));
    }
    Ok(verified)
}

fn of_file(
    path: &Path,
    keys_file: Option<&Path>,
    from: AnchorsFrom<'_>,
) -> Result<Verified, Unproved> {
    let keys = keys(keys_file, &Runtime::for_requester())?;
    let anchors = Anchors::read(from, &keys)?;
    let shown = safe(path.as_os_str().as_encoded_bytes());
    let file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
    of_export(BufReader::new(file), &shown, &keys, anchors)
}

fn unreadable(file: &str, error: &std::io::Error) -> Unproved {
    Unproved::Cannot(format!("{file} cannot be read ({error}); give an exported trail"))
}

/// An exported trail that is called `file` in messages.
fn of_export(
    reader: impl BufRead,
    file: &str,
    keys: &BrokerKeys,
    anchors: Anchors,
) -> Result<Verified, Unproved> {
    let records = (1_u64..).zip(lines(reader)).map(|(number, line)| {
        let line = match line {
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(Fault::NoRecord),
            Err(error) => return Err(unreadable(file, &error)),
            Ok(line) => read(&line),
        };
        line.map_err(|fault| told(&fault, number, file))
    });
    check(records, keys, anchors)
}

fn told(fault: &Fault, number: u64, file: &str) -> Unproved {
    match fault {
        Fault::NoRecord => Unproved::Broken(format!(
            "the trail is broken: line {number} of {file} is no exported record"
        )),
        Fault::Altered { sequence, field } => Unproved::Broken(format!(
            "the trail is broken at record {sequence}: the readable \"{}\" beside it (line {number} \
             of {file}) is not what the record says",
            safe(field.as_bytes())
        )),
        Fault::Unknown { sequence, field } => Unproved::Cannot(format!(
            "the trail cannot be verified: this olb does not know the field \"{}\" of record \
             {sequence} (line {number} of {file}); use one as new as the export, or export it again",
            safe(field.as_bytes())
        )),
    }
}

/// Checks `records`, which end at their first failure.
fn check(
    records: impl Iterator<Item = Result<SequencedRecord, Unproved>>,
    keys: &BrokerKeys,
    anchors: Anchors,
) -> Result<Verified, Unproved> {
    let mut stopped = None;
    let entries = records.map_while(|one| match one {
        Ok(one) => Some((one.sequence, one.record, one.receipt)),
        Err(error) => {
            stopped = Some(error);
            None
        }
    });
    let result = verify_trail(entries, &keys.of_trail(), BEGINNING, &anchors.heads);
    if let Some(error) = stopped {
        return Err(error);
    }
    let intact = result.map_err(|error| match (Unproved::from(error), anchors.upto()) {
        (Unproved::Broken(text), Some(upto)) => {
            Unproved::Broken(format!("{text} ({} reaches to record {upto})", anchors.source))
        }
        (unproved, _) => unproved,
    })?;
    if let Some(key) = keys.retired.iter().find(|key| Some(key.kid()) == intact.signed_by) {
        return Err(Unproved::Cannot(format!(
            "the trail cannot be verified: its last signature, at record {}, is by audit key {}, \
             which was replaced since, and whoever has that could have written another end; export \
             the trail again, or give --keys the public keys of that time",
            intact.signed_upto,
            key.kid().hex()
        )));
    }
    // Whoever has no key can write records that need no signature.
    if intact.signed_upto == 0 && anchors.upto().is_none() {
        return Err(Unproved::Cannot(format!(
            "the trail cannot be verified: none of its {} records is covered by a signature or an \
             anchor",
            intact.records
        )));
    }
    Ok(Verified { intact, anchors })
}

#[cfg(test)]
mod tests;
