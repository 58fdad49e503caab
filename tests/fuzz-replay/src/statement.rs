//! Signed statements: leases, verdicts, receipts.

use std::sync::OnceLock;

use olb_lease::{
    Audience, Cti, Digest, Epoch, LeaseClaims, LeaseIssuer, PlanDigest, RawLease, RawReceipt,
    RawVerdict, Record, Role, SigningKey, VerdictDigest, armor,
};

use crate::judge::others_agree;

/// The key id in the envelope.
const KID: std::ops::Range<usize> = 7..15;
const SIGNATURE_BYTES: usize = 64;
/// An edit of [`lease_verify`]: a place and what is changed there.
const EDIT_BYTES: usize = 3;
const EDITS_MAX: usize = 16;

fn key<R: Role>() -> SigningKey<R> {
    SigningKey::from_seed(&[0x5a; 32].into()).expect("a key")
}

/// Everything of a statement but who signed it and the signature.
fn unsigned(statement: &[u8]) -> (&[u8], &[u8]) {
    let end = statement.len() - SIGNATURE_BYTES;
    (&statement[..KID.start], &statement[KID.end..end])
}

/// `data` was accepted, and `again` is what was understood, signed by somebody else.
fn is_the_one_encoding(data: &[u8], again: &[u8]) {
    assert_eq!(unsigned(data), unsigned(again), "another encoding was accepted");
    others_agree(data);
    let statement: [ciborium::Value; 4] = ciborium::from_reader(data).expect("an array of four");
    for bytes in [&statement[0], &statement[2]] {
        others_agree(bytes.as_bytes().expect("a byte string"));
    }
}

/// Bytes as a lease, and as its text. Accepted means: it encodes to the same bytes, and other
/// decoders agree.
///
/// # Panics
/// One of these does not hold.
pub fn lease_decode(data: &[u8]) {
    if let Ok(claims) = RawLease::parse(data).and_then(|raw| raw.unverified_claims()) {
        is_the_one_encoding(data, &claims.sign(&key()).expect("accepted claims can be signed"));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(lease) = armor::decode(text)
    {
        assert_eq!(armor::encode(&lease), text.strip_suffix('\n').unwrap_or(text));
    }
}

/// Bytes as a verdict. Accepted means: it encodes to the same bytes, and other decoders agree.
///
/// # Panics
/// One of these does not hold.
pub fn verdict_decode(data: &[u8]) {
    if let Ok(claims) = RawVerdict::parse(data).and_then(|raw| raw.unverified_claims()) {
        is_the_one_encoding(data, &claims.sign(&key()).expect("accepted claims can be signed"));
    }
}

/// Bytes as a receipt, and as a bare record. Accepted means: it encodes to the same bytes, and other
/// decoders agree.
///
/// # Panics
/// One of these does not hold.
pub fn receipt_decode(data: &[u8]) {
    if let Ok(claims) = RawReceipt::parse(data).and_then(|raw| raw.unverified_claims()) {
        is_the_one_encoding(data, &claims.sign(&key()));
        record(&claims.record);
    }
    record(data);
}

fn record(data: &[u8]) {
    if let Ok(record) = Record::decode(data) {
        assert_eq!(record.encode(), data, "another encoding of a record was accepted");
        others_agree(data);
    }
}

/// A lease that was really signed.
fn signed() -> &'static [u8] {
    static LEASE: OnceLock<Vec<u8>> = OnceLock::new();
    LEASE.get_or_init(|| {
        let digest = Digest([3; 32]);
        let claims = LeaseClaims {
            audience: Audience([1; 32]),
            expires_at: 1_795_362_300,
            issued_at: 1_795_361_401,
            cti: Cti([2; 16]),
            argv: digest,
            requester_uid: 1001,
            environment: digest,
            cwd: digest,
            plan: PlanDigest([4; 32]),
            verdict: VerdictDigest([5; 32]),
            epoch: Epoch([6; 16]),
        };
        claims.sign(&key()).expect("a lease")
    })
}

fn verifies(lease: &[u8]) -> bool {
    let key: SigningKey<LeaseIssuer> = key();
    RawLease::parse(lease).is_ok_and(|raw| raw.verify(key.public()).is_ok())
}

/// Edits of a signed lease, three bytes each (place, place, what to flip there), and the bytes as a
/// lease themselves. Nothing verifies but what was signed.
///
/// # Panics
/// Something else does.
pub fn lease_verify(data: &[u8]) {
    let mut edited = signed().to_vec();
    for edit in data.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % edited.len();
        edited[at] ^= edit[2];
    }
    assert_eq!(verifies(&edited), edited == signed(), "edited");
    assert_eq!(verifies(data), data == signed(), "as it came");
}
