//! Running a program to its end, as another account where there is a boundary.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use olb_lease::environment::SECURE_PATH;
use olb_sys::harden::effective_uid;
use olb_sys::path::open_directory;
use olb_sys::pipe::pipe;
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::process::{Child, Exit};
use olb_sys::socket::set_nonblocking;
use olb_sys::spawn::{Identity, Spawn, spawn};

use super::Instance;
use super::daemon::SIGKILL;
use super::stop::Stop;

/// What it makes is its own.
const PRIVATE_UMASK: u32 = 0o077;
/// A client prints at most this much, in bytes of each stream.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one read.
const READ_BYTES: usize = 8 * 1024;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its exit code, or 128+n for signal n.
    pub(crate) code: u8,
    /// What it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) stderr: Vec<u8>,
}

/// A program to run to its end, with no input, in `/`, and with nothing of this process's
/// environment. It leads a session of its own: what runs as another account has no way to the
/// terminal of whoever started it.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The executable.
    pub(crate) path: &'a Path,
    /// Its words, the first one its own name.
    pub(crate) argv: &'a [&'a str],
    /// Variables besides `PATH` and `LANG`, as `NAME=value`.
    pub(crate) variables: &'a [OsString],
    /// Uid, and only gid, that it runs as where this process is root.
    pub(crate) account: (u32, u32),
}

/// Runs the instance's `olb` with these arguments as `uid`, with that number as its only group.
///
/// # Errors
/// Those of [`Program::run`].
pub(crate) fn olb(
    instance: &Instance,
    uid: u32,
    arguments: &[&str],
    stop: &Stop,
) -> Result<Output> {
    let path = instance.program("olb");
    let argv = [&["olb"], arguments].concat();
    let mut runtime_dir = OsString::from("OLB_RUNTIME_DIR=");
    runtime_dir.push(instance.runtime_dir());
    let program =
        Program { path: &path, argv: &argv, variables: &[runtime_dir], account: (uid, uid) };
    program.run(Some(stop))
}

impl Program<'_> {
    /// Runs it to its end and returns what it printed.
    ///
    /// # Errors
    /// It does not start, prints without end, or this process is told to stop; then it is killed.
    pub(crate) fn run(&self, stop: Option<&Stop>) -> Result<Output> {
        let name = self.path.display();
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let child = self.start(stdout_end, stderr_end);
        let mut child = child.with_context(|| format!("{name} cannot be started"))?;
        let collected = collect(stdout, stderr, stop);
        if collected.is_err() {
            // It may have ended by itself meanwhile: the error at hand is the one to report.
            drop(child.signal_group(SIGKILL));
        }
        let exit = child.wait().with_context(|| format!("{name} was lost"))?;
        let (stdout, stderr) = collected?;
        Ok(Output { code: code(exit), stdout, stderr })
    }

    /// Takes the writing ends of the pipes: none is left in this process, so that they end when the
    /// program has.
    fn start(&self, stdout: OwnedFd, stderr: OwnedFd) -> Result<Child> {
        let fixed = ["PATH=".to_owned() + SECURE_PATH, "LANG=C.UTF-8".to_owned()];
        let fixed = fixed.iter().map(|variable| CString::new(variable.as_bytes()));
        let more = self.variables.iter().map(|variable| CString::new(variable.as_bytes()));
        let envp = fixed.chain(more).collect::<Result<Vec<_>, _>>()?;
        let argv =
            self.argv.iter().map(|word| CString::new(*word)).collect::<Result<Vec<_>, _>>()?;
        let path = CString::new(self.path.as_os_str().as_bytes())?;
        let root = open_directory(Path::new("/")).context("/ cannot be opened")?;
        let null = File::open("/dev/null")?;
        let (uid, gid) = self.account;
        let identity = (effective_uid() == 0).then_some(Identity { uid, gid, groups: &[] });
        let child = spawn(&Spawn {
            path: &path,
            argv: &argv,
            envp: &envp,
            cwd: root.fd.as_fd(),
            stdin: null.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
            identity,
            umask: PRIVATE_UMASK,
            cgroup_procs: None,
        })?;
        Ok(child)
    }
}

fn collect(stdout: OwnedFd, stderr: OwnedFd, stop: Option<&Stop>) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut stdout, mut stderr) = (Stream::new(stdout)?, Stream::new(stderr)?);
    while stdout.open || stderr.open {
        let open = [&stdout, &stderr].into_iter().filter(|stream| stream.open);
        let fds: Vec<_> = open.map(|stream| stream.file.as_fd()).collect();
        wait(&fds, stop)?;
        stdout.read()?;
        stderr.read()?;
    }
    Ok((stdout.bytes, stderr.bytes))
}

fn wait(fds: &[BorrowedFd<'_>], stop: Option<&Stop>) -> Result<()> {
    match stop {
        Some(stop) => stop.wait(fds, None).map(|_| ()),
        None => {
            let mut fds: Vec<_> =
                fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
            poll(&mut fds, None).map(|_| ()).context("waiting failed")
        }
    }
}

/// One of a program's output streams.
struct Stream {
    file: File,
    bytes: Vec<u8>,
    open: bool,
}

impl Stream {
    fn new(fd: OwnedFd) -> Result<Self> {
        set_nonblocking(&fd, true).context("a pipe cannot be used")?;
        Ok(Self { file: fd.into(), bytes: Vec::new(), open: true })
    }

    /// Takes what is there.
    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; READ_BYTES];
        while self.open {
            match self.file.read(&mut buffer) {
                Ok(count) => {
                    self.open = count > 0;
                    self.bytes.extend(buffer.iter().take(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("output cannot be read"),
            }
            if self.bytes.len() > OUTPUT_BYTES_MAX {
                bail!("a program prints without end");
            }
        }
        Ok(())
    }
}

/// As shells have it.
fn code(exit: Exit) -> u8 {
    match exit {
        Exit::Exited(code) => code,
        Exit::Killed(signal) => signal.saturating_add(128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_leads_its_own_session_and_has_no_terminal() {
        let argv = ["cat", "/proc/self/stat"];
        let own = (effective_uid(), effective_uid());
        let program =
            Program { path: Path::new("/bin/cat"), argv: &argv, variables: &[], account: own };
        let output = program.run(None).unwrap();
        let stat = String::from_utf8(output.stdout).unwrap();
        // After the name: state, parent, group, session, terminal.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let pid = stat.split(' ').next().unwrap();
        assert_eq!((fields[2], fields[3], fields[4]), (pid, pid, "0"), "{stat}");
    }

    #[test]
    fn output_and_ends_come_back() {
        let own = (effective_uid(), effective_uid());
        for (script, code) in [("echo out; echo err >&2; exit 3", 3), ("kill -9 $$", 137)] {
            let argv = ["sh", "-c", script];
            let program =
                Program { path: Path::new("/bin/sh"), argv: &argv, variables: &[], account: own };
            let output = program.run(None).unwrap();
            assert_eq!(output.code, code, "{output:?}");
            assert_eq!(output.stdout.is_empty(), code != 3, "{output:?}");
        }
        let missing = Path::new("/no/such/program");
        let program = Program { path: missing, argv: &["x"], variables: &[], account: own };
        let error = program.run(None).unwrap_err();
        assert!(error.to_string().contains("cannot be started"), "{error:#}");
    }
}
