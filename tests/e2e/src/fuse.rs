//! A file system that never answers: mounted for real, served by this process, silent on purpose.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Operations of the kernel's protocol that are answered; every other one waits for ever.
const INIT: u32 = 26;
const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;

/// The one file in it.
pub const FILE: &str = "file";

/// How helpful it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fuse {
    /// [`FILE`] is there and can be opened; no other question is answered.
    OpensItsFile,
    /// Nothing is answered.
    Silent,
}

/// A mount; gone when dropped.
pub struct FuseMount {
    path: PathBuf,
    questions: Arc<AtomicU64>,
    server: Option<JoinHandle<()>>,
    ender: Option<Child>,
}

/// Ends the mount by force when its input ends, or after a minute whatever happens: a process that
/// waits for a silent file system cannot be killed, and its own clean-up would never run.
const ENDER: &str = r#"read -r -t 60 _; umount -i -n -f "$0"; umount -i -n -l "$0"; true"#;

impl FuseMount {
    /// Mounts over the folder `path`, for every user.
    pub fn over(path: &Path, kind: Fuse) -> Self {
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other";
        let mut mount = Command::new("mount");
        mount.args(["-i", "-n", "-t", "fuse", "-o", options, "olb-test"]).arg(path);
        mount.stdin(Stdio::from(OwnedFd::from(device.try_clone().expect("a second descriptor"))));
        assert!(mount.status().expect("mount").success(), "a FUSE file system can be mounted");
        let mut ender = Command::new("bash");
        ender.args(["-c", ENDER]).arg(path).stdin(Stdio::piped());
        let ender = ender.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash");
        let questions = Arc::new(AtomicU64::new(0));
        let asked = Arc::clone(&questions);
        let server = std::thread::spawn(move || serve(device, kind, &asked));
        Self { path: path.into(), questions, server: Some(server), ender: Some(ender) }
    }

    /// Questions that wait for an answer for ever.
    pub fn waiting(&self) -> u64 {
        self.questions.load(Ordering::SeqCst)
    }

    /// The path of the one file.
    pub fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        if let Some(mut ender) = self.ender.take() {
            drop(ender.stdin.take());
            ender.wait().expect("its end");
        }
        if let Some(server) = self.server.take() {
            server.join().expect("the server's end");
        }
        assert!(fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none()));
    }
}

/// A reply: length, error, the question's number, and the body.
fn reply(mut device: &File, question: &[u8], body: &[u8]) {
    let length = u32::try_from(16 + body.len()).expect("a short reply");
    let header = [&length.to_le_bytes()[..], &[0; 4], &question[8..16]].concat();
    // Fails where the question was taken back meanwhile.
    device.write_all(&[header.as_slice(), body].concat()).ok();
}

/// `struct fuse_attr`: a folder for inode 1, a file for inode 2.
fn attributes(inode: u64) -> Vec<u8> {
    let mode: u32 = if inode == 1 { 0o040_777 } else { 0o100_777 };
    let mut bytes = vec![0; 88];
    bytes[..8].copy_from_slice(&inode.to_le_bytes());
    bytes[60..64].copy_from_slice(&mode.to_le_bytes());
    bytes[64..68].copy_from_slice(&1_u32.to_le_bytes());
    bytes
}

fn serve(device: File, kind: Fuse, waiting: &AtomicU64) {
    let mut buffer = vec![0; 1 << 17];
    // Ends when the mount is.
    while let Ok(length) = (&device).read(&mut buffer) {
        let question = &buffer[..length];
        let number = |at: usize| u32::from_le_bytes(question[at..at + 4].try_into().expect("4"));
        let node = u64::from_le_bytes(question[16..24].try_into().expect("8"));
        match (number(4), kind) {
            (INIT, _) => {
                // Version 7.31, the rest as small as can be.
                let mut body = vec![0; 64];
                body[0] = 7;
                body[4] = 31;
                body[20..24].copy_from_slice(&4096_u32.to_le_bytes());
                reply(&device, question, &body);
            }
            (LOOKUP, Fuse::OpensItsFile) => {
                let entry = [&2_u64.to_le_bytes()[..], &[0; 32], &attributes(2)].concat();
                reply(&device, question, &entry);
            }
            (GETATTR, Fuse::OpensItsFile) => {
                reply(&device, question, &[&[0; 16][..], &attributes(node)].concat());
            }
            (OPEN, Fuse::OpensItsFile) => reply(&device, question, &[0; 16]),
            _ => {
                waiting.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}
