//! One vector: how it is written, read and judged.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cbor::CborError;
use crate::{
    EnvelopeError, LeaseError, Plan, PlanError, RawLease, RawReceipt, RawVerdict, ReceiptError,
    VerdictError, armor,
};

use super::fixture;

/// What a vector is a vector of; also the name of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plan,
    Verdict,
    Lease,
    Receipt,
    Armor,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Plan, Self::Verdict, Self::Lease, Self::Receipt, Self::Armor];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Verdict => "verdict",
            Self::Lease => "lease",
            Self::Receipt => "receipt",
            Self::Armor => "armor",
        }
    }

    /// The public key the vectors of this kind are checked with.
    fn key(self) -> Option<String> {
        match self {
            Self::Plan | Self::Armor => None,
            Self::Verdict => Some(fixture::approver().public().hex()),
            Self::Lease => Some(fixture::issuer().public().hex()),
            Self::Receipt => Some(fixture::audit().public().hex()),
        }
    }
}

/// The closed list of what becomes of a vector; SPEC.md gives the meaning of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Accept,
    Length,
    Prefix,
    Alphabet,
    Envelope,
    Key,
    Signature,
    Cbor,
    Schema,
    Limit,
    Record,
}

impl Stage {
    pub(super) const ALL: [Self; 11] = [
        Self::Accept,
        Self::Length,
        Self::Prefix,
        Self::Alphabet,
        Self::Envelope,
        Self::Key,
        Self::Signature,
        Self::Cbor,
        Self::Schema,
        Self::Limit,
        Self::Record,
    ];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn from_name(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|stage| stage.name() == name);
        found.unwrap_or_else(|| panic!("no stage is called {name}"))
    }

    fn of_cbor(error: CborError) -> Self {
        match error {
            CborError::Truncated
            | CborError::Trailing
            | CborError::NotShortest
            | CborError::Indefinite
            | CborError::Tag
            | CborError::Simple
            | CborError::Utf8
            | CborError::KeyOrder
            | CborError::KeyType
            | CborError::Depth => Self::Cbor,
            CborError::Unexpected { .. } => Self::Schema,
            CborError::Range { what: "the length" } => Self::Length,
            CborError::Range { .. } => Self::Limit,
        }
    }

    fn of_envelope(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Form => Self::Envelope,
            EnvelopeError::TooLong { .. } => Self::Length,
            EnvelopeError::UnknownKey => Self::Key,
            EnvelopeError::Signature => Self::Signature,
        }
    }

    pub(super) fn of_lease(bytes: &[u8]) -> Self {
        let lease = RawLease::parse(bytes).and_then(|raw| raw.verify(fixture::issuer().public()));
        match lease {
            Ok(_) => Self::Accept,
            Err(LeaseError::Length) => Self::Length,
            Err(LeaseError::Envelope(error)) => Self::of_envelope(error),
            Err(LeaseError::Cbor(error)) => Self::of_cbor(error),
            Err(LeaseError::Limit(_)) => Self::Limit,
        }
    }

    pub(super) fn of_verdict(bytes: &[u8]) -> Self {
        let approver = fixture::approver();
        match RawVerdict::parse(bytes).and_then(|raw| raw.verify(approver.public())) {
            Ok(_) => Self::Accept,
            Err(VerdictError::Envelope(error)) => Self::of_envelope(error),
            Err(VerdictError::Cbor(error)) => Self::of_cbor(error),
            Err(VerdictError::Limit(_)) => Self::Limit,
        }
    }

    pub(super) fn of_receipt(bytes: &[u8]) -> Self {
        let claims = RawReceipt::parse(bytes).and_then(|raw| raw.verify(fixture::audit().public()));
        match claims.and_then(|claims| claims.decode_record()) {
            Ok(_) => Self::Accept,
            Err(ReceiptError::Envelope(error)) => Self::of_envelope(error),
            Err(ReceiptError::Cbor(error)) => Self::of_cbor(error),
            Err(ReceiptError::Record(_)) => Self::Record,
        }
    }

    fn of_plan(bytes: &[u8]) -> Self {
        match Plan::decode(bytes) {
            Ok(_) => Self::Accept,
            Err(PlanError::Cbor(error)) => Self::of_cbor(error),
            Err(PlanError::Limit(_) | PlanError::Nul(_)) => Self::Limit,
        }
    }

    fn of_armor(text: &str) -> Self {
        match armor::decode(text) {
            Ok(_) => Self::Accept,
            Err(armor::ArmorError::Prefix) => Self::Prefix,
            Err(armor::ArmorError::Length) => Self::Length,
            Err(armor::ArmorError::Alphabet) => Self::Alphabet,
        }
    }
}

/// A generated vector.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) kind: Kind,
    name: &'static str,
    comment: &'static str,
    spec: &'static [&'static str],
    expect: Stage,
    /// For armor: the text.
    bytes: Vec<u8>,
    /// For accepted ones: names that follow from the bytes.
    names: Vec<(&'static str, String)>,
}

impl Case {
    pub(super) fn new(
        kind: Kind,
        name: &'static str,
        spec: &'static [&'static str],
        expect: Stage,
        comment: &'static str,
        bytes: Vec<u8>,
    ) -> Self {
        Self { kind, name, comment, spec, expect, bytes, names: Vec::new() }
    }

    /// Adds what follows from the bytes of an accepted vector.
    pub(super) fn named(mut self, names: &[(&'static str, String)]) -> Self {
        self.names.extend_from_slice(names);
        self
    }

    pub(super) fn file_name(&self) -> String {
        format!("{}_{}.json", self.kind.name(), self.name)
    }

    pub(super) fn to_json(&self) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let spec: Vec<_> = self.spec.iter().map(|id| text(id)).collect();
        let mut lines = vec![
            format!("\"comment\": {}", text(self.comment)),
            format!("\"spec\": [{}]", spec.join(", ")),
            format!("\"expect\": {}", text(&self.expect.name())),
        ];
        if let Some(key) = self.kind.key() {
            lines.push(format!("\"key\": {}", text(&key)));
        }
        for (name, value) in &self.names {
            lines.push(format!("{}: {}", text(name), text(value)));
        }
        lines.push(match self.kind {
            Kind::Armor => format!("\"text\": {}", text(std::str::from_utf8(&self.bytes).unwrap())),
            _ => format!("\"hex\": [\n    \"{}\"\n  ]", pieces(&self.bytes).join("\",\n    \"")),
        });
        format!("{{\n  {}\n}}\n", lines.join(",\n  "))
    }
}

/// Hexadecimal in lines of 32 bytes; 64 and more equal bytes in a row become `XX*COUNT`.
pub(super) fn pieces(bytes: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let mut plain = Vec::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() < 64 {
            plain.extend_from_slice(run);
            continue;
        }
        out.extend(plain.chunks(32).map(crate::id::hex));
        plain.clear();
        out.push(format!("{:02x}*{}", run[0], run.len()));
    }
    out.extend(plain.chunks(32).map(crate::id::hex));
    out
}

fn from_pieces(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in value.as_array().unwrap() {
        let piece = piece.as_str().unwrap();
        match piece.split_once('*') {
            Some((byte, count)) => {
                let byte = u8::from_str_radix(byte, 16).unwrap();
                out.resize(out.len() + count.parse::<usize>().unwrap(), byte);
            }
            None => out.extend(unhex(piece)),
        }
    }
    out
}

/// Bytes of hexadecimal of any case, as public vectors have it.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits: {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A vector as it stands in its file.
pub(super) struct Loaded {
    pub(super) expect: Stage,
    pub(super) spec: Vec<String>,
    bytes: Vec<u8>,
}

impl Loaded {
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let spec = json["spec"].as_array().unwrap();
        Self {
            expect: Stage::from_name(json["expect"].as_str().unwrap()),
            spec: spec.iter().map(|id| id.as_str().unwrap().to_owned()).collect(),
            bytes: match json.get("text") {
                Some(text) => text.as_str().unwrap().into(),
                None => from_pieces(&json["hex"]),
            },
        }
    }

    pub(super) fn judge(&self, kind: Kind) -> Stage {
        match kind {
            Kind::Plan => Stage::of_plan(&self.bytes),
            Kind::Verdict => Stage::of_verdict(&self.bytes),
            Kind::Lease => Stage::of_lease(&self.bytes),
            Kind::Receipt => Stage::of_receipt(&self.bytes),
            Kind::Armor => Stage::of_armor(std::str::from_utf8(&self.bytes).unwrap()),
        }
    }
}
