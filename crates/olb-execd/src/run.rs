//! One run: from a burned lease to how it ended. Everything that can fail was tried before the
//! burn as far as it can be; what fails here is an outcome, never a second attempt.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use olb_exec_api::ClientFrame;
use olb_lease::{CutBy, Outcome, Plan};
use olb_ledger::Finish;
use olb_sys::clock::{boottime_ms, unix_secs};
use olb_sys::crash::crash_point;
use olb_sys::pipe;
use olb_sys::process::{Child, Exit};
use olb_sys::socket::send_with_fds;
use olb_sys::spawn::{Identity, Spawn, spawn};

use crate::bind::Bound;
use crate::broker::Broker;
use crate::cgroup::RunGroup;
use crate::relay::Stream;
use crate::supervise::{Supervised, supervise};

/// Room in each pipe, in bytes.
const PIPE_BYTES: usize = 256 * 1024;
/// The mask every command starts with.
const UMASK: u32 = 0o022;
/// `EPIPE`: the client was gone before the command could start.
const CLIENT_GONE: u16 = 32;

/// What is run.
pub struct Command {
    /// The plan, as approved.
    pub plan: Plan,
    /// Its working directory, open.
    pub bound: Bound,
    /// Its standard input, if it has one.
    pub stdin: Option<OwnedFd>,
    /// Its cgroup, if it gets one; dropping it ends what the command leaves behind.
    pub group: Option<RunGroup>,
}

/// How it ended, ready to be recorded.
pub struct Run {
    /// For the ledger.
    pub finish: Finish,
}

/// The command's ends of its output pipes.
struct ChildEnds {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Runs the command with its output going to `client`.
pub fn run(broker: &Broker, command: &Command, client: &OwnedFd) -> Run {
    let begun = boottime_ms();
    let tail = usize::try_from(broker.config.limits.tail_bytes).unwrap_or(0);
    let (mut streams, outcome, cut_by) = match open_streams(client, tail) {
        Ok((mut streams, ends)) => match start(broker, command, &ends) {
            Ok(child) => {
                drop(ends);
                crash_point("run-after-spawn");
                let deadline = begun.saturating_add(wall_clock_ms(&command.plan));
                let mut ended = Supervised {
                    child,
                    client,
                    group: command.group.as_ref(),
                    deadline_ms: deadline,
                };
                let grace = u64::from(broker.config.limits.kill_grace_secs).saturating_mul(1000);
                let (exit, cut_by) = supervise(&mut ended, &mut streams, grace);
                (
                    streams,
                    exit.map_or(Outcome::Unknown { may_be_running: true }, outcome_of),
                    cut_by,
                )
            }
            Err(errno) => (streams, Outcome::SpawnFailed(errno), CutBy::Nobody),
        },
        Err(errno) => (
            [Stream::closed(), Stream::closed()],
            Outcome::SpawnFailed(errno),
            if errno == CLIENT_GONE { CutBy::Requester } else { CutBy::Nobody },
        ),
    };
    // The client sees the end of both streams before it sees the outcome.
    for stream in &mut streams {
        stream.close();
    }
    Run { finish: summarise(streams, outcome, cut_by, boottime_ms().saturating_sub(begun)) }
}

fn summarise(streams: [Stream; 2], outcome: Outcome, cut_by: CutBy, duration_ms: u64) -> Finish {
    let [stdout, stderr] = streams.map(Stream::finish);
    Finish {
        now: unix_secs(),
        outcome,
        stdout: stdout.0,
        stderr: stderr.0,
        cut_by,
        duration_ms,
        stdout_tail: stdout.1,
        stderr_tail: stderr.1,
    }
}

fn wall_clock_ms(plan: &Plan) -> u64 {
    u64::from(plan.wall_clock_secs).saturating_mul(1000)
}

fn outcome_of(exit: Exit) -> Outcome {
    match exit {
        Exit::Exited(code) => Outcome::Exited(code),
        Exit::Killed(signal) => Outcome::Killed(signal),
    }
}

fn errno_of(error: &io::Error) -> u16 {
    error.raw_os_error().and_then(|errno| u16::try_from(errno).ok()).unwrap_or(u16::MAX)
}

/// Two pipes per stream: the command writes the first, the client reads the second, and the relay
/// stands between. The client gets its ends before the command starts; a client that is gone by
/// then has no command started for it.
fn open_streams(client: &OwnedFd, tail: usize) -> Result<([Stream; 2], ChildEnds), u16> {
    let open = || -> io::Result<_> {
        let (source, child_end) = pipe::pipe()?;
        let (client_end, sink) = pipe::pipe()?;
        for end in [&source, &sink] {
            // A smaller pipe is slower, nothing else.
            pipe::set_size(end.as_fd(), PIPE_BYTES).ok();
        }
        Ok((Stream::open(source, sink, tail)?, child_end, client_end))
    };
    let all = || -> io::Result<_> {
        let (stdout, child_stdout, client_stdout) = open()?;
        let (stderr, child_stderr, client_stderr) = open()?;
        let frame = ClientFrame::Started.encode();
        let ends = [client_stdout.as_fd(), client_stderr.as_fd()];
        send_with_fds(client.as_fd(), &frame, &ends)?;
        crash_point("run-after-started-frame");
        Ok(([stdout, stderr], ChildEnds { stdout: child_stdout, stderr: child_stderr }))
    };
    all().map_err(|error| errno_of(&error))
}

fn words<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Vec<CString>, u16> {
    const EINVAL: u16 = 22;
    words.map(|word| CString::new(word).map_err(|_| EINVAL)).collect()
}

fn start(broker: &Broker, command: &Command, ends: &ChildEnds) -> Result<Child, u16> {
    let plan = &command.plan;
    let path = words(std::iter::once(plan.executable.path.as_slice()))?;
    let argv = words(plan.argv.iter().map(Vec::as_slice))?;
    let pairs: Vec<Vec<u8>> = plan
        .environment
        .iter()
        .map(|(name, value)| [name.as_slice(), b"=", value].concat())
        .collect();
    let envp = words(pairs.iter().map(Vec::as_slice))?;
    let null;
    let stdin = match &command.stdin {
        Some(stdin) => stdin.as_fd(),
        None => {
            null = File::open("/dev/null").map_err(|error| errno_of(&error))?;
            null.as_fd()
        }
    };
    let procs = command.group.as_ref().map(RunGroup::procs).transpose();
    let procs = procs.map_err(|error| errno_of(&error))?;
    let run_as = &plan.run_as;
    let identity = Identity { uid: run_as.uid, gid: run_as.gid, groups: &run_as.groups };
    let attributes = Spawn {
        path: path.first().ok_or(CLIENT_GONE)?,
        argv: &argv,
        envp: &envp,
        cwd: command.bound.cwd.fd.as_fd(),
        stdin,
        stdout: ends.stdout.as_fd(),
        stderr: ends.stderr.as_fd(),
        identity: broker.has_boundary().then_some(identity),
        umask: UMASK,
        cgroup_procs: procs.as_ref().map(|procs| procs.as_fd()),
    };
    spawn(&attributes).map_err(|error| {
        broker.journal.warn(&format!("spawn failed: {error}"));
        u16::try_from(error.errno).unwrap_or(u16::MAX)
    })
}
