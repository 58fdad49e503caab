//! An approver's key, for tests that sign verdicts themselves.

use olb_lease::{
    Approver as Role, Digest, Epoch, Evidence, PlanDigest, SigningKey, VerdictClaims, VerdictKind,
};
use olb_sys::clock::unix_secs;
use rand::TryRng as _;
use zeroize::Zeroizing;

/// A person with a key.
pub struct Approver {
    /// The uid it is enrolled for.
    pub uid: u32,
    /// Its enrolled name.
    pub name: String,
    seed: Zeroizing<[u8; 32]>,
}

impl Approver {
    /// A new key.
    pub fn new(uid: u32, name: &str) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rand::rngs::SysRng.try_fill_bytes(&mut *seed).expect("random numbers");
        Self { uid, name: name.into(), seed }
    }

    /// The same person, elsewhere.
    pub(crate) fn copy(&self) -> Self {
        Self { uid: self.uid, name: self.name.clone(), seed: self.seed.clone() }
    }

    /// The key.
    pub fn key(&self) -> SigningKey<Role> {
        SigningKey::from_seed(&self.seed).expect("a key")
    }

    /// The text of its file.
    pub fn key_text(&self) -> String {
        format!("{}\n", Digest(*self.seed).hex())
    }

    /// Claims as `olb` would sign them now.
    pub fn claims(&self, kind: VerdictKind, plan: PlanDigest, epoch: Epoch) -> VerdictClaims {
        let now = u32::try_from(unix_secs()).expect("before 2106");
        VerdictClaims {
            kind,
            plan,
            epoch,
            issued_at: now,
            expires_at: now + 900,
            evidence: Evidence {
                channel: "test".into(),
                messages: Vec::new(),
                shown: Digest([1; 32]),
                reply: Digest([2; 32]),
            },
            reason: String::new(),
        }
    }

    /// A signed verdict.
    pub fn sign(&self, kind: VerdictKind, plan: PlanDigest, epoch: Epoch) -> Vec<u8> {
        self.claims(kind, plan, epoch).sign(&self.key()).expect("a verdict")
    }
}
