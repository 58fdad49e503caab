//! Needs root, for a file system of its own; without it these tests say so and end.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use super::*;

/// A small tmpfs, unmounted at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "olb-test"])
            .arg(directory.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        eprintln!("skipped: mounting a tmpfs needs root");
        None
    }

    fn ledger(&self) -> PathBuf {
        self.0.path().join("ledger.db")
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

//
#[test]
fn on_a_full_disk_what_ran_is_recorded_and_nothing_new_begins() {
    let Some(disk) = Disk::mount("size=768k,mode=0700") else { return };
    let mut host = Host::new();
    let ledger = Ledger::open(host.options(&disk.ledger())).unwrap().0;
    let ballast = disk.0.path().join("ledger.ballast");
    let ran = Request::new(&ledger, 0);
    let burned = ledger.burn(verified(&ran.approve(&ledger)), check(&ledger)).unwrap();
    disk.fill();
    let full = (1..2_000)
        .map(|number| ledger.decide(Request::new(&ledger, number).decision(1)))
        .find_map(Result::err);
    assert_eq!(full, Some(LedgerError::Full));
    assert!(ballast.exists(), "a refused request does not cost the ballast");
    let mut finish = exited(5);
    finish.stdout_tail = vec![b'x'; crate::TAIL_BYTES_MAX];
    ledger.finish(burned, finish).unwrap();
    assert!(!ballast.exists(), "the outcome did not need the ballast");
    let refused = ledger.decide(Request::new(&ledger, 5_000).decision(1));
    assert_eq!(refused, Err(LedgerError::Full));
    assert!(ledger.peek(ran.digest()).unwrap().recorded.is_some());
    fs::remove_file(disk.0.path().join("filler")).unwrap();
    let lease = Request::new(&ledger, 5_001).approve(&ledger);
    ledger.burn(verified(&lease), check(&ledger)).unwrap();
    assert!(ballast.exists(), "with space again, there is ballast again");
    intact(&ledger);
    ledger.close();
}

#[test]
fn a_read_only_disk_keeps_the_ledger_closed() {
    let Some(disk) = Disk::mount("size=768k,mode=0700") else { return };
    let mut host = Host::new();
    Ledger::open(host.options(&disk.ledger())).unwrap().0.close();
    let read_only = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status();
    assert!(read_only.unwrap().success());
    let refused = Ledger::open(host.options(&disk.ledger())).unwrap_err();
    assert!(matches!(refused, LedgerError::File { .. }), "{refused:?}");
}
