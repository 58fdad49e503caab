//! The bytes of staged files, from the submit until their request is over: a folder for each
//! request, named for its plan, with a file for each staged word.
//!
//! Nothing here is trusted by anybody: the root half copies what it is handed and compares the copy
//! with the plan.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use olb_core::{Lifecycle, Viewer};
use olb_lease::{Plan, PlanDigest, Staged};
use olb_sys::memfd::sealed_copy;

use crate::admission::AdmissionError;
use crate::config::ConnectionLimits;
use crate::room::{Room, Share};

/// Nobody but the front looks at them.
const FOLDER_MODE: u32 = 0o700;
/// Begins the name of a folder whose files have not all arrived.
const INCOMING: &str = "incoming-";

/// The folder, and who has how much in it.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    room: Room,
    kept: RefCell<HashMap<PlanDigest, Share>>,
    arrivals: RefCell<u64>,
}

/// A request that is open, as it was remembered.
struct Remembered {
    plan: PlanDigest,
    uid: u32,
    bytes: u64,
}

impl Blobs {
    /// Opens the folder below `state_dir` with the files of the requests that are open.
    pub(crate) fn of(
        limits: &ConnectionLimits,
        state_dir: &Path,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let room = Room::new(
            ("staged_bytes_per_uid", limits.staged_bytes_per_uid),
            ("staged_bytes_total", limits.staged_bytes_total),
        );
        let open = lifecycle.list(Viewer::Approver, true);
        let remembered = open.into_iter().filter_map(|request| {
            // What does not read has no files that could be handed over.
            let plan = Plan::decode(&request.plan).ok().filter(|plan| !plan.staged.is_empty())?;
            let bytes = plan.staged.iter().map(|file| file.size).sum();
            Some(Remembered { plan: request.digest, uid: request.requester_uid, bytes })
        });
        Self::open(state_dir, room, remembered).context(
            "the folder for files of requests cannot be used; see to its disk and its owner",
        )
    }

    /// Opens the folder below `state_dir`, and deletes what belongs to none of `open`.
    fn open(
        state_dir: &Path,
        room: Room,
        open: impl IntoIterator<Item = Remembered>,
    ) -> io::Result<Self> {
        let folder = state_dir.join("blobs");
        match DirBuilder::new().mode(FOLDER_MODE).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // What is there was let in before, whatever the limits are now.
        let share = |one: Remembered| (one.plan, room.share(one.uid, one.bytes));
        let kept: HashMap<_, _> = open.into_iter().map(share).collect();
        let names: Vec<_> = kept.keys().map(|plan| plan.hex()).collect();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if !names.iter().any(|name| entry.file_name() == name.as_str()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { folder, room, kept: RefCell::new(kept), arrivals: RefCell::default() })
    }

    /// Makes room for files of `uid` that arrive now.
    pub(crate) fn arrive(&self, uid: u32, bytes: u64) -> Result<Incoming, ArrivalError> {
        let share = self.room.take(uid, bytes)?;
        let number = {
            let mut arrivals = self.arrivals.borrow_mut();
            *arrivals = arrivals.wrapping_add(1);
            *arrivals
        };
        let folder = self.folder.join(format!("{INCOMING}{number}"));
        DirBuilder::new().mode(FOLDER_MODE).create(&folder)?;
        Ok(Incoming { folder, share: Some(share) })
    }

    /// Keeps what has arrived as the files of `plan`.
    pub(crate) fn keep(&self, plan: &PlanDigest, mut incoming: Incoming) -> io::Result<()> {
        fs::rename(&incoming.folder, self.folder.join(plan.hex()))?;
        if let Some(share) = incoming.share.take() {
            self.kept.borrow_mut().insert(*plan, share);
        }
        Ok(())
    }

    /// The folder of a request that is over, out of the way; to be deleted by the caller, where
    /// that may take its time. `None` where nothing is kept for it.
    pub(crate) fn forget(&self, plan: &PlanDigest) -> Option<PathBuf> {
        let share = self.kept.borrow_mut().remove(plan);
        share.map(|_| self.folder.join(plan.hex()))
    }

    /// Where the files of `plan` are.
    pub(crate) fn folder_of(&self, plan: &PlanDigest) -> PathBuf {
        self.folder.join(plan.hex())
    }
}

/// The files in `folder`, each in a file of memory that nobody can change. Blocks.
pub(crate) fn load(folder: &Path, staged: &[Staged]) -> io::Result<Vec<OwnedFd>> {
    let load = |(at, _)| {
        let mut file = File::open(folder.join(file_name(at)))?;
        sealed_copy("olb-staged", &mut file)
    };
    staged.iter().enumerate().map(load).collect()
}

/// Name of the file for the place `at` in the list of staged words.
fn file_name(at: usize) -> String {
    at.to_string()
}

/// Why files are not taken in.
#[derive(Debug)]
pub(crate) enum ArrivalError {
    Full(AdmissionError),
    Io(io::Error),
}

impl From<AdmissionError> for ArrivalError {
    fn from(error: AdmissionError) -> Self {
        Self::Full(error)
    }
}

impl From<io::Error> for ArrivalError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A folder that is being filled; deleted with everything in it unless it is kept.
#[derive(Debug)]
pub(crate) struct Incoming {
    folder: PathBuf,
    share: Option<Share>,
}

impl Incoming {
    /// The file for the place `at` in the list of staged words.
    pub(crate) fn create(&self, at: usize) -> io::Result<File> {
        File::create_new(self.folder.join(file_name(at)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // One that was kept has no share any more, and its folder another name.
        if self.share.is_some()
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(event = "upload_not_deleted", %error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use olb_lease::Digest;

    use super::*;

    const PLAN: PlanDigest = PlanDigest([1; 32]);

    fn room() -> Room {
        Room::new(("per_uid", 10), ("total", 15))
    }

    fn open(folder: &Path, open: Vec<Remembered>) -> Blobs {
        Blobs::open(folder, room(), open).unwrap()
    }

    fn entries(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder.join("blobs")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn kept(blobs: &Blobs, bytes: &[u8]) {
        let incoming = blobs.arrive(7, bytes.len() as u64).unwrap();
        incoming.create(0).unwrap().write_all(bytes).unwrap();
        blobs.keep(&PLAN, incoming).unwrap();
    }

    fn staged() -> Staged {
        let (path, sha256) = (b"/x".to_vec(), Digest([0; 32]));
        Staged { word: 1, prefix: 0, path, size: 5, sha256, executable: false }
    }

    #[test]
    fn what_is_kept_can_be_loaded_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path(), Vec::new());
        kept(&blobs, b"hello");
        let files = load(&blobs.folder_of(&PLAN), &[staged()]).unwrap();
        let [file] = <[OwnedFd; 1]>::try_from(files).unwrap();
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        fs::remove_dir_all(blobs.forget(&PLAN).unwrap()).unwrap();
        assert_eq!(blobs.forget(&PLAN), None);
        assert!(load(&blobs.folder_of(&PLAN), &[staged()]).is_err());
        assert!(blobs.room.is_empty());
    }

    #[test]
    fn what_is_not_kept_is_deleted_and_its_room_is_free_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path(), Vec::new());
        let incoming = blobs.arrive(7, 10).unwrap();
        incoming.create(0).unwrap();
        let full = blobs.arrive(7, 1).unwrap_err();
        let own = AdmissionError::TooMany { limit: "per_uid", max: 10 };
        assert!(matches!(full, ArrivalError::Full(error) if error == own));
        let full = blobs.arrive(8, 6).unwrap_err();
        let all = AdmissionError::TooMany { limit: "total", max: 15 };
        assert!(matches!(full, ArrivalError::Full(error) if error == all));
        drop(incoming);
        assert!(entries(folder.path()).is_empty());
        blobs.arrive(7, 10).unwrap();
    }

    #[test]
    fn at_start_only_the_files_of_open_requests_stay_and_they_count() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path(), Vec::new());
        kept(&blobs, b"hello");
        drop(blobs);
        for name in ["incoming-3", "ff"] {
            fs::create_dir(folder.path().join("blobs").join(name)).unwrap();
        }
        let one = Remembered { plan: PLAN, uid: 7, bytes: 5 };
        let blobs = open(folder.path(), vec![one]);
        assert_eq!(entries(folder.path()), [PLAN.hex()]);
        assert!(blobs.arrive(7, 6).is_err());
        assert!(load(&blobs.folder_of(&PLAN), &[staged()]).is_ok());
        open(folder.path(), Vec::new());
        assert!(entries(folder.path()).is_empty());
    }
}
