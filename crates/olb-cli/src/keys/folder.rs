//! The folder of enrolments as the root half reads it, and what became of each file in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use olb_exec_api::{ENROLMENT_BYTES_MAX, ENROLMENTS_MAX, Enrolled};
use olb_lease::{Approver, Kid, PublicKey};
use olb_sys::file::read_trusted;

/// An enrolment file.
#[derive(Debug)]
pub(crate) struct EnrolmentFile {
    /// Where.
    pub(crate) path: PathBuf,
    /// What it says, or why that counts for nothing.
    pub(crate) text: Result<Enrolled, String>,
    /// The key in it, also where the rest does not read.
    pub(crate) key: Option<PublicKey<Approver>>,
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// Where.
    pub(crate) path: PathBuf,
    /// What is written there for people, by its names.
    pub(crate) notes: BTreeMap<String, String>,
}

/// All that counts, or was meant to.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// Enrolment files, in the order of their names.
    pub(crate) enrolments: Vec<EnrolmentFile>,
    /// Revocations.
    pub(crate) revoked: BTreeMap<Kid, Revocation>,
    /// Files that look like a revocation and are none.
    pub(crate) stray: Vec<PathBuf>,
}

/// What an enrolment file is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its key decides.
    InForce,
    /// Its last second has passed.
    Expired,
    /// Its key was revoked.
    Revoked,
    /// It is left out, for this reason.
    LeftOut(String),
}

impl Folder {
    /// Reads the folder; files in it have to belong to `owner`.
    ///
    /// # Errors
    /// It cannot be listed.
    pub(crate) fn read(dir: &Path, owner: u32) -> io::Result<Self> {
        let mut folder = Self::default();
        let mut paths = fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("conf") => folder.enrolments.push(enrolment(path, owner)),
                Some("revoked") => {
                    let stem = path.file_stem().and_then(|stem| stem.to_str());
                    match stem.map(Kid::from_hex) {
                        Some(Ok(kid)) => {
                            let notes = notes(&path);
                            folder.revoked.insert(kid, Revocation { path, notes });
                        }
                        Some(Err(_)) | None => folder.stray.push(path),
                    }
                }
                Some(_) | None => {}
            }
        }
        Ok(folder)
    }

    /// What each enrolment file is good for at `now`, in the same order.
    pub(crate) fn standings(&self, now: u64) -> Vec<Standing> {
        let read = || self.enrolments.iter().take(ENROLMENTS_MAX);
        let mut seen = BTreeSet::new();
        let good = read().filter_map(|one| one.text.as_ref().ok()).filter(|one| one.in_force(now));
        let twice: BTreeSet<Kid> =
            good.map(|one| one.key.kid()).filter(|kid| !seen.insert(*kid)).collect();
        let standing = |(at, one): (usize, &EnrolmentFile)| match &one.text {
            Ok(enrolled) if self.revoked.contains_key(&enrolled.key.kid()) => Standing::Revoked,
            _ if at >= ENROLMENTS_MAX => {
                Standing::LeftOut(format!("only the first {ENROLMENTS_MAX} files are read"))
            }
            Err(why) => Standing::LeftOut(why.clone()),
            Ok(enrolled) if !enrolled.in_force(now) => Standing::Expired,
            Ok(enrolled) if twice.contains(&enrolled.key.kid()) => {
                Standing::LeftOut("its key is enrolled in two files, so neither counts".into())
            }
            Ok(_) => Standing::InForce,
        };
        self.enrolments.iter().enumerate().map(standing).collect()
    }
}

/// Whether a file in `dir` revokes the key `kid`.
pub(crate) fn is_revoked_in(dir: &Path, kid: Kid) -> bool {
    dir.join(format!("{}.revoked", kid.hex())).symlink_metadata().is_ok()
}

/// The sentence on the key `kid`, of which `what` says how it is known to be revoked.
pub(crate) fn revoked(kid: Kid, what: &str) -> String {
    format!(
        "key {} {what}, for ever; its owner makes another one with 'olb keys rotate', and root \
         enrols that with 'olb keys enroll --user NAME --key HEX'",
        kid.hex()
    )
}

fn enrolment(path: PathBuf, owner: u32) -> EnrolmentFile {
    let bytes = read_trusted(&path, ENROLMENT_BYTES_MAX, owner).map_err(|error| error.to_string());
    let text = bytes.and_then(|bytes| Enrolled::parse(&bytes).map_err(|error| error.to_string()));
    let key = match &text {
        Ok(enrolled) => Some(enrolled.key.clone()),
        Err(_) => notes(&path).get("key").and_then(|hex| PublicKey::from_hex(hex).ok()),
    };
    EnrolmentFile { path, text, key }
}

/// The lines `name = value` of a file that need not be in order; the last of a name counts.
fn notes(path: &Path) -> BTreeMap<String, String> {
    // Only root writes there. Through a link nothing is read: what it shows is nobody's note.
    let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
    let bytes = if is_file { fs::read(path).unwrap_or_default() } else { Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use olb_lease::SigningKey;

    use super::*;

    pub(crate) fn key(seed: u8) -> PublicKey<Approver> {
        SigningKey::<Approver>::from_seed(&[seed; 32].into()).unwrap().public().clone()
    }

    pub(crate) fn text(name: &str, seed: u8, not_after: u64) -> String {
        format!(
            "name = {name}\nuid = 1000\nkey = {}\nrequesters = any\nrun_as = any\n\
             run_as_groups = any\nmax_lease_secs = 900\nmax_approvals_per_hour = 60\n\
             not_after = {not_after}\nsecond = none\n",
            key(seed).hex()
        )
    }

    // [F-7] [F-8] [F-9]
    #[test]
    fn every_file_stands_as_the_root_half_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.conf", &text("alice", 1, 0));
        write("b.conf", &text("bob", 2, 50));
        write("c.conf", &text("carol", 3, 0));
        write(&format!("{}.revoked", key(3).kid().hex()), "reason = lost = gone\n");
        write("d.conf", &text("dave", 4, 0));
        write("e.conf", &text("erin", 4, 0));
        write("f.conf", &text("frank", 5, 0).replace("uid = 1000", "uid = many"));
        write("frank.revoked", "");
        write("notes.txt", "");
        let own = olb_sys::harden::effective_uid();
        let folder = Folder::read(dir.path(), own).unwrap();
        let twice = Standing::LeftOut("its key is enrolled in two files, so neither counts".into());
        let unread = Standing::LeftOut("'uid' wants a whole number in its range".into());
        assert_eq!(
            folder.standings(50),
            [Standing::InForce, Standing::Expired, Standing::Revoked, twice.clone(), twice, unread]
        );
        assert_eq!(folder.revoked[&key(3).kid()].notes["reason"], "lost = gone");
        assert_eq!(folder.stray, [dir.path().join("frank.revoked")]);
        assert_eq!(folder.enrolments[5].key.as_ref().map(PublicKey::kid), Some(key(5).kid()));
    }

    #[test]
    fn files_beyond_the_limit_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=ENROLMENTS_MAX {
            let seed = u8::try_from(number + 1).unwrap();
            fs::write(dir.path().join(format!("{number:03}.conf")), text("x", seed, 0)).unwrap();
        }
        let own = olb_sys::harden::effective_uid();
        let standings = Folder::read(dir.path(), own).unwrap().standings(0);
        let in_force = standings.iter().filter(|one| **one == Standing::InForce).count();
        assert_eq!((in_force, standings.len()), (ENROLMENTS_MAX, ENROLMENTS_MAX + 1));
    }
}
