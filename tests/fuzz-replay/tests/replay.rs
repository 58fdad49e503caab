//! Everything that the fuzzers have kept runs through their targets again; the seeds are in the
//! corpora.

mod seeds;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use olb_fuzz_targets::TARGETS;

/// A corpus is read by people and carried by every clone.
const FILES_MAX: usize = 400;
const FILE_BYTES_MAX: usize = 16 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files in a folder; none where there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_corpus_and_every_regression_passes() {
    for (name, target) in TARGETS {
        let mut paths = files(&fuzz().join("corpus").join(name));
        assert!(!paths.is_empty(), "{name} has no corpus");
        paths.extend(files(&fuzz().join("regressions").join(name)));
        for path in paths {
            let bytes = fs::read(&path).unwrap();
            assert!(catch_unwind(|| target(&bytes)).is_ok(), "{}", path.display());
        }
    }
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

#[test]
fn every_target_has_its_wrapper_and_every_wrapper_its_target() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        let call = format!("olb_fuzz_targets::{name}(data)");
        assert!(source.contains(&call), "{name}.rs does not call {call}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in Cargo.toml");
    }
    assert_eq!(files(&fuzz().join("fuzz_targets")).len(), TARGETS.len());
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
