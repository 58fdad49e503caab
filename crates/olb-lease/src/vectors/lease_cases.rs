//! Leases: one good one, and one defect each.

use crate::cose::seal;
use crate::{Approver, Audit, Digest, LEASE_BYTES, LeaseClaims, sha256};

use super::case::{Case, Kind, Stage};
use super::fixture::{self, issuer, lease, payload};
use super::raw::{Map, bytes, head, int, text, uint};

type Defect = (&'static str, &'static [&'static str], Stage, &'static str, Vec<u8>);

fn good() -> Vec<u8> {
    lease().sign(&issuer()).unwrap()
}

/// Seals a payload that the encoder would refuse to make.
fn sealed(map: &Map) -> Vec<u8> {
    seal(&map.encode(), &issuer())
}

/// A time in five bytes, also where fewer would do.
fn time(seconds: u32) -> Vec<u8> {
    [&[0x1a][..], &seconds.to_be_bytes()].concat()
}

/// The grant with an epoch of another length, to make up for bytes elsewhere.
fn with_epoch_of(length: usize) -> Vec<u8> {
    let grant = Map::of(&Map::of(&payload(&good())).get(-65_537));
    grant.with(7, bytes(&vec![7; length])).encode()
}

/// Seals the map in the form of indefinite length.
fn indefinite(map: &Map) -> Vec<u8> {
    let mut inner = map.encode();
    inner[0] = 0xbf;
    inner.push(0xff);
    seal(&inner, &issuer())
}

/// The signed bytes with one byte replaced or bytes moved, by hand.
fn edited(edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = good();
    edit(&mut bytes);
    bytes
}

/// The group order of the curve, little-endian (RFC 8032 section 5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The same signature with the order added to its scalar: valid for a lax verifier.
fn malleated(mut signed: Vec<u8>) -> Vec<u8> {
    let at = signed.len() - 32;
    let mut carry = 0;
    for (byte, add) in signed[at..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    signed
}

pub(super) fn cases() -> Vec<Case> {
    let signed = good();
    let plan = lease().plan;
    let valid =
        Case::new(Kind::Lease, "valid", &[], Stage::Accept, "A good lease.", signed.clone())
            .named(&[("sha256", Digest(sha256(&signed)).hex()), ("plan_digest", plan.hex())]);
    let extremes = LeaseClaims {
        expires_at: u32::MAX,
        issued_at: 0x1_0000,
        requester_uid: u32::MAX - 1,
        ..lease()
    };
    let extremes = Case::new(
        Kind::Lease,
        "valid_extremes",
        &[],
        Stage::Accept,
        "The earliest issued-at, the latest expiry and the highest uid that are permitted.",
        extremes.sign(&issuer()).unwrap(),
    );
    let defects = [outer(), keys(), form(), claims(), grant()].concat();
    let refused = defects.into_iter().map(|(name, spec, stage, comment, bytes)| {
        Case::new(Kind::Lease, name, spec, stage, comment, bytes)
    });
    [valid, extremes].into_iter().chain(refused).collect()
}

/// Defects of length and envelope; none of them touches what is signed.
#[rustfmt::skip]
fn outer() -> Vec<Defect> {
    use Stage::{Envelope, Length};
    vec![
        ("empty", &["L-1"], Length, "No bytes at all.", Vec::new()),
        ("cut_by_one", &["L-1"], Length, "The last byte is missing.",
            edited(|b| { b.pop(); })),
        ("byte_after", &["L-1", "E-6"], Length, "One byte follows the signature.",
            edited(|b| b.push(0))),
        ("tag_18", &["L-1", "E-1"], Length, "A COSE_Sign1 with its CBOR tag 18.",
            edited(|b| b.insert(0, 0xd2))),
        ("tag_18_at_length", &["E-1"], Envelope,
            "Tag 18 in front and the last byte cut off, so that the length fits.",
            edited(|b| { b.insert(0, 0xd2); b.pop(); })),
        ("array_of_5", &["E-1"], Envelope, "The outer array claims five items.",
            edited(|b| b[0] = 0x85)),
        ("array_indefinite", &["E-1"], Envelope, "The outer array has an indefinite length.",
            edited(|b| b[0] = 0x9f)),
        ("alg_minus_18", &["E-2"], Envelope,
            "The protected header names algorithm -18 in place of -19.",
            edited(|b| b[4] = 0x31)),
        ("alg_eddsa", &["E-2"], Envelope,
            "The protected header names the deprecated algorithm -8 (EdDSA).",
            edited(|b| b[4] = 0x27)),
        ("alg_es256", &["E-2"], Envelope, "The protected header names algorithm -7 (ES256).",
            edited(|b| b[4] = 0x26)),
        ("header_keys_swapped", &["E-2"], Envelope,
            "The protected header gives the key id before the algorithm.",
            edited(|b| b[3..15].rotate_left(2))),
        ("header_empty", &["E-2"], Envelope, "The protected header is the empty string.",
            edited(|b| b[1] = 0x40)),
        ("kid_text", &["E-2"], Envelope, "The key id is text in place of bytes.",
            edited(|b| b[6] = 0x68)),
        ("kid_unprotected", &["E-3"], Envelope, "The unprotected header is not empty.",
            edited(|b| b[15] = 0xa1)),
        ("unprotected_null", &["E-3"], Envelope, "The unprotected header is null.",
            edited(|b| b[15] = 0xf6)),
        ("payload_detached", &["E-4"], Envelope,
            "The payload's head is null, as in a detached signature.",
            edited(|b| b[16] = 0xf6)),
        ("payload_text", &["E-4"], Envelope, "The payload is text in place of bytes.",
            edited(|b| b[16] = 0x79)),
        ("payload_one_shorter", &["E-4"], Envelope,
            "The payload's head counts one byte less than there are.",
            edited(|b| b[18] -= 1)),
        ("payload_head_not_shortest", &["E-4"], Envelope,
            "The payload's head takes five bytes where three do; the payload is two bytes shorter.",
            edited(|b| { b.splice(16..21, [0x5a, 0, 0, 1, 0x1a]); })),
        ("signature_head_63", &["E-5"], Envelope, "The signature's head counts 63 bytes.",
            edited(|b| { let at = LEASE_BYTES - 65; b[at] = 63; })),
        ("signature_text", &["E-5"], Envelope, "The signature is text in place of bytes.",
            edited(|b| { let at = LEASE_BYTES - 66; b[at] = 0x78; })),
    ]
}

/// Defects of key and signature.
#[rustfmt::skip]
fn keys() -> Vec<Defect> {
    use Stage::{Key, Signature};
    let inner = payload(&good());
    let foreign = seal(&inner, &fixture::key::<crate::LeaseIssuer>(0));
    let later = LeaseClaims { expires_at: lease().expires_at + 1, ..lease() };
    let later = later.sign(&issuer()).unwrap();
    vec![
        ("kid_unknown", &["E-8"], Key, "The key id names no key.",
            edited(|b| b[7..15].fill(0xee))),
        ("other_key", &["E-8"], Key, "Signed with another key, whose id it gives.",
            foreign.clone()),
        ("other_key_under_this_kid", &["E-9"], Signature,
            "Signed with another key, but giving this key's id.",
            { let mut b = foreign.clone(); b[7..15].copy_from_slice(&good()[7..15]); b }),
        ("signed_as_verdict", &["L-13", "E-9"], Signature,
            "The right key, but signed in the context of a verdict.",
            seal(&inner, &fixture::key::<Approver>(1))),
        ("signed_as_receipt", &["L-13", "E-9"], Signature,
            "The right key, but signed in the context of a receipt.",
            seal(&inner, &fixture::key::<Audit>(1))),
        ("signature_zero", &["E-9"], Signature, "The signature is all zero.",
            edited(|b| b[LEASE_BYTES - 64..].fill(0))),
        ("signature_s_plus_order", &["E-10"], Signature,
            "The group order is added to the scalar of a good signature.",
            malleated(good())),
        ("signature_of_other_payload", &["E-9"], Signature,
            "The expiry is one second later than what was signed.",
            [&later[..LEASE_BYTES - 64], &good()[LEASE_BYTES - 64..]].concat()),
    ]
}

/// Payloads that are not deterministic CBOR. As everywhere below, each keeps the length of 369
/// bytes, so that it is reached.
#[rustfmt::skip]
fn form() -> Vec<Defect> {
    use Stage::Cbor;
    let map = Map::of(&payload(&good()));
    vec![
        ("exp_not_shortest", &["L-2", "C-3"], Cbor,
            "The expiry 65535 takes five bytes where three do.",
            sealed(&map.with(4, time(0xffff)))),
        ("iat_float", &["L-2", "C-6"], Cbor, "The issued-at is a float of 32 bits.",
            sealed(&map.with(6, vec![0xfa, 0x4e, 0xd6, 0, 0]))),
        ("exp_tagged", &["L-2", "C-5"], Cbor,
            "The expiry is tagged as a time (tag 1); the epoch is one byte short.",
            sealed(&map.with(4, [vec![0xc1], map.get(4)].concat()).with(-65_537, with_epoch_of(15)))),
        ("exp_twice", &["L-2", "C-8"], Cbor, "The expiry comes twice, and no issued-at.",
            sealed(&map.rekeyed(6, uint(4)))),
        ("keys_swapped", &["L-2", "C-8"], Cbor, "Issued-at comes before the expiry.",
            sealed(&map.swapped(4, 6))),
        ("map_one_pair_more", &["L-2", "C-1"], Cbor, "The map claims six pairs and holds five.",
            { let mut inner = map.encode(); inner[0] = 0xa6; seal(&inner, &issuer()) }),
        ("map_one_pair_less", &["L-2", "C-2"], Cbor,
            "The map claims four pairs; the fifth follows it.",
            { let mut inner = map.encode(); inner[0] = 0xa4; seal(&inner, &issuer()) }),
        ("map_indefinite", &["L-2", "C-4"], Cbor,
            "The map has an indefinite length; the nonce is one byte short for the break.",
            indefinite(&map.with(7, bytes(&[7; 15])))),
        ("audience_not_utf8", &["L-2", "C-7"], Cbor, "The audience is not UTF-8.",
            sealed(&map.with(3, [head(3, 43), vec![0xff; 43]].concat()))),
    ]
}

/// Defects of the claims: what is there, of which type, in which range.
#[rustfmt::skip]
fn claims() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let map = Map::of(&payload(&good()));
    let audience = "A".repeat(43);
    let audience_of = |length: usize| text(&audience.repeat(4)[..length]);
    vec![
        ("cti_missing", &["L-3"], Schema, "No nonce; the audience is longer by as much.",
            sealed(&map.without(7).with(3, audience_of(43 + 18)))),
        ("iss_added", &["L-3"], Schema,
            "An issuer claim (key 1) in front; the audience is shorter by as much.",
            sealed(&map.with(3, audience_of(43 - 3)).inserted(0, uint(1), text("x")))),
        ("nbf_for_iat", &["L-3"], Schema, "A not-before claim (key 5) in place of issued-at.",
            sealed(&map.rekeyed(6, uint(5)))),
        ("grant_under_other_key", &["L-3"], Schema, "The grant stands under claim key -65538.",
            sealed(&map.rekeyed(-65_537, int(-65_538)))),
        ("payload_array", &["L-3"], Schema, "The payload is an array of the same items.",
            seal(&map.flat(), &issuer())),
        ("audience_bytes", &["L-4"], Schema, "The audience is a byte string of the same length.",
            sealed(&map.with(3, bytes(audience.as_bytes())))),
        ("audience_padding", &["L-4"], Limit, "The audience ends in '='.",
            sealed(&map.with(3, text(&format!("{}=", &audience[..42]))))),
        ("audience_trailing_bits", &["L-4"], Limit,
            "The audience's last character has bits that belong to no byte.",
            sealed(&map.with(3, text(&format!("{}B", &audience[..42]))))),
        ("audience_standard_alphabet", &["L-4"], Limit,
            "The audience has '+', which base64url does not.",
            sealed(&map.with(3, text(&format!("+{}", &audience[..42]))))),
        ("exp_text", &["L-5"], Schema, "The expiry is a text of four digits.",
            sealed(&map.with(4, text("9999")))),
        ("exp_negative", &["L-5"], Schema, "The expiry is negative.",
            sealed(&map.with(4, head(1, u64::from(fixture::NOW))))),
        ("exp_64_bits", &["L-5"], Limit,
            "The expiry does not fit 32 bits; the epoch is shorter by as much.",
            sealed(&map.with(4, uint(1 << 32)).with(-65_537, with_epoch_of(12)))),
        ("exp_equals_iat", &["L-6"], Limit,
            "The lease expires in the second in which it is issued.",
            sealed(&map.with(4, map.get(6)))),
        ("exp_before_iat", &["L-6"], Limit, "The lease expires before it is issued.",
            sealed(&map.with(4, time(fixture::NOW - 1)))),
        ("cti_text", &["L-7"], Schema, "The nonce is text.",
            sealed(&map.with(7, text("nonce, 16 bytes.")))),
        ("cti_15_bytes", &["L-7"], Schema, "The nonce is one byte short, the epoch one too long.",
            sealed(&map.with(7, bytes(&[7; 15])).with(-65_537, with_epoch_of(17)))),
    ]
}

/// Defects of the grant within the claims.
#[rustfmt::skip]
fn grant() -> Vec<Defect> {
    use Stage::{Limit, Schema};
    let map = Map::of(&payload(&good()));
    let grant = Map::of(&map.get(-65_537));
    let with = |grant: Map| sealed(&map.with(-65_537, grant.encode()));
    let short =
        |key, next| with(grant.with(key, bytes(&[9; 31])).with(next, bytes(&[9; 33])));
    vec![
        ("grant_array", &["L-8"], Schema, "The grant is an array of the same items.",
            sealed(&map.with(-65_537, grant.flat()))),
        ("grant_epoch_missing", &["L-8"], Schema,
            "No epoch; the verdict digest is longer by as much.",
            with(grant.without(7).with(6, bytes(&[9; 50])))),
        ("grant_key_8", &["L-8"], Schema, "The epoch stands under key 8.",
            with(grant.rekeyed(7, uint(8)))),
        ("grant_key_added", &["L-8"], Schema, "A ninth pair; the epoch is shorter by as much.",
            with(grant.with(7, bytes(&[7; 14])).plus(uint(8), uint(0)))),
        ("version_2", &["L-9"], Schema, "The grant's version is 2.", with(grant.with(0, uint(2)))),
        ("argv_31_bytes", &["L-10"], Schema,
            "The argv digest is one byte short, the environment's one too long.", short(1, 3)),
        ("environment_31_bytes", &["L-10"], Schema,
            "The environment digest is one byte short, the cwd's one too long.", short(3, 4)),
        ("cwd_31_bytes", &["L-10"], Schema,
            "The cwd digest is one byte short, the plan's one too long.", short(4, 5)),
        ("plan_31_bytes", &["L-10"], Schema,
            "The plan digest is one byte short, the verdict's one too long.", short(5, 6)),
        ("verdict_31_bytes", &["L-10"], Schema,
            "The verdict digest is one byte short, the epoch one too long.",
            with(grant.with(6, bytes(&[9; 31])).with(7, bytes(&[7; 17])))),
        ("plan_text", &["L-10"], Schema, "The plan digest is text.",
            with(grant.with(5, text(&"a".repeat(32))))),
        ("uid_integer", &["L-11"], Schema, "The uid is an integer of five bytes.",
            with(grant.with(2, uint(0x1_0000)))),
        ("uid_3_bytes", &["L-11"], Schema, "The uid is one byte short, the epoch one too long.",
            with(grant.with(2, bytes(&[0, 3, 0xe9])).with(7, bytes(&[7; 17])))),
        ("uid_minus_one", &["L-12"], Limit, "The uid is (uid_t)-1.",
            with(grant.with(2, bytes(&[0xff; 4])))),
    ]
}
