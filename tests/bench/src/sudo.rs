//! sudo to compare with: a user of the system for as long as the benchmark runs, and a rule of its
//! own that lets it run anything without a password.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The account's name.
const NAME: &str = "olb-bench";
/// The rule; sudo reads every file of this folder whose name has no dot.
const RULE: &str = "/etc/sudoers.d/olb-bench";

/// The account and its rule; removed when dropped.
pub struct Sudo {
    rule: PathBuf,
}

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
        remove_account();
        let uid = uid.to_string();
        let words = ["--no-log-init", "--no-create-home", "--no-user-group", "--uid", &uid, NAME];
        if !quietly("useradd", &words) {
            return Err(format!("the account {NAME} cannot be made; try again"));
        }
        let sudo = Self { rule: RULE.into() };
        fs::write(&sudo.rule, format!("{NAME} ALL=(root) NOPASSWD: ALL\n")).expect("the rule");
        fs::set_permissions(&sudo.rule, fs::Permissions::from_mode(0o440)).expect("its mode");
        Ok(Some(sudo))
    }
}

impl Drop for Sudo {
    fn drop(&mut self) {
        fs::remove_file(&self.rule).ok();
        remove_account();
    }
}

fn remove_account() {
    quietly("userdel", &[NAME]);
}

fn quietly(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
