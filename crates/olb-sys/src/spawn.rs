//! Starting a command with exactly the attributes that were approved.
//!
//! A raw `clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD)`: its price does not grow with the daemon's
//! memory as fork's does, and posix_spawn cannot set users, groups, limits or a directory by
//! descriptor. The child borrows our memory until `execve`, on a stack of its own; what it does
//! there is in `child.rs`.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::child::{self, Task};
use crate::limits;
use crate::process::Child;

/// Bytes of stack for the child. It calls nothing but the kernel; 4 KiB would do.
const STACK: usize = 32 * 1024;
/// Bytes below it that fault instead of running into other memory.
const GUARD: usize = 4 * 1024;

thread_local! {
    /// Kept for this thread's next command: undoing a mapping interrupts every other core.
    static CHILD_STACK: Cell<Option<Stack>> = const { Cell::new(None) };
}

/// A command to start. Everything is set explicitly; nothing of the daemon is inherited.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// Canonical path of the executable.
    pub path: &'a CStr,
    /// Arguments, `argv[0]` included.
    pub argv: &'a [CString],
    /// The whole environment as `NAME=value`.
    pub envp: &'a [CString],
    /// Working directory; `O_PATH` is enough.
    pub cwd: BorrowedFd<'a>,
    /// Becomes descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Becomes descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Becomes descriptor 2.
    pub stderr: BorrowedFd<'a>,
    /// Who it runs as; `None` keeps the caller's ids (only where the daemon is not root).
    pub identity: Option<Identity<'a>>,
    /// File mode creation mask.
    pub umask: u32,
    /// `cgroup.procs` of the run's own cgroup, open for writing.
    pub cgroup_procs: Option<BorrowedFd<'a>>,
}

/// The account a command runs as.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Real, effective and saved user id.
    pub uid: u32,
    /// Real, effective and saved group id.
    pub gid: u32,
    /// Supplementary groups, replacing the daemon's.
    pub groups: &'a [u32],
}

/// The step that failed; nothing of the command has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Stage {
    /// Memory, descriptors or processes ran out before there was a child.
    Clone = 1,
    /// Joining the run's cgroup.
    Cgroup,
    /// Becoming a session leader.
    Session,
    /// Entering the working directory.
    Directory,
    /// Descriptors 0, 1 and 2, and closing the rest.
    Descriptors,
    /// A session keyring of its own.
    Keyring,
    /// Dropping inherited capabilities and secure bits.
    Capabilities,
    /// Supplementary groups.
    Groups,
    /// Group id.
    Gid,
    /// User id.
    Uid,
    /// Default signal dispositions and mask.
    Signals,
    /// `execve` itself: the file is missing, not executable or of an unknown format.
    Exec,
}

impl Stage {
    fn from_number(number: i32) -> Self {
        const IN_CHILD: [Stage; 11] = [
            Stage::Cgroup,
            Stage::Session,
            Stage::Directory,
            Stage::Descriptors,
            Stage::Keyring,
            Stage::Capabilities,
            Stage::Groups,
            Stage::Gid,
            Stage::Uid,
            Stage::Signals,
            Stage::Exec,
        ];
        IN_CHILD.into_iter().find(|stage| *stage as i32 == number).unwrap_or(Stage::Clone)
    }
}

/// Why a command was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command could not be started ({stage:?}: {}); nothing of it has run", io::Error::from_raw_os_error(*errno))]
pub struct SpawnError {
    /// The kernel's error number.
    pub errno: i32,
    /// Where it happened.
    pub stage: Stage,
}

/// Starts a command. Returns once it has been executed or has failed to be.
///
/// # Errors
/// [`SpawnError`]: no process is left and nothing of the command has run.
pub fn spawn(command: &Spawn<'_>) -> Result<Child, SpawnError> {
    let argv = pointers(command.argv);
    let envp = pointers(command.envp);
    let defaults = limits::defaults();
    let task = Task {
        path: command.path.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        cwd: command.cwd.as_raw_fd(),
        stdio: [command.stdin.as_raw_fd(), command.stdout.as_raw_fd(), command.stderr.as_raw_fd()],
        identity: command.identity.map(|identity| child::Ids {
            uid: identity.uid,
            gid: identity.gid,
            group_count: identity.groups.len(),
            groups: identity.groups.as_ptr(),
        }),
        umask: command.umask,
        cgroup_procs: command.cgroup_procs.map(|fd| fd.as_raw_fd()),
        limits: defaults.limits,
        reset_oom_score: defaults.reset_oom_score,
        errno: AtomicI32::new(0),
        stage: AtomicI32::new(0),
    };
    let stack = CHILD_STACK.take().map_or_else(Stack::new, Ok).map_err(in_parent)?;
    let cloned = clone_onto(&stack, &task);
    CHILD_STACK.set(Some(stack));
    let (pid, pidfd) = cloned.map_err(in_parent)?;
    match task.errno.load(Ordering::Acquire) {
        0 => Ok(Child::new(pid, pidfd)),
        errno => {
            // It has exited already and this reaps it. Nothing better could be done on a failure
            // than to report the one that matters.
            drop(Child::new(pid, pidfd).wait());
            Err(SpawnError { errno, stage: Stage::from_number(task.stage.load(Ordering::Acquire)) })
        }
    }
}

fn in_parent(error: io::Error) -> SpawnError {
    SpawnError { errno: error.raw_os_error().unwrap_or(libc::EIO), stage: Stage::Clone }
}

/// The NULL-terminated array that `execve` wants.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Runs the child until it has executed or failed; this thread is suspended meanwhile.
fn clone_onto(stack: &Stack, task: &Task) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let blocked = SignalsBlocked::new();
    // SAFETY: CLONE_VFORK suspends this thread until the child has left our memory, so `task`,
    // what it points to and `stack` outlive the child's use of them. The child runs on the top
    // of its own stack, makes only raw system calls and cannot be interrupted by a handler of
    // ours, since every signal is blocked here and inherited so.
    let pid = unsafe {
        libc::clone(
            child::run,
            stack.top(),
            flags,
            ptr::from_ref(task).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    let error = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: clone succeeded with CLONE_PIDFD: this is a new descriptor that nobody owns yet.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// A stack with a guard page below.
struct Stack(*mut libc::c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUARD + STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(base);
        // SAFETY: the lowest page of the mapping just made, used by nobody.
        if unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// One past the highest byte; page-aligned, hence aligned for every ABI.
    fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the whole mapping made in `new`; the child has left it (see `clone_onto`).
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

/// Blocks every signal of this thread, those that libc keeps for itself included, until dropped.
struct SignalsBlocked(u64);

impl SignalsBlocked {
    fn new() -> Self {
        let all = u64::MAX;
        let mut previous = 0_u64;
        // SAFETY: reads and writes one 64-bit kernel signal set each.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const all,
                &raw mut previous,
                mem::size_of::<u64>(),
            );
        }
        Self(previous)
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: reads one 64-bit kernel signal set.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const self.0,
                ptr::null_mut::<u64>(),
                mem::size_of::<u64>(),
            );
        }
    }
}

#[cfg(test)]
mod tests;
