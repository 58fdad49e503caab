//! Who may ask and who may answer in a throwaway instance.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use olb_sys::account::{Account, user_by_name, user_by_uid};

use crate::failure::Failure;

/// The installed broker's configuration, if there is one.
const PRODUCTION: &str = "/etc/olb/execd.conf";
/// The kernel's stand-in for accounts it cannot name.
const OVERFLOW_UID: u32 = 65_534;

/// The accounts, checked against each other.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Uids that may ask.
    pub(super) requesters: Vec<u32>,
    /// Names of the accounts that may answer, besides root.
    pub(super) approvers: Vec<String>,
    /// Name of the account that became root by sudo, where it may answer too.
    pub(super) invoker: Option<String>,
}

impl Accounts {
    /// Looks the accounts up.
    ///
    /// # Errors
    /// One is not known, or may not have its part.
    pub(super) fn resolve(
        requesters: &[String],
        approvers: &[String],
        sudo_uid: Option<&str>,
    ) -> Result<Self> {
        let asking = requesters.iter().map(|word| requester(word));
        let mut asking = asking.collect::<Result<Vec<u32>>>()?;
        asking.sort_unstable();
        asking.dedup();
        let mut answering = Vec::new();
        for name in approvers {
            let account = user_by_name(name).context("accounts cannot be looked up")?;
            let Some(account) = account else { return refuse(&format!("no account {name}")) };
            if asking.contains(&account.uid) {
                return refuse(&format!("{name} would ask and answer; choose two accounts"));
            }
            if account.uid != 0 {
                answering.push(account.name);
            }
        }
        let production = production_requesters()?;
        if let Some(uid) = asking.iter().find(|uid| production.contains(uid)) {
            return refuse(&format!(
                "uid {uid} asks the installed broker of this host; use another account here"
            ));
        }
        let invoker = invoker(sudo_uid)?.filter(|account| {
            // A developer may well let their own account ask; then root answers.
            !asking.contains(&account.uid) && !answering.contains(&account.name)
        });
        let invoker = invoker.map(|account| account.name);
        Ok(Self { requesters: asking, approvers: answering, invoker })
    }
}

/// The account behind `SUDO_UID`. Whoever can set it here is root already: it is a convenience.
fn invoker(sudo_uid: Option<&str>) -> Result<Option<Account>> {
    let Some(uid) = sudo_uid.and_then(|uid| uid.parse().ok()).filter(|uid| *uid != 0) else {
        return Ok(None);
    };
    user_by_uid(uid).context("accounts cannot be looked up")
}

fn refuse<T>(text: &str) -> Result<T> {
    Err(Failure::usage(text).into())
}

/// A name, or a number, which needs no account.
fn requester(word: &str) -> Result<u32> {
    let named = user_by_name(word).context("accounts cannot be looked up")?;
    let uid = match (named, word.parse()) {
        (Some(account), _) => account.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return refuse(&format!("no account {word}")),
    };
    if [0, OVERFLOW_UID, u32::MAX].contains(&uid) {
        return refuse(&format!("{word} can never ask; choose an ordinary account"));
    }
    Ok(uid)
}

fn production_requesters() -> Result<Vec<u32>> {
    match fs::read_to_string(PRODUCTION) {
        Ok(text) => Ok(listed(&text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context(format!("{PRODUCTION} cannot be read")),
    }
}

/// The uids behind `requesters` in a configuration of the root half.
fn listed(text: &str) -> Vec<u32> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let values = lines.filter(|(key, _)| key.trim() == "requesters").map(|(_, value)| value);
    values.flat_map(|value| value.split(',')).filter_map(|uid| uid.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn numbers_without_an_account_may_ask() {
        let accounts = Accounts::resolve(&words(&["61300", "61299", "61300"]), &[], None).unwrap();
        assert_eq!(accounts.requesters, [61_299, 61_300]);
    }

    #[test]
    fn root_nobody_and_strangers_may_not() {
        for word in ["root", "0", "65534", "4294967295", "no-such-account", "-1"] {
            let error = Accounts::resolve(&words(&[word]), &[], None).unwrap_err();
            assert!(error.is::<Failure>(), "{word}");
        }
    }

    #[test]
    fn root_is_an_approver_anyway() {
        let accounts = Accounts::resolve(&words(&["61300"]), &words(&["root"]), None).unwrap();
        assert!(accounts.approvers.is_empty());
    }

    #[test]
    fn nobody_asks_and_answers() {
        let daemon = user_by_name("daemon").unwrap().unwrap();
        let asks = words(&[&daemon.uid.to_string()]);
        let error = Accounts::resolve(&asks, &words(&["daemon"]), None).unwrap_err();
        assert_eq!(error.to_string(), "daemon would ask and answer; choose two accounts");
    }

    #[test]
    fn who_came_by_sudo_may_answer_unless_they_ask() {
        let daemon = user_by_name("daemon").unwrap().unwrap();
        let uid = daemon.uid.to_string();
        let invoker = |asks: &str, answers: &[&str], sudo_uid: &str| {
            let accounts = Accounts::resolve(&words(&[asks]), &words(answers), Some(sudo_uid));
            accounts.unwrap().invoker
        };
        assert_eq!(invoker("61300", &[], &uid).as_deref(), Some("daemon"));
        assert_eq!(invoker(&uid, &[], &uid), None, "asks");
        assert_eq!(invoker("61300", &["daemon"], &uid), None, "is named already");
        for nobody in ["0", "", "x", "-1", "61301"] {
            assert_eq!(invoker("61300", &[], nobody), None, "{nobody:?}");
        }
    }

    #[test]
    fn requesters_of_a_configuration_are_read() {
        let text = "# requesters = 1\nhost = h\nrequesters = 998, 1001\n";
        assert_eq!(listed(text), [998, 1001]);
    }
}
