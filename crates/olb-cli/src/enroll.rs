//! `olb keys enroll`: root lets one person, with one key, decide.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use olb_lease::{Approver, PublicKey};
use olb_review::display::safe;
use olb_sys::account::{Account, user_by_name, user_by_uid};
use serde_json::{Value, json};

use crate::args::EnrollArgs;
use crate::client::Runtime;
use crate::failure::Failure;
use crate::instance::child::Program;
use crate::out::say;
use crate::{json, keys};

/// Enrolments of the installed broker.
const APPROVERS_DIR: &str = "/etc/olb/approvers.d";
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
            say!("{} (uid {}) may approve with key {} ({path}).", done.name, done.uid, done.kid);
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
}

impl Enrolled {
    fn json(&self) -> Value {
        json!({ "name": self.name, "uid": self.uid, "key": self.key, "kid": self.kid })
    }
}

fn enroll(args: &EnrollArgs) -> Result<Enrolled, Failure> {
    let caller = olb_sys::harden::effective_uid();
    let dir = approvers_dir(args)?;
    if caller != 0 {
        return Err(Failure::refused(
            "not_root",
            "enrolling an approver is for root; use a root shell",
        ));
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
    let public = PublicKey::<Approver>::from_hex(&key).map_err(|error| {
        Failure::usage(format!("the key is refused: {error}; give 64 lower-case hex digits"))
    })?;
    check_key_is_new(&dir, &name, &key)?;
    let path = dir.join(format!("{name}.conf"));
    replace(&path, &file(args, &name, account.uid, &key, &groups)).map_err(|error| {
        let shown = safe(path.as_os_str().as_encoded_bytes());
        Failure::usage(format!(
            "{shown} cannot be written ({error}); create its folder, owned by root"
        ))
    })?;
    Ok(Enrolled { name, uid: account.uid, key, kid: public.kid().hex(), path })
}

/// `--approvers-dir`, else that of the instance that `OLB_RUNTIME_DIR` names, else the installed
/// broker's.
fn approvers_dir(args: &EnrollArgs) -> Result<PathBuf, Failure> {
    if let Some(dir) = &args.approvers_dir {
        return Ok(dir.clone());
    }
    let beside = Runtime::for_operator()?.beside("state/approvers.d");
    Ok(beside.filter(|dir| dir.is_dir()).unwrap_or_else(|| APPROVERS_DIR.into()))
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

/// Puts a file in place whole or not at all, 0644.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
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
mod tests {
    use super::*;

    fn args(dir: &Path) -> EnrollArgs {
        EnrollArgs {
            user: None,
            name: Some("alice".into()),
            key: Some(key()),
            requesters: "any".into(),
            run_as: "0,33".into(),
            run_as_groups: Some("0,33".into()),
            max_lease_secs: 900,
            max_approvals_per_hour: 60,
            not_after: 0,
            approvers_dir: Some(dir.to_owned()),
            json: false,
        }
    }

    fn key() -> String {
        olb_lease::SigningKey::<Approver>::from_seed(&[3; 32].into()).unwrap().public().hex()
    }

    #[test]
    fn the_file_has_every_key_in_the_documented_form() {
        let text = file(&args(Path::new("/x")), "alice", 1000, &key(), "0,33");
        let fields: Vec<_> = text.lines().map(|line| line.split(" = ").next().unwrap()).collect();
        let want = [
            "name",
            "uid",
            "key",
            "requesters",
            "run_as",
            "run_as_groups",
            "max_lease_secs",
            "max_approvals_per_hour",
            "not_after",
            "second",
        ];
        assert_eq!(fields, want);
        assert!(text.contains("\nuid = 1000\n") && text.contains("\nrun_as = 0,33\n"));
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice.conf");
        for text in ["one\n", "two\n"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_key_is_enrolled_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bob.conf"), format!("name = bob\nkey = {}\n", key())).unwrap();
        assert_eq!(check_key_is_new(dir.path(), "alice", &key()).unwrap_err().code, 64);
        assert!(check_key_is_new(dir.path(), "bob", &key()).is_ok());
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", "../x", "a/b", ".hidden", "-x", "a b", "é", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("alice.smith_2-x").is_ok());
    }

    #[test]
    fn lists_are_any_or_uids() {
        for text in ["any", "0", "1001,1002"] {
            assert!(check_list("--run-as", text).is_ok(), "{text}");
        }
        for text in ["", "root", "1,", "-1", "+1", "4294967295", "1, 2", "any,1"] {
            assert!(check_list("--run-as", text).is_err(), "{text}");
        }
    }

    #[test]
    fn requesters_are_read_from_the_configuration_beside() {
        let dir = tempfile::tempdir().unwrap();
        let approvers = dir.path().join("approvers.d");
        assert!(requesters_beside(&approvers).is_empty());
        fs::write(dir.path().join("execd.conf"), "host = x\nrequesters = 1001, 1002\n").unwrap();
        assert_eq!(requesters_beside(&approvers), [1001, 1002]);
    }

    #[test]
    fn a_requester_is_never_enrolled() {
        if olb_sys::harden::effective_uid() != 0 {
            eprintln!("skipped: enrolling is for root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let approvers = dir.path().join("approvers.d");
        fs::create_dir(&approvers).unwrap();
        fs::write(dir.path().join("execd.conf"), "requesters = 0\n").unwrap();
        assert_eq!(enroll(&args(&approvers)).err().unwrap().name, "self_approval");
        fs::write(dir.path().join("execd.conf"), "requesters = 1001\n").unwrap();
        assert_eq!(enroll(&args(&approvers)).ok().unwrap().key, key());
        assert!(approvers.join("alice.conf").exists());
    }
}
