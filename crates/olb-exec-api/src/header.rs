//! The 16-byte header of a datagram on `exec.sock`.
//!
//! ```text
//! 0  4  magic      "OLBQ" in a request, "OLBA" in a reply
//! 4  2  version    1, big-endian
//! 6  2  operation  (request) or status (reply)
//! 8  4  length of part a
//! 12 4  length of part b
//! ```
//! The lengths must sum to the rest of the datagram.

use thiserror::Error;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 16;
/// A datagram is at most this long, header included, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 192 * 1024;
const VERSION: u16 = 1;
const REQUEST: [u8; 4] = *b"OLBQ";
const REPLY: [u8; 4] = *b"OLBA";

/// Why a datagram is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Shorter than a header, or the lengths do not sum to the datagram.
    #[error("the datagram's lengths do not add up")]
    Length,
    /// Longer than [`DATAGRAM_BYTES_MAX`].
    #[error("longer than {DATAGRAM_BYTES_MAX} bytes")]
    TooLong,
    /// Not this protocol.
    #[error("not a datagram of this protocol")]
    Magic,
    /// Another version: one half was upgraded and the other not restarted yet.
    #[error("protocol version {got}, expected {VERSION}: restart pending")]
    Version {
        /// What the peer speaks.
        got: u16,
    },
    /// An operation or status that is not known.
    #[error("operation {got} is not known")]
    Unknown {
        /// The number.
        got: u16,
    },
}

/// What the front asks the root half to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Record a signed verdict (part a) over a plan (part b); one descriptor: the approver's
    /// socket. For an approval the reply carries the one lease.
    Decide = 1,
    /// Burn a lease (part a) and run its plan (part b); descriptors: the client's socket, then a
    /// memfd with standard input if the plan binds one.
    Execute = 2,
    /// Answer a query (part a, see [`crate::Query`]) about public things; part b is empty.
    Read = 3,
}

/// What kind of reply this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// DECIDE or READ is done; part a is the answer.
    Done = 0,
    /// EXECUTE: the lease is burned and the command is started; a reply `Outcome` follows.
    Burned = 1,
    /// EXECUTE: the command ended; part a is the receipt.
    Outcome = 2,
    /// Refused; part a is a [`crate::Refusal`].
    Refused = 3,
}

fn assemble(magic: [u8; 4], number: u16, a: &[u8], b: &[u8]) -> Result<Vec<u8>, HeaderError> {
    let length = HEADER_BYTES.saturating_add(a.len()).saturating_add(b.len());
    if length > DATAGRAM_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let part = |part: &[u8]| u32::try_from(part.len()).map_err(|_| HeaderError::TooLong);
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&part(a)?.to_be_bytes());
    out.extend_from_slice(&part(b)?.to_be_bytes());
    out.extend_from_slice(a);
    out.extend_from_slice(b);
    Ok(out)
}

fn take_apart(magic: [u8; 4], datagram: &[u8]) -> Result<(u16, &[u8], &[u8]), HeaderError> {
    if datagram.len() > DATAGRAM_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let (header, body) = datagram.split_first_chunk::<16>().ok_or(HeaderError::Length)?;
    let [m0, m1, m2, m3, v0, v1, n0, n1, a0, a1, a2, a3, b0, b1, b2, b3] = *header;
    if [m0, m1, m2, m3] != magic {
        return Err(HeaderError::Magic);
    }
    let version = u16::from_be_bytes([v0, v1]);
    if version != VERSION {
        return Err(HeaderError::Version { got: version });
    }
    let length = |bytes| usize::try_from(u32::from_be_bytes(bytes)).ok();
    let (a, b) = (length([a0, a1, a2, a3]), length([b0, b1, b2, b3]));
    let (a, b) = a.zip(b).ok_or(HeaderError::Length)?;
    if a.checked_add(b) != Some(body.len()) {
        return Err(HeaderError::Length);
    }
    let (a, b) = body.split_at_checked(a).ok_or(HeaderError::Length)?;
    Ok((u16::from_be_bytes([n0, n1]), a, b))
}

/// A request datagram.
///
/// # Errors
/// The parts are too long together.
pub fn request(op: Op, a: &[u8], b: &[u8]) -> Result<Vec<u8>, HeaderError> {
    assemble(REQUEST, op as u16, a, b)
}

/// Takes a request datagram apart.
///
/// # Errors
/// See [`HeaderError`].
pub fn split_request(datagram: &[u8]) -> Result<(Op, &[u8], &[u8]), HeaderError> {
    let (number, a, b) = take_apart(REQUEST, datagram)?;
    let op = match number {
        1 => Op::Decide,
        2 => Op::Execute,
        3 => Op::Read,
        got => return Err(HeaderError::Unknown { got }),
    };
    Ok((op, a, b))
}

/// A reply datagram.
///
/// # Errors
/// The parts are too long together.
pub fn reply(status: Status, a: &[u8], b: &[u8]) -> Result<Vec<u8>, HeaderError> {
    assemble(REPLY, status as u16, a, b)
}

/// Takes a reply datagram apart.
///
/// # Errors
/// See [`HeaderError`].
pub fn split_reply(datagram: &[u8]) -> Result<(Status, &[u8], &[u8]), HeaderError> {
    let (number, a, b) = take_apart(REPLY, datagram)?;
    let status = match number {
        0 => Status::Done,
        1 => Status::Burned,
        2 => Status::Outcome,
        3 => Status::Refused,
        got => return Err(HeaderError::Unknown { got }),
    };
    Ok((status, a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_round_trips() {
        let datagram = request(Op::Execute, b"lease", b"plan").unwrap();
        assert_eq!(split_request(&datagram), Ok((Op::Execute, &b"lease"[..], &b"plan"[..])));
        assert_eq!(split_reply(&datagram), Err(HeaderError::Magic));
    }

    // [X-1]
    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let datagram = request(Op::Decide, b"verdict", b"plan").unwrap();
        for length in 0..datagram.len() {
            assert!(split_request(&datagram[..length]).is_err(), "{length}");
        }
        let longer = [datagram, vec![0]].concat();
        assert_eq!(split_request(&longer), Err(HeaderError::Length));
    }

    // [X-1]
    #[test]
    fn lengths_that_overflow_are_refused() {
        let mut datagram = request(Op::Read, b"12345678", b"").unwrap();
        datagram[8..16].fill(0xff);
        assert_eq!(split_request(&datagram), Err(HeaderError::Length));
    }

    // [X-4]
    #[test]
    fn another_version_says_that_a_restart_is_pending() {
        let mut datagram = request(Op::Read, b"", b"").unwrap();
        datagram[5] = 2;
        assert_eq!(split_request(&datagram), Err(HeaderError::Version { got: 2 }));
    }

    // [X-2]
    #[test]
    fn a_datagram_above_the_limit_is_refused() {
        let big = vec![0; DATAGRAM_BYTES_MAX];
        assert_eq!(request(Op::Decide, &big, b""), Err(HeaderError::TooLong));
        let mut longest = request(Op::Decide, &big[HEADER_BYTES..], b"").unwrap();
        assert!(split_request(&longest).is_ok());
        longest.push(0);
        assert_eq!(split_request(&longest), Err(HeaderError::TooLong));
    }

    // [X-3]
    #[test]
    fn a_magic_counts_in_its_own_direction_only() {
        let (asked, answered) =
            (request(Op::Read, b"", b"").unwrap(), reply(Status::Done, b"", b"").unwrap());
        assert!(split_request(&asked).is_ok() && split_reply(&answered).is_ok());
        assert_eq!(split_request(&answered), Err(HeaderError::Magic));
        assert_eq!(split_reply(&asked), Err(HeaderError::Magic));
        for at in 0..4 {
            let mut odd = asked.clone();
            odd[at] ^= 0x20;
            assert_eq!(split_request(&odd), Err(HeaderError::Magic), "byte {at}");
        }
    }

    // [X-5]
    #[test]
    fn operations_and_statuses_that_are_not_listed_are_refused() {
        let (mut asked, mut answered) =
            (request(Op::Read, b"", b"").unwrap(), reply(Status::Done, b"", b"").unwrap());
        for got in 0..=u16::MAX {
            asked[6..8].copy_from_slice(&got.to_be_bytes());
            answered[6..8].copy_from_slice(&got.to_be_bytes());
            let unknown = Some(HeaderError::Unknown { got });
            let is_op = (1..=3).contains(&got);
            assert_eq!(split_request(&asked).err(), unknown.filter(|_| !is_op), "{got}");
            assert_eq!(split_reply(&answered).err(), unknown.filter(|_| got > 3), "{got}");
        }
    }
}
