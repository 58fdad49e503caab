//! Every way to change one bit, or one field, of what was signed.

use crate::{
    Approver, Audience, Cti, Digest, Epoch, Evidence, LEASE_BYTES, LEASE_TEXT_MAX, LeaseClaims,
    LeaseIssuer, PlanDigest, RawLease, RawVerdict, SigningKey, VerdictClaims, VerdictDigest,
    VerdictKind, armor,
};

use super::case::Stage;
use super::fixture::{self, approver, issuer, lease, verdict};

/// Where the key id stands in every envelope.
const KID: std::ops::Range<usize> = 7..15;

/// The stage at which a flip of a bit of byte `at` has to fail.
fn region(at: usize, length: usize, payload_head: usize) -> Stage {
    let payload = 16 + payload_head..length - 66;
    if KID.contains(&at) {
        Stage::Key
    } else if payload.contains(&at) || at >= length - 64 {
        Stage::Signature
    } else {
        Stage::Envelope
    }
}

fn every_flip(signed: &[u8], payload_head: usize, judge: fn(&[u8]) -> Stage) {
    assert_eq!(judge(signed), Stage::Accept);
    for at in 0..signed.len() {
        for bit in 0..8 {
            let mut flipped = signed.to_vec();
            flipped[at] ^= 1 << bit;
            let want = region(at, signed.len(), payload_head);
            assert_eq!(judge(&flipped), want, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_lease_is_refused_at_its_stage() {
    every_flip(&lease().sign(&issuer()).unwrap(), 3, Stage::of_lease);
}

#[test]
fn every_flipped_bit_of_a_verdict_is_refused_at_its_stage() {
    every_flip(&verdict().sign(&approver()).unwrap(), 2, Stage::of_verdict);
}

#[test]
fn every_flipped_bit_of_a_receipt_is_refused_at_its_stage() {
    let signed = fixture::receipt().sign(&fixture::audit());
    let head = if signed.len() - 82 - 2 < 0x100 { 2 } else { 3 };
    every_flip(&signed, head, Stage::of_receipt);
}

#[test]
fn every_other_length_of_a_lease_is_refused_for_its_length() {
    let signed = lease().sign(&issuer()).unwrap();
    for length in 0..signed.len() {
        assert_eq!(Stage::of_lease(&signed[..length]), Stage::Length, "{length}");
    }
    for more in 1..=64 {
        let longer = [signed.as_slice(), &vec![0; more]].concat();
        assert_eq!(Stage::of_lease(&longer), Stage::Length, "{more} more");
    }
}

#[test]
fn every_cut_of_a_verdict_is_refused_for_its_form() {
    let signed = verdict().sign(&approver()).unwrap();
    for length in 0..signed.len() {
        assert_eq!(Stage::of_verdict(&signed[..length]), Stage::Envelope, "{length}");
    }
}

/// The claims with each field changed in turn.
fn changed_leases() -> Vec<LeaseClaims> {
    let base = lease;
    vec![
        LeaseClaims { audience: Audience([1; 32]), ..base() },
        LeaseClaims { expires_at: base().expires_at + 1, ..base() },
        LeaseClaims { issued_at: base().issued_at - 1, ..base() },
        LeaseClaims { cti: Cti([1; 16]), ..base() },
        LeaseClaims { argv: Digest([1; 32]), ..base() },
        LeaseClaims { requester_uid: 0, ..base() },
        LeaseClaims { environment: Digest([1; 32]), ..base() },
        LeaseClaims { cwd: Digest([1; 32]), ..base() },
        LeaseClaims { plan: PlanDigest([1; 32]), ..base() },
        LeaseClaims { verdict: VerdictDigest([1; 32]), ..base() },
        LeaseClaims { epoch: Epoch([1; 16]), ..base() },
    ]
}

fn changed_verdicts() -> Vec<VerdictClaims> {
    let base = verdict;
    let evidence = |change: fn(&mut Evidence)| {
        let mut claims = base();
        change(&mut claims.evidence);
        claims
    };
    vec![
        VerdictClaims { kind: VerdictKind::Revoke, ..base() },
        VerdictClaims { plan: PlanDigest([1; 32]), ..base() },
        VerdictClaims { epoch: Epoch([1; 16]), ..base() },
        VerdictClaims { issued_at: 0, ..base() },
        VerdictClaims { expires_at: u32::MAX, ..base() },
        VerdictClaims { reason: "another".into(), ..base() },
        evidence(|evidence| evidence.channel = "chat".into()),
        evidence(|evidence| evidence.messages.push("1".into())),
        evidence(|evidence| evidence.shown = Digest([1; 32])),
        evidence(|evidence| evidence.reply = Digest([1; 32])),
    ]
}

/// `bytes` with the key id of `from`.
fn with_kid_of(mut bytes: Vec<u8>, from: &[u8]) -> Vec<u8> {
    bytes[KID].copy_from_slice(&from[KID]);
    bytes
}

/// `bytes` with the signature of `from`, which is the last 64 bytes.
fn with_signature_of(bytes: &[u8], from: &[u8]) -> Vec<u8> {
    [&bytes[..bytes.len() - 64], &from[from.len() - 64..]].concat()
}

#[test]
fn a_lease_with_one_claim_changed_needs_the_right_key() {
    let good = lease().sign(&issuer()).unwrap();
    let other: SigningKey<LeaseIssuer> = fixture::key(0);
    for claims in changed_leases() {
        let signed = claims.sign(&issuer()).unwrap();
        let stolen = with_signature_of(&signed, &good);
        assert_eq!(Stage::of_lease(&stolen), Stage::Signature, "{claims:?}");
        let foreign = claims.sign(&other).unwrap();
        assert_eq!(Stage::of_lease(&foreign), Stage::Key, "{claims:?}");
        let forged = with_kid_of(foreign, &good);
        assert_eq!(Stage::of_lease(&forged), Stage::Signature, "{claims:?}");
        // With the right key it is another lease: what it says is for the root half to compare.
        let verified = RawLease::parse(&signed).unwrap().verify(issuer().public()).unwrap();
        assert_eq!(verified.claims(), &claims);
        assert_ne!(verified.claims(), &lease());
    }
}

#[test]
fn a_verdict_with_one_claim_changed_needs_the_right_key() {
    let good = verdict().sign(&approver()).unwrap();
    let other: SigningKey<Approver> = fixture::key(1);
    for claims in changed_verdicts() {
        let signed = claims.sign(&approver()).unwrap();
        let stolen = with_signature_of(&signed, &good);
        assert_eq!(Stage::of_verdict(&stolen), Stage::Signature, "{claims:?}");
        let foreign = claims.sign(&other).unwrap();
        assert_eq!(Stage::of_verdict(&foreign), Stage::Key, "{claims:?}");
        let forged = with_kid_of(foreign, &good);
        assert_eq!(Stage::of_verdict(&forged), Stage::Signature, "{claims:?}");
        let verified = RawVerdict::parse(&signed).unwrap().verify(approver().public()).unwrap();
        assert_eq!(verified.claims(), &claims);
        assert_ne!(verified.claims(), &verdict());
    }
}

#[test]
fn a_lease_has_one_size_and_its_text_fits_the_limit() {
    for claims in changed_leases() {
        let signed = claims.sign(&issuer()).unwrap();
        assert_eq!(signed.len(), LEASE_BYTES);
        let text = armor::encode(&signed);
        assert_eq!(text.len(), 498);
        assert!(text.len() <= LEASE_TEXT_MAX);
        assert!(text.starts_with("olbl1_hE2iATIES"), "secret scanners look for this");
    }
}

#[test]
fn claims_outside_their_limits_are_not_signed() {
    let early = LeaseClaims { issued_at: 0xffff, ..lease() };
    assert!(early.sign(&issuer()).is_err());
    let never = LeaseClaims { expires_at: lease().issued_at, ..lease() };
    assert!(never.sign(&issuer()).is_err());
    let nobody = LeaseClaims { requester_uid: u32::MAX, ..lease() };
    assert!(nobody.sign(&issuer()).is_err());
    let long = VerdictClaims { reason: "a".repeat(513), ..verdict() };
    assert!(long.sign(&approver()).is_err());
}
