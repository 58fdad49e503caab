//! Receipts: the envelope and the signed head around a record.

use crate::cose::seal;
use crate::{Approver, LeaseIssuer, RECEIPT_BYTES_MAX, ReceiptClaims};

use super::case::{Case, Kind, Stage};
use super::fixture::{self, audit, payload, receipt};
use super::raw::{array, bytes, head, items, null, replaced, text, uint};

fn good() -> Vec<u8> {
    receipt().sign(&audit())
}

pub(super) fn cases() -> Vec<Case> {
    let valid = Case::new(
        Kind::Receipt,
        "valid_finished",
        &[],
        Stage::Accept,
        "A command that ended with exit code 0.",
        good(),
    );
    let valid = valid.named(&[("head", receipt().head().hex())]);
    [vec![valid], signature(), claims()].concat()
}

#[rustfmt::skip]
fn signature() -> Vec<Case> {
    use Stage::{Envelope, Key, Length, Signature};
    let inner = payload(&good());
    let case = |name, spec, stage, comment, bytes| {
        Case::new(Kind::Receipt, name, spec, stage, comment, bytes)
    };
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| { let mut b = good(); edit(&mut b); b };
    let giant = ReceiptClaims { record: vec![0x61; RECEIPT_BYTES_MAX], ..receipt() };
    vec![
        case("longer_than_limit", &["R-1", "E-7"], Length, "Longer than 136448 bytes.",
            giant.sign(&audit())),
        case("tag_18", &["E-1"], Envelope, "A COSE_Sign1 with its CBOR tag 18.",
            edited(&|b| b.insert(0, 0xd2))),
        case("byte_after", &["E-6"], Envelope, "One byte follows the signature.",
            edited(&|b| b.push(0))),
        case("kid_unknown", &["E-8"], Key, "The key id names no key.",
            edited(&|b| b[7..15].fill(0xee))),
        case("signed_with_lease_key", &["R-11", "E-8"], Key,
            "Signed with the lease key in the context of a receipt.",
            seal(&inner, &fixture::key::<crate::Audit>(1))),
        case("signed_as_lease", &["R-11", "E-9"], Signature,
            "The right key, but signed in the context of a lease.",
            seal(&inner, &fixture::key::<LeaseIssuer>(2))),
        case("signed_as_verdict", &["R-11", "E-9"], Signature,
            "The right key, but signed in the context of a verdict.",
            seal(&inner, &fixture::key::<Approver>(2))),
        case("exit_code_changed", &["E-9"], Signature,
            "A byte of the record is another than was signed.",
            edited(&|b| { let at = b.len() - 70; b[at] ^= 1; })),
    ]
}

#[rustfmt::skip]
fn claims() -> Vec<Case> {
    use Stage::{Cbor, Limit, Schema};
    let parts = items(&payload(&good()));
    let case = |name, spec, stage, comment, payload: Vec<u8>| {
        Case::new(Kind::Receipt, name, spec, stage, comment, seal(&payload, &audit()))
    };
    let with = |at, value| replaced(&parts, at, value);
    vec![
        case("sequence_not_shortest", &["R-2", "C-3"], Cbor, "The sequence number takes two bytes.",
            with(1, vec![0x18, 4])),
        case("payload_cut", &["R-2", "C-1"], Cbor, "The last byte is missing within the payload.",
            { let mut cut = array(&parts); cut.pop(); cut }),
        case("record_in_chunks", &["R-2", "C-4"], Cbor,
            "The record is a byte string of indefinite length.",
            with(3, [vec![0x5f], bytes(b"chunk"), vec![0xff]].concat())),
        case("array_of_3", &["R-3"], Schema, "No record.", array(&parts[..3])),
        case("array_of_5", &["R-3"], Schema, "A fifth item.",
            array(&[parts.clone(), vec![null()]].concat())),
        case("map", &["R-3"], Schema, "A map of the same items.",
            [head(5, 2), parts.concat()].concat()),
        case("version_2", &["R-3"], Schema, "The version is 2.", with(0, uint(2))),
        case("sequence_text", &["R-3"], Schema, "The sequence number is text.", with(1, text("4"))),
        case("previous_31_bytes", &["R-3"], Schema, "The previous head is one byte short.",
            with(2, bytes(&[1; 31]))),
        case("record_text", &["R-3"], Schema, "The record is text.", with(3, text("record"))),
        case("sequence_0", &["R-4"], Limit, "The sequence number is 0; the first is 1.",
            with(1, uint(0))),
    ]
}
