//! The broker's public keys on this host, and what they prove about a receipt.

use std::path::Path;

use olb_lease::{
    Audit, Cti, CutBy, LeaseIssuer, Outcome, PlanDigest, PublicKey, RawReceipt, Record,
    RecordEvent, StreamSummary, Usage,
};
use olb_sys::file::{TrustedFileError, read_trusted};

use crate::client::Runtime;
use crate::failure::{Failure, code};

/// A file of public keys is at most this long, in bytes.
const KEYS_BYTES_MAX: usize = 64 * 1024;

/// Public keys of a broker; more than one of a kind where older ones were retired.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokerKeys {
    /// They sign receipts, which are heads of the audit trail.
    pub(crate) audit: Vec<PublicKey<Audit>>,
    /// They did so before, and vouch for the part of a trail that they signed; for nothing else.
    pub(crate) retired: Vec<PublicKey<Audit>>,
    /// They sign leases.
    pub(crate) lease: Vec<PublicKey<LeaseIssuer>>,
    /// Whether the root half that wrote the file runs as root.
    pub(crate) is_from_root: bool,
}

impl BrokerKeys {
    /// `keys.pub` of a running broker. It must belong to root or the caller, and to nobody else.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn of(runtime: &Runtime) -> Result<Self, String> {
        let path = runtime.file("keys.pub");
        let by_root = match read_trusted(&path, KEYS_BYTES_MAX, 0) {
            Ok(bytes) => return Self::parse(&bytes, true),
            Err(error) => error,
        };
        let caller = olb_sys::harden::effective_uid();
        match (&by_root, read_trusted(&path, KEYS_BYTES_MAX, caller)) {
            (TrustedFileError::WrongOwner { .. }, Ok(bytes)) => Self::parse(&bytes, false),
            (TrustedFileError::Missing(path), _) => Err(format!(
                "{} does not exist; olb-execd makes it when it starts, so see 'olb status'",
                olb_review::display::safe(path.as_os_str().as_encoded_bytes())
            )),
            _ => Err(by_root.to_string()),
        }
    }

    /// The same, for commands that can do nothing without them.
    ///
    /// # Errors
    /// Nothing the broker says could be checked.
    pub(crate) fn of_running(runtime: &Runtime) -> Result<Self, Failure> {
        Self::of(runtime).map_err(|text| Failure::new(code::UNAVAILABLE, "unavailable", text))
    }

    /// A file that the caller named.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = olb_review::display::safe(path.as_os_str().as_encoded_bytes());
        let bytes = std::fs::read(path).map_err(|error| {
            format!("the public keys in {shown} cannot be read ({error}); give another file")
        })?;
        Self::parse(&bytes, false)
    }

    /// The account of the root half that wrote `keys.pub`.
    pub(crate) fn root_half(&self) -> u32 {
        if self.is_from_root { 0 } else { olb_sys::harden::effective_uid() }
    }

    /// The keys that a trail may be signed with.
    pub(crate) fn of_trail(&self) -> Vec<PublicKey<Audit>> {
        self.audit.iter().chain(&self.retired).cloned().collect()
    }

    /// Whether a key that was retired since signed `receipt`.
    pub(crate) fn is_by_retired(&self, receipt: &[u8]) -> bool {
        let verifies = |key| RawReceipt::parse(receipt).is_ok_and(|raw| raw.verify(key).is_ok());
        self.retired.iter().any(verifies)
    }

    /// Lines `audit HEX`, `audit-retired HEX` and `lease HEX`; `#` begins a comment.
    fn parse(bytes: &[u8], is_from_root: bool) -> Result<Self, String> {
        let wrong = |at: usize| {
            format!(
                "line {at} of the public keys does not read; expected 'audit', 'audit-retired' or \
                 'lease' and 64 hex digits"
            )
        };
        let mut keys = Self { is_from_root, ..Self::default() };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(1))?;
        for (at, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(' ') {
                Some(("audit", hex)) => {
                    keys.audit.push(PublicKey::from_hex(hex).map_err(|_| wrong(at))?);
                }
                Some(("audit-retired", hex)) => {
                    keys.retired.push(PublicKey::from_hex(hex).map_err(|_| wrong(at))?);
                }
                Some(("lease", hex)) => {
                    keys.lease.push(PublicKey::from_hex(hex).map_err(|_| wrong(at))?);
                }
                Some(_) | None => return Err(wrong(at)),
            }
        }
        // A change of keys that was interrupted: the old one is still the present one.
        let present: Vec<_> = keys.audit.iter().map(PublicKey::kid).collect();
        keys.retired.retain(|key| !present.contains(&key.kid()));
        if keys.audit.is_empty() {
            Err("no audit key is among the public keys".into())
        } else {
            Ok(keys)
        }
    }

    /// The record that `receipt` proves; `None` where none of the keys vouches for it.
    pub(crate) fn record(&self, receipt: &[u8]) -> Option<Record> {
        let verified = |key| RawReceipt::parse(receipt).ok()?.verify(key).ok();
        self.audit.iter().find_map(verified)?.decode_record().ok()
    }

    /// The end of `run` that `receipt` proves.
    pub(crate) fn finished(&self, receipt: &[u8], run: Run) -> Option<Finished> {
        match self.record(receipt)?.event {
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
                let finished = Finished { outcome, stdout, stderr, cut_by, duration_ms, usage };
                (run == Run { plan, cti }).then_some(finished)
            }
            RecordEvent::EpochBegan { .. }
            | RecordEvent::Decided { .. }
            | RecordEvent::Burned { .. }
            | RecordEvent::Refused { .. }
            | RecordEvent::KeyEnded { .. } => None,
        }
    }
}

/// The run that a lease was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// What ran.
    pub(crate) plan: PlanDigest,
    /// The lease that was burned for it.
    pub(crate) cti: Cti,
}

/// How a run ended, as its receipt proves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    /// How.
    pub(crate) outcome: Outcome,
    /// Standard output.
    pub(crate) stdout: StreamSummary,
    /// Standard error.
    pub(crate) stderr: StreamSummary,
    /// Who cut it short.
    pub(crate) cut_by: CutBy,
    /// From spawn to end, in milliseconds.
    pub(crate) duration_ms: u64,
    /// What the command used, where its end was seen.
    pub(crate) usage: Option<Usage>,
}

#[cfg(test)]
pub(crate) mod tests {
    use olb_lease::{ChainHead, Digest, Epoch, ReceiptClaims, SigningKey};

    use super::*;

    /// A key that signs receipts in tests.
    pub(crate) fn audit_key() -> SigningKey<Audit> {
        SigningKey::from_seed(&[9; 32].into()).unwrap()
    }

    /// Signs `event` as the first record of a trail.
    pub(crate) fn receipt(event: RecordEvent) -> Vec<u8> {
        let record = Record { at: 1_795_363_200, epoch: Epoch([1; 16]), event };
        let previous = ChainHead([0; 32]);
        ReceiptClaims { sequence: 1, previous, record: record.encode() }.sign(&audit_key())
    }

    /// The run that [`finished`] is the end of.
    pub(crate) const fn run_of(plan: PlanDigest) -> Run {
        Run { plan, cti: Cti([2; 16]) }
    }

    /// The end of a run of `plan` that wrote `stdout`.
    pub(crate) fn finished(plan: PlanDigest, outcome: Outcome, stdout: &[u8]) -> RecordEvent {
        let summary = |bytes: &[u8]| StreamSummary {
            bytes: bytes.len() as u64,
            sha256: Digest(olb_lease::sha256(bytes)),
        };
        RecordEvent::Finished {
            plan,
            cti: run_of(plan).cti,
            outcome,
            stdout: summary(stdout),
            stderr: summary(b""),
            cut_by: CutBy::Nobody,
            duration_ms: 4,
            usage: Some(Usage { user_ms: 3, system_ms: 1, max_rss_kib: 2048 }),
        }
    }

    pub(crate) fn keys() -> BrokerKeys {
        let line = format!("# ours\n\naudit {}\n", audit_key().public().hex());
        BrokerKeys::parse(line.as_bytes(), true).unwrap()
    }

    #[test]
    fn public_keys_that_others_can_write_are_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.pub");
        let runtime = Runtime::at(dir.path().to_owned());
        let missing = BrokerKeys::of_running(&runtime).unwrap_err();
        assert_eq!(missing.code, 69);
        assert!(missing.text.contains("olb-execd makes it when it starts"), "{}", missing.text);
        std::fs::write(&path, format!("audit {}\n", audit_key().public().hex())).unwrap();
        assert!(BrokerKeys::of_running(&runtime).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let failure = BrokerKeys::of_running(&runtime).unwrap_err();
        assert!(failure.text.contains("can be written by group or others"), "{}", failure.text);
    }

    //
    #[test]
    fn a_receipt_proves_the_end_of_its_own_plan_and_lease_only() {
        let plan = PlanDigest([5; 32]);
        let good = receipt(finished(plan, Outcome::Exited(3), b"x"));
        let run = run_of(plan);
        let proved = keys().finished(&good, run).unwrap();
        assert_eq!((proved.outcome, proved.stdout.bytes), (Outcome::Exited(3), 1));
        assert!(keys().finished(&good, run_of(PlanDigest([6; 32]))).is_none());
        assert!(keys().finished(&good, Run { cti: Cti([3; 16]), ..run }).is_none());
        let burned = receipt(RecordEvent::Burned { plan, cti: run.cti });
        assert!(keys().finished(&burned, run).is_none());
    }

    //
    #[test]
    fn no_flipped_bit_of_a_receipt_proves_anything() {
        let plan = PlanDigest([5; 32]);
        let good = receipt(finished(plan, Outcome::Exited(0), b""));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(keys().finished(&bad, run_of(plan)).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_retired_key_proves_no_receipt_and_the_present_one_is_never_retired() {
        let (present, hex) =
            (SigningKey::<Audit>::from_seed(&[8; 32].into()).unwrap(), audit_key());
        let hex = hex.public().hex();
        let parse = |text: String| BrokerKeys::parse(text.as_bytes(), true).unwrap();
        let keys = parse(format!("audit {}\naudit-retired {hex}\n", present.public().hex()));
        let plan = PlanDigest([5; 32]);
        let old = receipt(finished(plan, Outcome::Exited(0), b""));
        assert!(keys.finished(&old, run_of(plan)).is_none());
        assert!(keys.is_by_retired(&old));
        assert_eq!(keys.of_trail().len(), 2);
        let interrupted = parse(format!("audit {hex}\naudit-retired {hex}\n"));
        assert!(interrupted.retired.is_empty());
        assert!(interrupted.finished(&old, run_of(plan)).is_some());
    }

    #[test]
    fn a_file_of_keys_reads_or_says_where_it_does_not() {
        let hex = audit_key().public().hex();
        for bad in ["audit", "audit 00", "other x", "lease", &format!("lease {hex}")] {
            assert!(BrokerKeys::parse(bad.as_bytes(), true).is_err(), "{bad}");
        }
        let error = BrokerKeys::parse(format!("audit {hex}\nx").as_bytes(), true).unwrap_err();
        assert!(error.starts_with("line 2 "), "{error}");
    }
}
