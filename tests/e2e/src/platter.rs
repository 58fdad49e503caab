//! A disk that loses what was not flushed: an ext4 on a loop device whose image is a file that this
//! process serves, so that it knows what was written and what was also flushed.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::Seeded;

/// The kernel's protocol (`linux/fuse.h`): what is asked of a disk.
mod ask {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
}

const EIO: i32 = 5;
const ENOSYS: i32 = 38;
/// Bytes before the body of a question.
const HEADER: usize = 40;
/// Bytes between that and what is to be written.
const WRITE_HEAD: usize = 40;
/// What one question writes at most.
const WRITE_MAX: u32 = 1 << 17;
/// Every write of the file system reaches the server, and no cache is in between.
const DIRECT_IO: u32 = 1;
const SECTOR: usize = 512;
const DISK_BYTES: u64 = 32 << 20;
/// How long a disk may go unused before a test fails.
const DEADLINE: Duration = Duration::from_secs(120);

fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install it"));
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What is on the disk for certain, and what was written since it was flushed last.
#[derive(Default)]
struct Medium {
    stable: Vec<u8>,
    /// With everything that was written.
    cached: Vec<u8>,
    unflushed: Vec<(usize, Vec<u8>)>,
    flushes: u64,
    /// So many more writes and flushes, and the power goes.
    left: Option<u64>,
    /// What was left when it went.
    remains: Option<Remains>,
    chance: Option<Seeded>,
}

impl Medium {
    fn of(image: Vec<u8>) -> Self {
        Self { stable: image.clone(), cached: image, ..Self::default() }
    }

    /// Whether a write or flush is still served.
    fn has_power(&mut self) -> bool {
        match &mut self.left {
            None => true,
            Some(0) => {
                self.cut();
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.cached[at..at + bytes.len()].copy_from_slice(bytes);
        self.unflushed.push((at, bytes.to_vec()));
    }

    fn flush(&mut self) {
        for (at, bytes) in self.unflushed.drain(..) {
            self.stable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        self.flushes += 1;
    }

    /// Of what was not flushed each sector is there or not, as chance will have it.
    fn cut(&mut self) {
        // Only once.
        let Some(mut chance) = self.chance.take() else { return };
        let mut image = self.stable.clone();
        let share = chance.below(5);
        for (at, bytes) in &self.unflushed {
            for (sector, piece) in bytes.chunks(SECTOR).enumerate() {
                if chance.below(4) < share {
                    let at = at + sector * SECTOR;
                    image[at..at + piece.len()].copy_from_slice(piece);
                }
            }
        }
        let (flushes, unflushed) = (self.flushes, self.unflushed.len());
        self.remains = Some(Remains { image, flushes, unflushed });
    }
}

/// Such a disk in the place of a folder, whose files move onto it.
pub struct Platter {
    dir: PathBuf,
    /// Where the file with the image is.
    below: PathBuf,
    medium: Arc<Served>,
    server: Option<JoinHandle<()>>,
}

/// Shared with the thread that serves the image.
#[derive(Default)]
struct Served {
    medium: Mutex<Medium>,
    power_went: Condvar,
}

/// What was left on a disk when the power went.
pub struct Remains {
    image: Vec<u8>,
    /// How often the disk had been flushed.
    pub flushes: u64,
    /// How many writes came after the last flush.
    pub unflushed: usize,
}

impl Platter {
    /// In the place of `dir`, with its image below the folder `below`, which is made.
    pub fn over(dir: &Path, below: &Path) -> Self {
        let fresh = tempfile::NamedTempFile::new().expect("an image");
        fresh.as_file().set_len(DISK_BYTES).expect("its size");
        run("mkfs.ext4", &["-q", text(fresh.path())]);
        Self::serving(dir, below, fs::read(fresh.path()).expect("the image"))
    }

    fn serving(dir: &Path, below: &Path, image: Vec<u8>) -> Self {
        let medium = Mutex::new(Medium::of(image));
        let medium = Arc::new(Served { medium, ..Served::default() });
        fs::create_dir_all(below).expect("a folder");
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        let mut mount = Command::new("mount");
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
        mount.args(["-i", "-n", "-t", "fuse", "-o", options, "olb-test"]).arg(below);
        mount.stdin(Stdio::from(OwnedFd::from(device.try_clone().expect("a second descriptor"))));
        assert!(mount.status().expect("mount").success(), "a FUSE file system can be mounted");
        let served = Arc::clone(&medium);
        let server = std::thread::spawn(move || serve(&device, &served));
        let platter = Self { dir: dir.into(), below: below.into(), medium, server: Some(server) };
        platter.mount();
        platter
    }

    fn mount(&self) {
        let kept: Vec<_> = fs::read_dir(&self.dir)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file())
            .map(|path| (fs::read(&path).expect("a file"), path))
            .collect();
        run("mount", &["-o", "loop", text(&self.below.join("disk")), text(&self.dir)]);
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700)).expect("its mode");
        for (bytes, path) in kept {
            if !path.exists() {
                fs::write(path, bytes).expect("the file again");
            }
        }
        run("sync", &["--file-system", text(&self.dir)]);
    }

    /// The power goes after so many more writes and flushes: nothing reaches the disk from then on,
    /// whoever asks is told so, and this is what is on it. Waits for that.
    pub fn cut_after(&self, events: u64, chance: Seeded) -> Remains {
        let mut medium = lock(&self.medium);
        (medium.left, medium.chance) = (Some(events), Some(chance));
        let went = self
            .medium
            .power_went
            .wait_timeout_while(medium, DEADLINE, |medium| medium.remains.is_none());
        let (mut medium, _) = went.expect("nobody has panicked with the disk in hand");
        medium.remains.take().expect("the disk is used that often")
    }

    /// The disk as the next boot finds it, in the place of this one; nobody may use it any more.
    pub fn replaced(mut self, remains: Remains) -> Self {
        let (dir, below) = (self.dir.clone(), self.below.clone());
        self.remove();
        Self::serving(&dir, &below, remains.image)
    }

    fn remove(&mut self) {
        let Some(server) = self.server.take() else { return };
        // Lazily only where somebody still has a file open there.
        if !Command::new("umount").arg(&self.dir).status().is_ok_and(|status| status.success()) {
            run("umount", &["--lazy", text(&self.dir)]);
        }
        run("umount", &["--lazy", text(&self.below)]);
        if std::thread::panicking() {
            return;
        }
        server.join().expect("the server's end");
    }
}

impl Drop for Platter {
    fn drop(&mut self) {
        self.remove();
    }
}

fn lock(served: &Served) -> MutexGuard<'_, Medium> {
    served.medium.lock().expect("nobody has panicked with the disk in hand")
}

/// `struct fuse_attr`: a folder for inode 1, the image for inode 2.
fn attributes(inode: u64, size: usize) -> Vec<u8> {
    let (mode, size): (u32, usize) = if inode == 1 { (0o040_700, 0) } else { (0o100_600, size) };
    let mut bytes = vec![0; 88];
    bytes[..8].copy_from_slice(&inode.to_le_bytes());
    bytes[8..16].copy_from_slice(&(size as u64).to_le_bytes());
    bytes[60..64].copy_from_slice(&mode.to_le_bytes());
    bytes[64..68].copy_from_slice(&1_u32.to_le_bytes());
    bytes
}

/// One question of the kernel.
struct Question<'a>(&'a [u8]);

impl Question<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("4 bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("8 bytes"))
    }

    /// Where a read or write begins.
    fn offset(&self) -> usize {
        usize::try_from(self.u64(HEADER + 8)).expect("an offset")
    }
}

fn serve(device: &File, served: &Served) {
    let mut buffer = vec![0; 2 * WRITE_MAX as usize];
    let mut device = device;
    // Ends when the mount does.
    while let Ok(length) = device.read(&mut buffer) {
        let question = Question(&buffer[..length]);
        let answer = answer(&question, &mut lock(served));
        served.power_went.notify_all();
        let Some(answer) = answer else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let total = u32::try_from(16 + body.len()).expect("a short reply");
        let head = [&total.to_le_bytes()[..], &error.to_le_bytes(), &question.0[8..16]].concat();
        // Fails where the question was taken back meanwhile.
        device.write_all(&[head, body].concat()).ok();
    }
}

/// `None` where no answer is expected.
fn answer(question: &Question<'_>, medium: &mut Medium) -> Option<Result<Vec<u8>, i32>> {
    let size = medium.stable.len();
    Some(Ok(match question.u32(4) {
        ask::INIT => {
            let mut body = vec![0; 64];
            // Version 7.31, the rest as small as can be.
            (body[0], body[4]) = (7, 31);
            body[20..24].copy_from_slice(&WRITE_MAX.to_le_bytes());
            body
        }
        ask::LOOKUP => [&2_u64.to_le_bytes()[..], &[0; 32], &attributes(2, size)].concat(),
        ask::GETATTR => [&[0; 16][..], &attributes(question.u64(16), size)].concat(),
        ask::OPEN => [&[0; 8][..], &DIRECT_IO.to_le_bytes(), &[0; 4]].concat(),
        ask::READ => {
            let at = question.offset().min(size);
            let end = (at + question.u32(HEADER + 16) as usize).min(size);
            medium.cached[at..end].to_vec()
        }
        ask::WRITE | ask::FSYNC if !medium.has_power() => return Some(Err(EIO)),
        ask::WRITE => {
            let bytes = &question.0[HEADER + WRITE_HEAD..];
            medium.write(question.offset(), bytes);
            let length = u32::try_from(bytes.len()).expect("a short write");
            [length.to_le_bytes(), [0; 4]].concat()
        }
        ask::FSYNC => {
            medium.flush();
            Vec::new()
        }
        ask::FLUSH | ask::RELEASE => Vec::new(),
        ask::FORGET | ask::BATCH_FORGET | ask::INTERRUPT => return None,
        _ => return Some(Err(ENOSYS)),
    }))
}
