//! A judge that is not ours: python-cwt says whether a lease is one, and what it claims. See
//! `tests/judges/README.md`.

use std::fs;
use std::path::Path;

use olb_e2e_tests::{Instance, Judges};
use olb_lease::armor;
use serde_json::{Value, json};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A lease as a case for python-cwt.
fn case(name: &str, lease: &[u8], key: &str, context: &str) -> Value {
    json!({ "name": name, "lease": hex(lease), "key": key, "context": context })
}

#[test]
fn python_cwt_verifies_a_lease_and_reads_the_claims_that_inspect_shows() {
    let judges = Judges::installed();
    let instance = Instance::start();
    let (alice, agent) = (instance.enrol(0), instance.requester(0));
    let (_, lease) = instance.approved(agent, &alice, &["id", "-u"]);
    let inspected = instance.olb(agent, &["lease", "inspect", &lease]).expect(0).json();
    let keys = fs::read_to_string(instance.runtime().join("keys.pub")).unwrap();
    let key = |role: &str| keys.lines().find_map(|line| line.strip_prefix(role)).unwrap();
    let (ours, audit) = (key("lease "), key("audit "));
    let bytes = armor::decode(&lease).unwrap();
    let good = "olbl/lease/v1";
    let mut cases = vec![
        case("as it is", &bytes, ours, good),
        case("the audit key", &bytes, audit, good),
        case("an approver's key", &bytes, &alice.key().public().hex(), good),
        case("no context", &bytes, ours, ""),
        case("a verdict's context", &bytes, ours, "olbl/verdict/v1"),
        case("a receipt's context", &bytes, ours, "olbl/receipt/v1"),
        case("the next version's context", &bytes, ours, "olbl/lease/v2"),
    ];
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        cases.push(case(&format!("bit {bit}"), &flipped, ours, good));
    }
    let answers = judges.leases(&cases);
    assert_eq!(answers[0]["signature"], true, "{}", answers[0]);
    assert_eq!(answers[0]["claims"], inspected["claims"]);
    for answer in &answers[1..] {
        assert_eq!(
            (&answer["signature"], &answer["claims"]),
            (&json!(false), &Value::Null),
            "{answer}"
        );
    }
}

/// The bytes of a vector: pieces of hex, where `XX*N` is a byte N times.
fn bytes_of(vector: &Value) -> Vec<u8> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).unwrap();
    let piece = |piece: &str| match piece.split_once('*') {
        Some((digits, times)) => vec![byte(digits); times.parse().unwrap()],
        None => (0..piece.len()).step_by(2).map(|at| byte(&piece[at..at + 2])).collect(),
    };
    let pieces = vector["hex"].as_array().unwrap().iter();
    pieces.flat_map(|one| piece(one.as_str().unwrap())).collect()
}

#[test]
fn python_cwt_takes_and_refuses_the_lease_vectors_that_we_do() {
    let judges = Judges::installed();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/lease");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (mut cases, mut expected) = (Vec::new(), Vec::new());
    for path in files {
        let vector: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let key = vector["key"].as_str().unwrap();
        cases.push(case(name, &bytes_of(&vector), key, "olbl/lease/v1"));
        expected.push(vector["expect"].as_str().unwrap().to_owned());
    }
    for (answer, stage) in judges.leases(&cases).iter().zip(&expected) {
        // What is wrong with the claims is found after the signature: that holds there.
        let holds = match stage.as_str() {
            "accept" | "cbor" | "schema" | "limit" => true,
            "length" | "envelope" | "key" | "signature" => false,
            other => panic!("{other}"),
        };
        assert_eq!(answer["signature"], holds, "{stage}: {answer}");
        assert_eq!(answer["claims"].is_object(), stage == "accept", "{stage}: {answer}");
    }
    assert!(expected.iter().any(|stage| stage == "accept") && expected.len() > 60);
}
