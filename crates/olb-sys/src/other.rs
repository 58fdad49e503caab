//! A process that is not our child, found again by what was written down about it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::raw;

/// A process held by descriptor: a signal to it cannot reach a stranger who got its number later.
#[derive(Debug)]
pub struct Other {
    pidfd: OwnedFd,
}

/// When a process started, in clock ticks since boot: with its number and the boot id, this names it
/// for good.
///
/// # Errors
/// There is no such process.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_start(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Field 22 of `/proc/PID/stat`. The second field is a name in brackets that may hold anything.
fn parse_start(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(stat.get(name_end.checked_add(1)?..)?).ok()?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

impl Other {
    /// The process with this number that started then; `None` if it has ended.
    ///
    /// # Errors
    /// The system refused to look.
    pub fn find(pid: i32, start_ticks: u64) -> io::Result<Option<Self>> {
        let pidfd = match raw::open_pidfd(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Compared after opening: whoever has the number now had it then, or started since.
        match self::start_ticks(pid) {
            Ok(found) if found == start_ticks => Ok(Some(Self { pidfd })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Readable by `poll` once the process has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `ESRCH` once it has ended, `EPERM` where it belongs to somebody else.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        raw::signal_pidfd(self.pidfd(), signal)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_found_signalled_and_then_gone() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = start_ticks(pid).unwrap();
        let found = Other::find(pid, started).unwrap().unwrap();
        found.signal(libc::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert_eq!(found.signal(libc::SIGTERM).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert!(Other::find(pid, started).unwrap().is_none());
    }

    #[test]
    fn a_number_that_belongs_to_somebody_else_now_is_not_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let started = start_ticks(own).unwrap();
        assert!(Other::find(own, started).unwrap().is_some());
        assert!(Other::find(own, started - 1).unwrap().is_none());
    }

    #[test]
    fn a_name_full_of_brackets_and_blanks_does_not_confuse() {
        let stat = b"7 (a) b) 1 (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_start(stat), Some(4242));
        assert_eq!(parse_start(b"7 (a) S 1"), None);
    }
}
