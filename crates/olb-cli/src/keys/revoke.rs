//! `olb keys revoke`: ends an approver's key for ever.
//!
//! One new file, named for the key's id, is the whole of it: from the moment it is there the root
//! half takes no verdict of the key, nor a lease that one brought about. The root half also writes
//! that into its ledger and its trail, so that the file's removal brings nothing back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use olb_lease::{Approver, Kid, PublicKey};
use olb_review::display::{is_safe, safe};
use olb_sys::clock::unix_secs;
use serde_json::{Value, json};

use super::folder::Folder;
use super::place::{Place, approvers_dir};
use super::root_half::RootHalf;
use super::write::replace;
use crate::args::KeysRevokeArgs;
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::json;
use crate::out::say;
use crate::trust::BrokerKeys;

/// The reason is at most this long, in bytes.
const REASON_BYTES_MAX: usize = 200;

/// `olb keys revoke`.
pub(super) fn run(args: &KeysRevokeArgs) -> ExitCode {
    match revoke(args) {
        Ok(done) => {
            if args.json {
                say!("{}", json::line(&done.json()));
            } else {
                say!("{}", done.text());
            }
            // The front asks the root half who may approve before it answers, so it hears of this
            // now and not with somebody's next question. Nothing depends on that.
            Runtime::at(done.runtime_dir).info(Socket::Review).ok();
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

/// A key to be revoked, and what is known of it.
#[derive(Debug, PartialEq, Eq)]
struct Subject {
    kid: Kid,
    name: Option<String>,
    uid: Option<u32>,
    key: Option<String>,
    /// Its enrolment files.
    files: Vec<PathBuf>,
}

/// What came of it.
struct Revoked {
    subject: Subject,
    file: PathBuf,
    was_revoked: bool,
    /// The number of the record in the trail, where a root half runs.
    record: Option<u64>,
    runtime_dir: PathBuf,
}

fn revoke(args: &KeysRevokeArgs) -> Result<Revoked, Failure> {
    if olb_sys::harden::effective_uid() != 0 {
        let text = "revoking an approver's key is for root; use a root shell";
        return Err(Failure::refused("not_root", text));
    }
    check_reason(&args.reason)?;
    let dir = approvers_dir(args.approvers_dir.as_deref())?;
    let runtime_dir = match Place::find(None) {
        Ok(place) => place.runtime_dir,
        Err(_) => Runtime::for_operator()?.file(""),
    };
    let root_half = RootHalf::of(&runtime_dir);
    let folder = Folder::read(&dir, 0).map_err(|error| unusable(&dir, &error))?;
    let subject = subject(&folder, &args.key)?;
    check_is_no_brokers(subject.kid, &runtime_dir)?;
    // The root half is asked only once the file is there: a front that keeps it busy holds up the
    // answer, and not the revocation.
    let file = dir.join(format!("{}.revoked", subject.kid.hex()));
    let was_revoked = folder.revoked.contains_key(&subject.kid);
    if !was_revoked {
        let text = notes(&subject, &args.reason, unix_secs());
        replace(&file, text.as_bytes(), 0o644).map_err(|error| unusable(&file, &error))?;
    }
    // The key is out already: what is left of its enrolment only looks as if it were not.
    for file in &subject.files {
        fs::remove_file(file).map_err(|error| unusable(file, &error))?;
    }
    let record = confirm(&root_half, subject.kid, &file)?;
    Ok(Revoked { subject, file, was_revoked, record, runtime_dir })
}

/// The broker's own keys are replaced, not revoked: it signs with them.
fn check_is_no_brokers(kid: Kid, runtime_dir: &Path) -> Result<(), Failure> {
    // Without the file nothing is lost: the root half takes no such revocation either.
    let keys = BrokerKeys::of(&Runtime::at(runtime_dir.to_owned())).unwrap_or_default();
    let which = if keys.audit.iter().any(|key| key.kid() == kid) {
        "audit"
    } else if keys.lease.iter().any(|key| key.kid() == kid) {
        "lease"
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!(
        "this is the broker's own {which} key, which is replaced and not revoked; use 'olb keys \
         rotate {which}'"
    )))
}

/// What a running root half recorded; `None` where none runs, or began to run only now.
fn confirm(root_half: &RootHalf, kid: Kid, file: &Path) -> Result<Option<u64>, Failure> {
    let unconfirmed = |text: String| Failure::new(code::UNAVAILABLE, "not_confirmed", text);
    let shown = safe(file.as_os_str().as_encoded_bytes());
    let unanswered = |failure: Failure| {
        unconfirmed(format!(
            "{shown} is there, which the root half looks for before it takes a verdict or a lease of \
             the key; but it does not confirm that ({}); revoke again to be sure",
            failure.text
        ))
    };
    // To be asked who is enrolled, it reads the folder, after it has looked for its last record.
    let Some(info) = root_half.info().map_err(unanswered)? else { return Ok(None) };
    if info.enrolments.iter().any(|one| one.kid == kid) {
        return Err(unconfirmed(format!(
            "the running broker does not read {shown}: its approvers_dir is another folder; name \
             that with --approvers-dir"
        )));
    }
    let from = info.sequence.saturating_add(1);
    let mut record = root_half.end_of_key(kid, from).map_err(unanswered)?;
    if record.is_none() {
        record = root_half.end_of_key(kid, 1).map_err(unanswered)?;
    }
    record.map(Some).ok_or_else(|| {
        unconfirmed(format!(
            "the key is out as long as {shown} is there, but the running broker has not recorded \
             it; look at the journal of olb-execd, then revoke again"
        ))
    })
}

/// The one key that `text` means: by its enrolled name, its id, or itself.
fn subject(folder: &Folder, text: &str) -> Result<Subject, Failure> {
    let mut found: BTreeMap<Kid, Subject> = BTreeMap::new();
    for one in &folder.enrolments {
        let Some(key) = &one.key else { continue };
        let stem = one.path.file_stem().and_then(|stem| stem.to_str());
        let enrolled = one.text.as_ref().ok();
        let name = enrolled.map(|enrolled| enrolled.name.as_str()).or(stem);
        let kid = key.kid();
        if ![name, stem].contains(&Some(text)) && kid.hex() != text && key.hex() != text {
            continue;
        }
        let subject = found.entry(kid).or_insert_with(|| Subject {
            kid,
            name: name.map(str::to_owned),
            uid: enrolled.map(|enrolled| enrolled.uid),
            key: Some(key.hex()),
            files: Vec::new(),
        });
        subject.files.push(one.path.clone());
    }
    for (kid, revocation) in &folder.revoked {
        let note = |name: &str| revocation.notes.get(name).cloned();
        if kid.hex() == text || [note("name"), note("key")].contains(&Some(text.to_owned())) {
            let uid = note("uid").and_then(|uid| uid.parse().ok());
            let (name, key) = (note("name"), note("key"));
            found.entry(*kid).or_insert(Subject { kid: *kid, name, uid, key, files: Vec::new() });
        }
    }
    // A name may stand for the key that was revoked and for the one enrolled in its place.
    if found.values().any(|one| !one.files.is_empty()) {
        found.retain(|_, one| !one.files.is_empty());
    }
    if let (true, Ok(key)) = (found.is_empty(), PublicKey::<Approver>::from_hex(text)) {
        let key_hex = Some(key.hex());
        let kid = key.kid();
        return Ok(Subject { kid, name: None, uid: None, key: key_hex, files: Vec::new() });
    }
    let mut subjects = found.into_values();
    match (subjects.next(), subjects.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "{} stands for more than one key; give the key id, as 'olb keys list' shows it",
            safe(text.as_bytes())
        ))),
        (None, _) => Err(Failure::usage(format!(
            "no enrolment has the name or key id {}; see 'olb keys list', or give the whole public \
             key to keep one out that is not enrolled",
            safe(text.as_bytes())
        ))),
    }
}

fn check_reason(reason: &str) -> Result<(), Failure> {
    if reason.len() <= REASON_BYTES_MAX && reason.chars().all(is_safe) {
        return Ok(());
    }
    Err(Failure::usage(format!("a reason is one line of at most {REASON_BYTES_MAX} bytes")))
}

/// The text of the file: for people, and for `olb keys list`. The root half does not read it.
fn notes(subject: &Subject, reason: &str, now: u64) -> String {
    let mut text = "# The name of this file keeps the key out. Leave it here.\n".to_owned();
    let mut note = |name: &str, value: &str| {
        if !value.is_empty() {
            text.extend([name, " = ", &safe(value.as_bytes()), "\n"]);
        }
    };
    note("name", subject.name.as_deref().unwrap_or_default());
    note("uid", &subject.uid.map(|uid| uid.to_string()).unwrap_or_default());
    note("key", subject.key.as_deref().unwrap_or_default());
    note("revoked_at", &now.to_string());
    note("revoked_by_uid", &login_uid().unwrap_or(0).to_string());
    note("reason", reason);
    text
}

/// Who logged in to become root, as the kernel remembers it.
fn login_uid() -> Option<u32> {
    let text = fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    let shown = safe(path.as_os_str().as_encoded_bytes());
    Failure::usage(format!(
        "{shown} cannot be used ({error}); give the folder with --approvers-dir"
    ))
}

impl Revoked {
    fn text(&self) -> String {
        let Subject { kid, name, files, .. } = &self.subject;
        let of = name.as_ref().map(|name| format!(" of {}", safe(name.as_bytes())));
        let of = of.unwrap_or_default();
        let what = match (self.was_revoked, files.is_empty()) {
            (true, true) => "was revoked before",
            (true, false) => "was revoked before, and its enrolment is removed",
            (false, true) => "was not enrolled, and never can be now",
            (false, false) => "is revoked for ever, and its unused leases are dead",
        };
        let when = match self.record {
            Some(number) => format!("record {number} of the trail says so"),
            None => "no root half runs: the next one begins with it".into(),
        };
        format!("Key {}{of} {what}; {when}.", kid.hex())
    }

    fn json(&self) -> Value {
        let Subject { kid, name, uid, key, .. } = &self.subject;
        json!({
            "kid": kid.hex(), "name": name, "uid": uid, "key": key,
            "revoked": true, "was_revoked": self.was_revoked,
            "in_force": self.record.is_some(), "record": self.record,
            "file": self.file.to_string_lossy(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::tests::{key, text};
    use super::*;

    fn folder(dir: &Path) -> Folder {
        Folder::read(dir, olb_sys::harden::effective_uid()).unwrap()
    }

    #[test]
    fn a_key_is_found_by_name_file_id_or_itself_and_never_by_guessing() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("alice.conf", &text("alice", 1, 0));
        write("desk.conf", &text("bob", 2, 0));
        write("broken.conf", &text("carol", 3, 0).replace("uid = ", "uid : "));
        let folder = folder(dir.path());
        let kid_of = |text: &str| subject(&folder, text).map(|one| one.kid);
        for (text, seed) in [("alice", 1), ("bob", 2), ("desk", 2), ("broken", 3)] {
            assert_eq!(kid_of(text).unwrap(), key(seed).kid(), "{text}");
        }
        for seed in [1, 2, 3] {
            assert_eq!(kid_of(&key(seed).kid().hex()).unwrap(), key(seed).kid());
            assert_eq!(kid_of(&key(seed).hex()).unwrap(), key(seed).kid());
        }
        assert_eq!(subject(&folder, &key(9).hex()).unwrap().files, [""; 0].map(PathBuf::from));
        for wrong in ["", "carol", "ali", "alice.conf", "../alice", &key(9).kid().hex()] {
            assert_eq!(kid_of(wrong).unwrap_err().code, 64, "{wrong}");
        }
    }

    #[test]
    fn a_name_of_two_keys_is_not_enough_and_of_a_revoked_one_is_no_more_than_that() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.conf", &text("alice", 1, 0));
        write("b.conf", &text("alice", 2, 0));
        let failure = subject(&folder(dir.path()), "alice").unwrap_err();
        assert!(failure.text.contains("more than one key"), "{}", failure.text);
        fs::remove_file(dir.path().join("a.conf")).unwrap();
        let old = Subject {
            kid: key(1).kid(),
            name: Some("alice".into()),
            uid: Some(1000),
            key: Some(key(1).hex()),
            files: Vec::new(),
        };
        write(&format!("{}.revoked", old.kid.hex()), &notes(&old, "lost", 5));
        assert_eq!(subject(&folder(dir.path()), "alice").unwrap().kid, key(2).kid());
        fs::remove_file(dir.path().join("b.conf")).unwrap();
        assert_eq!(subject(&folder(dir.path()), "alice").unwrap(), old);
    }

    #[test]
    fn a_reason_is_one_line_that_can_be_shown() {
        assert!(check_reason("lost laptop, 3.5.").is_ok() && check_reason("").is_ok());
        for wrong in ["a\nkey = b", "\u{1b}[2J", "\u{202e}", &"x".repeat(201)] {
            assert!(check_reason(wrong).is_err(), "{wrong:?}");
        }
    }
}
