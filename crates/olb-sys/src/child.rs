//! The child between `clone` and `execve`.
//!
//! It shares the daemon's memory and runs while another thread may hold any lock. Hence the rules
//! here: raw system calls only; no allocation, no lock, no panic, no libc function that keeps state
//! (glibc's `setuid` family signals every thread). Failures are left in [`Task`].

use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::raw::Limit;
use crate::spawn::Stage;

/// Number of resource limits on Linux.
pub(crate) const LIMITS: usize = 16;
/// Signals of the kernel, real-time ones included.
const SIGNALS: i64 = 64;
/// The slack of timers that every system starts with. Zero would ask for the daemon's own.
const TIMER_SLACK_NS: i64 = 50_000;
/// `ioprio_set`: one process.
const IOPRIO_WHO_PROCESS: i64 = 1;
/// `keyctl`: a new session keyring.
const KEYCTL_JOIN_SESSION_KEYRING: i64 = 1;
/// The version of `capget` that knows 64 capabilities, as two halves.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Everything the child needs, prepared by the parent, which is suspended meanwhile.
pub(crate) struct Task {
    pub(crate) path: *const libc::c_char,
    pub(crate) argv: *const *const libc::c_char,
    pub(crate) envp: *const *const libc::c_char,
    pub(crate) cwd: RawFd,
    pub(crate) stdio: [RawFd; 3],
    pub(crate) identity: Option<Ids>,
    pub(crate) umask: u32,
    pub(crate) cgroup_procs: Option<RawFd>,
    pub(crate) limits: [Option<Limit>; LIMITS],
    pub(crate) reset_oom_score: bool,
    /// The failure, read by the parent afterwards; 0 is none.
    pub(crate) errno: AtomicI32,
    pub(crate) stage: AtomicI32,
}

/// Target ids; `groups` points to `group_count` numbers.
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) group_count: usize,
    pub(crate) groups: *const u32,
}

/// A failed step: errno and where.
struct Failure(i32, Stage);

/// One raw system call; a macro because the calls differ in number and type of arguments.
///
/// Each argument is widened: a variadic `int` leaves the upper half of the register undefined, and
/// some calls (`prctl`) look at all 64 bits.
macro_rules! call {
    ($stage:expr, $number:expr $(, $argument:expr)*) => {
        // SAFETY: a raw system call with plain numbers, or pointers into `Task`, constants or this
        // stack frame, all of which outlive the call.
        match unsafe { libc::syscall($number $(, $argument as libc::c_long)*) } {
            result if result >= 0 => Ok(result),
            // SAFETY: reads the errno of this very call; the parent thread, whose variable it is,
            // is suspended.
            _ => Err(Failure(unsafe { *libc::__errno_location() }, $stage)),
        }
    };
}

/// A step whose failure changes comfort, not authority: containers may forbid it.
macro_rules! try_call {
    ($number:expr $(, $argument:expr)*) => {
        drop(call!(Stage::Clone, $number $(, $argument)*))
    };
}

/// Entry point, on the child's own stack.
pub(crate) extern "C" fn run(task: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passes a pointer to its `Task` and is suspended until we are gone.
    let task = unsafe { &*task.cast::<Task>() };
    if let Err(Failure(errno, stage)) = prepare_and_execute(task) {
        task.stage.store(stage as i32, Ordering::Release);
        task.errno.store(errno, Ordering::Release);
    }
    // SAFETY: ends the process without running anybody's exit handlers.
    unsafe { libc::_exit(127) }
}

fn prepare_and_execute(task: &Task) -> Result<(), Failure> {
    join_cgroup(task)?;
    call!(Stage::Session, libc::SYS_setsid)?;
    // Before the descriptors: the directory's own number may be below 3.
    call!(Stage::Directory, libc::SYS_fchdir, task.cwd)?;
    set_descriptors(task)?;
    try_call!(libc::SYS_umask, task.umask);
    reset_scheduling(task);
    call!(
        Stage::Keyring,
        libc::SYS_keyctl,
        KEYCTL_JOIN_SESSION_KEYRING,
        ptr::null::<libc::c_char>()
    )
    .or_else(unless_missing)?;
    drop_inherited_capabilities()?;
    set_identity(task)?;
    reset_signals()?;
    call!(Stage::Exec, libc::SYS_execve, task.path, task.argv, task.envp)?;
    Ok(())
}

/// Kernels without keyrings, and sandboxes that forbid them, leave nothing to inherit.
fn unless_missing(failure: Failure) -> Result<i64, Failure> {
    match failure.0 {
        libc::ENOSYS | libc::EPERM => Ok(0),
        _ => Err(failure),
    }
}

/// First of all, so that nothing of this run is ever outside its cgroup.
fn join_cgroup(task: &Task) -> Result<(), Failure> {
    if let Some(procs) = task.cgroup_procs {
        // "0" means the writing process.
        call!(Stage::Cgroup, libc::SYS_write, procs, c"0".as_ptr(), 1_usize)?;
    }
    Ok(())
}

fn set_descriptors(task: &Task) -> Result<(), Failure> {
    let mut sources: [i64; 3] = [0; 3];
    for (source, given) in sources.iter_mut().zip(task.stdio) {
        // Above the targets first, or one dup2 would overwrite the source of the next.
        *source = call!(Stage::Descriptors, libc::SYS_fcntl, given, libc::F_DUPFD_CLOEXEC, 3)?;
    }
    for (source, target) in sources.into_iter().zip(0_i64..) {
        call!(Stage::Descriptors, libc::SYS_dup3, source, target, 0)?;
    }
    // Marked rather than closed: `execve` closes them, and a failure can still be reported.
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    call!(Stage::Descriptors, libc::SYS_close_range, 3_u32, u32::MAX, flags)?;
    Ok(())
}

/// Limits, priorities and the like, back to what a service of this host starts with.
fn reset_scheduling(task: &Task) {
    for (limit, resource) in task.limits.iter().zip(0_u32..) {
        if let Some(limit) = limit {
            reset_limit(resource, limit);
        }
    }
    // The kernel's sched_param is one int, the static priority; libc's differs on musl.
    let normal: libc::c_int = 0;
    try_call!(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const normal);
    try_call!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 0);
    try_call!(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
    try_call!(libc::SYS_prctl, libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
    if task.reset_oom_score {
        let path = c"/proc/self/oom_score_adj".as_ptr();
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        if let Ok(fd) = call!(Stage::Clone, libc::SYS_openat, libc::AT_FDCWD, path, flags) {
            try_call!(libc::SYS_write, fd, c"0".as_ptr(), 1_usize);
            try_call!(libc::SYS_close, fd);
        }
    }
}

/// A daemon without `CAP_SYS_RESOURCE` cannot raise a hard limit: then the soft one, as far as it
/// goes.
fn reset_limit(resource: u32, wanted: &Limit) {
    let none = ptr::null_mut::<Limit>();
    let set = libc::SYS_prlimit64;
    if call!(Stage::Clone, set, 0, resource, ptr::from_ref(wanted), none).is_ok() {
        return;
    }
    let mut own = Limit { soft: 0, hard: 0 };
    if call!(Stage::Clone, set, 0, resource, none, &raw mut own).is_ok() {
        own.soft = wanted.soft.min(own.hard);
        try_call!(set, 0, resource, &raw const own, none);
    }
}

/// Leaves nothing that would survive the change of user: a secure bit such as `NO_SETUID_FIXUP`
/// would let root's capabilities through.
fn drop_inherited_capabilities() -> Result<(), Failure> {
    let stage = Stage::Capabilities;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    call!(stage, libc::SYS_prctl, libc::PR_CAP_AMBIENT, clear, 0, 0, 0)?;
    if call!(stage, libc::SYS_prctl, libc::PR_GET_SECUREBITS, 0, 0, 0, 0)? != 0 {
        call!(stage, libc::SYS_prctl, libc::PR_SET_SECUREBITS, 0, 0, 0, 0)?;
    }
    let mut header = [CAPABILITY_VERSION_3, 0];
    // Two halves of effective, permitted, inheritable.
    let mut sets = [[0_u32; 3]; 2];
    call!(stage, libc::SYS_capget, &raw mut header, &raw mut sets)?;
    let [[_, _, low], [_, _, high]] = &mut sets;
    if *low | *high != 0 {
        (*low, *high) = (0, 0);
        call!(stage, libc::SYS_capset, &raw mut header, &raw const sets)?;
    }
    Ok(())
}

fn set_identity(task: &Task) -> Result<(), Failure> {
    let Some(ids) = &task.identity else { return Ok(()) };
    call!(Stage::Groups, libc::SYS_setgroups, ids.group_count, ids.groups)?;
    call!(Stage::Gid, libc::SYS_setresgid, ids.gid, ids.gid, ids.gid)?;
    call!(Stage::Uid, libc::SYS_setresuid, ids.uid, ids.uid, ids.uid)?;
    Ok(())
}

/// Ignored signals survive `execve` (Rust ignores `SIGPIPE`), and so does the mask.
fn reset_signals() -> Result<(), Failure> {
    // The kernel's sigaction: handler, flags, restorer, mask. All zeros is SIG_DFL.
    let default = [0_u64; 4];
    let size = mem::size_of::<u64>();
    for signal in 1..=SIGNALS {
        if signal == i64::from(libc::SIGKILL) || signal == i64::from(libc::SIGSTOP) {
            continue;
        }
        let old = ptr::null_mut::<u64>();
        call!(Stage::Signals, libc::SYS_rt_sigaction, signal, &raw const default, old, size)?;
    }
    let none = 0_u64;
    let old = ptr::null_mut::<u64>();
    let how = libc::SIG_SETMASK;
    call!(Stage::Signals, libc::SYS_rt_sigprocmask, how, &raw const none, old, size)?;
    Ok(())
}
