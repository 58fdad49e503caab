//! sudo, as Debian sets it up, for an account that is there for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::is_version;
use crate::process::wait_until;

const SUDO: &str = "/usr/bin/sudo";
/// Accounts and rules are named so, with the number of the process that made them.
const PREFIX: &str = "olb-oracle-";
/// sudo reads every file of this folder whose name has no dot.
const RULES: &str = "/etc/sudoers.d";
/// What Debian 12 ships, said again for this account: whatever else a host's own file says is no
/// part of the comparison.
const DEFAULTS: &str = "env_reset, !setenv, use_pty, !requiretty, \
     secure_path=/usr/local/sbin\\:/usr/local/bin\\:/usr/sbin\\:/usr/bin\\:/sbin\\:/bin";
/// userdel's exit code where there is no such account.
const NO_SUCH_USER: i32 = 6;
/// How the sudo that is meant calls itself: there are others of the same name.
const FAMILY: &str = "Sudo version 1.";
/// The version of which docs/differences.md speaks.
const VERSION: &str = "Sudo version 1.9.13";

/// An account and its rule; removed when dropped.
pub struct Sudo {
    name: String,
}

/// One of these programs at a time, of all tests: who finds the account files locked sleeps for
/// seconds.
fn turn() -> fs::File {
    let folder = fs::File::open(RULES).expect("the folder of rules");
    folder.lock().expect("its lock");
    folder
}

fn quietly(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn rule(name: &str) -> PathBuf {
    Path::new(RULES).join(name)
}

fn remove(name: &str) {
    fs::remove_file(rule(name)).ok();
    let _turn = turn();
    // Somebody else may be changing the account files.
    wait_until("an account is removed", || {
        let ended = Command::new("userdel").arg(name).stderr(Stdio::null()).status();
        matches!(ended.expect("userdel").code(), Some(0 | NO_SUCH_USER))
    });
}

/// What a test that was killed could not remove.
fn remove_leftovers() {
    for entry in fs::read_dir(RULES).expect("the folder of rules").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}

impl Sudo {
    /// Lets `uid`, which has no account yet, run `program` as anybody, without a password; nothing
    /// is made where there is no such sudo.
    ///
    /// # Panics
    /// The account cannot be made.
    pub fn for_uid(uid: u32, program: &str) -> Self {
        let sudo = Self { name: format!("{PREFIX}{}-{uid}", std::process::id()) };
        if !Self::is_there() {
            return sudo;
        }
        remove_leftovers();
        // The rule first: where there is an account there is a rule, by which leftovers are found.
        let name = &sudo.name;
        let text =
            format!("Defaults:{name} {DEFAULTS}\n{name} ALL=(ALL:ALL) NOPASSWD: {program}\n");
        // Nobody reads half of a rule, nor one that others could write.
        let hidden = rule(&format!("{name}.new"));
        fs::write(&hidden, text).expect("the rule");
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o440)).expect("its mode");
        fs::rename(&hidden, rule(name)).expect("its place");
        let uid = uid.to_string();
        let words = ["--no-log-init", "--no-create-home", "--no-user-group", "--uid", &uid];
        let turn = turn();
        // Somebody else may be changing the account files.
        wait_until("an account is made", || {
            quietly("useradd", &[&words[..], &[&sudo.name]].concat())
        });
        drop(turn);
        sudo
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a sudo to compare with; where not, that is said.
    pub fn is_there() -> bool {
        is_version(SUDO, FAMILY)
    }

    /// Whether it is the sudo that the list of differences is about.
    pub fn is_the_listed_one() -> bool {
        is_version(SUDO, VERSION)
    }
}

impl Drop for Sudo {
    fn drop(&mut self) {
        if rule(&self.name).exists() {
            remove(&self.name);
        }
    }
}
