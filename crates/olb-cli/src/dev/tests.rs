//! Real throwaway instances. Root only: without it the tests say that they are skipped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use olb_sys::harden::effective_uid;

use super::{belongs_to_root, quoted};
use crate::instance::built::{Seen, olb};
use crate::instance::random_suffix;

/// A folder for an instance that is ended when the test is over, however it ends.
struct Up {
    dir: PathBuf,
}

impl Up {
    fn new() -> Option<Self> {
        if effective_uid() != 0 {
            eprintln!("skipped: throwaway instances need root");
            return None;
        }
        let dir = format!("/var/lib/olb-dev-test-{}", random_suffix().unwrap()).into();
        let up = Self { dir };
        let output = up.dev("up", &["--requester", "61200"]);
        assert!(output.status.success(), "{output:?}");
        let line = format!("export OLB_RUNTIME_DIR={}/run\n", up.dir.display());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), line);
        Some(up)
    }

    fn dev(&self, command: &str, more: &[&str]) -> Output {
        olb().args(["dev", command, "--dir"]).arg(&self.dir).args(more).output().unwrap()
    }

    /// The supervisor and both halves.
    fn processes(&self) -> Vec<Seen> {
        let list = std::fs::read_to_string(self.dir.join("state/processes")).unwrap();
        let pids = list.lines().skip(1).map(|line| line.split(' ').nth(1).unwrap());
        pids.map(|pid| Seen::now(pid.parse().unwrap())).collect()
    }

    fn status(&self) -> Output {
        let run = self.dir.join("run");
        olb().args(["keys", "list"]).env("OLB_RUNTIME_DIR", run).output().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.dir.exists() {
            self.dev("down", &[]);
        }
    }
}

/// Without a reaper above them, ended orphans stay listed; they are no longer running.
fn has_ended(process: &Seen) -> bool {
    process.find().is_none_or(|found| {
        let mut fds = [olb_sys::poll::PollFd::new(found.pidfd(), olb_sys::poll::PollFlags::POLLIN)];
        olb_sys::poll::poll(&mut fds, Some(0)).unwrap() == 1
    })
}

#[test]
fn an_instance_serves_and_then_is_gone() {
    let Some(up) = Up::new() else { return };
    let processes = up.processes();
    assert_eq!(processes.len(), 3);
    let keys = String::from_utf8(up.status().stdout).unwrap();
    assert!(keys.lines().any(|line| line.starts_with("root ")), "{keys}");
    let again = up.dev("up", &["--requester", "61200"]);
    assert_eq!(again.status.code(), Some(64), "the folder exists: {again:?}");
    let down = up.dev("down", &[]);
    assert!(down.status.success(), "{down:?}");
    assert!(processes.iter().all(has_ended) && !up.dir.exists());
    assert_eq!(up.dev("down", &[]).status.code(), Some(64), "there is none any more");
}

#[test]
fn the_halves_of_a_killed_supervisor_are_still_found() {
    let Some(up) = Up::new() else { return };
    let processes = up.processes();
    processes[0].find().unwrap().signal(9).unwrap();
    let down = up.dev("down", &[]);
    assert!(down.status.success(), "{down:?}");
    assert!(processes.iter().all(has_ended) && !up.dir.exists());
}

#[test]
fn a_folder_that_others_can_redirect_is_refused() {
    if effective_uid() != 0 {
        return eprintln!("skipped: throwaway instances need root");
    }
    for dir in ["/tmp/olb-try", "/usr/../tmp/olb-try", "/no/such/olb-try", "/proc/self/cwd/olb-try"]
    {
        let output =
            olb().args(["dev", "up", "--requester", "61200", "--dir", dir]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{dir}: {output:?}");
        assert!(!Path::new(dir).exists(), "{dir}");
    }
}

#[test]
fn only_folders_of_root_count() {
    assert!(belongs_to_root(Path::new("/")) && belongs_to_root(Path::new("/usr")));
    assert!(!belongs_to_root(Path::new("/tmp")), "others may write");
    assert!(!belongs_to_root(Path::new("/proc/self/cwd")), "a link");
    assert!(!belongs_to_root(Path::new("/no/such/folder")));
}

#[test]
fn what_is_printed_survives_a_shell() {
    assert_eq!(quoted(OsStr::new("/opt/olb-try/run")), b"/opt/olb-try/run");
    assert_eq!(quoted(OsStr::new("/opt/a b/run")), b"'/opt/a b/run'");
}
