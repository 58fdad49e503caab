//! A record of the trail as a line: for people, and as the JSON of an export, which is read again by
//! `olb audit verify`.

use std::fmt;

use olb_exec_api::SequencedRecord;
use olb_lease::{
    EpochReason, Outcome, Plan, PlanDigest, RawVerdict, Record, RecordEvent, VerdictKind,
    plan_digest,
};
use olb_review::display::safe;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::{json, outcome, status, text};

/// One exported line: the exact bytes, and beside them what they say.
pub(super) fn export(one: &SequencedRecord) -> Map<String, Value> {
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
        RecordEvent::Finished {
            plan, cti, outcome, stdout, stderr, duration_ms, usage, ..
        } => {
            put("event", "finished".into());
            put("request_id", plan.request_id().to_string().into());
            put("cti", cti.hex().into());
            put("outcome", outcome_of(*outcome).into());
            put("stdout_bytes", stdout.bytes.into());
            put("stderr_bytes", stderr.bytes.into());
            put("duration_ms", (*duration_ms).into());
            put("usage", outcome::usage(*usage));
        }
        RecordEvent::KeyEnded { kid } => {
            put("event", "key_ended".into());
            put("kid", kid.hex().into());
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
pub(super) fn describe(one: &SequencedRecord) -> String {
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
        RecordEvent::KeyEnded { kid } => format!("key {} counts no longer", kid.hex()),
    };
    let signed = if one.receipt.is_some() { "signed" } else { "" };
    format!("{:>6} {} {signed:<6} {what}", one.sequence, text::time(record.at))
}

/// Why a line is not what [`export`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no exported record.
    NoRecord,
    /// A readable field beside this record says something else than the record.
    Altered { sequence: u64, field: String },
    /// There is a field that this version cannot derive from the record.
    Unknown { sequence: u64, field: String },
}

/// Reads an exported line. Its readable fields have to say what the record says: people read them,
/// and take them for verified with it. Fields may be missing, as from an older version's export.
pub(super) fn read(line: &[u8]) -> Result<SequencedRecord, Fault> {
    let Fields(given) = serde_json::from_slice(line).map_err(|_| Fault::NoRecord)?;
    let one = bytes_of(&given).ok_or(Fault::NoRecord)?;
    // A record that does not decode says nothing; that is told by whoever checks the trail.
    if Record::decode(&one.record).is_ok() {
        let (said, sequence) = (export(&one), one.sequence);
        for (name, value) in &given {
            let field = name.clone();
            match said.get(name) {
                Some(derived) if derived == value => {}
                Some(_) => return Err(Fault::Altered { sequence, field }),
                None => return Err(Fault::Unknown { sequence, field }),
            }
        }
    }
    Ok(one)
}

fn bytes_of(fields: &Map<String, Value>) -> Option<SequencedRecord> {
    let receipt = match fields.get("receipt")? {
        Value::Null => None,
        receipt => Some(json::unhex(receipt.as_str()?)?),
    };
    Some(SequencedRecord {
        sequence: fields.get("sequence")?.as_u64()?,
        record: json::unhex(fields.get("record")?.as_str()?)?,
        receipt,
    })
}

/// An object in which no field comes twice: of two, different readers would take different ones.
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object without repetitions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a field comes twice"));
                    }
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Once).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use olb_review::display::is_safe;

    use super::*;
    use crate::audit::sample::{decided, has_receipt, text, trail, trail_of};
    use crate::testing::plan;
    use crate::trust::tests::audit_key;

    #[test]
    fn an_exported_line_has_the_documented_fields() {
        let object = export(&trail()[7]);
        assert_eq!(object["sequence"], 8);
        assert_eq!(object["event"], "finished");
        assert_eq!(object["outcome"], "signal 9");
        assert_eq!(object["at"], "2026-11-22T16:00:07Z");
        assert!(object["record"].is_string() && object["receipt"].is_string());
    }

    #[test]
    fn every_exported_line_reads_back_as_it_was() {
        for (line, one) in text(&trail()).lines().zip(trail()) {
            assert_eq!(read(line.as_bytes()), Ok(one));
        }
    }

    // [T-10]
    #[test]
    fn a_readable_field_that_the_record_does_not_say_is_noticed() {
        let texts = text(&trail());
        let line = texts.lines().nth(1).unwrap();
        let object: Map<String, Value> = serde_json::from_str(line).unwrap();
        for name in
            object.keys().filter(|name| !["sequence", "record", "receipt"].contains(&name.as_str()))
        {
            let mut changed = object.clone();
            changed[name] = "rm -rf /".into();
            let altered = Fault::Altered { sequence: 2, field: name.clone() };
            assert_eq!(read(json::line(&changed).as_bytes()), Err(altered));
        }
        let mut older = object.clone();
        older.shift_remove("command");
        assert!(read(json::line(&older).as_bytes()).is_ok(), "an older version's export");
        let mut newer = object;
        newer.insert("note".into(), 1.into());
        let unknown = Fault::Unknown { sequence: 2, field: "note".into() };
        assert_eq!(read(json::line(&newer).as_bytes()), Err(unknown));
    }

    // [T-10]
    #[test]
    fn a_field_that_comes_twice_is_no_record() {
        let texts = text(&trail());
        let line = texts.lines().nth(1).unwrap();
        for field in ["\"command\":\"ls\"", "\"sequence\":2"] {
            let twice = line.replacen('{', &format!("{{{field},"), 1);
            assert_eq!(read(twice.as_bytes()), Err(Fault::NoRecord), "{twice}");
        }
    }

    #[test]
    fn a_listed_line_reads_well() {
        let line = describe(&trail()[7]);
        assert!(line.starts_with("     8 2026-11-22T16:00:07Z signed finished req_"), "{line}");
        assert!(line.ends_with(": signal 9, 0 bytes of output, 4 ms"), "{line}");
        let odd = SequencedRecord { sequence: 9, record: vec![0xff], receipt: None };
        assert_eq!(describe(&odd), "     9 does not decode");
        assert!(read(json::line(&export(&odd)).as_bytes()).is_ok(), "that is for the trail to say");
    }

    #[test]
    fn whatever_others_wrote_cannot_act_on_a_terminal_and_stays_on_its_line() {
        let evil = "a\u{1b}[2Jb\nolb-execd: x\u{202e}\u{7f}\u{9b}\r\u{2028}";
        let plan = Plan { argv: vec!["echo".into(), evil.into(), b"\xff".into()], ..plan() };
        let refused = RecordEvent::Refused {
            plan: PlanDigest([1; 32]),
            cti: olb_lease::Cti([1; 16]),
            reason: evil.into(),
        };
        let events = vec![decided(&plan, VerdictKind::Approve, evil), refused];
        for one in trail_of(events, &audit_key(), has_receipt) {
            let exported = json::line(&export(&one));
            for line in [describe(&one), exported.clone()] {
                assert!(line.chars().all(is_safe), "{line}");
            }
            assert_eq!(read(exported.as_bytes()), Ok(one));
        }
    }
}
