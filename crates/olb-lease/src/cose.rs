//! The envelope: an untagged COSE_Sign1 (RFC 9052 section 4.2) in the one form that is permitted.
//!
//! ```text
//! 84                      array of 4
//!    4d a2 01 32 04 48 K  protected header {1: -19, 4: K}; -19 is Ed25519 (RFC 9864), K 8 bytes
//!    a0                   no unprotected header
//!    (head) payload       byte string, shortest head
//!    58 40 S              signature, 64 bytes
//! ```
//!
//! The bytes are matched at fixed offsets; nothing in them is interpreted before the signature
//! over them holds, except the key id, which selects the key.

use thiserror::Error;

use crate::cbor::Writer;
use crate::id::Kid;
use crate::key::{PublicKey, Role, SigningKey};

/// Everything before the key id.
const BEFORE_KID: [u8; 7] = [0x84, 0x4d, 0xa2, 0x01, 0x32, 0x04, 0x48];
/// The protected header's own bytes before the key id.
const PROTECTED: [u8; 5] = [0xa2, 0x01, 0x32, 0x04, 0x48];
/// The empty unprotected header.
const UNPROTECTED: u8 = 0xa0;
/// The head of a 64-byte string.
const BEFORE_SIGNATURE: [u8; 2] = [0x58, 0x40];
/// Bytes of an envelope that are neither payload nor the payload's head.
const FIXED_BYTES: usize = 7 + 8 + 1 + 2 + 64;

/// Why bytes are not a permitted envelope, or not signed by the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// Not the one permitted form.
    #[error("not the one permitted form of a signed statement")]
    Form,
    /// Longer than the format allows.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// Signed with a key that is not trusted for this.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
}

/// An envelope whose form was checked; its signature was not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    pub(crate) kid: Kid,
    payload: &'a [u8],
    signature: &'a [u8; 64],
}

impl<'a> Envelope<'a> {
    /// Matches `input` against the one permitted form; `max` limits the whole.
    pub(crate) fn parse(input: &'a [u8], max: usize) -> Result<Self, EnvelopeError> {
        if input.len() > max {
            return Err(EnvelopeError::TooLong { max });
        }
        Self::split(input).ok_or(EnvelopeError::Form)
    }

    fn split(input: &'a [u8]) -> Option<Self> {
        let rest = input.strip_prefix(&BEFORE_KID)?;
        let (kid, rest) = rest.split_first_chunk::<8>()?;
        let rest = rest.strip_prefix(&[UNPROTECTED])?;
        let (rest, signature) = rest.split_last_chunk::<64>()?;
        let rest = rest.strip_suffix(&BEFORE_SIGNATURE)?;
        // The length of what is left decides which head it must have.
        let payload = match rest {
            [first, payload @ ..] if payload.len() < 24 => {
                (usize::from(*first) == 0x40 | payload.len()).then_some(payload)?
            }
            [0x58, length, payload @ ..] if payload.len() < 0x100 => {
                (usize::from(*length) == payload.len() && payload.len() >= 24).then_some(payload)?
            }
            [0x59, high, low, payload @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                (length == payload.len() && length >= 0x100).then_some(payload)?
            }
            [0x5a, a, b, c, d, payload @ ..] => {
                let length = u32::from_be_bytes([*a, *b, *c, *d]);
                let length = usize::try_from(length).ok()?;
                (length == payload.len() && length >= 0x1_0000).then_some(payload)?
            }
            _ => return None,
        };
        Some(Self { kid: Kid(*kid), payload, signature })
    }

    /// The payload, if `key` signed it in its role.
    pub(crate) fn verify<R: Role>(&self, key: &PublicKey<R>) -> Result<&'a [u8], EnvelopeError> {
        if key.kid() != self.kid {
            return Err(EnvelopeError::UnknownKey);
        }
        let message = sig_structure(&self.kid, R::CONTEXT, self.payload);
        if key.verifies(&message, self.signature) {
            Ok(self.payload)
        } else {
            Err(EnvelopeError::Signature)
        }
    }

    /// The payload without any check of the signature: for display and for finding things, never
    /// for a decision.
    pub(crate) fn unverified_payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Signs `payload` and wraps it.
pub(crate) fn seal<R: Role>(payload: &[u8], key: &SigningKey<R>) -> Vec<u8> {
    let kid = key.public().kid();
    let signature = key.sign(&sig_structure(&kid, R::CONTEXT, payload));
    let mut out = Vec::with_capacity(FIXED_BYTES.saturating_add(payload.len()).saturating_add(5));
    out.extend_from_slice(&BEFORE_KID);
    out.extend_from_slice(kid.as_bytes());
    out.push(UNPROTECTED);
    let mut body = Writer::new();
    body.bytes(payload);
    out.extend_from_slice(&body.finish());
    out.extend_from_slice(&BEFORE_SIGNATURE);
    out.extend_from_slice(&signature);
    out
}

/// The Sig_structure of RFC 9052 section 4.4.
fn sig_structure(kid: &Kid, context: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut protected = PROTECTED.to_vec();
    protected.extend_from_slice(kid.as_bytes());
    let mut cbor = Writer::new();
    cbor.array(4).text("Signature1").bytes(&protected).bytes(context).bytes(payload);
    cbor.finish()
}
