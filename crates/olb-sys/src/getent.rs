//! The name service by way of `getent`: a statically linked program cannot load the modules that
//! know the accounts of a directory service, and would find those of `/etc/passwd` only.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::account::Account;

const GETENT: &str = "/usr/bin/getent";
/// The exit code for "no such entry".
const NOT_FOUND: i32 = 2;

/// Whether this system has it; those without have no such modules either.
pub(crate) fn is_there() -> bool {
    Path::new(GETENT).exists()
}

/// The account of this name.
pub(crate) fn user_by_name(name: &str) -> io::Result<Option<Account>> {
    // A name of digits alone is looked up as a number.
    Ok(user(name)?.filter(|account| account.name == name))
}

/// The account of this number.
pub(crate) fn user_by_uid(uid: u32) -> io::Result<Option<Account>> {
    Ok(user(&uid.to_string())?.filter(|account| account.uid == uid))
}

/// The number of the group of this name.
pub(crate) fn group_by_name(name: &str) -> io::Result<Option<u32>> {
    let Some(line) = entry("group", name)? else { return Ok(None) };
    let fields: Vec<&str> = line.split(':').collect();
    match fields.as_slice() {
        [found, _, gid, ..] if *found == name => Ok(Some(number(gid)?)),
        _ => Ok(None),
    }
}

fn user(key: &str) -> io::Result<Option<Account>> {
    let Some(line) = entry("passwd", key)? else { return Ok(None) };
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return Err(malformed()) };
    let gid = number(gid)?;
    // The name, then the numbers of the groups that it is a member of, as at login.
    let member_of = entry("initgroups", name)?.unwrap_or_default();
    let member_of = member_of.split_whitespace().skip(1).map(number);
    let mut groups = member_of.collect::<io::Result<Vec<u32>>>()?;
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    Ok(Some(Account {
        name: (*name).into(),
        uid: number(uid)?,
        gid,
        home: home.into(),
        shell: shell.into(),
        groups,
    }))
}

/// The first line that `getent` knows about `key`.
fn entry(database: &str, key: &str) -> io::Result<Option<String>> {
    let mut command = Command::new(GETENT);
    command.args(["--", database, key]).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output()?;
    match output.status.code() {
        Some(0) => {
            let text = String::from_utf8(output.stdout).map_err(|_| malformed())?;
            Ok(text.lines().next().map(str::to_owned))
        }
        Some(NOT_FOUND) => Ok(None),
        _ => Err(io::Error::other(format!("{GETENT} ended with {}", output.status))),
    }
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(|_| malformed())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer of {GETENT} does not read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account;

    #[test]
    fn it_says_what_the_name_service_says() {
        for name in ["root", "daemon", "no-such-user-here", "0", "", "-h", "root:x"] {
            assert_eq!(user_by_name(name).unwrap(), account::user_by_name(name).unwrap(), "{name}");
            let group = group_by_name(name).unwrap();
            assert_eq!(group, account::group_by_name(name).unwrap(), "{name}");
        }
        for uid in [0, 1, 12_345, u32::MAX - 1] {
            assert_eq!(user_by_uid(uid).unwrap(), account::user_by_uid(uid).unwrap(), "{uid}");
        }
    }
}
