use olb_lease::{ChainHead, Epoch, ReceiptClaims};

use super::*;
use crate::trust::tests::{audit_key, finished};

/// Two finished runs, each signed.
fn trail() -> Vec<SequencedRecord> {
    let mut head = ChainHead([0; 32]);
    let signed = |(sequence, code): (u64, u8)| {
        let event = finished(PlanDigest([code; 32]), Outcome::Exited(code), b"x");
        let record = Record { at: 1_795_363_200, epoch: Epoch([1; 16]), event }.encode();
        let claims = ReceiptClaims { sequence, previous: head, record: record.clone() };
        head = claims.head();
        SequencedRecord { sequence, record, receipt: Some(claims.sign(&audit_key())) }
    };
    [(1, 0), (2, 3)].into_iter().map(signed).collect()
}

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = format!("audit {}\n", audit_key().public().hex());
        std::fs::write(dir.path().join("keys.pub"), keys).unwrap();
        Self { dir }
    }

    fn verify(&self, text: &str) -> Result<Intact, Unproved> {
        let path = self.dir.path().join("audit.jsonl");
        std::fs::write(&path, text).unwrap();
        verify_file(&path, Some(&self.dir.path().join("keys.pub")))
    }
}

fn lines(trail: &[SequencedRecord]) -> Vec<String> {
    trail.iter().map(|one| json::line(&export(one))).collect()
}

#[test]
fn an_exported_trail_verifies_offline() {
    let intact = Files::new().verify(&lines(&trail()).join("\n")).unwrap();
    assert_eq!((intact.records, intact.signed_upto), (2, 2));
}

#[test]
fn a_changed_exported_byte_is_broken_whatever_the_readable_fields_say() {
    let files = Files::new();
    let mut changed = trail();
    let last = changed[1].record.len() - 1;
    changed[1].record[last] ^= 1;
    assert!(matches!(files.verify(&lines(&changed).join("\n")), Err(Unproved::Broken(_))));
    let prose = lines(&trail()).join("\n").replace("exit 3", "exit 0");
    assert!(files.verify(&prose).is_ok(), "the readable fields are no part of the trail");
}

#[test]
fn a_line_that_is_no_record_is_broken_and_an_empty_file_cannot_be_verified() {
    let files = Files::new();
    let [first, second] = lines(&trail()).try_into().unwrap();
    for text in [
        format!("{first}\nnonsense\n"),
        format!("{first}\n{}", &second[..second.len() / 2]),
        second,
        first.replace("\"receipt\":\"", "\"receipt\":\"zz"),
    ] {
        assert!(matches!(files.verify(&text), Err(Unproved::Broken(_))), "{text}");
    }
    assert!(matches!(files.verify(""), Err(Unproved::Cannot(_))));
    let missing = verify_file(Path::new("/nonexistent"), Some(&files.dir.path().join("keys.pub")));
    assert!(matches!(missing, Err(Unproved::Cannot(_))));
}

#[test]
fn a_trail_under_another_key_cannot_be_verified() {
    let files = Files::new();
    let other = olb_lease::SigningKey::<olb_lease::Audit>::from_seed(&[8; 32].into()).unwrap();
    let keys = format!("audit {}\n", other.public().hex());
    std::fs::write(files.dir.path().join("keys.pub"), keys).unwrap();
    let result = files.verify(&lines(&trail()).join("\n"));
    assert!(matches!(result, Err(Unproved::Cannot(_))), "{result:?}");
}

#[test]
fn an_exported_line_has_the_documented_fields() {
    let object = export(&trail()[1]);
    assert_eq!(object["sequence"], 2);
    assert_eq!(object["event"], "finished");
    assert_eq!(object["outcome"], "exit 3");
    assert_eq!(object["at"], "2026-11-22T16:00:00Z");
    assert!(object["record"].is_string() && object["receipt"].is_string());
}

#[test]
fn a_listed_line_reads_well_and_is_safe() {
    let line = describe(&trail()[1]);
    assert!(line.starts_with("     2 2026-11-22T16:00:00Z signed finished req_"), "{line}");
    assert!(line.ends_with(": exit 3, 1 bytes of output, 4 ms"), "{line}");
    let odd = SequencedRecord { sequence: 9, record: vec![0xff], receipt: None };
    assert_eq!(describe(&odd), "     9 does not decode");
}
