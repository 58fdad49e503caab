//! The command as the requester's process knows it: words, folder, standard input.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use olb_lease::plan_limit;
use olb_review::display::safe;
use olb_sys::operand::{Operand, check_word};
use olb_wire::{ByteBuf, Command};

use crate::client::Runtime;
use crate::failure::Failure;
use crate::trust::BrokerKeys;

/// What the options say about a command, besides its words.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    /// `-u`
    pub(crate) user: Option<&'a str>,
    /// `-g`
    pub(crate) group: Option<&'a str>,
    /// `-C`
    pub(crate) chdir: Option<&'a Path>,
    /// `--stdin`
    pub(crate) stdin: bool,
}

/// Builds the command from `words`: `VAR=value` words first, as sudo takes them.
pub(crate) fn command(words: &[OsString], options: Options<'_>) -> Result<Command, Failure> {
    let first = words.iter().position(|word| !is_assignment(word.as_bytes()));
    let (variables, argv) = words.split_at(first.unwrap_or(words.len()));
    // `TZ=UTC -- date` means the same as `-- TZ=UTC date`.
    let argv = match argv.split_first() {
        Some((dashes, rest)) if dashes == "--" && !variables.is_empty() => rest,
        Some(_) | None => argv,
    };
    if argv.is_empty() {
        return Err(Failure::usage("no command is given; write it after '--'"));
    }
    // Without -C the kernel tells at once, links resolved.
    let cwd = options.chdir.map_or_else(std::env::current_dir, Path::canonicalize);
    let cwd = cwd.and_then(|path| Ok((path.metadata()?, path)));
    let (meta, cwd) = cwd.map_err(|error| {
        let folder = options.chdir.unwrap_or(Path::new("."));
        let shown = safe(folder.as_os_str().as_bytes());
        Failure::usage(format!("the folder {shown} cannot be used ({error}); give another with -C"))
    })?;
    let bytes =
        |words: &[OsString]| words.iter().map(|word| word.as_bytes().to_vec().into()).collect();
    Ok(Command {
        argv: bytes(argv),
        environment_words: bytes(variables),
        cwd: cwd.into_os_string().into_vec().into(),
        cwd_dev: meta.dev(),
        cwd_ino: meta.ino(),
        user: options.user.map(str::to_owned),
        group: options.group.map(str::to_owned),
        stdin: if options.stdin { Some(read_stdin()?) } else { None },
    })
}

fn is_assignment(word: &[u8]) -> bool {
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < word.len()
        && name.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_')
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

fn read_stdin() -> Result<ByteBuf, Failure> {
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(plan_limit::STDIN_BYTES + 1);
    input.read_to_end(&mut bytes).map_err(|error| {
        Failure::usage(format!("standard input cannot be read ({error}); leave --stdin out"))
    })?;
    if bytes.len() as u64 > plan_limit::STDIN_BYTES {
        return Err(Failure::usage(
            "standard input is longer than 1 MiB; put it into a file that only root can change",
        ));
    }
    Ok(bytes.into())
}

/// Refuses at once what the root half would refuse after the approval. Only a courtesy: this
/// process sees the requester's files, which the front may not.
pub(crate) fn check_operands(runtime: &Runtime, command: &Command) -> Result<(), Failure> {
    let mut trusted = vec![0];
    if BrokerKeys::of(runtime).is_ok_and(|keys| !keys.is_from_root) {
        trusted.push(olb_sys::harden::effective_uid());
    }
    let cwd = Path::new(std::ffi::OsStr::from_bytes(&command.cwd));
    let Ok(folder) = std::fs::File::open(cwd) else {
        return Ok(());
    };
    for word in command.argv.iter().skip(1) {
        let found = check_word(folder.as_fd(), word, &trusted);
        if let Some(sentence) = refusal(&found) {
            return Err(Failure::new(crate::failure::code::USAGE, "cannot_bind", sentence));
        }
    }
    Ok(())
}

fn refusal(found: &Operand) -> Option<String> {
    match found {
        Operand::Changeable(file) => Some(format!(
            "cannot be bound yet: {} can be changed by somebody other than root; let root own the \
             file and its folders, then ask again",
            safe(file)
        )),
        Operand::MagicLink(file) => Some(format!(
            "{} means something else in each process; name the file itself",
            safe(file)
        )),
        Operand::Harmless | Operand::Unreadable { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn variables_are_split_from_the_command() {
        let built = command(&words(&["TZ=UTC", "_A=", "env", "B=c"]), Options::default()).unwrap();
        assert_eq!(
            built.environment_words,
            ["TZ=UTC", "_A="].map(|word| ByteBuf::from(word.as_bytes()))
        );
        assert_eq!(built.argv, ["env", "B=c"].map(|word| ByteBuf::from(word.as_bytes())));
    }

    #[test]
    fn dashes_between_variables_and_command_are_no_command() {
        let built = command(&words(&["TZ=UTC", "--", "date"]), Options::default()).unwrap();
        assert_eq!(built.argv, [ByteBuf::from(&b"date"[..])]);
        assert!(command(&words(&["TZ=UTC", "--"]), Options::default()).is_err());
    }

    #[test]
    fn what_only_looks_like_a_variable_is_the_command() {
        for word in ["=x", "1A=x", "a-b=c", "./x=y", "A"] {
            let built = command(&words(&[word]), Options::default()).unwrap();
            assert_eq!(built.argv.len(), 1, "{word}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass_unchanged() {
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let built = command(&[odd], Options::default()).unwrap();
        assert_eq!(built.argv[0].as_ref(), b"a\xff");
    }

    #[test]
    fn a_missing_command_or_folder_is_wrong_usage() {
        let folder = Options { chdir: Some(Path::new("/nonexistent\u{7}")), ..Options::default() };
        for failure in [
            command(&[], Options::default()),
            command(&words(&["A=b"]), Options::default()),
            command(&words(&["id"]), folder),
        ] {
            let failure = failure.unwrap_err();
            assert_eq!(failure.code, 64);
            assert!(failure.text.chars().all(olb_review::display::is_safe));
        }
    }

    #[test]
    fn the_folder_is_canonical_with_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/usr", &link).unwrap();
        let options = Options { chdir: Some(&link), ..Options::default() };
        let built = command(&words(&["id"]), options).unwrap();
        assert_eq!(built.cwd.as_ref(), b"/usr");
        let usr = std::fs::metadata("/usr").unwrap();
        assert_eq!((built.cwd_dev, built.cwd_ino), (usr.dev(), usr.ino()));
    }
}
