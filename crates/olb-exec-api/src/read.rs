//! READ: the queries, and the answers the front decodes.

use olb_lease::cbor::{CborError, Reader, Writer, validate};
use olb_lease::{Audience, Epoch, Kid, PlanDigest, RawReceipt};

use crate::client::{Recorded, read_recorded, write_recorded};
use crate::header::DATAGRAM_BYTES_MAX;

/// A query: 41 bytes, `{kind, number (8, big-endian), plan digest (32)}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// Who and what this broker is: see [`Info`].
    Info,
    /// Records of the audit trail from this sequence number on: see [`RecordPage`].
    Records {
        /// The first sequence number wanted, from 1.
        from: u64,
    },
    /// What the ledger holds on one request: see [`RequestState`].
    Request {
        /// The plan.
        plan: PlanDigest,
    },
}

/// Bytes of a query.
const QUERY_BYTES: usize = 41;

impl Query {
    /// The 41 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, number, plan) = match self {
            Self::Info => (1, 0, [0; 32]),
            Self::Records { from } => (2, *from, [0; 32]),
            Self::Request { plan } => (3, 0, plan.0),
        };
        let mut out = vec![kind];
        out.extend_from_slice(&u64::to_be_bytes(number));
        out.extend_from_slice(&plan);
        out
    }

    /// Reads a query; `None` for anything that [`Self::encode`] does not write.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; QUERY_BYTES] = bytes.try_into().ok()?;
        let (kind, rest) = bytes.split_first()?;
        let (number, plan) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        let plan = PlanDigest(plan.try_into().ok()?);
        let query = match kind {
            1 => Self::Info,
            2 => Self::Records { from: number },
            3 => Self::Request { plan },
            _ => return None,
        };
        (query.encode() == bytes).then_some(query)
    }
}

/// One enrolled approver, as far as it is public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The enrolled name.
    pub name: String,
    /// The uid the key is bound to.
    pub uid: u32,
    /// Public key.
    pub key: [u8; 32],
    /// Its key id.
    pub kid: Kid,
    /// The longest lease this key may bring about, in seconds.
    pub lease_lifetime_secs: u32,
}

/// A named limit of the root half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Name as in the configuration.
    pub name: String,
    /// Value, in the unit that the name says.
    pub value: u64,
}

/// Who and what this broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Host name shown to humans.
    pub host: String,
    /// Audience of plans and leases.
    pub audience: Audience,
    /// The ledger's epoch.
    pub epoch: Epoch,
    /// Public half of the lease key.
    pub lease_key: [u8; 32],
    /// Public half of the audit key.
    pub audit_key: [u8; 32],
    /// Sequence number of the last audit record, 0 if there is none.
    pub sequence: u64,
    /// False where the root half does not run as root: then there is no privilege boundary.
    pub boundary: bool,
    /// The uids that may ask.
    pub requesters: Vec<u32>,
    /// The enrolled approvers.
    pub enrolments: Vec<Enrolment>,
    /// The limits in force.
    pub limits: Vec<Limit>,
    /// The folder below which copies of staged files are made; empty where this broker makes none.
    pub staging: Vec<u8>,
}

/// The bytes of an [`Info`].
#[must_use]
pub fn encode_info(info: &Info) -> Vec<u8> {
    let mut cbor = Writer::new();
    cbor.array(11).text(&info.host).bytes(info.audience.as_bytes()).bytes(info.epoch.as_bytes());
    cbor.bytes(&info.lease_key).bytes(&info.audit_key).uint(info.sequence).bool(info.boundary);
    cbor.array(info.requesters.len());
    for uid in &info.requesters {
        cbor.uint((*uid).into());
    }
    cbor.array(info.enrolments.len());
    for one in &info.enrolments {
        cbor.array(5).text(&one.name).uint(one.uid.into()).bytes(&one.key);
        cbor.bytes(one.kid.as_bytes()).uint(one.lease_lifetime_secs.into());
    }
    cbor.array(info.limits.len());
    for limit in &info.limits {
        cbor.array(2).text(&limit.name).uint(limit.value);
    }
    cbor.bytes(&info.staging);
    cbor.finish()
}

/// Reads an [`Info`].
///
/// # Errors
/// Anything that [`encode_info`] does not write.
pub fn decode_info(bytes: &[u8]) -> Result<Info, CborError> {
    validate(bytes, DATAGRAM_BYTES_MAX)?;
    let mut cbor = Reader::new(bytes);
    cbor.array_len(11)?;
    let info = Info {
        host: cbor.text()?.into(),
        audience: Audience(cbor.array_of()?),
        epoch: Epoch(cbor.array_of()?),
        lease_key: cbor.array_of()?,
        audit_key: cbor.array_of()?,
        sequence: cbor.uint()?,
        boundary: cbor.bool()?,
        requesters: (0..cbor.array()?).map(|_| cbor.u32("uid")).collect::<Result<_, _>>()?,
        enrolments: (0..cbor.array()?)
            .map(|_| read_enrolment(&mut cbor))
            .collect::<Result<_, _>>()?,
        limits: (0..cbor.array()?).map(|_| read_limit(&mut cbor)).collect::<Result<_, _>>()?,
        staging: cbor.bytes()?.into(),
    };
    cbor.end()?;
    Ok(info)
}

fn read_enrolment(cbor: &mut Reader<'_>) -> Result<Enrolment, CborError> {
    cbor.array_len(5)?;
    Ok(Enrolment {
        name: cbor.text()?.into(),
        uid: cbor.u32("uid")?,
        key: cbor.array_of()?,
        kid: Kid(cbor.array_of()?),
        lease_lifetime_secs: cbor.u32("lease lifetime")?,
    })
}

fn read_limit(cbor: &mut Reader<'_>) -> Result<Limit, CborError> {
    cbor.array_len(2)?;
    Ok(Limit { name: cbor.text()?.into(), value: cbor.uint()? })
}

/// One record of the trail with its place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencedRecord {
    /// Number in the trail, from 1.
    pub sequence: u64,
    /// The record's bytes.
    pub record: Vec<u8>,
    /// The receipt that signs the chain's head after this record, where there is one.
    pub receipt: Option<Vec<u8>>,
}

/// As many records as fit one datagram, in order; empty when there are none from there on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<SequencedRecord>,
}

impl RecordPage {
    /// The bytes: an array of `[sequence, record / null, receipt / null]`. A receipt holds its record,
    /// so only one of the two is sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Writer::new();
        cbor.array(self.records.len());
        for one in &self.records {
            cbor.array(3).uint(one.sequence);
            match &one.receipt {
                Some(receipt) => cbor.null().bytes(receipt),
                None => cbor.bytes(&one.record).null(),
            };
        }
        cbor.finish()
    }

    /// Reads a page.
    ///
    /// # Errors
    /// Anything that [`Self::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        validate(bytes, DATAGRAM_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        let mut records = Vec::new();
        for _ in 0..cbor.array()? {
            records.push(read_sequenced(&mut cbor)?);
        }
        cbor.end()?;
        Ok(Self { records })
    }
}

fn read_sequenced(cbor: &mut Reader<'_>) -> Result<SequencedRecord, CborError> {
    cbor.array_len(3)?;
    let sequence = cbor.uint()?;
    if !cbor.null() {
        let record = cbor.bytes()?.into();
        let without = CborError::Unexpected { expected: "no receipt beside a record" };
        return if cbor.null() {
            Ok(SequencedRecord { sequence, record, receipt: None })
        } else {
            Err(without)
        };
    }
    let receipt = cbor.bytes()?.to_vec();
    let claims = RawReceipt::parse(&receipt).and_then(|receipt| receipt.unverified_claims());
    let record = claims.map_err(|_| CborError::Unexpected { expected: "a receipt" })?.record;
    Ok(SequencedRecord { sequence, record, receipt: Some(receipt) })
}

/// DECIDE's answer, and part of [`RequestState`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The signed record of the decision.
    pub receipt: Vec<u8>,
    /// The lease, for an approval that can still be used.
    pub lease: Option<Vec<u8>>,
    /// When the lease expires, in seconds since the Unix epoch; 0 without one.
    pub expires_at: u32,
}

impl Decided {
    /// The bytes: `[receipt, lease / null, expiry]`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Writer::new();
        self.write(&mut cbor);
        cbor.finish()
    }

    fn write(&self, cbor: &mut Writer) {
        cbor.array(3).bytes(&self.receipt);
        match &self.lease {
            Some(lease) => cbor.bytes(lease),
            None => cbor.null(),
        };
        cbor.uint(self.expires_at.into());
    }

    fn read(cbor: &mut Reader<'_>) -> Result<Self, CborError> {
        cbor.array_len(3)?;
        let receipt = cbor.bytes()?.into();
        let lease = if cbor.null() { None } else { Some(cbor.bytes()?.into()) };
        Ok(Self { receipt, lease, expires_at: cbor.u32("expiry")? })
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        validate(bytes, DATAGRAM_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        let decided = Self::read(&mut cbor)?;
        cbor.end()?;
        Ok(decided)
    }
}

/// What the ledger holds on one request: the last decision, whether it was burned, the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestState {
    /// The decision that stands, with the lease while it can be used.
    pub decided: Option<Decided>,
    /// Whether the lease was burned.
    pub burned: bool,
    /// The outcome, once there is one.
    pub recorded: Option<Recorded>,
}

impl RequestState {
    /// The bytes: `[decided / null, burned, recorded / null]`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Writer::new();
        cbor.array(3);
        match &self.decided {
            Some(decided) => decided.write(&mut cbor),
            None => {
                cbor.null();
            }
        }
        cbor.bool(self.burned);
        match &self.recorded {
            Some(recorded) => write_recorded(&mut cbor, recorded),
            None => cbor.null(),
        };
        cbor.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        validate(bytes, DATAGRAM_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        cbor.array_len(3)?;
        let decided = if cbor.null() { None } else { Some(Decided::read(&mut cbor)?) };
        let burned = cbor.bool()?;
        let recorded = if cbor.null() { None } else { Some(read_recorded(&mut cbor)?) };
        cbor.end()?;
        Ok(Self { decided, burned, recorded })
    }
}

#[cfg(test)]
mod tests;
