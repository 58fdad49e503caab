//! Everything that the fuzzers have kept runs through their targets again; the seeds are in the
//! corpora.

mod seeds;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use olb_fuzz_targets::{TARGETS, Target};

/// A corpus is read by people and carried by every clone.
const FILES_MAX: usize = 400;
const FILE_BYTES_MAX: usize = 16 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files in a folder; none where there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        entries => entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display())),
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Runs what `root` keeps for a target: its corpus, which has to be there, and its regressions,
/// where there are any. Returns what went wrong.
fn replay(root: &Path, name: &str, target: Target) -> Vec<String> {
    let mut paths = files(&root.join("corpus").join(name));
    if paths.is_empty() {
        return vec![format!("{name} has no corpus")];
    }
    paths.extend(files(&root.join("regressions").join(name)));
    let mut failed = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        if catch_unwind(|| target(&bytes)).is_err() {
            failed.push(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
    failed
}

#[test]
fn every_corpus_and_every_regression_passes() {
    for (name, target) in TARGETS {
        assert_eq!(replay(&fuzz(), name, target), [""; 0]);
    }
}

#[test]
fn a_missing_corpus_and_a_regression_that_is_back_are_found() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let keep = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    keep("corpus/kept/seed", b"fine");
    keep("corpus/back/seed", b"fine");
    keep("regressions/back/what_was_wrong", b"bad");
    keep("regressions/lost/what_was_wrong", b"fine");
    let target = |data: &[u8]| assert_ne!(data, b"bad");
    assert_eq!(replay(&root, "kept", target), [""; 0]);
    assert_eq!(replay(&root, "back", target), ["regressions/back/what_was_wrong"]);
    assert_eq!(replay(&root, "lost", target), ["lost has no corpus"]);
}

#[test]
fn corpora_are_small_and_every_folder_has_its_target() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for kind in ["corpus", "regressions"] {
        for folder in files(&fuzz().join(kind)).iter().filter(|path| path.is_dir()) {
            let name = folder.file_name().unwrap().to_str().unwrap();
            assert!(names.contains(name), "{} belongs to no target", folder.display());
            let files = files(folder);
            assert!(files.len() <= FILES_MAX, "{} has too many files", folder.display());
            for file in files {
                let length = file.metadata().unwrap().len();
                assert!(length <= FILE_BYTES_MAX as u64, "{} is too long", file.display());
            }
        }
    }
}

/// What stands between `before` and `after` in the lines of a file.
fn between(path: &str, before: &str, after: &str) -> Vec<String> {
    let text = fs::read_to_string(fuzz().join(path)).unwrap();
    let inside = |line: &str| Some(line.strip_prefix(before)?.split_once(after)?.0.to_owned());
    text.lines().filter_map(inside).collect()
}

#[test]
fn list_wrappers_manifest_and_table_name_the_same_targets() {
    let names: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let sorted: Vec<String> = BTreeSet::from_iter(names.clone()).into_iter().collect();
    assert_eq!(names, sorted, "the list is in order and names nothing twice");

    let wrappers = files(&fuzz().join("fuzz_targets"));
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let wrappers: Vec<String> = wrappers.iter().map(stem).collect();
    assert_eq!(wrappers, names, "fuzz_targets/");
    for name in &names {
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        let call = format!("olb_fuzz_targets::{name}(data)");
        assert!(source.contains(&call), "{name}.rs does not call {call}");
    }

    let mut programs = between("Cargo.toml", "name = \"", "\"");
    assert_eq!(programs.remove(0), "olb-fuzz");
    assert_eq!(programs, names, "Cargo.toml");
    assert_eq!(between("Cargo.toml", "path = \"fuzz_targets/", ".rs\""), names, "Cargo.toml");

    // Two tables: what each promises, and the hours behind it, where there are any.
    let rows = between("README.md", "| `", "` |");
    let (promised, measured) = rows.split_at(names.len());
    assert_eq!(BTreeSet::from_iter(promised), BTreeSet::from_iter(&names), "README.md");
    assert!(measured.iter().all(|name| names.contains(name)), "README.md: {measured:?}");
}

/// With `OLB_WRITE_CORPUS` set the seeds are written first.
#[test]
fn the_seeds_are_in_the_corpora() {
    let write = std::env::var_os("OLB_WRITE_CORPUS").is_some();
    for (target, name, bytes) in seeds::all() {
        assert!(bytes.len() <= FILE_BYTES_MAX, "{target}/{name}");
        let path = fuzz().join("corpus").join(target).join(&name);
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; write the seeds with OLB_WRITE_CORPUS=1", path.display())
        });
        assert_eq!(kept, bytes, "{} is another seed", path.display());
    }
}
