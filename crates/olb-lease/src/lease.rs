//! The lease: leave to run one plan once, minted by the root half. A CWT (RFC 8392) of fixed size.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::cbor::{CborError, Reader, Writer, validate};
use crate::cose::{Envelope, EnvelopeError, seal};
use crate::id::{Audience, Cti, Digest, Epoch, Kid, PlanDigest, VerdictDigest};
use crate::key::{LeaseIssuer, PublicKey, SigningKey};

/// Every lease is exactly this long, in bytes.
pub const LEASE_BYTES: usize = 369;
/// An armored lease is at most this long, in bytes of text.
pub const LEASE_TEXT_MAX: usize = 512;
/// The private-use claim key (RFC 8392 section 9.1.1) that holds the grant.
const GRANT: i64 = -65_537;
/// Times below this would take fewer bytes; every lease is of one size.
const EARLIEST: u32 = 0x1_0000;

/// Why bytes are not a valid lease; the variants are the stages of the check, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LeaseError {
    /// Not the length that every lease has.
    #[error("the lease is refused: not {LEASE_BYTES} bytes long")]
    Length,
    /// The envelope or its signature.
    #[error("the lease is refused: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The payload is signed but does not decode.
    #[error("the lease does not decode: {0}")]
    Cbor(#[from] CborError),
    /// A claim is outside its limit.
    #[error("the lease's {0} is outside its limit")]
    Limit(&'static str),
}

/// The claims of a lease. SPEC.md section "Lease" gives the encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseClaims {
    /// The one broker where it is good (CWT `aud`).
    pub audience: Audience,
    /// First second at which it is no longer good (CWT `exp`), since the Unix epoch.
    pub expires_at: u32,
    /// When it was minted (CWT `iat`), seconds since the Unix epoch.
    pub issued_at: u32,
    /// Its nonce (CWT `cti`), burned once.
    pub cti: Cti,
    /// Digest of the argument vector passed to `execve`.
    pub argv: Digest,
    /// The uid that may present it.
    pub requester_uid: u32,
    /// Digest of the complete environment.
    pub environment: Digest,
    /// Digest of the working directory.
    pub cwd: Digest,
    /// The plan that it lets run.
    pub plan: PlanDigest,
    /// The verdict that it was minted under.
    pub verdict: VerdictDigest,
    /// The ledger epoch in which it is good.
    pub epoch: Epoch,
}

impl LeaseClaims {
    /// Signs these claims; returns the [`LEASE_BYTES`] bytes of the lease.
    ///
    /// # Errors
    /// A claim is outside its limit.
    pub fn sign(&self, key: &SigningKey<LeaseIssuer>) -> Result<Vec<u8>, LeaseError> {
        Ok(seal(&self.encode()?, key))
    }

    fn encode(&self) -> Result<Vec<u8>, LeaseError> {
        self.check()?;
        let mut cbor = Writer::new();
        cbor.map(5);
        cbor.uint(3).text(&URL_SAFE_NO_PAD.encode(self.audience.as_bytes()));
        cbor.uint(4).uint(self.expires_at.into());
        cbor.uint(6).uint(self.issued_at.into());
        cbor.uint(7).bytes(self.cti.as_bytes());
        cbor.int(GRANT).map(8);
        cbor.uint(0).uint(1);
        cbor.uint(1).bytes(self.argv.as_bytes());
        cbor.uint(2).bytes(&self.requester_uid.to_be_bytes());
        cbor.uint(3).bytes(self.environment.as_bytes());
        cbor.uint(4).bytes(self.cwd.as_bytes());
        cbor.uint(5).bytes(self.plan.as_bytes());
        cbor.uint(6).bytes(self.verdict.as_bytes());
        cbor.uint(7).bytes(self.epoch.as_bytes());
        Ok(cbor.finish())
    }

    fn decode(bytes: &[u8]) -> Result<Self, LeaseError> {
        validate(bytes, LEASE_BYTES)?;
        let mut cbor = Reader::new(bytes);
        cbor.map_len(5)?;
        cbor.key(3)?;
        let audience = read_audience(cbor.text()?)?;
        cbor.key(4)?;
        let expires_at = cbor.u32("expiry")?;
        cbor.key(6)?;
        let issued_at = cbor.u32("issued-at")?;
        cbor.key(7)?;
        let cti = Cti(cbor.array_of()?);
        cbor.int_key(GRANT)?;
        cbor.map_len(8)?;
        cbor.key(0)?;
        cbor.key(1)?;
        cbor.key(1)?;
        let argv = Digest(cbor.array_of()?);
        cbor.key(2)?;
        let requester_uid = u32::from_be_bytes(cbor.array_of()?);
        cbor.key(3)?;
        let environment = Digest(cbor.array_of()?);
        cbor.key(4)?;
        let cwd = Digest(cbor.array_of()?);
        cbor.key(5)?;
        let plan = PlanDigest(cbor.array_of()?);
        cbor.key(6)?;
        let verdict = VerdictDigest(cbor.array_of()?);
        cbor.key(7)?;
        let epoch = Epoch(cbor.array_of()?);
        cbor.end()?;
        #[rustfmt::skip]
        let claims = Self {
            audience, expires_at, issued_at, cti, argv, requester_uid, environment, cwd, plan,
            verdict, epoch,
        };
        claims.check()?;
        debug_assert_eq!(claims.encode().as_deref(), Ok(bytes), "decoding lost something");
        Ok(claims)
    }

    fn check(&self) -> Result<(), LeaseError> {
        let limits = [
            (self.issued_at >= EARLIEST, "issued-at"),
            (self.expires_at > self.issued_at, "expiry"),
            (self.requester_uid != u32::MAX, "requester uid"),
        ];
        match limits.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(LeaseError::Limit(what)),
            None => Ok(()),
        }
    }
}

fn read_audience(text: &str) -> Result<Audience, LeaseError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| LeaseError::Limit("audience"))?;
    Audience::try_from(bytes.as_slice()).map_err(|_| LeaseError::Limit("audience"))
}

/// Received bytes in the one permitted form; the signature is not checked yet.
#[derive(Debug)]
pub struct RawLease<'a> {
    bytes: &'a [u8],
    envelope: Envelope<'a>,
}

impl<'a> RawLease<'a> {
    /// Checks the length and matches the envelope.
    ///
    /// # Errors
    /// Any other length or form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LeaseError> {
        if bytes.len() != LEASE_BYTES {
            return Err(LeaseError::Length);
        }
        Ok(Self { bytes, envelope: Envelope::parse(bytes, LEASE_BYTES)? })
    }

    /// The id of the key that is said to have signed.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.envelope.kid
    }

    /// Checks the signature, then decodes.
    ///
    /// # Errors
    /// See [`LeaseError`].
    pub fn verify(self, key: &PublicKey<LeaseIssuer>) -> Result<VerifiedLease, LeaseError> {
        let claims = LeaseClaims::decode(self.envelope.verify(key)?)?;
        Ok(VerifiedLease { claims, digest: Digest(crate::sha256(self.bytes)) })
    }

    /// The claims without any check of the signature: for display and for finding the request,
    /// never for a decision.
    ///
    /// # Errors
    /// The payload does not decode.
    pub fn unverified_claims(&self) -> Result<LeaseClaims, LeaseError> {
        LeaseClaims::decode(self.envelope.unverified_payload())
    }
}

/// A lease whose signature holds; what it says was not compared with anything yet. Not `Clone`:
/// the ledger consumes it when it burns it.
#[derive(Debug)]
pub struct VerifiedLease {
    claims: LeaseClaims,
    digest: Digest,
}

impl VerifiedLease {
    /// What was signed.
    #[must_use]
    pub fn claims(&self) -> &LeaseClaims {
        &self.claims
    }

    /// SHA-256 of the whole lease.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}
