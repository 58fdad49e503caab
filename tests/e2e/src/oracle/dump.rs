//! What the probe said, and what it means beside what the caller was.

use std::collections::BTreeMap;

/// What an attribute is where there is none.
const NONE: &str = "none";
/// Attributes that are the host's, whatever they are: they are named by whose they are.
const WHOSE: [&str; 5] = [
    "limit.",
    "status.CapBnd",
    "status.Cpus_allowed_list",
    "status.Mems_allowed_list",
    "audit-session",
];

/// What the probe said: values by attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dump(BTreeMap<String, String>);

/// What is another in every run of the test, and the word that stands for it in the list.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<(String, &'static str)>);

/// Whose a value is, where it is another on every host.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What the caller itself was, in this context.
    pub caller: &'a Dump,
    /// What a caller is about whom nothing is said.
    pub usual: &'a Dump,
}

impl Names {
    /// `word` stands for every `value` in a dump. Longer values have to come first.
    #[must_use]
    pub fn with(mut self, value: &str, word: &'static str) -> Self {
        self.0.push((value.to_owned(), word));
        self
    }

    fn apply(&self, text: &str) -> String {
        let name = |text: String, (value, word): &(String, &'static str)| text.replace(value, word);
        self.0.iter().fold(text.to_owned(), name)
    }
}

impl Dump {
    /// Reads what the probe printed. Values keep their escapes.
    ///
    /// # Panics
    /// A line is none of the probe's.
    #[track_caller]
    pub fn read(printed: &str) -> Self {
        let pair = |line: &str| {
            // A variable is NAME=VALUE itself.
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?}"));
            (name.to_owned(), value.to_owned())
        };
        Self(printed.lines().map(pair).collect())
    }

    /// An attribute as it was printed.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or(NONE, String::as_str)
    }

    /// The arguments with which the probe was started, without its own name, as they were printed.
    pub fn arguments(&self) -> Vec<&str> {
        let count: usize = self.get("argc").parse().expect("a number");
        (1..count).map(|at| self.get(&format!("arg.{at}"))).collect()
    }

    /// The same in words that mean the same on every host and in every run.
    #[must_use]
    pub fn in_words(&self, side: Side<'_>, names: &Names) -> Self {
        // Two that say one thing are one; a process number says nothing.
        let is_said = |name: &str| !["pid", "keyring.name"].contains(&name);
        let said = self.0.iter().filter(|(name, _)| is_said(name));
        Self(
            said.map(|(name, value)| (name.clone(), self.word(name, value, side, names))).collect(),
        )
    }

    fn word(&self, name: &str, value: &str, side: Side<'_>, names: &Names) -> String {
        let whose = || {
            let of = |dump: &Dump| dump.0.get(name).is_some_and(|other| other == value);
            match (of(side.caller), of(side.usual)) {
                (true, _) => Some("the caller's"),
                (false, true) => Some("the usual"),
                (false, false) => None,
            }
        };
        match name {
            "group" | "session" if value == self.get("pid") => "its own".into(),
            "group" | "session" => whose().unwrap_or("another's").into(),
            "keyring" => match self.get("keyring.name").rsplit(';').next() {
                Some("_ses") => "a new one".into(),
                name => name.unwrap_or_default().into(),
            },
            // A caller makes new ones each time that it is asked to.
            _ if name.starts_with("namespace.") && side.usual.get(name) == value => {
                "the usual".into()
            }
            _ if name.starts_with("namespace.") => "another".into(),
            "env.INVOCATION_ID" | "env.SYSTEMD_EXEC_PID" => "another each time".into(),
            "status.CapPrm" | "status.CapEff" if value == self.get("status.CapBnd") => {
                "all that may be".into()
            }
            "status.Groups" if value.is_empty() => NONE.into(),
            "cgroup" if value.contains("/run-") => "its own".into(),
            "cgroup" => whose().unwrap_or("another").into(),
            // Where it may not raise one, sudo loses the hard limit that it lowers for itself.
            "limit.CORE" => value.split(':').next().unwrap_or_default().into(),
            "fd.0" | "fd.1" | "fd.2" if value.contains(" /dev/pts/") => {
                "device both /dev/pts/N".into()
            }
            _ if WHOSE.iter().any(|prefix| name.starts_with(prefix)) => {
                whose().unwrap_or("another").into()
            }
            _ => names.apply(value),
        }
    }

    /// The same without the attributes whose names begin with `prefix`.
    #[must_use]
    pub fn without(mut self, prefix: &str) -> Self {
        self.0.retain(|name, _| !name.starts_with(prefix));
        self
    }

    /// The attributes in which `other` differs: what each is here, and what it is there.
    pub fn differences(&self, other: &Self) -> BTreeMap<String, (String, String)> {
        let names = self.0.keys().chain(other.0.keys());
        let both =
            names.map(|name| (name.clone(), (self.get(name).into(), other.get(name).into())));
        both.filter(|(_, (here, there))| here != there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(text: &str) -> Dump {
        Dump::read(text)
    }

    #[test]
    fn what_is_missing_on_one_side_is_a_difference() {
        let (one, other) = (dump("a=1\nenv.X=\n"), dump("a=1\nb=2\n"));
        let found = one.differences(&other);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found["b"], ("none".into(), "2".into()));
        assert_eq!(found["env.X"], (String::new(), "none".into()));
        assert_eq!(one.differences(&one), [].into());
    }

    #[test]
    fn numbers_become_what_they_are_to_the_caller() {
        let caller = dump("pid=5\nsession=5\ngroup=5\nlimit.DATA=9:9\n");
        let usual = dump("limit.DATA=0:9\nnamespace.uts=uts:[1]\n");
        let side = Side { caller: &caller, usual: &usual };
        let text = "pid=7\nsession=5\ngroup=7\nlimit.DATA=0:9\nnamespace.uts=uts:[3]\nexe=/r/x\n";
        let words = dump(text).in_words(side, &Names::default().with("/r/x", "PROBE"));
        for (name, word) in [
            ("pid", "none"),
            ("session", "the caller's"),
            ("group", "its own"),
            ("limit.DATA", "the usual"),
            ("namespace.uts", "another"),
            ("exe", "PROBE"),
        ] {
            assert_eq!(words.get(name), word, "{name}");
        }
        let unlike = dump("pid=7\nlimit.DATA=3:4\n").in_words(side, &Names::default());
        assert_eq!(unlike.get("limit.DATA"), "another");
    }

    #[test]
    fn arguments_keep_their_order_past_the_tenth() {
        let printed: String = (0..12).map(|at| format!("arg.{at}={at}\n")).collect();
        let words = dump(&format!("{printed}argc=12\n"));
        assert_eq!(words.arguments()[9..], ["10", "11"]);
    }
}
