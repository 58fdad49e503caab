//! The one spelling of each invocation.

use super::value::Account;
use super::{Edit, Invocation, Listing, Options, Probe, Run, Shell, Surroundings};

type Words = Vec<Vec<u8>>;

impl Invocation {
    /// The words after `sudo` that mean this, in one fixed spelling: switches by their letter, one
    /// to a word, then values as `--name=value`, then variables, `--` and the command. They parse
    /// back to the same value, unless the few words that this can have more than what was typed are
    /// over [`WORDS_MAX`](super::WORDS_MAX) or [`BYTES_MAX`](super::BYTES_MAX).
    #[must_use]
    pub fn to_words(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Run(run) => run.words(),
            Self::Shell(shell) => shell.words(),
            Self::Edit(edit) => edit.words(),
            Self::Probe(probe) => probe.words(),
            Self::ResetTimestamp => vec![b"-k".into()],
            Self::RemoveTimestamp => vec![b"-K".into()],
            Self::Version => vec![b"-V".into()],
            Self::Help => vec![b"-h".into()],
        }
    }
}

impl Run {
    fn words(&self) -> Words {
        let mut words = self.options.words();
        words.extend(self.surroundings.words());
        with_command(words, &self.command)
    }
}

impl Shell {
    fn words(&self) -> Words {
        let mut words = vec![self.switch().into()];
        words.extend(self.options.words());
        words.extend(self.surroundings.words());
        with_command(words, &self.command)
    }
}

impl Edit {
    fn words(&self) -> Words {
        let mut words = vec![b"-e".into()];
        words.extend(self.options.words());
        words.extend(place(self.chdir.as_deref(), self.timeout_secs));
        with_command(words, &self.files)
    }
}

impl Probe {
    fn words(&self) -> Words {
        match self {
            Self::Validate(options) => {
                let mut words = vec![b"-v".into()];
                words.extend(options.words());
                words
            }
            Self::List(listing) => listing.words(),
            Self::Nothing(run) => run.words(),
        }
    }
}

impl Listing {
    fn words(&self) -> Words {
        let mut words: Words = vec![b"-l".into()];
        if self.long {
            words.push(b"-l".into());
        }
        words.extend(self.options.words());
        words.extend(named("--other-user=", self.other_user.as_ref()));
        with_command(words, &self.command)
    }
}

impl Options {
    fn words(&self) -> Words {
        let switch = |accepted: &super::Accepted| accepted.word().into();
        let mut words: Words = self.accepted.iter().map(switch).collect();
        words.extend(self.prompt.as_ref().map(|prompt| valued("--prompt=", prompt)));
        words.extend(named("--user=", self.user.as_ref()));
        words.extend(named("--group=", self.group.as_ref()));
        words
    }
}

impl Surroundings {
    fn words(&self) -> Words {
        let mut words = place(self.chdir.as_deref(), self.timeout_secs);
        if self.preserve_all {
            words.push(b"-E".into());
        }
        let preserve = |name: &String| valued("--preserve-env=", name.as_bytes());
        words.extend(self.preserve.iter().map(preserve));
        words.extend(self.assignments.iter().map(super::Assignment::word));
        words
    }
}

fn place(chdir: Option<&[u8]>, timeout_secs: Option<u32>) -> Words {
    let timeout = |secs: u32| valued("--command-timeout=", secs.to_string().as_bytes());
    let chdir = chdir.map(|path| valued("--chdir=", path));
    chdir.into_iter().chain(timeout_secs.map(timeout)).collect()
}

fn valued(option: &str, value: &[u8]) -> Vec<u8> {
    [option.as_bytes(), value].concat()
}

fn named(option: &str, account: Option<&Account>) -> Option<Vec<u8>> {
    account.map(|account| valued(option, account.to_string().as_bytes()))
}

fn with_command(mut words: Words, command: &[Vec<u8>]) -> Words {
    if !command.is_empty() {
        words.push(b"--".into());
        words.extend_from_slice(command);
    }
    words
}
