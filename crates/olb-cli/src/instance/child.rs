//! Running a client of the instance to its end, as another account where there is a boundary.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use olb_sys::harden::effective_uid;
use olb_sys::socket::set_nonblocking;

use super::Instance;
use super::stop::Stop;

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

/// The instance's `olb` with these arguments, as [`prepare`] makes it run.
pub(crate) fn client(instance: &Instance, uid: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new(instance.program("olb"));
    command.args(arguments);
    prepare(&mut command, instance, uid);
    command
}

/// Makes `command` run as `uid` (with that number as its only group) in `/`, with no input and
/// with nothing of this process's environment.
pub(crate) fn prepare(command: &mut Command, instance: &Instance, uid: u32) {
    command.env_clear().current_dir("/").stdin(Stdio::null());
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("LANG", "C.UTF-8").env("OLB_RUNTIME_DIR", instance.runtime_dir());
    if effective_uid() == 0 && uid != 0 {
        // The standard library drops the supplementary groups along with the uid.
        command.gid(uid).uid(uid);
    }
}

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
/// It does not start, prints without end, or this process is told to stop; then it is killed.
pub(crate) fn run(mut command: Command, stop: &Stop) -> Result<Output> {
    let name = command.get_program().display().to_string();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("{name} cannot be started"))?;
    let collected = collect(&mut child, stop);
    if collected.is_err() {
        // It may have ended by itself meanwhile: the error at hand is the one to report.
        drop(child.kill());
    }
    let status = child.wait().with_context(|| format!("{name} was lost"))?;
    let (stdout, stderr) = collected?;
    Ok(Output { code: code(status), stdout, stderr })
}

fn collect(child: &mut Child, stop: &Stop) -> Result<(Vec<u8>, Vec<u8>)> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("a pipe is missing");
    };
    let (mut stdout, mut stderr) = (Stream::new(stdout.into())?, Stream::new(stderr.into())?);
    while stdout.open || stderr.open {
        let open = [&stdout, &stderr].into_iter().filter(|stream| stream.open);
        let fds: Vec<_> = open.map(|stream| stream.file.as_fd()).collect();
        stop.wait(&fds, None)?;
        stdout.read()?;
        stderr.read()?;
    }
    Ok((stdout.bytes, stderr.bytes))
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

/// As shells have it; the kernel gives no other numbers.
fn code(status: ExitStatus) -> u8 {
    let killed = status.signal().map_or(0, |signal| signal.saturating_add(128));
    u8::try_from(status.code().unwrap_or(killed)).unwrap_or(u8::MAX)
}
