//! The target account, by the host's name services. The numbers found here are what is bound; the
//! root half never looks a name up.

use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use olb_review::display::safe;
use olb_sys::account::{Account, group_by_name, user_by_name, user_by_uid};
use thiserror::Error;

/// The account a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Strictly ascending.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: Vec<u8>,
    pub(crate) shell: Vec<u8>,
}

/// Why there is no target account.
#[derive(Debug, Error)]
pub(crate) enum AccountError {
    #[error("there is no account {0} on this host; name an existing one")]
    NoUser(String),
    #[error("there is no group {0} on this host; name an existing one")]
    NoGroup(String),
    #[error("this broker runs without root and can run commands only as the caller's own account")]
    NoBoundary,
    #[error("accounts cannot be looked up ({0}); try again")]
    Lookup(#[from] io::Error),
}

/// Finds the account that `-u` and `-g` name; `#` before a number means the number. Without `-u`
/// it is root, or the caller's own account where the root half has no privileges to give
/// (`own_only`).
///
/// Blocks on name services.
pub(crate) fn target(
    user: Option<&str>,
    group: Option<&str>,
    own_only: Option<u32>,
) -> Result<Target, AccountError> {
    let default = own_only.unwrap_or(0);
    let account = match user {
        Some(name) => find_user(name)?,
        None => find_user(&format!("#{default}"))?,
    };
    if own_only.is_some_and(|own| account.uid != own || group.is_some()) {
        return Err(AccountError::NoBoundary);
    }
    let gid = group.map(find_group).transpose()?.unwrap_or(account.gid);
    Ok(describe(account, gid))
}

fn describe(account: Account, gid: u32) -> Target {
    let mut groups = account.groups;
    groups.sort_unstable();
    groups.dedup();
    let or = |path: PathBuf, default: &[u8]| match path.is_absolute() {
        true => path.into_os_string().into_vec(),
        false => default.to_vec(),
    };
    Target {
        name: account.name,
        uid: account.uid,
        gid,
        groups,
        home: or(account.home, b"/"),
        shell: or(account.shell, b"/bin/sh"),
    }
}

fn find_user(name: &str) -> Result<Account, AccountError> {
    let found = match name.strip_prefix('#') {
        Some(number) => digits(number).map(user_by_uid).transpose()?.flatten(),
        None => user_by_name(name)?,
    };
    found.ok_or_else(|| AccountError::NoUser(safe(name.as_bytes())))
}

fn find_group(name: &str) -> Result<u32, AccountError> {
    let found = match name.strip_prefix('#') {
        Some(number) => digits(number).filter(|gid| *gid != u32::MAX),
        None => group_by_name(name)?,
    };
    found.ok_or_else(|| AccountError::NoGroup(safe(name.as_bytes())))
}

/// A number as everybody reads it: digits and nothing else, so no sign.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn root() -> Target {
        Target {
            name: "root".into(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: b"/root".to_vec(),
            shell: b"/bin/sh".to_vec(),
        }
    }

    fn refusal(user: Option<&str>, group: Option<&str>, own: Option<u32>) -> String {
        target(user, group, own).unwrap_err().to_string()
    }

    #[test]
    fn root_is_the_default_and_its_numbers_are_found() {
        let found = target(None, None, None).unwrap();
        assert_eq!((found.name.as_str(), found.uid, found.gid), ("root", 0, 0));
        assert!(found.groups.is_sorted_by(|a, b| a < b));
        assert!(found.shell.starts_with(b"/"));
    }

    #[test]
    fn a_number_is_an_account_only_with_its_sign() {
        assert_eq!(target(Some("#0"), None, None).unwrap().name, "root");
        assert!(refusal(Some("0"), None, None).contains("no account 0"));
        for number in ["#", "#+0", "#-0", "# 0", "#0 ", "#0x0", "#4294967296"] {
            let told = refusal(Some(number), None, None);
            assert!(told.contains(&format!("no account {number}")), "{told}");
            let told = refusal(None, Some(number), None);
            assert!(told.contains(&format!("no group {number}")), "{told}");
        }
    }

    #[test]
    fn a_group_replaces_the_primary_one_only() {
        let found = target(Some("root"), Some("#7"), None).unwrap();
        assert_eq!((found.uid, found.gid), (0, 7));
        assert_eq!(found.groups, target(None, None, None).unwrap().groups);
    }

    #[test]
    fn unknown_accounts_and_groups_are_refused_by_name() {
        assert!(refusal(Some("no-such-account"), None, None).contains("no-such-account"));
        assert!(refusal(None, Some("no-such-group"), None).contains("no-such-group"));
        assert!(refusal(None, Some("#4294967295"), None).contains("#4294967295"));
    }

    #[test]
    fn without_a_boundary_only_the_own_account_is_a_target() {
        assert_eq!(target(None, None, Some(1)).unwrap().uid, 1);
        let only_own = AccountError::NoBoundary.to_string();
        assert_eq!(refusal(Some("root"), None, Some(1)), only_own);
        assert_eq!(refusal(None, Some("#0"), Some(1)), only_own);
    }
}
