//! The options of sudo 1.9 on Linux, as its `getopt_long` knows them.

use super::refusal::{Refusal, Shown};

/// An option, whichever way it was spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opt {
    Askpass,
    AuthType,
    Background,
    Bell,
    Chdir,
    Chroot,
    CloseFrom,
    Edit,
    Group,
    Help,
    Host,
    List,
    Login,
    LoginClass,
    NoUpdate,
    NonInteractive,
    OtherUser,
    PreserveEnv,
    PreserveGroups,
    Prompt,
    RemoveTimestamp,
    ResetTimestamp,
    Role,
    SetHome,
    Shell,
    Stdin,
    Timeout,
    Type,
    User,
    Validate,
    Version,
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// The rest of its word or the next word; the text is what stands for it in messages.
    Value(&'static str),
    /// Only behind `=`, in the long form.
    Optional,
}

struct Entry {
    opt: Opt,
    letter: u8,
    long: &'static str,
    takes: Takes,
}

const fn entry(opt: Opt, letter: u8, long: &'static str, takes: Takes) -> Entry {
    Entry { opt, letter, long, takes }
}

/// `-h` is two options: which one, the scanner decides. Long names that sudo knows on other systems
/// only are here too, because they make abbreviations ambiguous in every sudo.
const TABLE: [Entry; 31] = [
    entry(Opt::Askpass, b'A', "askpass", Takes::Nothing),
    entry(Opt::AuthType, b'a', "auth-type", Takes::Value("TYPE")),
    entry(Opt::Background, b'b', "background", Takes::Nothing),
    entry(Opt::Bell, b'B', "bell", Takes::Nothing),
    entry(Opt::Chdir, b'D', "chdir", Takes::Value("DIRECTORY")),
    entry(Opt::Chroot, b'R', "chroot", Takes::Value("DIRECTORY")),
    entry(Opt::CloseFrom, b'C', "close-from", Takes::Value("NUMBER")),
    entry(Opt::Edit, b'e', "edit", Takes::Nothing),
    entry(Opt::Group, b'g', "group", Takes::Value("GROUP")),
    entry(Opt::Help, b'h', "help", Takes::Nothing),
    entry(Opt::Host, b'h', "host", Takes::Value("HOST")),
    entry(Opt::List, b'l', "list", Takes::Nothing),
    entry(Opt::Login, b'i', "login", Takes::Nothing),
    entry(Opt::LoginClass, b'c', "login-class", Takes::Value("CLASS")),
    entry(Opt::NoUpdate, b'N', "no-update", Takes::Nothing),
    entry(Opt::NonInteractive, b'n', "non-interactive", Takes::Nothing),
    entry(Opt::OtherUser, b'U', "other-user", Takes::Value("USER")),
    entry(Opt::PreserveEnv, b'E', "preserve-env", Takes::Optional),
    entry(Opt::PreserveGroups, b'P', "preserve-groups", Takes::Nothing),
    entry(Opt::Prompt, b'p', "prompt", Takes::Value("PROMPT")),
    entry(Opt::RemoveTimestamp, b'K', "remove-timestamp", Takes::Nothing),
    entry(Opt::ResetTimestamp, b'k', "reset-timestamp", Takes::Nothing),
    entry(Opt::Role, b'r', "role", Takes::Value("ROLE")),
    entry(Opt::SetHome, b'H', "set-home", Takes::Nothing),
    entry(Opt::Shell, b's', "shell", Takes::Nothing),
    entry(Opt::Stdin, b'S', "stdin", Takes::Nothing),
    entry(Opt::Timeout, b'T', "command-timeout", Takes::Value("TIME")),
    entry(Opt::Type, b't', "type", Takes::Value("TYPE")),
    entry(Opt::User, b'u', "user", Takes::Value("USER")),
    entry(Opt::Validate, b'v', "validate", Takes::Nothing),
    entry(Opt::Version, b'V', "version", Takes::Nothing),
];

impl Opt {
    /// The option of a letter; [`Opt::Help`] for `h`.
    pub(super) fn of_letter(letter: u8) -> Option<Self> {
        TABLE.iter().find(|entry| entry.letter == letter).map(|entry| entry.opt)
    }

    /// The option of a long name without its dashes: in full, or as much of it as no other begins
    /// with, as `getopt_long` takes it.
    pub(super) fn of_long(typed: &[u8]) -> Result<Self, Refusal> {
        if let Some(entry) = TABLE.iter().find(|entry| entry.long.as_bytes() == typed) {
            return Ok(entry.opt);
        }
        let fits = |entry: &&Entry| !typed.is_empty() && entry.long.as_bytes().starts_with(typed);
        let found: Vec<&Entry> = TABLE.iter().filter(fits).collect();
        let option = || Shown::of(&[b"--", typed].concat());
        match found.as_slice() {
            [] => Err(Refusal::Unknown { option: option() }),
            [entry] => Ok(entry.opt),
            [_, _, ..] => {
                let names: Vec<_> = found.iter().map(|entry| format!("--{}", entry.long)).collect();
                Err(Refusal::Ambiguous { option: option(), candidates: names.join(" or ") })
            }
        }
    }

    fn entry(self) -> Option<&'static Entry> {
        TABLE.iter().find(|entry| entry.opt == self)
    }

    /// Whether it has a value.
    pub(super) fn takes(self) -> Takes {
        self.entry().map_or(Takes::Nothing, |entry| entry.takes)
    }

    /// The short spelling, as people know it.
    pub(super) fn short(self) -> String {
        self.entry().map_or_else(String::new, |entry| format!("-{}", char::from(entry.letter)))
    }

    /// The long spelling.
    pub(super) fn long(self) -> String {
        self.entry().map_or_else(String::new, |entry| format!("--{}", entry.long))
    }

    /// What stands for its value in messages; `-e` is followed by files.
    pub(super) fn placeholder(self) -> &'static str {
        match self.takes() {
            Takes::Value(name) => name,
            Takes::Nothing | Takes::Optional => "FILE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_found_by_letter_and_by_name() {
        for entry in &TABLE {
            let by_letter = Opt::of_letter(entry.letter).unwrap();
            let expected = if entry.opt == Opt::Host { Opt::Help } else { entry.opt };
            assert_eq!(by_letter, expected, "{}", entry.long);
            assert_eq!(Opt::of_long(entry.long.as_bytes()), Ok(entry.opt), "{}", entry.long);
        }
    }
}
