//! The receipt: a record of the audit trail together with the chain's head after it, signed by the
//! root half. It is both the proof for the client and the signed head of the trail.

use thiserror::Error;

use crate::cbor::{CborError, Reader, Writer, validate};
use crate::cose::{Envelope, EnvelopeError, seal};
use crate::id::{ChainHead, Kid};
use crate::key::{Audit, PublicKey, SigningKey};
use crate::record::{RECORD_BYTES_MAX, Record, RecordError, chain};

/// A receipt is at most this long, in bytes.
pub const RECEIPT_BYTES_MAX: usize = RECORD_BYTES_MAX + 256;

/// Why bytes are not a valid receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// The envelope or its signature.
    #[error("the receipt is refused: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The payload is signed but does not decode.
    #[error("the receipt does not decode: {0}")]
    Cbor(#[from] CborError),
    /// The record in it does not decode.
    #[error("the receipt is refused: {0}")]
    Record(#[from] RecordError),
}

/// The signed statement: `[1, sequence, previous head, record]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptClaims {
    /// The record's number in the trail, from 1.
    pub sequence: u64,
    /// The chain's head before the record.
    pub previous: ChainHead,
    /// The record's bytes, as they stand in the trail.
    pub record: Vec<u8>,
}

impl ReceiptClaims {
    /// Signs these claims.
    #[must_use]
    pub fn sign(&self, key: &SigningKey<Audit>) -> Vec<u8> {
        let mut cbor = Writer::new();
        cbor.array(4).uint(1).uint(self.sequence);
        cbor.bytes(self.previous.as_bytes()).bytes(&self.record);
        seal(&cbor.finish(), key)
    }

    /// The chain's head after the record: what the signature vouches for.
    #[must_use]
    pub fn head(&self) -> ChainHead {
        chain(self.previous, &self.record)
    }

    /// The record, decoded.
    ///
    /// # Errors
    /// It does not decode.
    pub fn decode_record(&self) -> Result<Record, ReceiptError> {
        Ok(Record::decode(&self.record)?)
    }

    fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        validate(bytes, RECEIPT_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        cbor.array_len(4)?;
        cbor.key(1)?;
        let sequence = cbor.uint()?;
        if sequence == 0 {
            return Err(CborError::Range { what: "sequence number" }.into());
        }
        let previous = ChainHead(cbor.array_of()?);
        let record = cbor.bytes()?.to_vec();
        cbor.end()?;
        Ok(Self { sequence, previous, record })
    }
}

/// Received bytes in the one permitted form; the signature is not checked yet.
#[derive(Debug)]
pub struct RawReceipt<'a> {
    envelope: Envelope<'a>,
}

impl<'a> RawReceipt<'a> {
    /// Matches the envelope.
    ///
    /// # Errors
    /// Any other form, or longer than [`RECEIPT_BYTES_MAX`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReceiptError> {
        Ok(Self { envelope: Envelope::parse(bytes, RECEIPT_BYTES_MAX)? })
    }

    /// The id of the key that it says it is signed with.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.envelope.kid
    }

    /// Checks the signature, then decodes.
    ///
    /// # Errors
    /// See [`ReceiptError`].
    pub fn verify(self, key: &PublicKey<Audit>) -> Result<ReceiptClaims, ReceiptError> {
        ReceiptClaims::decode(self.envelope.verify(key)?)
    }

    /// The claims without any check of the signature: never for a decision.
    ///
    /// # Errors
    /// The payload does not decode.
    pub fn unverified_claims(&self) -> Result<ReceiptClaims, ReceiptError> {
        ReceiptClaims::decode(self.envelope.unverified_payload())
    }
}
