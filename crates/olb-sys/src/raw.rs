//! Thin wrappers over the system calls that `nix` lacks or wraps in a way that would leak.
//!
//! Nothing here decides anything: each function is one call, its buffers and its errno.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Turns the `-1` convention of libc into a result.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Reads an integer option of the socket level.
pub(crate) fn socket_option(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length: libc::socklen_t = 4;
    // SAFETY: `value` and `length` outlive the call and `length` is the size of `value`.
    checked(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

/// Bytes waiting to be read (`FIONREAD`).
pub(crate) fn bytes_queued(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, to a variable that outlives the call.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    usize::try_from(count).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether the object behind `path` (links are followed) carries the extended attribute `name`.
pub(crate) fn has_attribute(path: &CStr, name: &CStr) -> io::Result<bool> {
    // SAFETY: both strings are NUL-terminated; a zero size asks only for the length.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    if length >= 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODATA | libc::EOPNOTSUPP) => Ok(false),
        _ => Err(error),
    }
}

/// What one `recvmsg` brought.
pub(crate) struct Received {
    /// Bytes written into the buffer.
    pub(crate) length: usize,
    /// Every descriptor that arrived, close-on-exec.
    pub(crate) fds: Vec<OwnedFd>,
    /// The uid of whoever sent this, where the socket asks the kernel for it.
    pub(crate) sender: Option<libc::uid_t>,
    /// `MSG_TRUNC` and `MSG_CTRUNC`, if set.
    pub(crate) flags: libc::c_int,
}

/// Receives bytes and up to `room` descriptors.
///
/// nix gives no access to the descriptors once `MSG_CTRUNC` is set, which would leak them; here
/// every one that arrives is owned before anything else is looked at.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], room: usize) -> io::Result<Received> {
    let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the buffer is alive and of this length.
    unsafe { receive_into(fd, part, room) }
}

/// As [`receive`], into new memory for at most `max` bytes, of which only what arrived is kept. It
/// is not cleared first: for short messages that would be most of the work.
pub(crate) fn receive_new(
    fd: BorrowedFd<'_>,
    max: usize,
    room: usize,
) -> io::Result<(Vec<u8>, Received)> {
    let mut bytes = Vec::<u8>::with_capacity(max);
    let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: max };
    // SAFETY: the vector has room for `max` bytes and is alive.
    let received = unsafe { receive_into(fd, part, room) }?;
    // SAFETY: the kernel has written that many bytes; with MSG_TRUNC it says how many there were.
    unsafe { bytes.set_len(received.length.min(max)) };
    bytes.shrink_to_fit();
    Ok((bytes, received))
}

/// # Safety
/// `part` must describe memory that is alive and may be written to.
unsafe fn receive_into(
    fd: BorrowedFd<'_>,
    mut part: libc::iovec,
    room: usize,
) -> io::Result<Received> {
    let payload = libc::c_uint::try_from(room.saturating_mul(mem::size_of::<RawFd>()))
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // And for what the kernel says of the sender, where it is asked.
    let sender = libc::c_uint::try_from(mem::size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: CMSG_SPACE only computes.
    let space = unsafe { libc::CMSG_SPACE(payload) + libc::CMSG_SPACE(sender) } as usize;
    // u64 words, because the headers must be aligned.
    let mut control = vec![0_u64; space.div_ceil(8)];
    // SAFETY: msghdr is plain data for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = space as _;
    let length = loop {
        // SAFETY: every pointer in `message` refers to a live buffer of the stated length.
        let got =
            unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(got) {
            Ok(length) => break length,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    // SAFETY: the kernel filled `message` just now and `control` is still alive.
    let (fds, sender) = unsafe { adopt_control(&message) };
    Ok(Received { length, fds, sender, flags: message.msg_flags })
}

/// Takes ownership of every descriptor in a received control buffer, and reads the sender's uid.
///
/// # Safety
/// `message` must have been filled by a successful `recvmsg`, its control buffer must be alive,
/// and this must be called once.
unsafe fn adopt_control(message: &libc::msghdr) -> (Vec<OwnedFd>, Option<libc::uid_t>) {
    let (mut fds, mut sender) = (Vec::new(), None);
    // SAFETY: the caller guarantees a buffer filled by the kernel, which the macros walk.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a non-null result of the macros points to a whole header in the buffer.
        let current = unsafe { &*header };
        // SAFETY: CMSG_LEN only computes; CMSG_DATA points behind the header.
        let (data, start) = unsafe { (libc::CMSG_DATA(header), libc::CMSG_LEN(0) as usize) };
        let bytes = (current.cmsg_len as usize).saturating_sub(start);
        let kind = (current.cmsg_level, current.cmsg_type);
        if kind == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
            && bytes >= mem::size_of::<libc::ucred>()
        {
            // SAFETY: that many bytes are there, and a ucred is plain data.
            sender = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() }.uid);
        } else if kind == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let data = data.cast::<RawFd>();
            for index in 0..bytes / mem::size_of::<RawFd>() {
                // SAFETY: the kernel put `bytes` of descriptor numbers there, each one new to
                // this process and owned by nobody yet.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.add(index).read_unaligned()) });
            }
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    (fds, sender)
}

/// How a child ended, as `waitid` tells it.
pub(crate) struct Ended {
    /// `si_code`.
    pub(crate) code: libc::c_int,
    /// `si_status`.
    pub(crate) status: libc::c_int,
    /// Of it and the children that it waited for.
    pub(crate) usage: libc::rusage,
}

/// Whether and how the child behind a pidfd ended.
pub(crate) fn wait_pidfd(pidfd: BorrowedFd<'_>, options: libc::c_int) -> io::Result<Option<Ended>> {
    // The raw call: libc's leaves out what was used.
    let call = libc::SYS_waitid;
    loop {
        // SAFETY: rusage is plain data for which all zeros is valid.
        let mut usage: libc::rusage = unsafe { mem::zeroed() };
        // SAFETY: siginfo_t is plain data for which all zeros is valid.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let (id, options) = (pidfd.as_raw_fd(), libc::WEXITED | options);
        // SAFETY: `info` and `usage` outlive the call.
        let result = unsafe {
            libc::syscall(call, libc::P_PIDFD, id, &raw mut info, options, &raw mut usage)
        };
        if result == 0 {
            // SAFETY: waitid succeeded, so the SIGCHLD members are the valid ones (or all zero).
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            return Ok((pid != 0).then_some(Ended { code: info.si_code, status, usage }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Makes children wait to be reaped even when the starter of this process ignored `SIGCHLD`.
pub(crate) fn keep_exit_statuses() {
    // SAFETY: sigaction is plain data for which all zeros is valid (SIG_DFL, no flags).
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only reads the present disposition into `action`.
    let read = unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) };
    let discards =
        action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0;
    if read == 0 && discards {
        set_default(libc::SIGCHLD);
    }
}

/// See [`crate::harden::give_back_memory`].
#[cfg(target_env = "gnu")]
pub(crate) fn trim_heap() {
    // SAFETY: locks each heap as every allocation does and gives back pages that nothing is in.
    unsafe { libc::malloc_trim(0) };
}

/// Gives a signal its default disposition.
pub(crate) fn set_default(signal: libc::c_int) {
    // SAFETY: SIG_DFL installs no handler, so no code of ours can run at a wrong moment.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// A resource limit as the kernel has it on every platform: 64 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Limit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// The limit of a process (`0` = this one), or `None` where it may not be read.
pub(crate) fn limit_of(pid: libc::pid_t, resource: u32) -> Option<Limit> {
    let mut limit = Limit { soft: 0, hard: 0 };
    // SAFETY: reads into `limit`, which is laid out as the kernel's rlimit64; sets nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, std::ptr::null::<Limit>(), &raw mut limit)
    };
    (result == 0).then_some(limit)
}

/// Takes a read lease on a file (`F_SETLEASE`).
pub(crate) fn take_read_lease(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: passes a number and touches no memory.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) }).map(drop)
}

/// Sends a signal to the process group `group`.
pub(crate) fn signal_group(group: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: kill touches no memory.
    checked(unsafe { libc::killpg(group, signal) }).map(drop)
}

/// A descriptor for the process that has this number now.
pub(crate) fn open_pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = libc::c_int::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: a new descriptor (close-on-exec by definition) that nobody owns yet.
    checked(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process behind a pidfd.
pub(crate) fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo_t the call touches no memory.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Accepts one connection, close-on-exec.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no address is asked for; the call touches no memory.
    let fd = checked(unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    })?;
    // SAFETY: the kernel just made this descriptor for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
