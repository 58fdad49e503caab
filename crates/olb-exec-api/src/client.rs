//! Frames on a client's socket for one execution: written by the root half after the hand-over, or
//! by the front where it refuses before that.
//!
//! A frame is an 8-byte header `{kind, 0, 0, 0, length}` (length big-endian) and its payload. In
//! the other direction, after the request, the client sends single bytes: [`ClientSignal`].

use olb_lease::cbor::{CborError, Reader, Writer, validate};
use thiserror::Error;

use crate::header::DATAGRAM_BYTES_MAX;
use crate::reason::Reason;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 8;
/// A frame's payload is at most this long, in bytes.
pub const FRAME_PAYLOAD_MAX: usize = 64 * 1024;
/// A refusal's text, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// What is kept of the end of a stream, in bytes.
const TAIL_BYTES_MAX: usize = 16 * 1024;

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Not a header of a known kind.
    #[error("not a frame of this protocol")]
    Header,
    /// The payload is longer than [`FRAME_PAYLOAD_MAX`].
    #[error("a frame longer than {FRAME_PAYLOAD_MAX} bytes")]
    TooLong,
    /// The payload does not decode.
    #[error("the frame does not decode: {0}")]
    Cbor(#[from] CborError),
    /// A reason that is not known.
    #[error("reason {0} is not known")]
    Reason(u16),
}

/// What is recorded of a run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The signed receipt.
    pub receipt: Vec<u8>,
    /// The last bytes of standard output.
    pub stdout_tail: Vec<u8>,
    /// The last bytes of standard error.
    pub stderr_tail: Vec<u8>,
}

impl Recorded {
    /// The bytes, as EXECUTE's last reply has them: `[receipt, stdout tail, stderr tail]`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Writer::new();
        write_recorded(&mut cbor, self);
        cbor.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        validate(bytes, DATAGRAM_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        let recorded = read_recorded(&mut cbor)?;
        cbor.end()?;
        Ok(recorded)
    }
}

/// A refusal: the reason, one sentence, and what is recorded where the lease was burned before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// One sentence for a person: what is wrong and what to do next.
    pub text: String,
    /// The recorded outcome of the run that burned the lease.
    pub recorded: Option<Recorded>,
}

impl Refusal {
    /// A refusal without a recorded outcome.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), recorded: None }
    }

    /// The bytes: CBOR `[reason, text, null / [receipt, stdout tail, stderr tail]]`. The text is
    /// cut at its limit.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut end = self.text.len().min(TEXT_BYTES_MAX);
        while !self.text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let mut cbor = Writer::new();
        cbor.array(3).uint(self.reason as u64).text(self.text.get(..end).unwrap_or(""));
        match &self.recorded {
            None => cbor.null(),
            Some(recorded) => write_recorded(&mut cbor, recorded),
        };
        cbor.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        validate(bytes, FRAME_PAYLOAD_MAX)?;
        let mut cbor = Reader::new(bytes);
        cbor.array_len(3)?;
        let number = cbor.u16("reason")?;
        let reason = Reason::from_number(number).ok_or(FrameError::Reason(number))?;
        let text = cbor.text()?.to_owned();
        if text.len() > TEXT_BYTES_MAX {
            return Err(CborError::Range { what: "the text" }.into());
        }
        let recorded = if cbor.null() { None } else { Some(read_recorded(&mut cbor)?) };
        cbor.end()?;
        Ok(Self { reason, text, recorded })
    }
}

pub(crate) fn write_recorded<'a>(cbor: &'a mut Writer, recorded: &Recorded) -> &'a mut Writer {
    cbor.array(3).bytes(&recorded.receipt);
    cbor.bytes(&recorded.stdout_tail).bytes(&recorded.stderr_tail)
}

pub(crate) fn read_recorded(cbor: &mut Reader<'_>) -> Result<Recorded, CborError> {
    cbor.array_len(3)?;
    let recorded = Recorded {
        receipt: cbor.bytes()?.into(),
        stdout_tail: cbor.bytes()?.into(),
        stderr_tail: cbor.bytes()?.into(),
    };
    if recorded.stdout_tail.len().max(recorded.stderr_tail.len()) > TAIL_BYTES_MAX {
        return Err(CborError::Range { what: "a tail" });
    }
    Ok(recorded)
}

/// A frame to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// The lease is burned and the command started. With the frame's first byte come two
    /// descriptors: the read ends of standard output and standard error.
    Started,
    /// Nothing ran on account of this presentation.
    Refused(Refusal),
    /// The run is over; the signed receipt.
    Outcome {
        /// The receipt's bytes.
        receipt: Vec<u8>,
    },
}

/// A frame's header, decoded: what to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    kind: u8,
    /// Bytes of the payload, at most [`FRAME_PAYLOAD_MAX`].
    pub length: usize,
}

const STARTED: u8 = b'S';
const REFUSED: u8 = b'R';
const OUTCOME: u8 = b'O';

impl ClientFrame {
    /// The frame's bytes, header and payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Started => (STARTED, Vec::new()),
            Self::Refused(refusal) => (REFUSED, refusal.encode()),
            Self::Outcome { receipt } => (OUTCOME, receipt.clone()),
        };
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut out = vec![kind, 0, 0, 0];
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&payload);
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// An unknown kind or too long a payload.
    pub fn header(bytes: [u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, FrameError> {
        let [kind, z0, z1, z2, l0, l1, l2, l3] = bytes;
        if ![STARTED, REFUSED, OUTCOME].contains(&kind) || [z0, z1, z2] != [0; 3] {
            return Err(FrameError::Header);
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let length = usize::try_from(length).map_err(|_| FrameError::TooLong)?;
        if length > FRAME_PAYLOAD_MAX {
            return Err(FrameError::TooLong);
        }
        Ok(FrameHeader { kind, length })
    }

    /// Reads the payload that belongs to `header`.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(header: FrameHeader, payload: &[u8]) -> Result<Self, FrameError> {
        if payload.len() != header.length {
            return Err(FrameError::Header);
        }
        match header.kind {
            STARTED if payload.is_empty() => Ok(Self::Started),
            REFUSED => Ok(Self::Refused(Refusal::decode(payload)?)),
            OUTCOME => Ok(Self::Outcome { receipt: payload.into() }),
            _ => Err(FrameError::Header),
        }
    }
}

/// What a client may send after its request: one byte each, passed on to the command's group.
/// This is the one unsigned thing that the root half reads from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientSignal {
    /// `SIGINT`.
    Interrupt = b'I',
    /// `SIGTERM`.
    Terminate = b'T',
    /// `SIGHUP`.
    Hangup = b'H',
    /// `SIGQUIT`.
    Quit = b'Q',
    /// `SIGUSR1`.
    User1 = b'1',
    /// `SIGUSR2`.
    User2 = b'2',
}

impl ClientSignal {
    /// The signal that this byte means.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Interrupt, Self::Terminate, Self::Hangup, Self::Quit, Self::User1, Self::User2]
            .into_iter()
            .find(|signal| *signal as u8 == byte)
    }

    /// The signal's number, the same on every Linux that this project runs on.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::User1 => 10,
            Self::User2 => 12,
            Self::Terminate => 15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(frame: &ClientFrame) {
        let bytes = frame.encode();
        let (header, payload) = bytes.split_first_chunk::<8>().unwrap();
        let header = ClientFrame::header(*header).unwrap();
        assert_eq!(header.length, payload.len());
        assert_eq!(ClientFrame::decode(header, payload).as_ref(), Ok(frame));
    }

    #[test]
    fn frames_round_trip() {
        let recorded =
            Recorded { receipt: vec![1; 400], stdout_tail: b"0\n".into(), stderr_tail: Vec::new() };
        assert_eq!(Recorded::decode(&recorded.encode()).as_ref(), Ok(&recorded));
        round_trip(&ClientFrame::Started);
        round_trip(&ClientFrame::Outcome { receipt: vec![7; 300] });
        round_trip(&ClientFrame::Refused(Refusal::new(Reason::Denied, "denied by alice")));
        round_trip(&ClientFrame::Refused(Refusal {
            reason: Reason::AlreadyBurned,
            text: "ran before".into(),
            recorded: Some(recorded),
        }));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let refusal = Refusal::new(Reason::Malformed, "é".repeat(TEXT_BYTES_MAX));
        let decoded = Refusal::decode(&refusal.encode()).unwrap();
        assert_eq!(decoded.text.len(), TEXT_BYTES_MAX);
    }

    //
    #[test]
    fn unknown_kinds_and_giant_payloads_are_refused() {
        assert_eq!(ClientFrame::header(*b"X\0\0\0\0\0\0\0"), Err(FrameError::Header));
        assert_eq!(ClientFrame::header(*b"S\x01\0\0\0\0\0\0"), Err(FrameError::Header));
        assert_eq!(ClientFrame::header(*b"S\0\x01\0\0\0\0\0"), Err(FrameError::Header));
        assert_eq!(ClientFrame::header(*b"S\0\0\x01\0\0\0\0"), Err(FrameError::Header));
        assert_eq!(ClientFrame::header(*b"O\0\0\0\xff\xff\xff\xff"), Err(FrameError::TooLong));
        assert!(ClientFrame::header(*b"O\0\0\0\0\x01\0\0").is_ok());
        assert_eq!(ClientFrame::header(*b"O\0\0\0\0\x01\0\x01"), Err(FrameError::TooLong));
    }

    //
    #[test]
    fn a_payload_is_as_long_as_its_header_says_and_decodes() {
        let header = |text: &[u8; 8]| ClientFrame::header(*text).unwrap();
        let outcome = header(b"O\0\0\0\0\0\0\x02");
        assert!(ClientFrame::decode(outcome, b"xy").is_ok());
        for payload in [&b"x"[..], b"xyz"] {
            assert_eq!(ClientFrame::decode(outcome, payload), Err(FrameError::Header));
        }
        let started = header(b"S\0\0\0\0\0\0\x01");
        assert_eq!(ClientFrame::decode(started, b"x"), Err(FrameError::Header));
        let refused = header(b"R\0\0\0\0\0\0\x02");
        assert!(matches!(ClientFrame::decode(refused, b"xy"), Err(FrameError::Cbor(_))));
    }

    //
    #[test]
    fn a_text_or_a_tail_above_its_limit_is_refused() {
        let text = |length| {
            let mut cbor = Writer::new();
            cbor.array(3).uint(42).text(&"x".repeat(length)).null();
            Refusal::decode(&cbor.finish())
        };
        assert!(text(TEXT_BYTES_MAX).is_ok());
        assert!(matches!(text(TEXT_BYTES_MAX + 1), Err(FrameError::Cbor(_))));
        for (stdout, stderr, is_fine) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
            let tail = |more| vec![7; TAIL_BYTES_MAX + more];
            let recorded =
                Recorded { receipt: vec![1], stdout_tail: tail(stdout), stderr_tail: tail(stderr) };
            assert_eq!(Recorded::decode(&recorded.encode()).is_ok(), is_fine);
        }
    }

    //
    #[test]
    fn a_refusal_with_an_unknown_reason_or_another_shape_is_refused() {
        let good = Refusal::new(Reason::Denied, "no").encode();
        assert!(Refusal::decode(&good).is_ok());
        for length in 0..good.len() {
            assert!(Refusal::decode(&good[..length]).is_err(), "cut to {length}");
        }
        assert!(Refusal::decode(&[&good[..], &[0xf6]].concat()).is_err(), "a byte behind");
        for number in (0..=u16::MAX).filter(|number| Reason::from_number(*number).is_none()) {
            let mut cbor = Writer::new();
            cbor.array(3).uint(number.into()).text("no").null();
            assert_eq!(Refusal::decode(&cbor.finish()), Err(FrameError::Reason(number)));
        }
    }

    //
    #[test]
    fn only_the_six_signal_bytes_mean_something() {
        let known = (0..=u8::MAX).filter(|byte| ClientSignal::from_byte(*byte).is_some()).count();
        assert_eq!(known, 6);
    }
}
