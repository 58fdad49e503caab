use std::os::unix::fs::symlink;

use super::*;
use crate::testing::{self, STRANGER, chmod, file};

#[test]
fn identity_has_what_stat_says_and_changes_with_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = canonicalize(directory.path()).unwrap().join("f");
    fs::write(&path, "12345").unwrap();
    chmod(&path, 0o755);
    let before = identify(&path).unwrap();
    assert_eq!(before.size, 5);
    assert_eq!(before.mode & 0o7777, 0o755);
    assert!(before.is_regular() && before.is_executable() && !before.is_dir());
    assert!(!before.is_setuid_or_setgid());
    assert_eq!(before, identify(&path).unwrap());
    fs::write(&path, "123456").unwrap();
    assert_ne!(before, identify(&path).unwrap());
    assert!(identify(path.parent().unwrap()).unwrap().is_dir());
}

#[test]
fn identity_is_refused_through_any_link() {
    let directory = tempfile::tempdir().unwrap();
    let base = canonicalize(directory.path()).unwrap();
    fs::create_dir(base.join("real")).unwrap();
    fs::write(base.join("real/f"), "").unwrap();
    symlink("real", base.join("link")).unwrap();
    symlink("real/f", base.join("f")).unwrap();
    assert!(identify(&base.join("real/f")).is_ok());
    for name in ["link/f", "f"] {
        let error = identify(&base.join(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{name}");
    }
    let error = identify(Path::new("relative")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(canonicalize(&base.join("link/f")).unwrap(), base.join("real/f"));
}

#[test]
fn identifying_a_pipe_does_not_wait_for_a_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = canonicalize(directory.path()).unwrap().join("fifo");
    nix::unistd::mkfifo(&path, stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(!identify(&path).unwrap().is_regular());
}

//
#[test]
fn directories_are_opened_by_their_canonical_path_only() {
    let directory = tempfile::tempdir().unwrap();
    let base = canonicalize(directory.path()).unwrap();
    symlink(&base, base.join("self")).unwrap();
    fs::write(base.join("f"), "").unwrap();
    let opened = open_directory(&base).unwrap();
    let identity = identify(&base).unwrap();
    assert_eq!((opened.dev, opened.ino), (identity.dev, identity.ino));
    assert!(matches!(open_directory(&base.join("self")), Err(DirError::NotCanonical)));
    assert!(matches!(open_directory(&base.join("f")), Err(DirError::NotDirectory)));
    assert!(matches!(open_directory(&base.join("none")), Err(DirError::Missing)));
}

//
#[test]
fn process_directories_are_no_working_directories() {
    assert!(matches!(open_directory(Path::new("/proc")), Err(DirError::Untrusted)));
    assert!(matches!(open_directory(Path::new("/proc/sys")), Err(DirError::Untrusted)));
    let own = format!("/proc/{}/cwd", std::process::id());
    assert!(matches!(open_directory(Path::new(&own)), Err(DirError::NotCanonical)));
}

#[test]
fn file_that_only_root_can_change() {
    if !testing::is_root("only root can change") {
        return;
    }
    let directory = testing::root_directory();
    let path = directory.path().join("f");
    file(&path, 0o755, 0);
    assert!(only_root_can_change(&path).unwrap());
    assert!(only_root_can_change(directory.path()).unwrap());
    assert!(only_root_can_change(&canonicalize(Path::new("/bin/sh")).unwrap()).unwrap());
}

//
#[test]
fn file_is_changeable_by_its_owner_its_group_or_others() {
    if !testing::is_root("owner and mode") {
        return;
    }
    let directory = testing::root_directory();
    let path = directory.path().join("f");
    for (mode, owner) in [(0o644, STRANGER), (0o664, 0), (0o646, 0)] {
        file(&path, mode, owner);
        assert!(!only_root_can_change(&path).unwrap(), "{mode:o} {owner}");
    }
    file(&path, 0o644, STRANGER);
    assert!(only_trusted_can_change(&path, &[0, STRANGER]).unwrap());
}

//
#[test]
fn any_directory_on_the_path_can_make_a_file_changeable() {
    if !testing::is_root("directories") {
        return;
    }
    let directory = testing::root_directory();
    let middle = directory.path().join("middle");
    fs::create_dir_all(middle.join("inner")).unwrap();
    let path = middle.join("inner/f");
    file(&path, 0o644, 0);
    // 0o1777 is sticky: others cannot rename root's file, yet could have created the name first.
    for (mode, owner, expected) in [
        (0o755, 0, true),
        (0o755, STRANGER, false),
        (0o775, 0, false),
        (0o757, 0, false),
        (0o1777, 0, false),
    ] {
        chmod(&middle, mode);
        std::os::unix::fs::chown(&middle, Some(owner), None).unwrap();
        assert_eq!(only_root_can_change(&path).unwrap(), expected, "{mode:o} {owner}");
    }
}

#[test]
fn access_control_list_counts_as_changeable() {
    if !testing::is_root("access control list") {
        return;
    }
    let directory = testing::root_directory();
    let path = directory.path().join("f");
    file(&path, 0o644, 0);
    if testing::grant_by_acl(&path, STRANGER) {
        assert!(!only_root_can_change(&path).unwrap());
    }
}

#[test]
fn path_with_a_link_is_not_canonical_and_counts_as_changeable() {
    if !testing::is_root("links") {
        return;
    }
    let directory = testing::root_directory();
    file(&directory.path().join("f"), 0o644, 0);
    let link = directory.path().join("link");
    symlink("f", &link).unwrap();
    assert!(!only_root_can_change(&link).unwrap());
    let error = only_root_can_change(Path::new("f")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(only_root_can_change(&directory.path().join("none")).is_err());
}

#[test]
fn a_file_system_says_whether_anything_is_executed_on_it() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for path in ["/", "/proc", "/dev/shm", "/sys"] {
        // What is mounted last is what is seen.
        let is_it = |line: &&str| line.split(' ').nth(1) == Some(path);
        let Some(line) = mounts.lines().rfind(is_it) else { continue };
        let options = line.split(' ').nth(3).unwrap();
        let wanted = options.split(',').any(|option| option == "noexec");
        assert_eq!(is_noexec(Path::new(path)).unwrap(), wanted, "{line}");
    }
}
