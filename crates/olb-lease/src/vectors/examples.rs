//! The examples in SPEC.md are these bytes: compared by a test, written by the generator.

use std::fs;

use crate::{armor, plan_digest};

use super::diagnostic::notation;
use super::fixture::{self, approver, audit, issuer, lease, payload, plan, receipt, verdict};
use super::{top, writing};

/// Hexadecimal in lines of 60 bytes.
fn lines(bytes: &[u8]) -> String {
    bytes.chunks(60).map(|line| crate::id::hex(line) + "\n").collect()
}

fn sealed(name: &'static str, bytes: &[u8], inside: &[Vec<u8>]) -> (&'static str, String) {
    let protected = bytes[2..15].to_vec();
    let embedded = [&[protected, payload(bytes)], inside].concat();
    (
        name,
        format!(
            "```cbor-diag\n{}\n```\n```text\n{}```\n",
            notation(bytes, &embedded),
            lines(bytes)
        ),
    )
}

/// Every example by the name of its place in SPEC.md.
fn examples() -> Vec<(&'static str, String)> {
    let plan = plan().encode().unwrap();
    let digest = plan_digest(&plan);
    let lease = lease().sign(&issuer()).unwrap();
    let keys = format!(
        "```text\napprover  {} kid {}\nlease     {} kid {}\naudit     {} kid {}\n```\n",
        approver().public().hex(),
        approver().public().kid().hex(),
        issuer().public().hex(),
        issuer().public().kid().hex(),
        audit().public().hex(),
        audit().public().kid().hex(),
    );
    let plan_text = format!(
        "```cbor-diag\n{}\n```\n```text\n{}```\nPlan digest `{}`,\nrequest id `{}`.\n",
        notation(&plan, &[]),
        lines(&plan),
        digest.hex(),
        digest.request_id(),
    );
    vec![
        ("keys", keys),
        ("plan", plan_text),
        sealed("verdict", &verdict().sign(&approver()).unwrap(), &[]),
        sealed("lease", &lease, &[]),
        sealed("receipt", &receipt().sign(&audit()), &[fixture::record().encode()]),
        ("armor", format!("```text\n{}\n```\n", armor::encode(&lease))),
    ]
}

#[test]
fn the_examples_in_the_specification_are_what_the_code_makes() {
    let path = top().join("SPEC.md");
    let mut text = fs::read_to_string(&path).unwrap();
    for (name, wanted) in examples() {
        let (open, close) = (format!("<!-- example {name} -->\n"), "<!-- end -->");
        let start = text.find(&open).unwrap_or_else(|| panic!("no example {name}")) + open.len();
        let end = start + text[start..].find(close).expect("the example ends");
        if writing() {
            text.replace_range(start..end, &wanted);
        } else {
            assert!(text[start..end] == wanted, "example {name} differs from what the code makes");
        }
    }
    if writing() {
        fs::write(path, text).unwrap();
    }
}
