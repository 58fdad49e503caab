//! The public test vectors in `tests/vectors/public`, against the one signature check in use.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::key::{PUBLISHED_TEST_KEYS, Role};
use crate::{
    Approver, Audit, Digest, KeyError, LeaseIssuer, PublicKey, RawLease, RawReceipt, RawVerdict,
    SigningKey, verify_strict_raw,
};

use super::case::unhex;
use super::fixture::{self, SEEDS};
use super::top;

fn load(name: &str) -> Value {
    let path = top().join("tests/vectors/public").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn field(case: &Value, name: &str) -> Vec<u8> {
    unhex(case[name].as_str().unwrap())
}

/// What is not a key or a signature by its length alone is not accepted.
fn accepts(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    match (key.try_into(), signature.try_into()) {
        (Ok(key), Ok(signature)) => verify_strict_raw(key, message, signature),
        _ => false,
    }
}

// [E-10]
#[test]
fn all_151_wycheproof_verdicts_are_met() {
    let file = load("wycheproof_ed25519_test.json");
    let (mut valid, mut invalid) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let key = field(&group["publicKey"], "pk");
        for test in group["tests"].as_array().unwrap() {
            let accepted = accepts(&key, &field(test, "msg"), &field(test, "sig"));
            let want = test["result"] == "valid";
            assert_eq!(accepted, want, "test {} ({})", test["tcId"], test["comment"]);
            if want { valid += 1 } else { invalid += 1 }
        }
    }
    assert_eq!((valid, invalid), (88, 63));
}

// [E-10]
#[test]
fn of_the_12_speccheck_cases_only_case_3_is_accepted() {
    let file = load("speccheck_cases.json");
    let verdicts: String = (file.as_array().unwrap().iter())
        .map(|case| {
            let (key, signature) = (field(case, "pub_key"), field(case, "signature"));
            if accepts(&key, &field(case, "message"), &signature) { 'V' } else { 'X' }
        })
        .collect();
    assert_eq!(verdicts, "XXXVXXXXXXXX");
}

// [E-10]
#[test]
fn of_the_914_cctv_vectors_43_are_accepted_and_none_with_another_flag() {
    let file = load("cctv_ed25519vectors.json");
    let cases = file.as_array().unwrap();
    let accepted: Vec<_> = (cases.iter())
        .filter(|case| {
            let message = case["msg"].as_str().unwrap().as_bytes();
            accepts(&field(case, "key"), message, &field(case, "sig"))
        })
        .collect();
    assert_eq!((cases.len(), accepted.len()), (914, 43));
    let harmless = BTreeSet::from(["low_order_component_A", "low_order_component_R"]);
    for case in accepted {
        for flag in case["flags"].as_array().into_iter().flatten() {
            assert!(harmless.contains(flag.as_str().unwrap()), "{case}");
        }
    }
}

#[test]
fn rfc_8032_signatures_are_reproduced() {
    let file = load("rfc8032_ed25519.json");
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), SEEDS.len());
    for (number, case) in cases.iter().enumerate() {
        assert_eq!(case["seed"], SEEDS[number]);
        let key: SigningKey<Audit> = fixture::key(number);
        assert_eq!(key.public().hex(), case["pk"].as_str().unwrap());
        let message = field(case, "msg");
        let signature = key.sign(&message);
        assert_eq!(signature.as_slice(), field(case, "sig"));
        assert!(accepts(key.public().as_bytes(), &message, &signature));
    }
}

// [E-1] [E-2] [E-3]
#[test]
fn no_cose_example_is_a_statement_of_ours() {
    let folder = top().join("tests/vectors/public/cose");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let message = field(&case["output"], "cbor");
        // As it stands, and without its tag, which comes first in all but one of them.
        for bytes in [&message[..], &message[1..]] {
            assert!(RawLease::parse(bytes).is_err(), "{}", path.display());
            assert!(RawVerdict::parse(bytes).is_err(), "{}", path.display());
            assert!(RawReceipt::parse(bytes).is_err(), "{}", path.display());
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}

/// The one example that is an Ed25519 signature does verify: what refuses it is our profile.
#[test]
fn the_eddsa_example_has_a_good_signature() {
    let file = load("cose/eddsa-sig-01.json");
    let key = field(&file["input"]["sign0"]["key"], "x_hex");
    let message = field(&file["intermediates"], "ToBeSign_hex");
    let output = field(&file["output"], "cbor");
    assert!(accepts(&key, &message, &output[output.len() - 64..]));
}

// [K-3]
#[test]
fn the_published_test_keys_are_listed_and_only_these_unit_tests_take_them() {
    let text = fs::read_to_string(top().join("keys/unsafe-rfc8032.pub")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listed: Vec<_> = lines.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(listed, PUBLISHED_TEST_KEYS);
    for key in listed {
        assert!(PublicKey::<Audit>::from_hex(key).is_ok(), "{key} is not a key at all");
    }
}

fn refused<R: Role>(hex: &str) -> KeyError {
    PublicKey::<R>::from_bytes(&Digest::from_hex(hex).unwrap().0).unwrap_err()
}

// [K-1] [K-2] [K-4]
#[test]
fn bad_public_keys_are_refused_for_every_role() {
    for (hex, want) in [
        // y = 2 belongs to no point.
        ("0200000000000000000000000000000000000000000000000000000000000000", KeyError::NotAPoint),
        // The neutral element, and a point of order 8.
        ("0100000000000000000000000000000000000000000000000000000000000000", KeyError::Weak),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", KeyError::Weak),
        // y = p + 3: a second spelling of y = 3, which is a point of large order.
        ("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", KeyError::NotAPoint),
    ] {
        assert_eq!(refused::<Approver>(hex), want, "{hex}");
        assert_eq!(refused::<LeaseIssuer>(hex), want, "{hex}");
        assert_eq!(refused::<Audit>(hex), want, "{hex}");
    }
    let canonical = "0300000000000000000000000000000000000000000000000000000000000000";
    assert!(PublicKey::<Audit>::from_hex(canonical).is_ok(), "y = 3 itself is a key");
}

/// One key in three roles has one id: the role is in what is signed, not in the id.
#[test]
fn the_key_id_has_its_known_answer() {
    let key = PublicKey::<Audit>::from_hex(PUBLISHED_TEST_KEYS[0]).unwrap();
    let digest = crate::sha256(&[b"olbl/kid/v1\0", &key.as_bytes()[..]].concat());
    assert_eq!(key.kid().as_bytes(), &digest[..8]);
}
