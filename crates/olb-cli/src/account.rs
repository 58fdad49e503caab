//! Accounts of this host, looked up by the process that shows and signs: never on the broker's word.

use std::os::unix::ffi::OsStrExt as _;

use olb_lease::Plan;
use olb_review::display::safe;
use olb_sys::account::{Account, user_by_name, user_by_uid};

/// Name of the account with this number.
pub(crate) fn name_of(uid: u32) -> Option<String> {
    user_by_uid(uid).ok().flatten().map(|account| account.name)
}

/// Whether the target account of `plan` is, on this host, what its name says.
///
/// # Errors
/// One sentence: the name is of another account, or numbers, home or shell are not that account's.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    let target = &plan.run_as;
    let shown = safe(target.name.as_bytes());
    let found = user_by_name(&target.name);
    let found =
        found.map_err(|error| format!("the account {shown} cannot be looked up ({error})"))?;
    match found {
        Some(account) => compare(plan, &account),
        None => Err(format!("there is no account {shown} on this host")),
    }
}

fn compare(plan: &Plan, account: &Account) -> Result<(), String> {
    let target = &plan.run_as;
    let shown = safe(target.name.as_bytes());
    if account.uid != target.uid {
        return Err(format!(
            "the account {shown} has uid {} on this host, the request says {}",
            account.uid, target.uid
        ));
    }
    let is_own = |group: &u32| account.groups.contains(group) || *group == target.gid;
    if let Some(foreign) = target.groups.iter().find(|group| !is_own(group)) {
        return Err(format!(
            "the account {shown} is not in group {foreign}, the request says it is"
        ));
    }
    for (name, path, default) in
        [(&b"HOME"[..], &account.home, &b"/"[..]), (b"SHELL", &account.shell, b"/bin/sh")]
    {
        // An entry without a path stands for the system's own.
        let expected = if path.is_absolute() { path.as_os_str().as_bytes() } else { default };
        if plan.environment.get(name).map(Vec::as_slice) != Some(expected) {
            return Err(format!("{} is not that of the account {shown}", safe(name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::plan;

    fn root() -> Plan {
        let mut plan = plan();
        let account = user_by_uid(0).unwrap().unwrap();
        plan.run_as.groups = account.groups;
        plan.run_as.groups.sort_unstable();
        let shell = account.shell.into_os_string().into_encoded_bytes();
        plan.environment.insert("SHELL".into(), shell);
        plan.environment.insert("HOME".into(), account.home.into_os_string().into_encoded_bytes());
        plan
    }

    #[test]
    fn root_is_root_here() {
        assert_eq!(check(&root()), Ok(()));
    }

    #[test]
    fn a_name_with_the_numbers_of_another_account_is_refused() {
        let mut plan = root();
        plan.run_as.uid = 12_345;
        assert!(
            check(&plan).unwrap_err().contains("has uid 0 on this host, the request says 12345")
        );
        let mut plan = root();
        plan.run_as.name = "daemon".into();
        assert!(check(&plan).unwrap_err().contains("the request says 0"));
        let mut plan = root();
        plan.run_as.groups.push(54_321);
        assert!(check(&plan).unwrap_err().contains("is not in group 54321"));
        let mut plan = root();
        plan.run_as.name = "no\u{7}body-here".into();
        assert_eq!(check(&plan).unwrap_err(), "there is no account no\\u{7}body-here on this host");
    }

    #[test]
    fn home_and_shell_of_somebody_else_are_refused() {
        for name in ["HOME", "SHELL"] {
            let mut plan = root();
            plan.environment.insert(name.into(), "/tmp/evil".into());
            assert!(check(&plan).unwrap_err().starts_with(name));
        }
    }
}
