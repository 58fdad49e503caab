//! The time between start and end of a command: its output comes through two pipes, its receipt
//! over the socket, and our signals go to it as single bytes.
//!
//! One loop, one thread. It never blocks on standard output: while a reader is slow, signals are
//! still passed on.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use olb_exec_api::{ClientFrame, ClientSignal, FRAME_HEADER_BYTES};
use olb_lease::StreamSummary;
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::socket::{recv_with_fds, send_now};
use sha2::{Digest as _, Sha256};

use crate::sink::Sink;

/// Bytes read at once; larger buffers fall out of the processor's cache and were slower.
const BUFFER_BYTES: usize = 64 * 1024;
/// What the first read has room for: most commands say little, and pages cost.
const FIRST_BYTES: usize = 1024;

/// After a signal a broker that says nothing is waited for this long, in milliseconds.
const INTERRUPTED_MS: u32 = 10_000;

/// The signals that go to the command instead of to us.
const FORWARDED: [(Signal, ClientSignal); 6] = [
    (Signal::SIGINT, ClientSignal::Interrupt),
    (Signal::SIGTERM, ClientSignal::Terminate),
    (Signal::SIGHUP, ClientSignal::Hangup),
    (Signal::SIGQUIT, ClientSignal::Quit),
    (Signal::SIGUSR1, ClientSignal::User1),
    (Signal::SIGUSR2, ClientSignal::User2),
];

/// The forwarded signals as a descriptor; while it lives they do not act on this process.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    set: SigSet,
}

impl Signals {
    /// Blocks the signals in this thread, the only one.
    pub(crate) fn take() -> io::Result<Self> {
        let set: SigSet = FORWARDED.into_iter().map(|(signal, _)| signal).collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, set })
    }

    /// The next signal that came.
    fn next(&self) -> Option<ClientSignal> {
        let number = self.fd.read_signal().ok()??.ssi_signo;
        let known = |(signal, _): &&(Signal, ClientSignal)| i64::from(number) == *signal as i64;
        FORWARDED.iter().find(known).map(|(_, byte)| *byte)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What came and was not passed on must not end this process before it has said how it went.
        while self.next().is_some() {}
        // Fails only for sets that cannot be built.
        self.set.thread_unblock().ok();
    }
}

/// What came first after the presentation of a lease.
#[derive(Debug)]
pub(crate) enum First {
    /// A frame, and the descriptors that came with it.
    Frame(ClientFrame, Vec<OwnedFd>),
    /// Nothing, in the time that somebody who interrupts has to wait.
    Silence,
    /// The end of the connection.
    End,
}

/// Waits for the first frame. From the presentation on the command may run at any moment, so a
/// signal does not end the waiting: it is passed on as soon as somebody is there to take it. Only
/// where nothing is heard for [`INTERRUPTED_MS`] after it, or a second one comes, this gives up.
pub(crate) fn first(stream: &UnixStream, signals: &Signals) -> io::Result<First> {
    let mut early = None;
    loop {
        let mut fds = [
            PollFd::new(stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN),
        ];
        let ready = poll(&mut fds, early.map(|_| INTERRUPTED_MS))?;
        if is_ready(&fds[0]) {
            let frame = read_frame(stream)?;
            if let (Some((ClientFrame::Started, _)), Some(byte)) = (&frame, early) {
                pass_on(stream, byte);
            }
            return Ok(frame.map_or(First::End, |(frame, fds)| First::Frame(frame, fds)));
        }
        match signals.next() {
            Some(byte) if early.is_none() => early = Some(byte),
            Some(_) => return Ok(First::Silence),
            None if ready == 0 => return Ok(First::Silence),
            None => {}
        }
    }
}

/// Sends a signal to the command. It may be over already; then nobody reads this any more.
fn pass_on(stream: &UnixStream, byte: ClientSignal) {
    drop(send_now(stream, &[byte as u8]));
}

/// One output stream of the command on its way to ours.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    pipe: Option<OwnedFd>,
    sink: Sink<'a>,
    buffer: Vec<u8>,
    pending: Range<usize>,
    bytes: u64,
    hash: Sha256,
    lost: Option<io::Error>,
}

impl<'a> Stream<'a> {
    /// From `pipe` to `sink`.
    pub(crate) fn new(pipe: OwnedFd, sink: BorrowedFd<'a>) -> Self {
        Self {
            pipe: Some(pipe),
            sink: Sink::new(sink),
            buffer: vec![0; FIRST_BYTES],
            pending: 0..0,
            bytes: 0,
            hash: Sha256::new(),
            lost: None,
        }
    }

    /// What arrived, to compare with the receipt.
    pub(crate) fn summary(&self) -> StreamSummary {
        let sha256 = olb_lease::Digest(self.hash.clone().finalize().into());
        StreamSummary { bytes: self.bytes, sha256 }
    }

    /// Why not all of it could be passed on.
    pub(crate) fn lost(&self) -> Option<&io::Error> {
        self.lost.as_ref()
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some() || !self.pending.is_empty()
    }

    fn interest(&self) -> Option<PollFd<'_>> {
        if !self.pending.is_empty() {
            return Some(PollFd::new(self.sink.fd(), PollFlags::POLLOUT));
        }
        let pipe = self.pipe.as_ref()?;
        Some(PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
    }

    /// What [`Self::interest`] waited for: a read, with a write where that need not be waited for,
    /// or a write.
    fn step(&mut self) {
        let result = if self.pending.is_empty() { self.fill() } else { self.flush() };
        match result {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => {
                // With the pipe closed the command learns that nobody listens, as without us.
                self.pipe = None;
                self.pending = 0..0;
                self.lost = Some(error.into());
            }
        }
    }

    fn fill(&mut self) -> Result<(), Errno> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        let count = nix::unistd::read(pipe, &mut self.buffer)?;
        if count == 0 {
            self.pipe = None;
        }
        self.hash.update(&self.buffer[..count]);
        self.bytes += count as u64;
        self.pending = 0..count;
        if count == self.buffer.len() {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        if count > 0 && self.sink.may_be_tried() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Errno> {
        self.pending.start += self.sink.write(&self.buffer[self.pending.clone()])?;
        Ok(())
    }
}

/// Runs until the command's output is passed on and the socket has said how it ended: the last
/// frame, or `None` where the connection ended without one.
pub(crate) fn relay(
    stream: &UnixStream,
    signals: &Signals,
    streams: &mut [Stream<'_>; 2],
) -> io::Result<Option<ClientFrame>> {
    let mut last = None;
    let mut is_connected = true;
    while is_connected || streams.iter().any(Stream::is_open) {
        let ready = wait(is_connected.then_some(stream), signals, streams)?;
        if ready.signal {
            while let Some(byte) = signals.next() {
                pass_on(stream, byte);
            }
        }
        for (stream, _) in streams.iter_mut().zip(ready.streams).filter(|(_, ready)| *ready) {
            stream.step();
        }
        if ready.socket {
            is_connected = false;
            last = read_frame(stream)?.map(|(frame, _)| frame);
        }
    }
    Ok(last)
}

struct Ready {
    socket: bool,
    signal: bool,
    streams: [bool; 2],
}

fn wait(
    socket: Option<&UnixStream>,
    signals: &Signals,
    streams: &[Stream<'_>; 2],
) -> io::Result<Ready> {
    let mut fds = vec![PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
    fds.extend(socket.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
    let interests = streams.each_ref().map(Stream::interest);
    let is_waited_for = interests.each_ref().map(Option::is_some);
    fds.extend(interests.into_iter().flatten());
    poll(&mut fds, None)?;
    let mut ready = fds.iter().map(is_ready);
    let signal = ready.next().unwrap_or(false);
    let socket = socket.is_some() && ready.next().unwrap_or(false);
    let streams = is_waited_for.map(|waited| waited && ready.next().unwrap_or(false));
    Ok(Ready { socket, signal, streams })
}

fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.any().unwrap_or(false)
}

/// One frame with its descriptors; `None` at the end of the connection.
fn read_frame(stream: &UnixStream) -> io::Result<Option<(ClientFrame, Vec<OwnedFd>)>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut fds = Vec::new();
    let mut header = [0; FRAME_HEADER_BYTES];
    if !read_full(stream, &mut header, &mut fds)? {
        return Ok(None);
    }
    let header = ClientFrame::header(header).map_err(|_| invalid())?;
    let mut payload = vec![0; header.length];
    if !read_full(stream, &mut payload, &mut fds)? {
        return Ok(None);
    }
    let frame = ClientFrame::decode(header, &payload).map_err(|_| invalid())?;
    Ok(Some((frame, fds)))
}

/// Fills `buffer`; false where the connection ends first.
fn read_full(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        let received = recv_with_fds(stream, &mut buffer[filled..], 2);
        let (count, mut more) = received.map_err(io::Error::other)?;
        fds.append(&mut more);
        if count == 0 {
            return Ok(false);
        }
        filled += count;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
