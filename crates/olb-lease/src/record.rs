//! Audit records and the hash chain over them.

use thiserror::Error;

use crate::cbor::{CborError, Reader, Writer, validate};
use crate::id::{ChainHead, Cti, Digest, Epoch, Kid, PlanDigest};
use crate::plan::PLAN_BYTES_MAX;
use crate::verdict::VERDICT_BYTES_MAX;

/// A record's encoding is at most this long, in bytes: a plan, a verdict and the rest.
pub const RECORD_BYTES_MAX: usize = PLAN_BYTES_MAX + VERDICT_BYTES_MAX + 1024;
/// The root half's reason for a refusal, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// Why bytes are not an audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Not deterministic CBOR, or not the fields of a record in their order.
    #[error("the record does not decode: {0}")]
    Cbor(#[from] CborError),
    /// A field is outside its limit.
    #[error("the record's {0} is outside its limit")]
    Limit(&'static str),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command exited with this code.
    Exited(u8),
    /// The command was killed by this signal.
    Killed(u8),
    /// Nothing ran: the spawn failed with this `errno`.
    SpawnFailed(u16),
    /// The broker stopped between burn and outcome: it may have run, and may still be running.
    Unknown {
        /// Whether it may still be running.
        may_be_running: bool,
    },
}

impl Outcome {
    fn numbers(self) -> (u64, u64) {
        match self {
            Self::Exited(code) => (0, code.into()),
            Self::Killed(signal) => (1, signal.into()),
            Self::SpawnFailed(errno) => (2, errno.into()),
            Self::Unknown { may_be_running } => (3, may_be_running.into()),
        }
    }

    /// Appends the outcome as an array of two numbers.
    pub fn write(self, cbor: &mut Writer) {
        let (kind, value) = self.numbers();
        cbor.array(2).uint(kind).uint(value);
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// Anything else.
    pub fn read(cbor: &mut Reader<'_>) -> Result<Self, RecordError> {
        cbor.array_len(2)?;
        let kind = cbor.uint()?;
        match kind {
            0 => Ok(Self::Exited(cbor.u8("exit code")?)),
            1 => Ok(Self::Killed(cbor.u8("signal")?)),
            2 => Ok(Self::SpawnFailed(cbor.u16("errno")?)),
            3 => match cbor.uint()? {
                0 => Ok(Self::Unknown { may_be_running: false }),
                1 => Ok(Self::Unknown { may_be_running: true }),
                _ => Err(RecordError::Limit("outcome")),
            },
            _ => Err(RecordError::Limit("outcome")),
        }
    }
}

/// Who ended a run before it ended itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CutBy {
    /// Nobody.
    Nobody = 0,
    /// The requester: by a signal or by going away.
    Requester = 1,
    /// The wall-clock limit of the plan.
    Limit = 2,
    /// The broker, when it was stopped.
    Broker = 3,
}

/// What is kept of one output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSummary {
    /// How many bytes the command wrote and the broker passed on.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// What a command and the children that it waited for have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode, in milliseconds.
    pub user_ms: u64,
    /// Processor time in the kernel, in milliseconds.
    pub system_ms: u64,
    /// The most memory that one of them had at once, in KiB.
    pub max_rss_kib: u64,
}

/// Why a new epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EpochReason {
    /// A new ledger.
    NewLedger = 0,
    /// The host was booted.
    Boot = 1,
    /// The ledger is behind the burn counter of this boot: an older copy was put back.
    Restored = 2,
    /// The lease key was replaced.
    NewKey = 3,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordEvent {
    /// A new epoch began; leases and verdicts of the one before are void.
    EpochBegan {
        /// Why.
        reason: EpochReason,
        /// The lease key of the epoch.
        lease_kid: Kid,
    },
    /// A verdict was recorded; for an approval a lease was minted.
    Decided {
        /// The plan's bytes.
        plan: Vec<u8>,
        /// The signed verdict's bytes.
        verdict: Vec<u8>,
        /// The approver's enrolled name.
        approver: String,
        /// The approver's uid.
        approver_uid: u32,
        /// The minted lease's id, for an approval.
        cti: Option<Cti>,
    },
    /// A lease was burned; from here on the command may run.
    Burned {
        /// The plan.
        plan: PlanDigest,
        /// The lease.
        cti: Cti,
    },
    /// A lease with a valid signature was refused.
    Refused {
        /// The plan.
        plan: PlanDigest,
        /// The lease.
        cti: Cti,
        /// Why, in the root half's own words.
        reason: String,
    },
    /// A run ended.
    Finished {
        /// The plan.
        plan: PlanDigest,
        /// The lease.
        cti: Cti,
        /// How it ended.
        outcome: Outcome,
        /// Standard output.
        stdout: StreamSummary,
        /// Standard error.
        stderr: StreamSummary,
        /// Who cut it short.
        cut_by: CutBy,
        /// From spawn to end, in milliseconds.
        duration_ms: u64,
        /// What it used; `None` where nothing was started or its end was not seen.
        usage: Option<Usage>,
    },
    /// A key counts no longer, for ever: an approver's that was revoked, or the audit key that signed
    /// up to here and was replaced.
    KeyEnded {
        /// Which.
        kid: Kid,
    },
}

/// One line of the audit trail. SPEC.md section "Audit" gives the encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// The epoch of the ledger.
    pub epoch: Epoch,
    /// What happened.
    pub event: RecordEvent,
}

impl Record {
    /// The one encoding of this record: `[1, at, epoch, kind, [...]]`. The reason of a refusal is
    /// cut at its limit, between characters, so that what is written can be read.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Writer::new();
        cbor.array(5).uint(1).uint(self.at).bytes(self.epoch.as_bytes());
        match &self.event {
            RecordEvent::EpochBegan { reason, lease_kid } => {
                cbor.uint(0).array(2).uint(*reason as u64).bytes(lease_kid.as_bytes());
            }
            RecordEvent::Decided { plan, verdict, approver, approver_uid, cti } => {
                cbor.uint(1).array(5).bytes(plan).bytes(verdict).text(approver);
                cbor.uint((*approver_uid).into());
                match cti {
                    Some(cti) => cbor.bytes(cti.as_bytes()),
                    None => cbor.null(),
                };
            }
            RecordEvent::Burned { plan, cti } => {
                cbor.uint(2).array(2).bytes(plan.as_bytes()).bytes(cti.as_bytes());
            }
            RecordEvent::Refused { plan, cti, reason } => {
                cbor.uint(3).array(3).bytes(plan.as_bytes()).bytes(cti.as_bytes());
                cbor.text(cut(reason, REASON_BYTES_MAX));
            }
            RecordEvent::Finished {
                plan,
                cti,
                outcome,
                stdout,
                stderr,
                cut_by,
                duration_ms,
                usage,
            } => {
                cbor.uint(4).array(8).bytes(plan.as_bytes()).bytes(cti.as_bytes());
                outcome.write(&mut cbor);
                for stream in [stdout, stderr] {
                    cbor.array(2).uint(stream.bytes).bytes(stream.sha256.as_bytes());
                }
                cbor.uint(*cut_by as u64).uint(*duration_ms);
                write_usage(&mut cbor, *usage);
            }
            RecordEvent::KeyEnded { kid } => {
                cbor.uint(5).array(1).bytes(kid.as_bytes());
            }
        }
        cbor.finish()
    }

    /// Reads a record; only its one encoding is accepted.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        validate(bytes, RECORD_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        cbor.array_len(5)?;
        cbor.key(1)?;
        let at = cbor.uint()?;
        let epoch = Epoch(cbor.array_of()?);
        let event = match cbor.uint()? {
            0 => read_epoch_began(&mut cbor)?,
            1 => read_decided(&mut cbor)?,
            2 => {
                cbor.array_len(2)?;
                RecordEvent::Burned {
                    plan: PlanDigest(cbor.array_of()?),
                    cti: Cti(cbor.array_of()?),
                }
            }
            3 => read_refused(&mut cbor)?,
            4 => read_finished(&mut cbor)?,
            5 => {
                cbor.array_len(1)?;
                RecordEvent::KeyEnded { kid: Kid(cbor.array_of()?) }
            }
            _ => return Err(RecordError::Limit("kind")),
        };
        cbor.end()?;
        Ok(Self { at, epoch, event })
    }
}

fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or("")
}

fn read_epoch_began(cbor: &mut Reader<'_>) -> Result<RecordEvent, RecordError> {
    cbor.array_len(2)?;
    let reason = match cbor.uint()? {
        0 => EpochReason::NewLedger,
        1 => EpochReason::Boot,
        2 => EpochReason::Restored,
        3 => EpochReason::NewKey,
        _ => return Err(RecordError::Limit("epoch reason")),
    };
    Ok(RecordEvent::EpochBegan { reason, lease_kid: Kid(cbor.array_of()?) })
}

fn read_decided(cbor: &mut Reader<'_>) -> Result<RecordEvent, RecordError> {
    cbor.array_len(5)?;
    let plan = cbor.bytes()?.to_vec();
    let verdict = cbor.bytes()?.to_vec();
    let approver = cbor.text()?.to_owned();
    let approver_uid = cbor.u32("approver uid")?;
    let cti = if cbor.null() { None } else { Some(Cti(cbor.array_of()?)) };
    Ok(RecordEvent::Decided { plan, verdict, approver, approver_uid, cti })
}

fn read_refused(cbor: &mut Reader<'_>) -> Result<RecordEvent, RecordError> {
    cbor.array_len(3)?;
    let plan = PlanDigest(cbor.array_of()?);
    let cti = Cti(cbor.array_of()?);
    let reason = cbor.text()?.to_owned();
    if reason.len() > REASON_BYTES_MAX {
        return Err(RecordError::Limit("reason"));
    }
    Ok(RecordEvent::Refused { plan, cti, reason })
}

fn read_finished(cbor: &mut Reader<'_>) -> Result<RecordEvent, RecordError> {
    cbor.array_len(8)?;
    let plan = PlanDigest(cbor.array_of()?);
    let cti = Cti(cbor.array_of()?);
    let outcome = Outcome::read(cbor)?;
    let stdout = read_stream(cbor)?;
    let stderr = read_stream(cbor)?;
    let cut_by = match cbor.uint()? {
        0 => CutBy::Nobody,
        1 => CutBy::Requester,
        2 => CutBy::Limit,
        3 => CutBy::Broker,
        _ => return Err(RecordError::Limit("cut-by")),
    };
    let duration_ms = cbor.uint()?;
    let usage = read_usage(cbor)?;
    Ok(RecordEvent::Finished { plan, cti, outcome, stdout, stderr, cut_by, duration_ms, usage })
}

fn write_usage(cbor: &mut Writer, usage: Option<Usage>) {
    match usage {
        None => cbor.null(),
        Some(Usage { user_ms, system_ms, max_rss_kib }) => {
            cbor.array(3).uint(user_ms).uint(system_ms).uint(max_rss_kib)
        }
    };
}

fn read_usage(cbor: &mut Reader<'_>) -> Result<Option<Usage>, RecordError> {
    if cbor.null() {
        return Ok(None);
    }
    cbor.array_len(3)?;
    let (user_ms, system_ms, max_rss_kib) = (cbor.uint()?, cbor.uint()?, cbor.uint()?);
    Ok(Some(Usage { user_ms, system_ms, max_rss_kib }))
}

fn read_stream(cbor: &mut Reader<'_>) -> Result<StreamSummary, RecordError> {
    cbor.array_len(2)?;
    Ok(StreamSummary { bytes: cbor.uint()?, sha256: Digest(cbor.array_of()?) })
}

/// The chain's head after `record`: SHA-256 over CBOR `["olbl/audit/v1", previous, record]`. The
/// head before the first record is 32 zero bytes.
#[must_use]
pub fn chain(previous: ChainHead, record: &[u8]) -> ChainHead {
    let mut cbor = Writer::new();
    cbor.array(3).text("olbl/audit/v1").bytes(previous.as_bytes()).bytes(record);
    ChainHead(crate::sha256(&cbor.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_so_that_the_record_can_be_read() {
        let record = |reason: String| {
            let (plan, cti) = (PlanDigest([1; 32]), Cti([2; 16]));
            let event = RecordEvent::Refused { plan, cti, reason };
            Record { at: 1, epoch: Epoch([3; 16]), event }
        };
        let long = record("x".to_owned() + &"é".repeat(REASON_BYTES_MAX));
        let want = record("x".to_owned() + &"é".repeat(REASON_BYTES_MAX / 2 - 1));
        assert_eq!(Record::decode(&long.encode()), Ok(want));
    }

    #[test]
    fn the_chain_has_its_known_answer() {
        let pre_image = [&b"\x83\x6dolbl/audit/v1\x58\x20"[..], &[0; 32], b"\x43abc"].concat();
        let want = ChainHead(crate::sha256(&pre_image));
        assert_eq!(chain(ChainHead([0; 32]), b"abc"), want);
    }
}
