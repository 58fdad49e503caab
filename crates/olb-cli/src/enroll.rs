//! `olb keys enroll`: root lets one person, with one key, decide.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use olb_lease::{Approver, Kid, PublicKey};
use olb_review::display::safe;
use olb_sys::account::{Account, user_by_name, user_by_uid};
use serde_json::{Value, json};

use crate::args::EnrollArgs;
use crate::failure::Failure;
use crate::instance::child::Program;
use crate::keys::folder::{Folder, is_revoked_in, revoked};
use crate::keys::place::approvers_dir;
use crate::keys::write::replace;
use crate::out::say;
use crate::{json, keys};

mod confirm;

use confirm::REVOKED;

/// A name is at most this long, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// `olb keys enroll`.
pub(crate) fn run(args: &EnrollArgs) -> ExitCode {
    match enroll(args) {
        Ok(done) if args.json => {
            say!("{}", json::line(&done.json()));
            ExitCode::SUCCESS
        }
        Ok(done) => {
            let path = safe(done.path.as_os_str().as_encoded_bytes());
            let (name, uid, kid) = (&done.name, done.uid, &done.kid);
            let told = if done.is_in_force {
                format!("may approve with key {kid} ({path})")
            } else {
                format!("is enrolled with key {kid} ({path}); no root half runs that confirms it")
            };
            say!("{name} (uid {uid}) {told}.");
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

struct Enrolled {
    name: String,
    uid: u32,
    key: String,
    kid: String,
    path: PathBuf,
    /// Whether a root half runs, and takes the key.
    is_in_force: bool,
}

impl Enrolled {
    fn json(&self) -> Value {
        json!({
            "name": self.name, "uid": self.uid, "key": self.key, "kid": self.kid,
            "in_force": self.is_in_force,
        })
    }
}

fn enroll(args: &EnrollArgs) -> Result<Enrolled, Failure> {
    let caller = olb_sys::harden::effective_uid();
    let dir = approvers_dir(args.approvers_dir.as_deref())?;
    if caller != 0 {
        return Err(Failure::refused(
            "not_root",
            "enrolling an approver is for root; use a root shell",
        ));
    }
    if let (Some(old), Some(key)) = (&args.replaces, &args.key) {
        return succeed(&dir, old, &public(key)?);
    }
    let account = match &args.user {
        Some(name) => user_by_name(name).ok().flatten(),
        None => user_by_uid(caller).ok().flatten(),
    };
    let account = account.ok_or_else(|| {
        let shown = safe(args.user.as_deref().unwrap_or("root").as_bytes());
        Failure::usage(format!("there is no account {shown} on this host; name an existing one"))
    })?;
    let name = args.name.clone().unwrap_or_else(|| account.name.clone());
    check_name(&name)?;
    check_list("--requesters", &args.requesters)?;
    check_list("--run-as", &args.run_as)?;
    let groups = run_as_groups(args)?;
    if requesters_beside(&dir).contains(&account.uid) {
        return Err(Failure::refused(
            "self_approval",
            format!(
                "{} asks for commands and can never approve any; enrol another account",
                safe(account.name.as_bytes())
            ),
        ));
    }
    let key = match &args.key {
        Some(hex) => hex.clone(),
        None if account.uid == caller => keys::own(None)?.public,
        None => key_of(&account)?,
    };
    let kid = check_key_is_usable(&dir, &public(&key)?)?;
    check_key_is_new(&dir, &name, &key)?;
    let path = dir.join(format!("{name}.conf"));
    let is_in_force = put(&dir, &path, &file(args, &name, account.uid, &key, &groups), kid)?;
    Ok(Enrolled { name, uid: account.uid, key, kid: kid.hex(), path, is_in_force })
}

/// Puts `key` in the place of the enrolled key `old`: everything else stays as it is.
fn succeed(dir: &Path, old: &str, key: &PublicKey<Approver>) -> Result<Enrolled, Failure> {
    let (path, enrolled) = enrolled_as(dir, old)?;
    let kid = check_key_is_usable(dir, key)?;
    check_key_is_new(dir, &path.file_stem().unwrap_or_default().to_string_lossy(), &key.hex())?;
    let text = fs::read_to_string(&path).unwrap_or_default();
    let is_key = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == "key");
    let new = format!("key = {}", key.hex());
    let lines = text.lines().map(|line| if is_key(&line) { new.as_str() } else { line });
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let is_in_force = put(dir, &path, &text, kid)?;
    let (name, uid) = (enrolled.name, enrolled.uid);
    Ok(Enrolled { name, uid, key: key.hex(), kid: kid.hex(), path, is_in_force })
}

/// The one enrolment file in order with this name or key id.
fn enrolled_as(dir: &Path, text: &str) -> Result<(PathBuf, olb_exec_api::Enrolled), Failure> {
    let folder = Folder::read(dir, olb_sys::harden::effective_uid()).map_err(|error| {
        let shown = safe(dir.as_os_str().as_encoded_bytes());
        Failure::usage(format!("{shown} cannot be read ({error}); give --approvers-dir"))
    })?;
    let files = folder.enrolments.into_iter();
    let readable = files.filter_map(|one| Some((one.path, one.text.ok()?)));
    let mut found = readable.filter(|(_, one)| one.name == text || one.key.kid().hex() == text);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) | (None, _) => Err(Failure::usage(format!(
            "{} is not the name or key id of one enrolment (see 'olb keys list'); a key in the place \
             of one that was revoked is enrolled with --user and --key",
            safe(text.as_bytes())
        ))),
    }
}

fn public(hex: &str) -> Result<PublicKey<Approver>, Failure> {
    PublicKey::from_hex(hex).map_err(|error| {
        Failure::usage(format!("the key is refused: {error}; give 64 lower-case hex digits"))
    })
}

/// The key's id, unless the key was revoked.
fn check_key_is_usable(dir: &Path, key: &PublicKey<Approver>) -> Result<Kid, Failure> {
    let kid = key.kid();
    if is_revoked_in(dir, kid) {
        return Err(Failure::refused(REVOKED, revoked(kid, "was revoked")));
    }
    Ok(kid)
}

/// Writes an enrolment of the key `kid`, unless the root half has that as revoked.
fn put(dir: &Path, path: &Path, text: &str, kid: Kid) -> Result<bool, Failure> {
    let before = fs::read(path).ok();
    replace(path, text.as_bytes(), 0o644).map_err(|error| {
        let shown = safe(path.as_os_str().as_encoded_bytes());
        Failure::usage(format!(
            "{shown} cannot be written ({error}); create its folder, owned by root"
        ))
    })?;
    let confirmed = confirm::by_root_half(dir, path, kid);
    if confirmed.as_ref().is_err_and(|failure| failure.name == REVOKED) {
        // It says what is not so; nothing depends on it.
        match before {
            Some(before) => replace(path, &before, 0o644).ok(),
            None => fs::remove_file(path).ok(),
        };
    }
    confirmed
}

fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_good = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(['.', '-']);
    if is_good {
        return Ok(());
    }
    Err(Failure::usage(
        "a name is 1 to 64 letters, digits, '.', '_' or '-'; choose one with --name",
    ))
}

fn check_list(option: &str, text: &str) -> Result<(), Failure> {
    let is_uid = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|uid| uid != u32::MAX)
    };
    if text == "any" || text.split(',').all(is_uid) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{option} takes 'any' or uids separated by commas, such as 1001,1002"
    )))
}

/// The listed requesters, from the root half's configuration beside the enrolments. Without one
/// the list is empty here; the root half checks again at every decision.
fn requesters_beside(dir: &Path) -> Vec<u32> {
    let Some(text) =
        dir.parent().and_then(|parent| fs::read_to_string(parent.join("execd.conf")).ok())
    else {
        return Vec::new();
    };
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "requesters").then(|| value.trim().to_owned())
    });
    let uids = value.unwrap_or_default();
    uids.split(',').filter_map(|uid| uid.trim().parse().ok()).collect()
}

/// One key in two files would leave open which limits hold, and the root half takes neither.
fn check_key_is_new(dir: &Path, name: &str, key: &str) -> Result<(), Failure> {
    let own = format!("{name}.conf");
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_other = entry.file_name() != own.as_str();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let has_key = |line: &str| {
            line.split_once('=')
                .is_some_and(|(field, value)| field.trim() == "key" && value.trim() == key)
        };
        if is_other && text.lines().any(has_key) {
            let shown = safe(entry.file_name().as_encoded_bytes());
            return Err(Failure::usage(format!(
                "this key is enrolled in {shown} already; remove that file first"
            )));
        }
    }
    Ok(())
}

/// The groups that commands may have: as given, or those of the accounts they may run as.
fn run_as_groups(args: &EnrollArgs) -> Result<String, Failure> {
    if let Some(given) = &args.run_as_groups {
        check_list("--run-as-groups", given)?;
        return Ok(given.clone());
    }
    if args.run_as == "any" {
        return Ok("any".into());
    }
    let mut groups = BTreeSet::new();
    for uid in args.run_as.split(',').filter_map(|uid| uid.trim().parse().ok()) {
        let account = user_by_uid(uid).ok().flatten().ok_or_else(|| {
            Failure::usage(format!("there is no account with uid {uid}; give --run-as-groups too"))
        })?;
        groups.insert(account.gid);
        groups.extend(account.groups);
    }
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    Ok(groups.join(","))
}

fn file(args: &EnrollArgs, name: &str, uid: u32, key: &str, groups: &str) -> String {
    format!(
        "name = {name}\nuid = {uid}\nkey = {key}\nrequesters = {}\nrun_as = {}\n\
         run_as_groups = {groups}\nmax_lease_secs = {}\nmax_approvals_per_hour = {}\nnot_after = {}\nsecond = none\n",
        args.requesters,
        args.run_as,
        args.max_lease_secs,
        args.max_approvals_per_hour,
        args.not_after
    )
}

/// The public key of another account's own key, made by a process of that account if there is
/// none: root neither sees the private half nor writes below a home it does not own.
fn key_of(account: &Account) -> Result<String, Failure> {
    let failed = |why: &str| {
        let name = safe(account.name.as_bytes());
        Failure::usage(format!(
            "no key could be made as {name} ({why}); run 'olb keys create' as {name} and give its key with --key"
        ))
    };
    let program = Program {
        path: Path::new("/proc/self/exe"),
        argv: &["olb", "keys", "create", "--json"],
        variables: &[],
        account: (account.uid, account.gid),
    };
    let output = program.run(None).map_err(|error| failed(&format!("{error:#}")))?;
    let object: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let key = object.as_ref().and_then(|object| object.get("key")?.as_str());
    match key {
        Some(key) if output.code == 0 => Ok(key.to_owned()),
        Some(_) | None => Err(failed("it could not be written")),
    }
}

#[cfg(test)]
mod tests;
