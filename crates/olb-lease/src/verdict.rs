//! The verdict: what an approver decided about one plan, signed by the approver's own process.

use thiserror::Error;

use crate::cbor::{CborError, Reader, Writer, validate};
use crate::cose::{Envelope, EnvelopeError, seal};
use crate::digest::tagged;
use crate::id::{Digest, Epoch, Kid, PlanDigest, VerdictDigest};
use crate::key::{Approver, PublicKey, SigningKey};

/// A signed verdict is at most this long, in bytes.
pub const VERDICT_BYTES_MAX: usize = 4096;

/// The limits inside a verdict.
pub mod limit {
    /// The human's reason, in bytes.
    pub const REASON_BYTES: usize = 512;
    /// A channel's name, in bytes.
    pub const CHANNEL_BYTES: usize = 32;
    /// Message ids of the evidence.
    pub const MESSAGES: usize = 8;
    /// One message id, in bytes.
    pub const MESSAGE_BYTES: usize = 64;
}

/// Why bytes are not a valid verdict; the variants are the stages of the check, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VerdictError {
    /// The envelope or its signature.
    #[error("the verdict is refused: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The payload is signed but does not decode.
    #[error("the verdict does not decode: {0}")]
    Cbor(#[from] CborError),
    /// A field is outside its limit.
    #[error("the verdict's {0} is outside its limit")]
    Limit(&'static str),
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum VerdictKind {
    /// Run it, once.
    Approve = 1,
    /// Do not run it, ever.
    Deny = 2,
    /// Take an approval back.
    Revoke = 3,
}

impl VerdictKind {
    fn from_number(number: u64) -> Result<Self, VerdictError> {
        match number {
            1 => Ok(Self::Approve),
            2 => Ok(Self::Deny),
            3 => Ok(Self::Revoke),
            _ => Err(VerdictError::Limit("kind")),
        }
    }
}

/// How the human decided: what was shown, what was answered, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Name of the channel, for example `terminal`.
    pub channel: String,
    /// Ids of the messages of a chat channel.
    pub messages: Vec<String>,
    /// SHA-256 of the text that was shown.
    pub shown: Digest,
    /// SHA-256 of the reply.
    pub reply: Digest,
}

/// The signed statement. SPEC.md section "Verdict" gives the encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictClaims {
    /// What was decided.
    pub kind: VerdictKind,
    /// About which plan.
    pub plan: PlanDigest,
    /// In which epoch of the ledger; in another one the verdict is void.
    pub epoch: Epoch,
    /// When, in seconds since the Unix epoch.
    pub issued_at: u32,
    /// Until when a lease under it may live, in seconds since the Unix epoch.
    pub expires_at: u32,
    /// How it was decided.
    pub evidence: Evidence,
    /// The human's words for the requester; may be empty.
    pub reason: String,
}

const PAIRS: u64 = 8;

impl VerdictClaims {
    /// Signs these claims; returns the bytes of the verdict.
    ///
    /// # Errors
    /// A field is outside its limit.
    pub fn sign(&self, key: &SigningKey<Approver>) -> Result<Vec<u8>, VerdictError> {
        Ok(seal(&self.encode()?, key))
    }

    fn encode(&self) -> Result<Vec<u8>, VerdictError> {
        self.check()?;
        let mut cbor = Writer::new();
        cbor.map(usize::try_from(PAIRS).unwrap_or(0));
        cbor.uint(0).uint(1);
        cbor.uint(1).uint(self.kind as u64);
        cbor.uint(2).bytes(self.plan.as_bytes());
        cbor.uint(3).bytes(self.epoch.as_bytes());
        cbor.uint(4).uint(self.issued_at.into());
        cbor.uint(5).uint(self.expires_at.into());
        let evidence = &self.evidence;
        cbor.uint(6).array(4).text(&evidence.channel).array(evidence.messages.len());
        for message in &evidence.messages {
            cbor.text(message);
        }
        cbor.bytes(evidence.shown.as_bytes()).bytes(evidence.reply.as_bytes());
        cbor.uint(7).text(&self.reason);
        Ok(cbor.finish())
    }

    fn decode(bytes: &[u8]) -> Result<Self, VerdictError> {
        validate(bytes, VERDICT_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        cbor.map_len(PAIRS)?;
        cbor.key(0)?;
        cbor.key(1)?;
        cbor.key(1)?;
        let kind = VerdictKind::from_number(cbor.uint()?)?;
        cbor.key(2)?;
        let plan = PlanDigest(cbor.array_of()?);
        cbor.key(3)?;
        let epoch = Epoch(cbor.array_of()?);
        cbor.key(4)?;
        let issued_at = cbor.u32("issued-at")?;
        cbor.key(5)?;
        let expires_at = cbor.u32("expiry")?;
        cbor.key(6)?;
        let evidence = read_evidence(&mut cbor)?;
        cbor.key(7)?;
        let reason = cbor.text()?.into();
        cbor.end()?;
        let claims = Self { kind, plan, epoch, issued_at, expires_at, evidence, reason };
        claims.check()?;
        debug_assert_eq!(claims.encode().as_deref(), Ok(bytes), "decoding lost something");
        Ok(claims)
    }

    fn check(&self) -> Result<(), VerdictError> {
        let channel = &self.evidence.channel;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let messages = &self.evidence.messages;
        let limits = [
            (self.expires_at > self.issued_at, "expiry"),
            ((1..=limit::CHANNEL_BYTES).contains(&channel.len()), "channel"),
            (channel.bytes().all(plain), "channel"),
            (messages.len() <= limit::MESSAGES, "number of messages"),
            (messages.iter().all(|id| id.len() <= limit::MESSAGE_BYTES), "message id"),
            (self.reason.len() <= limit::REASON_BYTES, "reason"),
        ];
        match limits.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(VerdictError::Limit(what)),
            None => Ok(()),
        }
    }
}

fn read_evidence(cbor: &mut Reader<'_>) -> Result<Evidence, VerdictError> {
    cbor.array_len(4)?;
    let channel = cbor.text()?.into();
    let count = cbor.array()?;
    if count > limit::MESSAGES as u64 {
        return Err(VerdictError::Limit("number of messages"));
    }
    let messages = (0..count).map(|_| Ok(cbor.text()?.into())).collect::<Result<_, CborError>>()?;
    Ok(Evidence {
        channel,
        messages,
        shown: Digest(cbor.array_of()?),
        reply: Digest(cbor.array_of()?),
    })
}

/// Received bytes in the one permitted form; the signature is not checked yet.
#[derive(Debug)]
pub struct RawVerdict<'a> {
    bytes: &'a [u8],
    envelope: Envelope<'a>,
}

impl<'a> RawVerdict<'a> {
    /// Matches the envelope.
    ///
    /// # Errors
    /// Any other form, or longer than [`VERDICT_BYTES_MAX`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, VerdictError> {
        Ok(Self { bytes, envelope: Envelope::parse(bytes, VERDICT_BYTES_MAX)? })
    }

    /// The id of the key that is said to have signed.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.envelope.kid
    }

    /// Checks the signature, then decodes.
    ///
    /// # Errors
    /// See [`VerdictError`].
    pub fn verify(self, key: &PublicKey<Approver>) -> Result<VerifiedVerdict, VerdictError> {
        let claims = VerdictClaims::decode(self.envelope.verify(key)?)?;
        let digest = VerdictDigest(tagged("olbl/verdict/v1", self.bytes));
        Ok(VerifiedVerdict { claims, digest, kid: self.envelope.kid })
    }

    /// The claims without any check of the signature: for finding the request, never for a
    /// decision.
    ///
    /// # Errors
    /// The payload does not decode.
    pub fn unverified_claims(&self) -> Result<VerdictClaims, VerdictError> {
        VerdictClaims::decode(self.envelope.unverified_payload())
    }
}

/// A verdict whose signature holds. Not `Clone`: it is consumed by recording it.
#[derive(Debug)]
pub struct VerifiedVerdict {
    claims: VerdictClaims,
    digest: VerdictDigest,
    kid: Kid,
}

impl VerifiedVerdict {
    /// What was signed.
    #[must_use]
    pub fn claims(&self) -> &VerdictClaims {
        &self.claims
    }

    /// Names the verdict: SHA-256 over `olbl/verdict/v1`, a zero byte, and its bytes.
    #[must_use]
    pub fn digest(&self) -> VerdictDigest {
        self.digest
    }

    /// The key that signed.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }
}
