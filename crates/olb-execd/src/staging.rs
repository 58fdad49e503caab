//! Copies of the files that a plan binds by their content, where only root can write. The human saw
//! their digests; the command reads the copies, whatever becomes of the originals.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use olb_exec_api::{Reason, Refusal};
use olb_lease::{Plan, Staged, staging};
use olb_sys::crash::crash_point;
use olb_sys::file::has_writers;
use olb_sys::memfd::read_in_pieces;
use olb_sys::path;
use sha2::{Digest as _, Sha256};

/// Everybody can go through a folder of copies, and only who is told their names finds anything.
const FOLDER_MODE: u32 = 0o711;
const PASS: u32 = 0o001;
/// What lets others list a folder.
const LIST: u32 = 0o044;
/// Of a copy, and of one that can be executed.
const FILE_MODE: u32 = 0o444;
const EXECUTABLE_MODE: u32 = 0o555;
/// Digits of the name of one run's folder.
const NAME_DIGITS: usize = 32;
/// A child of ours that was cloned while a copy was written holds it open until it becomes its
/// command; that is waited for so often and so long: two seconds.
const WRITER_ATTEMPTS: u32 = 400;
const WRITER_PAUSE: Duration = Duration::from_millis(5);

/// The folder for copies.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    bytes_max: u64,
    taken: Mutex<u64>,
}

/// The copies of one run. Dropping it removes them.
#[derive(Debug)]
pub struct Copies<'a> {
    staging: &'a Staging,
    folder: PathBuf,
    bytes: u64,
    executables: Vec<Vec<u8>>,
}

impl Staging {
    /// Takes `dir`, which is made where it is missing, for at most `bytes_max` bytes of copies at
    /// once. Removes what an earlier process left there.
    ///
    /// # Errors
    /// It cannot be used or passed through, nothing can be executed on its file system, or others than
    /// root can change it or a folder on its path; without a boundary (`has_boundary`) that is
    /// nobody's concern.
    pub fn open(dir: &Path, bytes_max: u64, has_boundary: bool) -> io::Result<Self> {
        match make_folder(dir) {
            // Whose it is and what it is for is the administrator's: it stays as it is.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let require = |holds, text| if holds { Ok(()) } else { Err(io::Error::other(text)) };
        let dir = path::canonicalize(dir)?;
        let is_ours = !has_boundary || path::only_root_can_change(&dir)?;
        require(is_ours, "others than root can change it or a folder above it; choose another")?;
        let can_execute = !path::is_noexec(&dir)?;
        require(can_execute, "its file system is mounted noexec; choose a folder on another")?;
        let is_passable = fs::metadata(&dir)?.permissions().mode() & PASS == PASS;
        require(is_passable, "commands of other users cannot go through it; run chmod 711 on it")?;
        let is_secret = fs::metadata(&dir)?.permissions().mode() & LIST == 0;
        require(is_secret || !has_boundary, "others can list what is in it; run chmod 711 on it")?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if is_ours_by_name(&entry.file_name().into_vec()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { dir, bytes_max, taken: Mutex::default() })
    }

    /// The folder's path.
    #[must_use]
    pub fn dir(&self) -> &[u8] {
        self.dir.as_os_str().as_bytes()
    }

    /// Copies `offered`, one memory file for each staged file of `plan`, in this order.
    ///
    /// # Errors
    /// They are not what was approved, or there is no room. No copy is left then.
    pub fn copy(&self, plan: &Plan, offered: Vec<OwnedFd>) -> Result<Copies<'_>, Refusal> {
        let places = staging::places(self.dir(), &plan.random, &plan.typed_argv, &plan.staged);
        let Some(places) = places.filter(|places| places.len() == offered.len()) else {
            let text = "other files were handed over than were approved; ask again";
            return Err(Refusal::new(Reason::Mismatch, text));
        };
        let mut copies = self.reserve(plan)?;
        crash_point("execute-staging");
        for ((file, place), source) in plan.staged.iter().zip(places).zip(offered) {
            copy_one(file, &path_of(&place), &source)?;
            if file.executable {
                copies.executables.push(place);
            }
        }
        Ok(copies)
    }

    /// Takes room for the copies of `plan`, and their folder.
    fn reserve(&self, plan: &Plan) -> Result<Copies<'_>, Refusal> {
        let bytes = plan.staged.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        let folder = path_of(&staging::folder(self.dir(), &plan.random));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let total = taken.saturating_add(bytes);
        if total > self.bytes_max {
            let text = "too many bytes of files are copied for commands at the moment; try again \
                        when one has ended";
            return Err(Refusal::new(Reason::Busy, text));
        }
        fs::create_dir(&folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Refusal::new(Reason::Busy, "the lease is presented by another process right now")
            }
            _ => no_room(&error),
        })?;
        *taken = total;
        drop(taken);
        // From here on it is removed whatever happens.
        let copies = Copies { staging: self, folder, bytes, executables: Vec::new() };
        let opened = fs::set_permissions(&copies.folder, Permissions::from_mode(FOLDER_MODE));
        opened.map_err(|error| no_room(&error))?;
        Ok(copies)
    }
}

impl Copies<'_> {
    /// Where the copies are that can be executed.
    pub fn executables(&self) -> impl Iterator<Item = &[u8]> {
        self.executables.iter().map(Vec::as_slice)
    }
}

impl Drop for Copies<'_> {
    fn drop(&mut self) {
        // What stays is removed at the next start, and is in nobody's way until then.
        fs::remove_dir_all(&self.folder).ok();
        let mut taken = self.staging.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(self.bytes);
    }
}

fn is_ours_by_name(name: &[u8]) -> bool {
    name.len() == NAME_DIGITS && name.iter().all(u8::is_ascii_hexdigit)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn no_room(error: &io::Error) -> Refusal {
    let text = format!("the files that were approved cannot be copied: {error}; try again");
    Refusal::new(Reason::Unavailable, text)
}

/// Our umask lets nobody else in, so the mode is given afterwards.
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
}

/// The sender may still change its memory file: what counts is what was written here.
fn copy_one(file: &Staged, place: &Path, source: &OwnedFd) -> Result<(), Refusal> {
    let folder = place.parent().unwrap_or(place);
    let mut options = OpenOptions::new();
    let copy = make_folder(folder)
        .and_then(|()| options.write(true).create_new(true).mode(0o600).open(place));
    let mut copy = copy.map_err(|error| no_room(&error))?;
    let (mut hash, mut bytes, mut failed) = (Sha256::new(), 0_u64, None);
    let read = read_in_pieces(source, file.size, |piece| {
        hash.update(piece);
        bytes = bytes.saturating_add(piece.len() as u64);
        copy.write_all(piece).inspect_err(|error| failed = Some(no_room(error)))
    });
    if let Some(refusal) = failed {
        return Err(refusal);
    }
    let digest: [u8; 32] = hash.finalize().into();
    if read.is_err() || bytes != file.size || digest != file.sha256.0 {
        let shown = file.path.escape_ascii();
        let text = format!("what was handed over for {shown} is not what was approved; ask again");
        return Err(Refusal::new(Reason::Mismatch, text));
    }
    let mode = if file.executable { EXECUTABLE_MODE } else { FILE_MODE };
    copy.set_permissions(Permissions::from_mode(mode)).map_err(|error| no_room(&error))?;
    drop(copy);
    wait_for_writers(place).map_err(|error| no_room(&error))
}

/// A file that is open for writing is executed for nobody, and after the burn there is no second try.
/// Where the file system cannot tell, there is no writer: a run that starts at this very moment is rare.
fn wait_for_writers(place: &Path) -> io::Result<()> {
    let copy = File::open(place)?;
    for _ in 0..WRITER_ATTEMPTS {
        if !has_writers(&copy).unwrap_or(false) {
            return Ok(());
        }
        thread::sleep(WRITER_PAUSE);
    }
    Err(io::ErrorKind::ExecutableFileBusy.into())
}

#[cfg(test)]
mod tests;
