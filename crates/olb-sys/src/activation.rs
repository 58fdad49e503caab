//! Sockets that systemd opened for us, taken by name and never by position.

use std::env;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{self, FcntlArg, FdFlag};

/// The number of the first descriptor that systemd passes.
const FIRST: RawFd = 3;

/// Why the passed sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// `LISTEN_FDS` is not a small number.
    #[error("LISTEN_FDS is not a count of descriptors; start the service through its socket unit")]
    BadCount,
    /// Names are mandatory: positions change when a unit file is edited.
    #[error(
        "LISTEN_FDNAMES does not name every socket; set FileDescriptorName= in each socket unit"
    )]
    BadNames,
    /// A promised descriptor is not open.
    #[error(
        "descriptor {0} promised by LISTEN_FDS is not open; start the service through its socket unit"
    )]
    NotOpen(RawFd),
    /// They were taken already.
    #[error("the passed sockets were taken already; take them once, at start")]
    Taken,
}

/// Takes the sockets passed to this process, with their names. Empty when there are none.
///
/// Call it once, at start, before opening anything.
///
/// # Errors
/// Every case in [`ActivationError`].
pub fn named_listeners() -> Result<Vec<(String, OwnedFd)>, ActivationError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let read = |name| env::var(name).unwrap_or_default();
    let names =
        parse(&read("LISTEN_PID"), &read("LISTEN_FDS"), &read("LISTEN_FDNAMES"), process::id())?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(ActivationError::Taken);
    }
    (FIRST..).zip(names).map(|(number, name)| Ok((name, adopt(number)?))).collect()
}

fn adopt(number: RawFd) -> Result<OwnedFd, ActivationError> {
    // SAFETY: borrowed only to ask whether it is open; a closed number gives EBADF.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl::fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|_| ActivationError::NotOpen(number))?;
    // SAFETY: it is open, systemd made it for this process (LISTEN_PID is ours), and TAKEN lets
    // only one caller come here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The names of the passed sockets; variables meant for another process count as none.
fn parse(pid: &str, count: &str, names: &str, own: u32) -> Result<Vec<String>, ActivationError> {
    if pid.parse() != Ok(own) {
        return Ok(Vec::new());
    }
    let count: u8 = count.parse().map_err(|_| ActivationError::BadCount)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    let is_named = |name: &String| !name.is_empty() && name != "unknown";
    if names.len() == usize::from(count) && names.iter().all(is_named) {
        Ok(names)
    } else {
        Err(ActivationError::BadNames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_apart_by_name() {
        assert_eq!(parse("7", "2", "request:review", 7).unwrap(), ["request", "review"]);
    }

    #[test]
    fn variables_of_another_process_mean_nothing() {
        assert!(parse("8", "2", "request:review", 7).unwrap().is_empty());
        assert!(parse("", "", "", 7).unwrap().is_empty());
        assert!(parse("7", "0", "", 7).unwrap().is_empty());
    }

    #[test]
    fn every_socket_needs_a_name() {
        for (count, names) in [
            ("2", "request"),
            ("1", "request:review"),
            ("1", ""),
            ("2", "request:"),
            ("1", "unknown"),
        ] {
            let result = parse("7", count, names, 7);
            assert!(matches!(result, Err(ActivationError::BadNames)), "{count} {names}");
        }
        assert!(matches!(parse("7", "many", "a", 7), Err(ActivationError::BadCount)));
        assert!(matches!(parse("7", "-1", "a", 7), Err(ActivationError::BadCount)));
    }

    #[test]
    fn passed_descriptors_are_taken_once() {
        crate::testing::assert_passes_alone("activation::tests::alone_takes_descriptors");
    }

    #[test]
    #[ignore = "needs descriptor 3; started by passed_descriptors_are_taken_once"]
    fn alone_takes_descriptors() {
        use std::os::fd::AsRawFd;
        let taken = named_listeners().unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].0.as_str(), taken[0].1.as_raw_fd()), ("request", 3));
        let flags = fcntl::fcntl(&taken[0].1, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        assert!(matches!(named_listeners(), Err(ActivationError::Taken)));
    }
}
