//! Disks that fill up or go bad, and system calls that fail.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install it"));
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

/// A small file system of its own in the place of a folder, whose files move into it; gone when
/// dropped.
pub struct Disk {
    dir: PathBuf,
    _image: Option<tempfile::NamedTempFile>,
}

impl Disk {
    /// In memory, of `kib` KiB.
    pub fn small(dir: &Path, kib: u32) -> Self {
        let options = format!("size={kib}k,mode=0700");
        Self::over(dir, None, &["-t", "tmpfs", "-o", &options, "olb-test"])
    }

    /// ext4 in a file, large enough for everything.
    pub fn ext4(dir: &Path) -> Self {
        let image = tempfile::NamedTempFile::new().expect("an image");
        image.as_file().set_len(32 << 20).expect("its size");
        let path = image.path().to_str().expect("UTF-8").to_owned();
        run("mkfs.ext4", &["-q", &path]);
        Self::over(dir, Some(image), &["-o", "loop", &path])
    }

    fn over(dir: &Path, image: Option<tempfile::NamedTempFile>, words: &[&str]) -> Self {
        let kept: Vec<_> = fs::read_dir(dir)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .map(|path| (fs::read(&path).expect("a file"), path))
            .collect();
        run("mount", &[words, &[dir.to_str().expect("UTF-8")]].concat());
        fs::set_permissions(dir, Permissions::from_mode(0o700)).expect("its mode");
        for (bytes, path) in kept {
            fs::write(path, bytes).expect("the file again");
        }
        Self { dir: dir.to_owned(), _image: image }
    }

    /// Takes every byte that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.dir.join("filler")).expect("a file");
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives them back.
    pub fn free(&self) {
        fs::remove_file(self.dir.join("filler")).expect("the filler");
    }

    /// Makes an ext4 read-only from below, as the kernel does after an error of the device: files
    /// that are open for writing stay open and can no longer be written.
    pub fn abort(&self) {
        run("mount", &["-o", "remount,abort", self.dir.to_str().expect("UTF-8")]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever has files open there keeps them; the place is free.
        run("umount", &["--lazy", self.dir.to_str().expect("UTF-8")]);
    }
}

/// Makes system calls of a running process fail until it is ended or dropped.
pub struct Injection {
    strace: Option<Child>,
    seen: tempfile::NamedTempFile,
}

impl Injection {
    /// Every `fsync` and `fdatasync` of the process fails with `EIO`.
    pub fn no_sync(pid: u32) -> Self {
        Self::attach(pid, "fsync,fdatasync", "error=EIO")
    }

    /// Only the `nth` one does, counted from 1 in each thread.
    pub fn one_sync(pid: u32, nth: u32) -> Self {
        Self::attach(pid, "fsync,fdatasync", &format!("error=EIO:when={nth}"))
    }

    /// Every write to a place in a file fails as on a full disk.
    pub fn no_room(pid: u32) -> Self {
        Self::attach(pid, "pwrite64", "error=ENOSPC")
    }

    /// `call` of the process, and of what it starts, claims to have succeeded and does nothing.
    pub fn pretend(pid: u32, call: &str) -> Self {
        Self::attach(pid, call, "retval=0")
    }

    fn attach(pid: u32, calls: &str, fault: &str) -> Self {
        let seen = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{fault}")]);
        command.arg("-o").arg(seen.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.spawn().unwrap_or_else(|error| panic!("strace: {error}"));
        let mut told = BufReader::new(strace.stderr.take().expect("its messages"));
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert_ne!(told.read_line(&mut line).expect("a message"), 0, "strace cannot attach");
        }
        // Later messages go nowhere, but never into a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
        Self { strace: Some(strace), seen }
    }

    /// Lets go of the process; whether anything failed.
    pub fn end(mut self) -> bool {
        self.detach();
        fs::read_to_string(self.seen.path()).expect("what was seen").contains("INJECTED")
    }

    fn detach(&mut self) {
        if let Some(mut strace) = self.strace.take() {
            // On SIGTERM strace lets go of the process first.
            run("kill", &["-s", "TERM", &strace.id().to_string()]);
            strace.wait().expect("its end");
        }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.detach();
    }
}
