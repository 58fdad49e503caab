//! One run. Everything that can fail is prepared before the burn; what fails after it is an
//! outcome, never a second attempt.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use olb_exec_api::{ClientFrame, Reason, Refusal};
use olb_lease::{CutBy, Outcome, Plan, Usage};
use olb_ledger::Finish;
use olb_sys::clock::{boottime_ms, unix_secs};
use olb_sys::crash::crash_point;
use olb_sys::pipe;
use olb_sys::process::{Child, Exit, Used};
use olb_sys::socket::send_now_with_fds;
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

/// A command with everything its run needs. Dropping it ends what the command left behind, where it
/// has a cgroup of its own.
pub struct Command {
    plan: Plan,
    bound: Bound,
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    stdin: OwnedFd,
    pipes: Pipes,
    procs: Option<File>,
    group: Option<RunGroup>,
}

/// Two pipes per stream: the command writes the first, the client reads the second, and the relay
/// stands between. In each array standard output comes first.
struct Pipes {
    streams: [Stream; 2],
    command: [OwnedFd; 2],
    client: [OwnedFd; 2],
}

impl Command {
    /// Prepares a run of `plan`.
    ///
    /// # Errors
    /// Descriptors or memory ran out; nothing has happened.
    pub fn prepare(
        broker: &Broker,
        plan: Plan,
        bound: Bound,
        stdin: Option<OwnedFd>,
        group: Option<RunGroup>,
    ) -> Result<Self, Refusal> {
        let tail = usize::try_from(broker.config.limits.tail_bytes).unwrap_or(0);
        let open = || -> io::Result<_> {
            let stdin = match stdin {
                Some(stdin) => stdin,
                None => File::open("/dev/null")?.into(),
            };
            let procs = group.as_ref().map(RunGroup::procs).transpose()?;
            Ok((stdin, procs, Pipes::open(tail)?))
        };
        let (stdin, procs, pipes) = open().map_err(|error| {
            Refusal::new(Reason::Unavailable, format!("the broker is out of resources: {error}"))
        })?;
        let pairs = plan.environment.iter();
        let envp = pairs.map(|(name, value)| [name.as_slice(), b"=", value].concat());
        Ok(Self {
            path: c_string(plan.executable.path.clone())?,
            argv: plan.argv.iter().cloned().map(c_string).collect::<Result<_, _>>()?,
            envp: envp.map(c_string).collect::<Result<_, _>>()?,
            plan,
            bound,
            stdin,
            pipes,
            procs,
            group,
        })
    }
}

impl Pipes {
    fn open(tail: usize) -> io::Result<Self> {
        let one = || -> io::Result<_> {
            let (source, command) = pipe::pipe()?;
            let (client, sink) = pipe::pipe()?;
            for end in [&source, &sink] {
                // A smaller pipe is slower, nothing else.
                pipe::set_size(end.as_fd(), PIPE_BYTES).ok();
            }
            Ok((Stream::open(source, sink, tail)?, command, client))
        };
        let (stdout, stderr) = (one()?, one()?);
        Ok(Self {
            streams: [stdout.0, stderr.0],
            command: [stdout.1, stderr.1],
            client: [stdout.2, stderr.2],
        })
    }
}

/// A decoded plan holds no NUL; were there one, nothing runs.
fn c_string(bytes: Vec<u8>) -> Result<CString, Refusal> {
    CString::new(bytes).map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))
}

/// Runs the command with its output going to `client`, and says how it ended. What it left behind
/// is in the cgroup that is handed back.
pub fn run(broker: &Broker, command: Command, client: &OwnedFd) -> (Finish, Option<RunGroup>) {
    let begun = boottime_ms();
    let started = start(broker, &command);
    let Command { plan, pipes: Pipes { mut streams, command: theirs, client: ends }, .. } = command;
    drop(theirs);
    let (outcome, cut_by, usage) = match started {
        Ok(child) => {
            crash_point("run-after-spawn");
            let frame = ClientFrame::Started.encode();
            let fds = ends.each_ref().map(|end| end.as_fd());
            // A client that is gone, or takes nothing, is noticed by the supervision.
            send_now_with_fds(client.as_fd(), &frame, &fds).ok();
            drop(ends);
            crash_point("run-after-started-frame");
            let limit_ms = u64::from(plan.wall_clock_secs).saturating_mul(1000);
            let deadline_ms = begun.saturating_add(limit_ms);
            let grace_ms = u64::from(broker.config.limits.kill_grace_secs).saturating_mul(1000);
            let group = command.group.as_ref();
            let whole = plan.whole;
            let mut run = Supervised { child, client, group, deadline_ms, whole };
            let (exit, cut_by) = supervise(&mut run, &mut streams, grace_ms);
            let outcome = exit.map_or(Outcome::Unknown { may_be_running: true }, outcome_of);
            (outcome, cut_by, run.child.used().map(usage_of))
        }
        Err(errno) => (Outcome::SpawnFailed(errno), CutBy::Nobody, None),
    };
    let duration_ms = boottime_ms().saturating_sub(begun);
    // Closes both streams: the client sees their end before it sees the outcome.
    let [stdout, stderr] = streams.map(Stream::finish);
    let finish = Finish {
        now: unix_secs(),
        outcome,
        stdout: stdout.0,
        stderr: stderr.0,
        cut_by,
        duration_ms,
        usage,
        stdout_tail: stdout.1,
        stderr_tail: stderr.1,
    };
    (finish, command.group)
}

fn usage_of(Used { user_ms, system_ms, max_rss_kib }: Used) -> Usage {
    Usage { user_ms, system_ms, max_rss_kib }
}

fn outcome_of(exit: Exit) -> Outcome {
    match exit {
        Exit::Exited(code) => Outcome::Exited(code),
        Exit::Killed(signal) => Outcome::Killed(signal),
    }
}

fn start(broker: &Broker, command: &Command) -> Result<Child, u16> {
    let run_as = &command.plan.run_as;
    let identity = Identity { uid: run_as.uid, gid: run_as.gid, groups: &run_as.groups };
    let [stdout, stderr] = command.pipes.command.each_ref().map(|end| end.as_fd());
    let attributes = Spawn {
        path: &command.path,
        argv: &command.argv,
        envp: &command.envp,
        cwd: command.bound.cwd.fd.as_fd(),
        stdin: command.stdin.as_fd(),
        stdout,
        stderr,
        identity: broker.has_boundary().then_some(identity),
        umask: UMASK,
        cgroup_procs: command.procs.as_ref().map(|procs| procs.as_fd()),
    };
    spawn(&attributes).map_err(|error| {
        broker.journal.warn(&format!("spawn failed: {error}"));
        u16::try_from(error.errno).unwrap_or(u16::MAX)
    })
}
