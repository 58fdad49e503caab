//! A requester's process that changes, as fast as it can, where names lead to. `KIND HOME`: below
//! `HOME` are `up/place`, which was approved, and `evil/place`, which was not. Says "ready" and goes
//! on until its input ends.

use std::fs::{create_dir, remove_dir, remove_file, rename};
use std::io::{self, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// The places below a home.
struct Home {
    up: PathBuf,
    evil: PathBuf,
    place: PathBuf,
    other: PathBuf,
    aside: PathBuf,
}

impl Home {
    fn of(path: &Path) -> Self {
        let (up, evil) = (path.join("up"), path.join("evil"));
        let (place, other) = (up.join("place"), evil.join("place"));
        Self { up, evil, place, other, aside: path.join("aside") }
    }

    /// One change and its reversal.
    fn swap(&self, kind: &str) -> io::Result<()> {
        match kind {
            "exchange" => exchange(&self.place, &self.other),
            "parent" => exchange(&self.up, &self.evil),
            "replace" => {
                rename(&self.place, &self.aside)?;
                rename(&self.other, &self.place)?;
                rename(&self.place, &self.other)?;
                rename(&self.aside, &self.place)
            }
            "link" => {
                rename(&self.place, &self.aside)?;
                symlink(&self.other, &self.place)?;
                remove_file(&self.place)?;
                rename(&self.aside, &self.place)
            }
            "parent-link" => {
                rename(&self.up, &self.aside)?;
                symlink(&self.evil, &self.up)?;
                remove_file(&self.up)?;
                rename(&self.aside, &self.up)
            }
            "recreate" => {
                rename(&self.place, &self.aside)?;
                create_dir(&self.place)?;
                remove_dir(&self.place)?;
                rename(&self.aside, &self.place)
            }
            // In a mount namespace of its own.
            "mount" => {
                run("mount", &["--bind".as_ref(), &self.other, &self.place])?;
                run("umount", &[&self.place])
            }
            _ => Err(io::Error::other(format!("no such kind: {kind}"))),
        }
    }
}

fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    for _ in 0..2 {
        renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)?;
    }
    Ok(())
}

fn run(program: &str, words: &[&Path]) -> io::Result<()> {
    let status = Command::new(program).args(words).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program}: {status}"))) }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (kind, home) = (words[0].clone(), Home::of(Path::new(&words[1])));
    let is_over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_over);
    std::thread::spawn(move || {
        io::stdin().read_to_end(&mut Vec::new()).ok();
        told.store(true, Ordering::SeqCst);
    });
    println!("ready");
    while !is_over.load(Ordering::SeqCst) {
        home.swap(&kind).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}
