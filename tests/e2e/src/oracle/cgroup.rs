//! A cgroup for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A new cgroup of version 2; when dropped, everything in it is ended and all of it removed.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/mounts").expect("the mounts");
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = fields.filter(|fields| fields[2] == "cgroup2").map(|fields| fields[1]).next();
        let mount = mount.expect("a cgroup2 mount; the kernel of every current system has one");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(mount).join(format!("olb-oracle-{}-{number}", std::process::id()));
        fs::create_dir(&dir).expect("a cgroup");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    // What was killed leaves a moment later.
    for _ in 0..1000 {
        if fs::remove_dir(dir).is_ok() {
            return;
        }
        std::thread::yield_now();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.kill"), "1").ok();
        remove(&self.0);
    }
}
