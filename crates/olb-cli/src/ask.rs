//! The command as the requester's process knows it: words, folder, standard input.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use olb_lease::plan_limit;
use olb_review::display::safe;
use olb_wire::{ByteBuf, Command};

use crate::failure::Failure;

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

/// Builds the command from `words`: `VAR=value` words first, as sudo takes them. What it names is not
/// looked at yet.
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
        cwd_changeable: false,
        staged: Vec::new(),
        unbound: Vec::new(),
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
