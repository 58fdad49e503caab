//! Which environment a command gets: a fixed base, and the few variables a requester may set.
//!
//! One set of rules for three readers: the front builds with it, the approver's process checks
//! what it shows, and the root half enforces it, so that no front can slip a variable past the
//! human. It is an allowlist: what is not named here is refused by name, never dropped.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::plan::Plan;

/// The only directories in which a command name is looked up, and the command's own `PATH`.
pub const SECURE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A permitted value is at most this long, in bytes.
const VALUE_BYTES_MAX: usize = 256;

/// Why an environment is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvironmentError {
    /// The requester may not set this variable.
    #[error(
        "the variable {name} cannot be set for a privileged command; leave it out, or write its \
         effect into the command itself"
    )]
    Name {
        /// The name, with anything that is not a letter, digit or underscore as `?`.
        name: String,
    },
    /// The variable may be set, but not to this.
    #[error("the value of {name} is not permitted; it takes {takes}")]
    Value {
        /// The name.
        name: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// The requester may set this variable, and did not.
    #[error("the variable {name} is in the environment and was not typed")]
    NotTyped {
        /// The name.
        name: &'static str,
    },
    /// The fixed part is not what it has to be.
    #[error("the fixed variable {name} is not what it has to be")]
    Base {
        /// The name.
        name: &'static str,
    },
}

/// What the base takes from the target account.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// Account name.
    pub name: &'a str,
    /// Home directory.
    pub home: &'a [u8],
    /// Login shell.
    pub shell: &'a [u8],
}

/// The environment of a command for which no variable was typed.
#[must_use]
pub fn base(account: Account<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let name = account.name.as_bytes();
    [
        ("HOME", account.home),
        ("LANG", b"C.UTF-8"),
        ("LOGNAME", name),
        ("PATH", SECURE_PATH.as_bytes()),
        ("PYTHONSAFEPATH", b"1"),
        ("SHELL", account.shell),
        ("USER", name),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

type Rule = (&'static str, &'static str, fn(&[u8]) -> bool);

/// The variables a requester may set, what they take, and the test for it.
const PERMITTED: [Rule; 20] = [
    ("COLUMNS", "a number", number),
    ("DEBIAN_FRONTEND", "noninteractive, readline or teletype", frontend),
    ("LANG", "a locale name", locale),
    ("LANGUAGE", "locale names", locale),
    ("LC_ADDRESS", "a locale name", locale),
    ("LC_ALL", "a locale name", locale),
    ("LC_COLLATE", "a locale name", locale),
    ("LC_CTYPE", "a locale name", locale),
    ("LC_IDENTIFICATION", "a locale name", locale),
    ("LC_MEASUREMENT", "a locale name", locale),
    ("LC_MESSAGES", "a locale name", locale),
    ("LC_MONETARY", "a locale name", locale),
    ("LC_NAME", "a locale name", locale),
    ("LC_NUMERIC", "a locale name", locale),
    ("LC_PAPER", "a locale name", locale),
    ("LC_TIME", "a locale name", locale),
    ("LINES", "a number", number),
    ("NO_COLOR", "0 or 1", switch),
    ("TERM", "a terminal name", terminal),
    ("TZ", "a zone name such as Europe/Berlin", zone),
];

fn number(value: &[u8]) -> bool {
    value.len() <= 5 && value.iter().all(u8::is_ascii_digit)
}

fn frontend(value: &[u8]) -> bool {
    [&b"noninteractive"[..], b"readline", b"teletype"].contains(&value)
}

/// No `/`: a locale is a name, never a path (CVE-2014-0475).
fn locale(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.@:-".contains(byte))
}

fn switch(value: &[u8]) -> bool {
    [&b""[..], b"0", b"1"].contains(&value)
}

fn terminal(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(byte))
}

/// A zone's name below the system's own folder: no absolute path, no `..`, no `:` (CVE-2014-9680).
fn zone(value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-/".contains(byte);
    !value.starts_with(b"/") && value.iter().all(plain)
}

/// Whether a requester may set `name` to `value`.
///
/// # Errors
/// The name is not on the list, or the value is not of the kind it takes.
pub fn permit(name: &[u8], value: &[u8]) -> Result<(), EnvironmentError> {
    let (name, takes, holds) = rule_of(name)?;
    if value.len() <= VALUE_BYTES_MAX && holds(value) {
        Ok(())
    } else {
        Err(EnvironmentError::Value { name, takes })
    }
}

fn rule_of(name: &[u8]) -> Result<Rule, EnvironmentError> {
    let mut rules = PERMITTED.iter().copied();
    let rule = rules.find(|(permitted, _, _)| permitted.as_bytes() == name);
    let shown = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' => char::from(*byte),
        _ => '?',
    };
    let refused = || name.iter().take(64).map(shown).collect();
    rule.ok_or_else(|| EnvironmentError::Name { name: refused() })
}

/// Whether a plan's environment is the base for its target account with its own words over it, and
/// nothing else. Home and shell are taken from the plan: whether they are the account's own, the
/// approver's process checks, which can look accounts up.
///
/// # Errors
/// The first variable that is not as it has to be.
pub fn check(plan: &Plan) -> Result<(), EnvironmentError> {
    for (name, value) in &plan.environment_words {
        permit(name, value)?;
    }
    let path_of = |name: &'static str| match plan.environment.get(name.as_bytes()) {
        Some(value) if value.starts_with(b"/") => Ok(value.as_slice()),
        Some(_) | None => Err(EnvironmentError::Base { name }),
    };
    let account =
        Account { name: &plan.run_as.name, home: path_of("HOME")?, shell: path_of("SHELL")? };
    let mut expected = base(account);
    expected.extend(plan.environment_words.clone());
    if let Some(stray) = plan.environment.keys().find(|name| !expected.contains_key(*name)) {
        let (name, _, _) = rule_of(stray)?;
        return Err(EnvironmentError::NotTyped { name });
    }
    let differs =
        base(account).into_keys().find(|name| plan.environment.get(name) != expected.get(name));
    let fixed = ["HOME", "LANG", "LOGNAME", "PATH", "PYTHONSAFEPATH", "SHELL", "USER"];
    match differs {
        Some(name) => {
            let name = fixed.into_iter().find(|fixed| fixed.as_bytes() == name);
            Err(EnvironmentError::Base { name: name.unwrap_or("environment") })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_and_interpreter_variables_are_refused_by_name() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "PATH",
            "HOME",
            "IFS",
            "BASH_ENV",
            "ENV",
            "PS4",
            "SHELLOPTS",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PERL5LIB",
            "RUBYOPT",
            "NODE_OPTIONS",
            "GIT_TEMPLATE_DIR",
            "AWS_CONFIG_FILE",
            "VIMINIT",
            "LUA_INIT",
            "HOSTALIASES",
            "EDITOR",
            "SUDO_UID",
            "SUDO_USER",
            "PAGER",
            "TMPDIR",
            "LOCPATH",
            "NLSPATH",
            "GCONV_PATH",
            "",
        ] {
            let error = permit(name.as_bytes(), b"x").unwrap_err();
            assert_eq!(error, EnvironmentError::Name { name: name.into() });
        }
    }

    #[test]
    fn values_that_are_paths_in_disguise_are_refused() {
        for (name, value) in [
            ("TZ", "/etc/shadow"),
            ("TZ", "../../etc/shadow"),
            ("TZ", ":/x"),
            ("LANG", "../x"),
            ("LC_ALL", "/tmp/x"),
            ("TERM", "/tmp/x"),
            ("COLUMNS", "80;id"),
            ("DEBIAN_FRONTEND", "editor"),
        ] {
            let refused = permit(name.as_bytes(), value.as_bytes());
            assert!(matches!(refused, Err(EnvironmentError::Value { .. })), "{name}={value}");
        }
        for (name, value) in [
            ("TZ", "Europe/Berlin"),
            ("LANG", "de_DE.UTF-8"),
            ("TERM", "xterm-256color"),
            ("NO_COLOR", ""),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ] {
            assert_eq!(permit(name.as_bytes(), value.as_bytes()), Ok(()), "{name}={value}");
        }
    }

    #[test]
    fn odd_bytes_in_a_refused_name_are_not_echoed() {
        let error = permit(b"A\x1b[2J", b"").unwrap_err();
        assert_eq!(error, EnvironmentError::Name { name: "A??2J".into() });
    }
}
