//! A cgroup (v2) of its own for every run, where the administrator has set a parent for them: it
//! holds whatever the command starts, also what leaves its process group, so that a run can be
//! ended whole. Without one, only the process group can be signalled.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use olb_lease::RequestId;
use olb_sys::clock::boottime_ms;
use olb_sys::poll::{PollFd, PollFlags, poll};

/// What a command left behind may end by itself within this time, in milliseconds.
const GRACE_MS: u64 = 1000;
/// After `cgroup.kill`, which no process can withstand, this much is for the kernel's work.
const KILL_MS: u64 = 5000;
/// What the folders of runs are called, before the request's id.
const PREFIX: &str = "run-";

/// The parent of all runs' cgroups.
#[derive(Debug)]
pub struct RunGroups {
    parent: PathBuf,
}

impl RunGroups {
    /// Takes `parent`, which has to be a cgroup v2 folder that this process may write.
    ///
    /// # Errors
    /// It is not one.
    pub fn open(parent: &Path) -> io::Result<Self> {
        // Only version 2 has this file.
        File::open(parent.join("cgroup.controllers"))?;
        OpenOptions::new().write(true).open(parent.join("cgroup.procs"))?;
        Ok(Self { parent: parent.to_owned() })
    }

    /// Ends every process of runs that an earlier process of ours left behind. True if none is left:
    /// not if the earlier process may have run commands outside of these cgroups, which a file in
    /// `state_dir` tells.
    #[must_use]
    pub fn end_leftovers(&self, state_dir: &Path) -> bool {
        let parent = self.parent.as_os_str().as_encoded_bytes();
        let marker = state_dir.join("cgroup_parent");
        let held_all = fs::read(&marker).is_ok_and(|held| held == parent);
        let ended = self.end_all();
        fs::write(&marker, parent).is_ok() && held_all && ended
    }

    fn end_all(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.parent) else {
            return false;
        };
        let is_run = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
        };
        let runs = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_run(path));
        let ended: Vec<bool> = runs.map(|dir| RunGroup { dir }.end(0)).collect();
        ended.into_iter().all(|ended| ended)
    }

    /// A new cgroup for one run.
    ///
    /// # Errors
    /// It cannot be made: then nothing should run.
    pub fn create(&self, id: RequestId) -> io::Result<RunGroup> {
        let dir = self.parent.join(format!("{PREFIX}{id}"));
        fs::create_dir(&dir)?;
        Ok(RunGroup { dir })
    }
}

/// The cgroup of one run. Dropping it ends what the command left behind.
#[derive(Debug)]
pub struct RunGroup {
    dir: PathBuf,
}

impl RunGroup {
    /// `cgroup.procs`, to join by writing a process id.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn procs(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))
    }

    /// Kills every process in it at once.
    pub fn kill(&self) {
        // Where this fails the processes stay, which `end` reports.
        fs::write(self.dir.join("cgroup.kill"), "1").ok();
    }

    /// Waits until no process is in it, at most `limit_ms` milliseconds.
    fn wait_empty(&self, limit_ms: u64) -> bool {
        let Ok(events) = File::open(self.dir.join("cgroup.events")) else {
            return false;
        };
        let deadline = boottime_ms().saturating_add(limit_ms);
        loop {
            let left = deadline.saturating_sub(boottime_ms());
            if is_empty(&events) {
                return true;
            }
            if left == 0 {
                return false;
            }
            // The file announces each change since it was last read as an exceptional condition.
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            if poll(&mut fds, Some(u32::try_from(left).unwrap_or(u32::MAX))).is_err() {
                return false;
            }
        }
    }

    /// Ends what is left after `grace_ms` milliseconds. True if nothing is left.
    fn end(&self, grace_ms: u64) -> bool {
        if !self.wait_empty(grace_ms) {
            self.kill();
        }
        self.wait_empty(KILL_MS)
    }
}

/// Whether `cgroup.events` says that no process is in the cgroup.
fn is_empty(events: &File) -> bool {
    let mut text = [0; 128];
    let length = events.read_at(&mut text, 0).unwrap_or(0);
    text.get(..length)
        .is_some_and(|text| text.split(|byte| *byte == b'\n').any(|line| line == b"populated 0"))
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        self.end(GRACE_MS);
        fs::remove_dir(&self.dir).ok();
    }
}
