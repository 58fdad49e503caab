//! The time between start and end of a command: its output comes through two pipes, its receipt
//! over the socket, and our signals go to it as single bytes.
//!
//! One loop, one thread. It never blocks on standard output: while a reader is slow, signals are
//! still passed on.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use olb_exec_api::{ClientFrame, ClientSignal};
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::socket::send_now;

mod frames;
mod stream;

pub(crate) use frames::Frames;
pub(crate) use stream::Stream;

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
pub(crate) fn first(frames: &Frames, signals: &Signals) -> io::Result<First> {
    let stream = frames.stream();
    let mut early = None;
    loop {
        let mut fds = [
            PollFd::new(stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN),
        ];
        let ready = poll(&mut fds, early.map(|_| INTERRUPTED_MS))?;
        if is_ready(&fds[0]) {
            let frame = frames.next()?;
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

/// Runs until the command's output is passed on and the socket has said how it ended: the last
/// frame, or `None` where the connection ended without one.
pub(crate) fn relay(
    frames: &Frames,
    signals: &Signals,
    streams: &mut [Stream<'_>; 2],
) -> io::Result<Option<ClientFrame>> {
    let socket = frames.stream();
    let mut last = None;
    let mut is_connected = true;
    while is_connected || streams.iter().any(Stream::is_open) {
        let ready = wait(is_connected.then_some(socket), signals, streams)?;
        if ready.signal {
            while let Some(byte) = signals.next() {
                pass_on(socket, byte);
            }
        }
        for (stream, _) in streams.iter_mut().zip(ready.streams).filter(|(_, ready)| *ready) {
            stream.step();
        }
        if ready.socket {
            is_connected = false;
            last = frames.next()?.map(|(frame, _)| frame);
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

#[cfg(test)]
mod tests;
