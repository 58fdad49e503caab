//! Verdicts: good ones of each kind, and one defect each.

use crate::cose::seal;
use crate::{
    Digest, Evidence, LeaseIssuer, RawVerdict, VERDICT_BYTES_MAX, VerdictClaims, VerdictKind,
    sha256, verdict_limit as limit,
};

use super::case::{Case, Kind, Stage};
use super::fixture::{self, approver, payload, verdict};
use super::raw::{Map, array, bytes, head, items, null, replaced, text, uint};

type Defect = (&'static str, &'static [&'static str], Stage, &'static str, Vec<u8>);

fn good() -> Vec<u8> {
    verdict().sign(&approver()).unwrap()
}

fn sealed(map: &Map) -> Vec<u8> {
    seal(&map.encode(), &approver())
}

fn accepted(name: &'static str, comment: &'static str, claims: &VerdictClaims) -> Case {
    let signed = claims.sign(&approver()).unwrap();
    let digest = RawVerdict::parse(&signed).unwrap().verify(approver().public()).unwrap().digest();
    let names = [("verdict_digest", digest.hex()), ("plan_digest", claims.plan.hex())];
    Case::new(Kind::Verdict, name, &[], Stage::Accept, comment, signed).named(&names)
}

pub(super) fn cases() -> Vec<Case> {
    let deny = VerdictClaims {
        kind: VerdictKind::Deny,
        reason: "use reload, not restart".into(),
        ..verdict()
    };
    let full = VerdictClaims {
        kind: VerdictKind::Revoke,
        issued_at: 0,
        expires_at: 1,
        evidence: Evidence {
            channel: "a".repeat(limit::CHANNEL_BYTES),
            messages: vec!["m".repeat(limit::MESSAGE_BYTES); limit::MESSAGES],
            shown: Digest(sha256(b"shown")),
            reply: Digest(sha256(b"reply")),
        },
        reason: "é".repeat(limit::REASON_BYTES / 2),
        ..verdict()
    };
    let good = [
        accepted("valid_approve", "An approval from a terminal.", &verdict()),
        accepted("valid_deny", "A denial with a reason.", &deny),
        accepted("valid_revoke_at_every_limit", "A revocation, every string at its limit.", &full),
    ];
    let refused = [signature(), claims(), evidence()].concat();
    let refused = refused.into_iter().map(|(name, spec, stage, comment, bytes)| {
        Case::new(Kind::Verdict, name, spec, stage, comment, bytes)
    });
    good.into_iter().chain(refused).collect()
}

/// Defects of length, envelope, key and signature.
#[rustfmt::skip]
fn signature() -> Vec<Defect> {
    use Stage::{Envelope, Key, Length, Signature};
    let inner = payload(&good());
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| { let mut b = good(); edit(&mut b); b };
    let denied = VerdictClaims { reason: "no".into(), ..verdict() }.sign(&approver()).unwrap();
    let long = Map::of(&inner).with(7, text(&"a".repeat(VERDICT_BYTES_MAX)));
    vec![
        ("longer_than_4096", &["V-1", "E-7"], Length,
            "A reason of 4096 bytes makes the whole too long.",
            sealed(&long)),
        ("empty", &["E-1"], Envelope, "No bytes at all.", Vec::new()),
        ("cut_by_one", &["E-5"], Envelope, "The last byte is missing.",
            edited(&|b| { b.pop(); })),
        ("byte_after", &["E-6"], Envelope, "One byte follows the signature.",
            edited(&|b| b.push(0))),
        ("tag_18", &["E-1"], Envelope, "A COSE_Sign1 with its CBOR tag 18.",
            edited(&|b| b.insert(0, 0xd2))),
        ("alg_eddsa", &["E-2"], Envelope,
            "The protected header names the deprecated algorithm -8 (EdDSA).",
            edited(&|b| b[4] = 0x27)),
        ("payload_empty", &["E-4"], Envelope,
            "The payload's head says empty, but the payload follows.",
            edited(&|b| { b[16] = 0x40; b.remove(17); })),
        ("payload_head_not_shortest", &["E-4"], Envelope,
            "The payload's head takes three bytes where two do.",
            { let mut b = seal(&[0; 24], &approver()); b.splice(16..18, [0x59, 0, 24]); b }),
        ("kid_unknown", &["E-8"], Key, "The key id names no key.",
            edited(&|b| b[7..15].fill(0xee))),
        ("signed_with_lease_key", &["V-12", "E-8"], Key,
            "Signed with the lease key in the context of a verdict.",
            seal(&inner, &fixture::key::<crate::Approver>(1))),
        ("signed_as_lease", &["V-12", "E-9"], Signature,
            "The right key, but signed in the context of a lease.",
            seal(&inner, &fixture::key::<LeaseIssuer>(0))),
        ("reason_changed", &["E-9"], Signature,
            "One letter of the reason is another than was signed.",
            { let at = denied.len() - 67; let mut b = denied; b[at] = b'p'; b }),
    ]
}

/// Defects of the signed claims.
#[rustfmt::skip]
fn claims() -> Vec<Defect> {
    use Stage::{Cbor, Limit, Schema};
    let map = Map::of(&payload(&good()));
    let inner = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut b = map.encode();
        edit(&mut b);
        seal(&b, &approver())
    };
    vec![
        ("kind_not_shortest", &["V-2", "C-3"], Cbor, "The kind takes two bytes.",
            sealed(&map.with(1, vec![0x18, 1]))),
        ("keys_swapped", &["V-2", "C-8"], Cbor, "The kind comes after the plan.",
            sealed(&map.swapped(1, 2))),
        ("plan_twice", &["V-2", "C-8"], Cbor, "The plan comes twice.",
            sealed(&map.inserted(3, uint(2), map.get(2)))),
        ("bytes_after_payload", &["V-2", "C-2"], Cbor, "A byte follows the map within the payload.",
            inner(&|b| b.push(0))),
        ("payload_cut", &["V-2", "C-1"], Cbor, "The map's last byte is missing.",
            inner(&|b| { b.pop(); })),
        ("reason_not_utf8", &["V-2", "C-7"], Cbor, "The reason is not UTF-8.",
            sealed(&map.with(7, vec![0x61, 0xff]))),
        ("reason_missing", &["V-3"], Schema, "No reason: every key is mandatory.",
            sealed(&map.without(7))),
        ("key_8_added", &["V-3"], Schema, "A ninth pair.", sealed(&map.plus(uint(8), uint(0)))),
        ("reason_under_key_8", &["V-3"], Schema, "The reason stands under key 8.",
            sealed(&map.rekeyed(7, uint(8)))),
        ("version_missing", &["V-3"], Schema, "No version.", sealed(&map.without(0))),
        ("version_0", &["V-4"], Schema, "The version is 0.", sealed(&map.with(0, uint(0)))),
        ("version_2", &["V-4"], Schema, "The version is 2.", sealed(&map.with(0, uint(2)))),
        ("kind_0", &["V-5"], Limit, "The kind is 0.", sealed(&map.with(1, uint(0)))),
        ("kind_4", &["V-5"], Limit, "The kind is 4.", sealed(&map.with(1, uint(4)))),
        ("kind_text", &["V-5"], Schema, "The kind is the text 'approve'.",
            sealed(&map.with(1, text("approve")))),
        ("plan_31_bytes", &["V-6"], Schema, "The plan digest is one byte short.",
            sealed(&map.with(2, bytes(&[1; 31])))),
        ("epoch_17_bytes", &["V-6"], Schema, "The epoch is one byte too long.",
            sealed(&map.with(3, bytes(&[1; 17])))),
        ("epoch_null", &["V-6"], Schema, "The epoch is null.", sealed(&map.with(3, null()))),
        ("issued_at_64_bits", &["V-7"], Limit, "Issued-at does not fit 32 bits.",
            sealed(&map.with(4, uint(1 << 32)))),
        ("expiry_64_bits", &["V-7"], Limit, "The expiry does not fit 32 bits.",
            sealed(&map.with(5, uint(1 << 32)))),
        ("expiry_negative", &["V-7"], Schema, "The expiry is negative.",
            sealed(&map.with(5, head(1, 5)))),
        ("expiry_equals_issued_at", &["V-7"], Limit,
            "It expires in the second in which it is issued.",
            sealed(&map.with(5, map.get(4)))),
        ("reason_513_bytes", &["V-11"], Limit, "The reason is one byte too long.",
            sealed(&map.with(7, text(&"a".repeat(513))))),
        ("reason_bytes", &["V-11"], Schema, "The reason is a byte string.",
            sealed(&map.with(7, bytes(b"no")))),
    ]
}

/// Defects of the evidence.
#[rustfmt::skip]
fn evidence() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let map = Map::of(&payload(&good()));
    let parts = items(&map.get(6));
    let with = |at, value| sealed(&map.with(6, replaced(&parts, at, value)));
    vec![
        ("evidence_null", &["V-8"], Schema, "No evidence.", sealed(&map.with(6, null()))),
        ("evidence_3_items", &["V-8"], Schema, "The evidence holds no reply.",
            sealed(&map.with(6, array(&parts[..3])))),
        ("shown_31_bytes", &["V-8"], Schema, "The digest of the shown text is one byte short.",
            with(2, bytes(&[1; 31]))),
        ("reply_33_bytes", &["V-8"], Schema, "The digest of the reply is one byte too long.",
            with(3, bytes(&[1; 33]))),
        ("channel_empty", &["V-9"], Limit, "The channel has no name.", with(0, text(""))),
        ("channel_33_bytes", &["V-9"], Limit, "The channel's name is one byte too long.",
            with(0, text(&"a".repeat(33)))),
        ("channel_upper_case", &["V-9"], Limit, "The channel's name has an upper-case letter.",
            with(0, text("Terminal"))),
        ("channel_newline", &["V-9"], Limit, "The channel's name ends with a newline.",
            with(0, text("terminal\n"))),
        ("nine_messages", &["V-10"], Limit, "One message id too many.",
            with(1, array(&vec![text("m"); 9]))),
        ("message_65_bytes", &["V-10"], Limit, "A message id is one byte too long.",
            with(1, array(&[text(&"m".repeat(65))]))),
        ("message_integer", &["V-10"], Schema, "A message id is an integer.",
            with(1, array(&[uint(7)]))),
    ]
}
