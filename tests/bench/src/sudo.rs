//! sudo to compare with: a user of the system for as long as the benchmark runs, and a rule of its
//! own that lets it run anything without a password.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The account's name.
const NAME: &str = "olb-bench";
/// The rule; sudo reads every file of this folder whose name has no dot.
const RULE: &str = "/etc/sudoers.d/olb-bench";

/// The account and its rule; removed when dropped.
pub struct Sudo(());

impl Sudo {
    /// Makes them for `uid`; `None` where sudo is not installed.
    ///
    /// # Errors
    /// The account cannot be made.
    pub fn for_uid(uid: u32) -> Result<Option<Self>, String> {
        if !Path::new("/usr/bin/sudo").exists() {
            return Ok(None);
        }
        // Left over from a run that was killed.
        remove();
        let uid = uid.to_string();
        let words = ["--no-log-init", "--no-create-home", "--no-user-group", "--uid", &uid, NAME];
        if !quietly("useradd", &words) {
            return Err(format!("the account {NAME} cannot be made; try again"));
        }
        let sudo = Self(());
        fs::write(RULE, format!("{NAME} ALL=(root) NOPASSWD: ALL\n")).expect("the rule");
        fs::set_permissions(RULE, fs::Permissions::from_mode(0o440)).expect("its mode");
        Ok(Some(sudo))
    }
}

impl Drop for Sudo {
    fn drop(&mut self) {
        remove();
    }
}

/// Removes both, whether or not they are there.
pub fn remove() {
    fs::remove_file(RULE).ok();
    quietly("userdel", &[NAME]);
}

fn quietly(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
