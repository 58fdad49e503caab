//! Users and groups by the name service. Not for the root half: it takes numbers only.
//!
//! A build for musl asks it by way of `getent`, where the system has that.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{self, Group, Uid, User};

use crate::getent;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell; empty where the entry names none.
    pub shell: PathBuf,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
}

/// Looks a user up by name.
///
/// # Errors
/// The name service failed; nobody by that name is `Ok(None)`.
pub fn user_by_name(name: &str) -> io::Result<Option<Account>> {
    if needs_getent() {
        return getent::user_by_name(name);
    }
    User::from_name(name)?.map(complete).transpose()
}

/// Looks a user up by number.
///
/// # Errors
/// The name service failed; nobody with that number is `Ok(None)`.
pub fn user_by_uid(uid: u32) -> io::Result<Option<Account>> {
    if needs_getent() {
        return getent::user_by_uid(uid);
    }
    User::from_uid(Uid::from_raw(uid))?.map(complete).transpose()
}

/// The number of a group.
///
/// # Errors
/// The name service failed; no such group is `Ok(None)`.
pub fn group_by_name(name: &str) -> io::Result<Option<u32>> {
    if needs_getent() {
        return getent::group_by_name(name);
    }
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

fn needs_getent() -> bool {
    cfg!(target_env = "musl") && getent::is_there()
}

fn complete(user: User) -> io::Result<Account> {
    let name = CString::new(user.name.as_str())?;
    let groups = unistd::getgrouplist(&name, user.gid)?;
    Ok(Account {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
        shell: user.shell,
        groups: groups.into_iter().map(unistd::Gid::as_raw).collect(),
        name: user.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = user_by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(user_by_uid(0).unwrap().unwrap(), root);
        assert_eq!(group_by_name("root").unwrap(), Some(0));
        assert_eq!(user_by_name("no-such-user-here").unwrap(), None);
        assert_eq!(user_by_uid(12_345).unwrap(), None);
        assert_eq!(group_by_name("no-such-group-here").unwrap(), None);
    }
}
