//! Watches over a running command: passes its output on and the client's signals in, and ends it
//! when the client is gone or its time is over.

use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use olb_exec_api::ClientSignal;
use olb_lease::CutBy;
use olb_sys::clock::boottime_ms;
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::process::{Child, Exit};
use olb_sys::socket::recv_now;

use crate::cgroup::RunGroup;
use crate::relay::{Stream, Wait};

/// `SIGKILL` and `SIGTERM`, the same on every Linux.
const KILL: i32 = 9;
const TERM: i32 = 15;

/// Between two looks at who is left of a group that is being cut, in milliseconds.
const GROUP_MS: u32 = 100;

/// The least time between two looks at a reader that takes nothing, in milliseconds.
const LOOK_MS: u64 = 1000;
/// Before another attempt where the kernel has no memory for watching.
const PAUSE: Duration = Duration::from_millis(50);

/// What is watched.
pub(crate) struct Supervised<'a> {
    pub(crate) child: Child,
    pub(crate) client: &'a OwnedFd,
    /// The command's cgroup, if it has one.
    pub(crate) group: Option<&'a RunGroup>,
    /// End of the wall-clock limit on the boot clock, in milliseconds.
    pub(crate) deadline_ms: u64,
    /// The command comes to its own end: nobody cuts it, and it does not notice when nobody reads.
    pub(crate) whole: bool,
}

/// What the client does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// May send signals.
    Talks,
    /// Will send nothing more, but is there.
    Listens,
    /// Is gone.
    Gone,
}

/// Where a command that is being cut stands.
#[derive(Debug, Clone, Copy)]
enum Cut {
    No,
    /// TERM was sent; KILL follows at this time.
    Asked(CutBy, u64),
    /// KILL was sent.
    Forced(CutBy),
}

struct State {
    /// The command itself has ended; it is reaped when nobody of its group has to be signalled any
    /// more, because its number names the group until then.
    leader_ended: bool,
    exit: Option<Exit>,
    client: Client,
    cut: Cut,
    /// The requester sent a signal that ends commands.
    interrupted: bool,
    /// For a command that nobody cuts: when to look again at a reader that takes nothing, and where
    /// each stream stood at the last look.
    look_at_ms: u64,
    stood_at: [Option<u64>; 2],
}

impl State {
    fn new(deadline_ms: u64) -> Self {
        Self {
            look_at_ms: deadline_ms,
            stood_at: [None; 2],
            leader_ended: false,
            exit: None,
            client: Client::Talks,
            cut: Cut::No,
            interrupted: false,
        }
    }
}

/// Which descriptors a wait found ready.
#[derive(Default)]
struct Ready {
    child: bool,
    client: PollReady,
    streams: [bool; 2],
}

#[derive(Default)]
struct PollReady {
    readable: bool,
    gone: bool,
}

/// Until the command has ended and its output is passed on. `None` if it cannot be told how it
/// ended.
pub(crate) fn supervise(
    run: &mut Supervised<'_>,
    streams: &mut [Stream; 2],
    grace_ms: u64,
) -> (Option<Exit>, CutBy) {
    let mut chunk = Vec::new();
    let mut state = State::new(run.deadline_ms);
    if run.whole {
        streams.iter_mut().for_each(Stream::outlive_reader);
    }
    while !is_over(run, &state, streams) {
        let Ok(ready) = wait(run, streams, &state) else {
            // Out of kernel memory: nothing can be watched any more.
            if run.whole {
                thread::sleep(PAUSE);
                continue;
            }
            run.child.signal_group(KILL).ok();
            return (run.child.wait().ok(), CutBy::Broker);
        };
        for (stream, ready) in streams.iter_mut().zip(ready.streams) {
            if ready {
                stream.pump(&mut chunk);
            }
        }
        hear_client(run, &mut state, &ready.client);
        if run.whole {
            let_go_if_due(&mut state, streams, grace_ms);
        } else {
            cut_if_due(run, &mut state, grace_ms);
        }
        state.leader_ended |= ready.child;
        if state.leader_ended && state.exit.is_none() && is_reapable(run, &state) {
            match run.child.wait() {
                Ok(exit) => state.exit = Some(exit),
                Err(_) => return (None, cut_by(&state)),
            }
            streams.iter_mut().for_each(Stream::mark_end);
            streams.iter_mut().for_each(|stream| stream.pump(&mut chunk));
        }
    }
    (state.exit, cut_by(&state))
}

/// While a command is being cut, the others of its group have their grace even when their leader
/// has ended already.
fn is_reapable(run: &Supervised<'_>, state: &State) -> bool {
    match state.cut {
        Cut::No | Cut::Forced(_) => true,
        Cut::Asked(..) => !run.child.group_has_others(),
    }
}

/// The command has ended, and its output is passed on or nobody can take it any more. What a
/// process it left behind writes later is not waited for.
fn is_over(run: &Supervised<'_>, state: &State, streams: &[Stream; 2]) -> bool {
    let is_late = || state.client == Client::Gone || boottime_ms() >= run.deadline_ms;
    let given_up = || !run.whole && is_late();
    state.exit.is_some() && (streams.iter().all(Stream::is_drained) || given_up())
}

fn wait(run: &Supervised<'_>, streams: &[Stream; 2], state: &State) -> std::io::Result<Ready> {
    let none = PollFlags::empty();
    let mut fds = Vec::with_capacity(4);
    let client_flags = if state.client == Client::Talks { PollFlags::POLLIN } else { none };
    if !state.leader_ended {
        fds.push((Source::Child, PollFd::new(run.child.pidfd(), PollFlags::POLLIN)));
    }
    if state.client != Client::Gone {
        fds.push((Source::Client, PollFd::new(run.client.as_fd(), client_flags)));
    }
    for (at, stream) in streams.iter().enumerate() {
        if let Some((fd, wait)) = stream.interest() {
            let flags = match wait {
                Wait::Source => PollFlags::POLLIN,
                Wait::Sink => PollFlags::POLLOUT,
            };
            fds.push((Source::Stream(at), PollFd::new(fd, flags)));
        }
    }
    let (sources, mut fds): (Vec<_>, Vec<_>) = fds.into_iter().unzip();
    poll(&mut fds, timeout_ms(run, state))?;
    let mut ready = Ready::default();
    for (source, fd) in sources.into_iter().zip(&fds) {
        let events = fd.revents().unwrap_or(none);
        match source {
            Source::Child => ready.child = !events.is_empty(),
            Source::Client => {
                ready.client.readable = events.contains(PollFlags::POLLIN);
                ready.client.gone = events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
            }
            Source::Stream(at) => {
                if let Some(slot) = ready.streams.get_mut(at) {
                    *slot = !events.is_empty();
                }
            }
        }
    }
    Ok(ready)
}

enum Source {
    Child,
    Client,
    Stream(usize),
}

/// Until the next thing that time alone brings about.
fn timeout_ms(run: &Supervised<'_>, state: &State) -> Option<u32> {
    let due = match state.cut {
        Cut::No if run.whole => state.look_at_ms,
        Cut::No => run.deadline_ms,
        // Nothing tells when the last of a group has ended.
        Cut::Asked(..) if state.leader_ended => return Some(GROUP_MS),
        Cut::Asked(_, kill_at) => kill_at,
        Cut::Forced(_) => return None,
    };
    Some(u32::try_from(due.saturating_sub(boottime_ms())).unwrap_or(u32::MAX))
}

/// Reads the client's single bytes; each is one signal for the command's group.
fn hear_client(run: &Supervised<'_>, state: &mut State, ready: &PollReady) {
    if ready.gone {
        state.client = Client::Gone;
        return;
    }
    if !ready.readable || state.client != Client::Talks {
        return;
    }
    let mut bytes = [0; 16];
    match recv_now(run.client.as_fd(), &mut bytes) {
        Ok(0) => state.client = Client::Listens,
        Ok(length) => {
            for byte in bytes.iter().take(length) {
                let Some(signal) = ClientSignal::from_byte(*byte) else {
                    // Not our protocol: nothing further is read from this client.
                    state.client = Client::Listens;
                    return;
                };
                if state.exit.is_none() && !run.whole {
                    state.interrupted = true;
                    run.child.signal_group(signal.number()).ok();
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(_) => state.client = Client::Gone,
    }
}

/// Client gone or time over: TERM to the group, and KILL after the grace.
fn cut_if_due(run: &Supervised<'_>, state: &mut State, grace_ms: u64) {
    if state.exit.is_some() {
        return;
    }
    let now = boottime_ms();
    state.cut = match state.cut {
        Cut::No if state.client == Client::Gone => ask(run, CutBy::Requester, now, grace_ms),
        Cut::No if now >= run.deadline_ms => ask(run, CutBy::Limit, now, grace_ms),
        Cut::Asked(by, kill_at) if now >= kill_at => {
            run.child.signal_group(KILL).ok();
            if let Some(group) = run.group {
                group.kill();
            }
            Cut::Forced(by)
        }
        unchanged => unchanged,
    };
}

/// In the place of cutting: a client that is gone, or that takes nothing for a while although the time
/// is over, must not keep the command from its end.
fn let_go_if_due(state: &mut State, streams: &mut [Stream; 2], grace_ms: u64) {
    if state.client == Client::Gone {
        streams.iter_mut().for_each(Stream::let_go);
    }
    let now = boottime_ms();
    if now < state.look_at_ms {
        return;
    }
    for (stream, stood_at) in streams.iter_mut().zip(&mut state.stood_at) {
        if stream.stuck_at().is_some() && stream.stuck_at() == *stood_at {
            stream.let_go();
        }
        *stood_at = stream.stuck_at();
    }
    state.look_at_ms = now.saturating_add(grace_ms.max(LOOK_MS));
}

fn ask(run: &Supervised<'_>, by: CutBy, now: u64, grace_ms: u64) -> Cut {
    run.child.signal_group(TERM).ok();
    Cut::Asked(by, now.saturating_add(grace_ms))
}

fn cut_by(state: &State) -> CutBy {
    match state.cut {
        Cut::Asked(by, _) | Cut::Forced(by) => by,
        // The command died of a signal, and the requester had sent one.
        Cut::No if state.interrupted && matches!(state.exit, Some(Exit::Killed(_))) => {
            CutBy::Requester
        }
        Cut::No => CutBy::Nobody,
    }
}
