//! Enrolment files: who may decide, with which key, within which limits.
//!
//! They are read anew at every DECIDE and EXECUTE, so that removing a file ends that key's power,
//! and its live leases, at once. A file that is not in order is out, and the journal says why.
//!
//! A file that is named for a key id, `KID.revoked`, revokes the key, whatever is in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use olb_exec_api::{ENROLMENT_BYTES_MAX, ENROLMENTS_MAX, Enrolled, EnrolmentError};
use olb_lease::Kid;
use olb_sys::file::read_trusted;

/// What a file for a revocation that is none is told.
const NO_REVOCATION: &str =
    "it revokes nothing: a revocation is named for a key id ('olb keys revoke' makes it)";

/// What files said that were in order. The same bytes say the same again: they are read every time,
/// but a public key in them is not checked every time, which takes far longer.
#[derive(Debug, Default)]
pub struct Known(Mutex<Vec<(Vec<u8>, Enrolled)>>);

impl Known {
    fn parse(&self, bytes: Vec<u8>) -> Result<Enrolled, EnrolmentError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, enrolled)) = known.iter().find(|(same, _)| *same == bytes) {
            return Ok(enrolled.clone());
        }
        let enrolled = Enrolled::parse(&bytes)?;
        if known.len() >= ENROLMENTS_MAX {
            known.clear();
        }
        known.push((bytes, enrolled.clone()));
        Ok(enrolled)
    }
}

/// Every enrolment that is in order and in force at `now`, in seconds since the Unix epoch, and every
/// key that a file revokes. `report` is told of each file that counts for nothing. A folder that
/// cannot be read whole says nothing: nobody is enrolled.
pub fn read_all(
    dir: &Path,
    trusted_uid: u32,
    now: u64,
    known: &Known,
    report: &mut dyn FnMut(&Path, &str),
) -> (Vec<Enrolled>, BTreeSet<Kid>) {
    let (files, revoked) = list(dir, report).unwrap_or_default();
    let mut enrolled = Vec::with_capacity(files.len());
    for path in files {
        let file = read_trusted(&path, ENROLMENT_BYTES_MAX, trusted_uid);
        let file = file.map_err(|error| error.to_string());
        match file.and_then(|bytes| known.parse(bytes).map_err(|error| error.to_string())) {
            Ok(one) if one.in_force(now) => enrolled.push(one),
            Ok(_) => {}
            Err(error) => report(&path, &error),
        }
    }
    (without_ambiguity(enrolled), revoked)
}

/// The enrolment files, and the keys that the names of others revoke.
fn list(
    dir: &Path,
    report: &mut dyn FnMut(&Path, &str),
) -> std::io::Result<(Vec<PathBuf>, BTreeSet<Kid>)> {
    let (mut files, mut revoked) = (Vec::new(), BTreeSet::new());
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.extension().and_then(OsStr::to_str) {
            Some("conf") => files.push(path),
            Some("revoked") => match path.file_stem().and_then(OsStr::to_str).map(Kid::from_hex) {
                Some(Ok(kid)) => drop(revoked.insert(kid)),
                Some(Err(_)) | None => report(&path, NO_REVOCATION),
            },
            Some(_) | None => {}
        }
    }
    files.sort();
    files.truncate(ENROLMENTS_MAX);
    Ok((files, revoked))
}

/// Two files for one key would leave open which limits hold: both are out.
fn without_ambiguity(enrolled: Vec<Enrolled>) -> Vec<Enrolled> {
    let kids: Vec<Kid> = enrolled.iter().map(|one| one.key.kid()).collect();
    let unique = |kid: &Kid| kids.iter().filter(|other| *other == kid).count() == 1;
    enrolled.into_iter().filter(|one| unique(&one.key.kid())).collect()
}

#[cfg(test)]
mod tests {
    use olb_lease::{Approver, SigningKey};

    use super::*;

    fn file() -> String {
        let key = SigningKey::<Approver>::from_seed(&[3; 32].into()).unwrap();
        format!(
            "name = alice\nuid = 1000\nkey = {}\nrequesters = any\nrun_as = 0\nrun_as_groups = any\n\
             max_lease_secs = 900\nmax_approvals_per_hour = 60\nnot_after = 5\nsecond = none\n",
            key.public().hex()
        )
    }

    // [F-7]
    #[test]
    fn two_files_for_one_key_are_both_out() {
        let one = Enrolled::parse(file().as_bytes()).unwrap();
        assert!(without_ambiguity(vec![one.clone(), one.clone()]).is_empty());
        assert_eq!(without_ambiguity(vec![one]).len(), 1);
    }

    #[test]
    fn what_a_file_says_now_holds_whatever_it_said_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice.conf");
        let (known, uid) = (Known::default(), olb_sys::harden::effective_uid());
        let read = || {
            let mut faults = 0;
            let all = read_all(dir.path(), uid, 1, &known, &mut |_, _| faults += 1);
            (all.0.into_iter().map(|one| one.max_lease_secs).collect::<Vec<_>>(), faults)
        };
        let text = file();
        for (text, expected) in [
            (text.clone(), (vec![900], 0)),
            (text.clone(), (vec![900], 0)),
            (text.replace("900", "901"), (vec![901], 0)),
            (text.replace("900", "x"), (vec![], 1)),
            (text.replace("900", "x"), (vec![], 1)),
            (text, (vec![900], 0)),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(), expected);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(), (vec![], 0), "gone at once");
    }

    // [F-9]
    #[test]
    fn the_name_of_a_file_revokes_a_key_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let kid = Enrolled::parse(file().as_bytes()).unwrap().key.kid();
        for name in [kid.hex(), "alice".into(), kid.hex().to_uppercase(), format!("{}0", kid.hex())]
        {
            std::fs::write(dir.path().join(format!("{name}.revoked")), b"\xff").unwrap();
        }
        let mut faults = 0;
        let uid = olb_sys::harden::effective_uid();
        let found = read_all(dir.path(), uid, 1, &Known::default(), &mut |_, error| {
            assert_eq!(error, NO_REVOCATION);
            faults += 1;
        });
        assert_eq!((found.1, faults), ([kid].into(), 3));
    }
}
