//! The two halves of an instance as child processes: started, waited for, ended by their own
//! process descriptors, never by a number that may belong to somebody else.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use olb_sys::harden::effective_uid;
use olb_sys::path::open_directory;
use olb_sys::pipe::pipe;
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::process::Child;
use olb_sys::spawn::{Spawn, spawn};

use super::Instance;
use super::stop::{Stop, Woken};
use crate::out::tell;

pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGKILL: i32 = 9;
/// A daemon has this long to become ready, in milliseconds.
pub(crate) const READY_MS: u32 = 20_000;
/// A daemon has this long to end after it was told to, in milliseconds: longer than the root half
/// gives the commands that it still runs when they are cut.
pub(crate) const END_MS: u32 = 10_000;
/// How much of a log is shown when something went wrong, in bytes.
const LOG_TAIL_BYTES: u64 = 2000;

/// A process of ours in a session of its own. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    /// How long it may take to end, in milliseconds, before it is killed.
    end_ms: u32,
}

/// Both halves.
#[derive(Debug)]
pub(crate) struct Halves {
    // In the order in which they are to end: first no new requests, then the root half.
    front: Daemon,
    root_half: Daemon,
}

impl Halves {
    /// Starts the root half, then the front, each when the one before is ready.
    ///
    /// # Errors
    /// One of them does not become ready; the end of its log is in the message.
    pub(crate) fn start(instance: &Instance, stop: &Stop) -> Result<Self> {
        let config = instance.config_file();
        let root_half = start(instance, "olb-execd", &[Path::new("--config"), &config], stop)?;
        let (run, front) = (instance.runtime_dir(), instance.front_dir());
        let uid = instance.front_uid()?;
        let account = format!("{uid}:{uid}");
        let directories =
            [Path::new("--runtime-dir"), run.as_path(), Path::new("--state-dir"), front.as_path()];
        let drop_to = [Path::new("--drop-to"), Path::new(&account)];
        let drop_to = if effective_uid() == 0 { drop_to.as_slice() } else { &[] };
        let arguments = [&directories, drop_to].concat();
        let front = start(instance, "olb-brokerd", &arguments, stop)?;
        Ok(Self { front, root_half })
    }

    /// Readable when one of them has ended.
    pub(crate) fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.front.child.pidfd(), self.root_half.child.pidfd()]
    }

    /// Their names and process ids.
    pub(crate) fn pids(&self) -> [(&'static str, i32); 2] {
        [("olb-brokerd", self.front.child.pid()), ("olb-execd", self.root_half.child.pid())]
    }
}

/// Starts a program that says `ready` when it is, with its log in the instance's state folder.
fn start(instance: &Instance, name: &str, arguments: &[&Path], stop: &Stop) -> Result<Daemon> {
    let log_file = instance.log_file(name);
    let (reader, daemon) = launch(&instance.program(name), arguments, &log_file, END_MS)
        .with_context(|| format!("{name} cannot be started"))?;
    let ready = await_ready(reader, stop, READY_MS);
    match ready.with_context(|| format!("{name} cannot be waited for"))? {
        true => Ok(daemon),
        false => bail!("{name} did not become ready; its log ends: {}", tail(&log_file)),
    }
}

/// Starts a program in the background; what it writes to standard output comes out of the pipe.
/// When it is dropped it has `end_ms` milliseconds to end.
///
/// # Errors
/// It cannot be executed, or its log cannot be written.
pub(crate) fn launch(
    program: &Path,
    arguments: &[&Path],
    log_file: &Path,
    end_ms: u32,
) -> Result<(OwnedFd, Daemon)> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log_file)?;
    let null = File::open("/dev/null")?;
    let root = open_directory(Path::new("/")).context("/ cannot be opened")?;
    let (reader, writer) = pipe()?;
    let words = std::iter::once(program).chain(arguments.iter().copied());
    let argv: Vec<CString> =
        words.map(|word| CString::new(word.as_os_str().as_bytes())).collect::<Result<_, _>>()?;
    let path = CString::new(program.as_os_str().as_bytes())?;
    let child = spawn(&Spawn {
        path: &path,
        argv: &argv,
        envp: &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".into(), c"LANG=C.UTF-8".into()],
        cwd: root.fd.as_fd(),
        stdin: null.as_fd(),
        stdout: writer.as_fd(),
        stderr: log.as_fd(),
        identity: None,
        umask: 0o077,
        cgroup_procs: None,
    })?;
    Ok((reader, Daemon { child, end_ms }))
}

/// Reads up to the line `ready`; false if the program ends first, or says nothing for
/// `patience_ms` milliseconds.
pub(crate) fn await_ready(reader: OwnedFd, stop: &Stop, patience_ms: u32) -> Result<bool> {
    let mut reader = File::from(reader);
    let mut said = Vec::new();
    while said != b"ready\n" {
        if stop.wait(&[reader.as_fd()], Some(patience_ms))? == Woken::Timeout {
            return Ok(false);
        }
        let mut byte = [0];
        if reader.read(&mut byte)? == 0 || said.len() > b"ready\n".len() {
            return Ok(false);
        }
        said.extend(byte);
    }
    Ok(true)
}

/// The end of a log, for a message.
pub(crate) fn tail(log_file: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log_file).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)
    });
    match read {
        Ok(0) => "(empty)".to_owned(),
        Ok(_) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(error) => format!("(cannot be read: {error})"),
    }
}

impl Daemon {
    /// Lets the process live on after this one.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.child.signal_group(SIGTERM)?;
        let mut ended = [PollFd::new(self.child.pidfd(), PollFlags::POLLIN)];
        if poll(&mut ended, Some(self.end_ms))? == 0 {
            self.child.signal_group(SIGKILL)?;
        }
        self.child.wait().map(|_| ())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tell!("olb: process {} could not be ended: {error}", self.child.pid());
        }
    }
}
