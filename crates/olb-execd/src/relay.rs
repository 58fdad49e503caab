//! One output stream: from the command's pipe into the client's, counted, hashed, its end kept.
//!
//! `tee(2)` passes the bytes on without a copy, then the same bytes are read for the record. No
//! call here blocks; where the client's pipe is full, the command waits, not the broker.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use olb_lease::{Digest, StreamSummary};
use olb_sys::pipe::{read_now, tee_now};
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::socket::{queued_bytes, set_nonblocking};
use sha2::{Digest as _, Sha256};

/// Bytes that are passed on in one step, as many as a pipe holds.
const CHUNK_BYTES: usize = 256 * 1024;
/// The first steps: most commands say little, and memory has to be cleared.
const FIRST_BYTES: usize = 4 * 1024;
/// Steps before other descriptors are looked at again.
const STEPS: usize = 16;

/// What a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Bytes from the command.
    Source,
    /// Room in the client's pipe.
    Sink,
}

/// The two pipe ends between which the broker stands.
#[derive(Debug)]
struct Ends {
    source: OwnedFd,
    /// `None` once nobody takes what the command writes, which goes on all the same.
    sink: Option<OwnedFd>,
}

/// A stream and its record so far.
pub(crate) struct Stream {
    ends: Option<Ends>,
    wait: Wait,
    bytes: u64,
    hash: Sha256,
    tail: Vec<u8>,
    tail_max: usize,
    /// Once the command has ended: how many bytes it has written in all. What processes that it
    /// left behind write later is not waited for.
    last_byte: u64,
    /// The command is not to notice that nobody reads.
    outlives_reader: bool,
}

impl Stream {
    /// A stream from `source` (read end) to `sink` (write end) that keeps its last `tail_max`
    /// bytes.
    pub(crate) fn open(source: OwnedFd, sink: OwnedFd, tail_max: usize) -> io::Result<Self> {
        set_nonblocking(source.as_fd(), true)?;
        let ends = Some(Ends { source, sink: Some(sink) });
        Ok(Self { ends, tail_max, ..Self::closed() })
    }

    /// A stream that never carried anything.
    pub(crate) fn closed() -> Self {
        Self {
            ends: None,
            wait: Wait::Source,
            bytes: 0,
            hash: Sha256::new(),
            tail: Vec::new(),
            tail_max: 0,
            last_byte: u64::MAX,
            outlives_reader: false,
        }
    }

    /// What to poll for, until the stream is closed.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, Wait)> {
        self.ends.as_ref().map(|ends| match self.wait {
            Wait::Source => (ends.source.as_fd(), Wait::Source),
            Wait::Sink => (ends.sink.as_ref().unwrap_or(&ends.source).as_fd(), Wait::Sink),
        })
    }

    /// From now on a reader that goes away is not told to the command: what it writes is recorded
    /// and dropped.
    pub(crate) fn outlive_reader(&mut self) {
        self.outlives_reader = true;
    }

    /// Nobody is given anything any more; what the command writes is recorded and dropped.
    pub(crate) fn let_go(&mut self) {
        if let Some(ends) = &mut self.ends {
            ends.sink = None;
        }
        self.wait = Wait::Source;
    }

    /// How many bytes were passed on when the reader has no room for more; else `None`.
    pub(crate) fn stuck_at(&self) -> Option<u64> {
        (self.ends.is_some() && self.wait == Wait::Sink).then_some(self.bytes)
    }

    /// Closes both ends: the command gets `SIGPIPE` if it writes on, the client sees the end.
    pub(crate) fn close(&mut self) {
        self.ends = None;
    }

    /// Whether everything that the command wrote was passed on.
    pub(crate) fn is_drained(&self) -> bool {
        self.queued() == 0 || self.bytes >= self.last_byte
    }

    /// The command has ended: what is in its pipe now is the last that belongs to it.
    pub(crate) fn mark_end(&mut self) {
        self.last_byte = self.bytes.saturating_add(self.queued());
    }

    /// Bytes that wait in the command's pipe.
    fn queued(&self) -> u64 {
        let queued = |ends: &Ends| queued_bytes(ends.source.as_fd()).unwrap_or(0) as u64;
        self.ends.as_ref().map_or(0, queued)
    }

    /// Passes on what is there. Closes the stream when the command has closed it, when the client
    /// no longer reads it, or when the kernel says anything that is not expected.
    pub(crate) fn pump(&mut self, chunk: &mut Vec<u8>) {
        chunk.resize(chunk.len().max(FIRST_BYTES), 0);
        for _ in 0..STEPS {
            let Some(ends) = &self.ends else { return };
            let passed_on = match &ends.sink {
                Some(sink) => tee_now(ends.source.as_fd(), sink.as_fd(), chunk.len()),
                None => readable_now(ends.source.as_fd(), chunk.len()),
            };
            match passed_on {
                Ok(0) => return self.close(),
                Ok(length) => {
                    if !self.take(chunk, length) {
                        return self.close();
                    }
                    if length == chunk.len() {
                        chunk.resize(CHUNK_BYTES, 0);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // In this order: what is written before the end is counted. The end is not
                    // told by tee while the client's pipe is full.
                    let is_at_end = is_hung_up(ends.source.as_fd());
                    let no_room = ends.sink.is_some() && self.queued() > 0;
                    self.wait = if no_room { Wait::Sink } else { Wait::Source };
                    if is_at_end && self.wait == Wait::Source {
                        self.close();
                    }
                    return;
                }
                Err(error) => {
                    let reader_is_gone = error.kind() == io::ErrorKind::BrokenPipe;
                    if !(reader_is_gone && self.outlives_reader) {
                        return self.close();
                    }
                    self.let_go();
                }
            }
        }
        self.wait = Wait::Source;
    }

    /// Consumes the `length` bytes that were just passed on, into the record.
    fn take(&mut self, chunk: &mut [u8], length: usize) -> bool {
        let Some(ends) = &self.ends else { return false };
        let mut left = length;
        while left > 0 {
            let Some(room) = chunk.get_mut(..left) else { return false };
            let Ok(got @ 1..) = read_now(ends.source.as_fd(), room) else { return false };
            let Some(bytes) = room.get(..got) else { return false };
            self.hash.update(bytes);
            keep_tail(&mut self.tail, bytes, self.tail_max);
            self.bytes = self.bytes.saturating_add(got as u64);
            left = left.saturating_sub(got);
        }
        true
    }

    /// The record.
    pub(crate) fn finish(self) -> (StreamSummary, Vec<u8>) {
        let sha256 = Digest(self.hash.finalize().into());
        (StreamSummary { bytes: self.bytes, sha256 }, self.tail)
    }
}

/// How many bytes, at most `max`, can be read from this pipe at once; 0 at its end.
fn readable_now(source: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    // In this order: what is written before the end is counted.
    let is_at_end = is_hung_up(source);
    match queued_bytes(source)? {
        0 if is_at_end => Ok(0),
        0 => Err(io::ErrorKind::WouldBlock.into()),
        queued => Ok(queued.min(max)),
    }
}

/// Whether nobody can write to this pipe any more.
fn is_hung_up(source: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(source, PollFlags::empty())];
    let polled = poll(&mut fds, Some(0));
    let hung_up =
        |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
    polled.is_ok() && fds.first().is_some_and(hung_up)
}

/// Appends `bytes` and keeps the last `max` of all.
fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let kept = bytes.get(bytes.len().saturating_sub(max)..).unwrap_or_default();
    let excess = tail.len().saturating_add(kept.len()).saturating_sub(max);
    tail.drain(..excess.min(tail.len()));
    tail.extend_from_slice(kept);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use olb_sys::pipe::pipe;

    use super::*;

    #[test]
    fn the_tail_is_the_last_bytes_whatever_the_pieces() {
        let mut tail = Vec::new();
        for piece in [&b"abcdefgh"[..], b"", b"i", b"jk"] {
            keep_tail(&mut tail, piece, 4);
        }
        assert_eq!(tail, b"hijk");
        keep_tail(&mut tail, b"0123456789", 4);
        assert_eq!(tail, b"6789");
        keep_tail(&mut tail, b"x", 0);
        assert_eq!(tail, b"");
    }

    #[test]
    fn bytes_arrive_and_are_recorded() {
        let (source, writer) = pipe().unwrap();
        let (reader, sink) = pipe().unwrap();
        let mut stream = Stream::open(source, sink, 3).unwrap();
        std::fs::File::from(writer).write_all(b"hello\n").unwrap();
        stream.pump(&mut Vec::new());
        assert!(stream.interest().is_none(), "the writer is closed, so the stream is");
        let mut got = Vec::new();
        std::fs::File::from(reader).read_to_end(&mut got).unwrap();
        let (summary, tail) = stream.finish();
        assert_eq!(
            (got.as_slice(), summary.bytes, tail.as_slice()),
            (&b"hello\n"[..], 6, &b"lo\n"[..])
        );
        assert_eq!(summary.sha256.0, olb_lease::sha256(b"hello\n"));
    }

    #[test]
    fn a_stream_at_its_end_is_closed_even_while_the_client_has_no_room() {
        let (source, writer) = pipe().unwrap();
        let (reader, sink) = pipe().unwrap();
        let mut stream = Stream::open(source, sink, 0).unwrap();
        let mut writer = std::fs::File::from(writer);
        let mut chunk = Vec::new();
        // One write a slot: 16 of them fill a pipe of 64 KiB whatever their length.
        for _ in 0..16 {
            writer.write_all(&[7; 4096]).unwrap();
            stream.pump(&mut chunk);
        }
        assert!(stream.interest().is_some());
        drop(writer);
        stream.pump(&mut chunk);
        assert!(stream.interest().is_none(), "else it would be polled for ever, and be ready");
        drop(reader);
    }

    #[test]
    fn a_client_that_reads_nothing_makes_the_stream_wait_for_it() {
        let (source, writer) = pipe().unwrap();
        let (reader, sink) = pipe().unwrap();
        let mut stream = Stream::open(source, sink, 0).unwrap();
        let mut writer = std::fs::File::from(writer);
        let mut chunk = Vec::new();
        // Two default pipes of 64 KiB: the second fill stays in the first one.
        for _ in 0..2 {
            writer.write_all(&[7; 60 * 1024]).unwrap();
            stream.pump(&mut chunk);
        }
        assert_eq!(stream.interest().map(|(_, wait)| wait), Some(Wait::Sink));
        drop(reader);
        stream.pump(&mut chunk);
        assert!(stream.interest().is_none(), "nobody reads: closed, so that the writer is told");
        assert!(writer.write_all(&[7; 1]).is_err());
    }

    #[test]
    fn a_writer_that_is_to_outlive_its_reader_never_notices_and_is_recorded() {
        let (source, writer) = pipe().unwrap();
        let (reader, sink) = pipe().unwrap();
        let mut stream = Stream::open(source, sink, 4).unwrap();
        stream.outlive_reader();
        let mut writer = std::fs::File::from(writer);
        let mut chunk = Vec::new();
        writer.write_all(b"read ").unwrap();
        stream.pump(&mut chunk);
        drop(reader);
        for _ in 0..100 {
            writer.write_all(&[b'x'; 4096]).unwrap();
            stream.pump(&mut chunk);
            assert_eq!(stream.interest().map(|(_, wait)| wait), Some(Wait::Source));
        }
        writer.write_all(b"last").unwrap();
        drop(writer);
        stream.pump(&mut chunk);
        assert!(stream.interest().is_none(), "at its end");
        let (summary, tail) = stream.finish();
        let all = [&b"read "[..], &[b'x'; 409_600], b"last"].concat();
        assert_eq!(summary.bytes, all.len() as u64);
        assert_eq!((summary.sha256.0, tail.as_slice()), (olb_lease::sha256(&all), &b"last"[..]));
    }

    #[test]
    fn a_reader_that_takes_nothing_is_let_go() {
        let (source, writer) = pipe().unwrap();
        let (_reader, sink) = pipe().unwrap();
        let mut stream = Stream::open(source, sink, 0).unwrap();
        let mut writer = std::fs::File::from(writer);
        let mut chunk = Vec::new();
        for _ in 0..2 {
            writer.write_all(&[7; 60 * 1024]).unwrap();
            stream.pump(&mut chunk);
        }
        assert!(stream.stuck_at().is_some());
        stream.let_go();
        stream.pump(&mut chunk);
        assert_eq!((stream.stuck_at(), stream.is_drained()), (None, true));
        assert_eq!(stream.finish().0.bytes, 2 * 60 * 1024);
    }
}
