//! The rules about operands: the built-in ones, and those of the administrator. Here they say which
//! commands must not be cut off; nothing that is safe depends on them.

use std::fs;
use std::path::Path;

use olb_core::operands::{RULES_BYTES_MAX, Rules};
use olb_sys::file::read_trusted;
use olb_sys::harden::effective_uid;

/// Reads the rules in `folder`, which need not exist; with what is wrong with files that are left
/// out, a sentence each.
pub(crate) fn load(folder: &Path) -> (Rules, Vec<String>) {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "rules") {
            continue;
        }
        let read = |owner| read_trusted(&path, RULES_BYTES_MAX, owner);
        match read(0).or_else(|_| read(effective_uid())) {
            Ok(bytes) => files.push((path.display().to_string(), bytes)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    let (rules, errors) = Rules::with_files(files);
    problems.extend(errors.iter().map(ToString::to_string));
    (rules, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_administrator_count_and_a_bad_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("a.rules", "frob | whole"), ("b.rules", "frob | hole"), ("c.txt", "frob | all:read")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let (rules, problems) = load(folder.path());
        assert!(rules.examine(&["frob", "x"]).whole);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("b.rules, line 1"), "{problems:?}");
    }

    #[test]
    fn without_a_folder_the_built_in_rules_count() {
        let (rules, problems) = load(Path::new("/nonexistent"));
        assert!(problems.is_empty() && rules.examine(&["dpkg", "-i", "x"]).whole);
    }
}
