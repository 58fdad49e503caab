//! A broker with an audit trail to tamper with, and exports as somebody writes them who knows the
//! format.

use std::fs;
use std::path::{Path, PathBuf};

use olb_exec_api::SequencedRecord;
use olb_lease::{Audit, ChainHead, Digest, ReceiptClaims, Record, RecordEvent, SigningKey};
use serde_json::{Value, json};

use crate::approver::Approver;
use crate::instance::Instance;
use crate::olb::Ran;
use crate::process::wait_until;

/// A broker whose trail holds every kind of record that a request can cause.
pub struct Archive {
    /// The broker.
    pub instance: Instance,
    /// An enrolled approver.
    pub alice: Approver,
    /// A requester's uid.
    pub agent: u32,
}

impl Archive {
    /// Starts it, and has a run, a lease presented twice, a denial, a revocation and a run that fails.
    pub fn open() -> Self {
        let instance = Instance::start();
        let (alice, agent) = (instance.enrol(0), instance.requester(0));
        let archive = Self { instance, alice, agent };
        archive.story();
        archive
    }

    fn story(&self) {
        let Self { instance, alice, agent } = self;
        let (_, lease) = instance.approved(*agent, alice, &["id", "-u"]);
        instance.exec(*agent, &lease, &["id", "-u"]).expect(0);
        instance.exec(*agent, &lease, &["id", "-u"]).expect(77);
        let denied = instance.request(*agent, &["cat", "/etc/hostname"]);
        instance.olb_as(alice, &["deny", "--id", &denied, "--reason", "not now"]).expect(0);
        let (revoked, _) = instance.approved(*agent, alice, &["ls", "/"]);
        instance.olb_as(alice, &["revoke", "--id", &revoked]).expect(0);
        self.run("exit 3", 3);
    }

    /// Has a shell script asked for, approved and run.
    pub fn run(&self, script: &str, code: i32) {
        let command = ["sh", "-c", script];
        let (_, lease) = self.instance.approved(self.agent, &self.alice, &command);
        self.instance.exec(self.agent, &lease, &command).expect(code);
    }

    /// `olb` as the approver.
    pub fn operator(&self, words: &[&str]) -> Ran {
        self.instance.olb_as_operator(&self.alice, words)
    }

    /// The whole trail as `olb audit export` writes it.
    pub fn export(&self) -> String {
        self.operator(&["audit", "export"]).expect(0).stdout
    }

    /// The broker's log once the head after the trail's last signed record is in it: that is
    /// written after the answers.
    pub fn log(&self) -> PathBuf {
        let lines = exported(&self.export());
        let last = lines.iter().rfind(|line| line.receipt.is_some()).expect("a signed record");
        let head = format!("audit head sequence={} ", last.sequence);
        wait_until("the head is logged", || self.instance.read_log("execd").contains(&head));
        self.instance.log("execd")
    }

    /// Writes a file that everybody can read.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.instance.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// Verifies `export` as somebody who has nothing but files.
    pub fn verify(&self, export: &str, anchor: Option<&Path>) -> Ran {
        let file = self.file("audit.jsonl", export);
        let keys = self.instance.runtime().join("keys.pub");
        let anchor = match anchor {
            Some(path) => vec!["--anchor", text(path)],
            None => vec!["--no-anchor"],
        };
        let words = [&["audit", "verify", "--keys", text(&keys)], &anchor[..], &[text(&file)]];
        self.instance.olb(self.instance.stranger(), &words.concat())
    }

    /// What root has, and nobody else.
    pub fn audit_key(&self) -> SigningKey<Audit> {
        let hex = fs::read_to_string(self.instance.state().join("audit.key")).expect("the key");
        SigningKey::from_seed(&Digest::from_hex(hex.trim()).expect("a seed").0.into())
            .expect("a key")
    }
}

/// A path as a word of a command line.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The records of an export.
pub fn exported(export: &str) -> Vec<SequencedRecord> {
    let bytes = |value: &Value| -> Option<Vec<u8>> {
        let hex = value.as_str()?.as_bytes().chunks(2);
        hex.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    };
    let line = |line: &str| {
        let object: Value = serde_json::from_str(line).expect("an object");
        SequencedRecord {
            sequence: object["sequence"].as_u64().expect("a number"),
            record: bytes(&object["record"]).expect("a record"),
            receipt: bytes(&object["receipt"]),
        }
    };
    export.lines().map(line).collect()
}

/// An export as somebody makes it who knows the format.
pub fn written(lines: &[SequencedRecord]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let line = |one: &SequencedRecord| {
        let (record, receipt) = (hex(&one.record), one.receipt.as_deref().map(hex));
        json!({ "sequence": one.sequence, "record": record, "receipt": receipt }).to_string() + "\n"
    };
    lines.iter().map(line).collect()
}

/// The trail with `events` in the place of its own, chained and signed anew with `key`.
pub fn forged(events: &[Record], key: &SigningKey<Audit>) -> Vec<SequencedRecord> {
    let mut previous = ChainHead([0; 32]);
    let mut lines = Vec::new();
    for (sequence, event) in (1..).zip(events) {
        let is_signed = matches!(
            event.event,
            RecordEvent::Decided { .. }
                | RecordEvent::Finished { .. }
                | RecordEvent::KeyEnded { .. }
        );
        let record = event.encode();
        let claims = ReceiptClaims { sequence, previous, record: record.clone() };
        previous = claims.head();
        let receipt = is_signed.then(|| claims.sign(key));
        lines.push(SequencedRecord { sequence, record, receipt });
    }
    lines
}

/// What the lines record.
pub fn recorded(lines: &[SequencedRecord]) -> Vec<Record> {
    lines.iter().map(|line| Record::decode(&line.record).expect("a record")).collect()
}
