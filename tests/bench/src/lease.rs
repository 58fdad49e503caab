//! The price of a lease's check.

use std::hint::black_box;
use std::time::Instant;

use ed25519_dalek::Signer as _;
use olb_lease::{
    Audience, Cti, Digest, Epoch, LeaseClaims, LeaseIssuer, PlanDigest, RawLease, SigningKey,
    VerdictDigest,
};

use crate::bed::Bed;
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};
use crate::stats::median;

/// Checks per sample.
const CHECKS: u32 = 200;
const SAMPLES: usize = 100;

/// The whole check of a lease against one bare signature check over as many bytes, in turn.
///
/// # Errors
/// None.
pub fn measure(_: &Bed, _: Size) -> Result<Part, String> {
    let seed = [7; 32];
    let issuer = SigningKey::<LeaseIssuer>::from_seed(&seed.into()).expect("a key");
    let lease = claims().sign(&issuer).expect("a lease");
    let bare = ed25519_dalek::SigningKey::from_bytes(&seed);
    let (public, signature) = (bare.verifying_key(), bare.sign(&lease));
    let whole = || {
        let raw = RawLease::parse(black_box(&lease)).expect("its form");
        black_box(raw.verify(issuer.public()).expect("its signature"));
    };
    let bare = || public.verify_strict(black_box(&lease), &signature).expect("the signature");
    let pairs: Vec<(f64, f64)> = (0..SAMPLES).map(|_| (time(whole), time(bare))).collect();
    let ratio = median(pairs.iter().map(|(whole, bare)| whole / bare));
    let figure = Figure::of("lease: parse and check against one verify_strict", Unit::Ratio, ratio);
    let bare_us = median(pairs.iter().map(|(_, bare)| bare * 1e6));
    Ok(vec![
        figure.aimed(Aim::at_most(1.1, 1.02)),
        Figure::of("lease: one verify_strict", Unit::Microseconds, bare_us),
    ]
    .into())
}

/// Seconds that one of many calls takes.
fn time(call: impl Fn()) -> f64 {
    let begun = Instant::now();
    (0..CHECKS).for_each(|_| call());
    begun.elapsed().as_secs_f64() / f64::from(CHECKS)
}

fn claims() -> LeaseClaims {
    let digest = Digest([1; 32]);
    LeaseClaims {
        audience: Audience([1; 32]),
        expires_at: 1_800_000_900,
        issued_at: 1_800_000_000,
        cti: Cti([1; 16]),
        argv: digest,
        requester_uid: 1000,
        environment: digest,
        cwd: digest,
        plan: PlanDigest([1; 32]),
        verdict: VerdictDigest([1; 32]),
        epoch: Epoch([1; 16]),
    }
}
