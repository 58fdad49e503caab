use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;
use crate::path::open_directory;
use crate::testing::{self, STRANGER, chmod, file, tree};

const ROOT: &[u32] = &[0];

fn check(cwd: &Path, word: &str) -> Operand {
    let directory = open_directory(cwd).unwrap();
    check_word(directory.fd.as_fd(), word.as_bytes(), ROOT)
}

fn changeable(name: &str) -> Operand {
    Operand::Changeable(name.as_bytes().to_vec())
}

//
#[test]
fn every_reading_of_a_word_is_examined() {
    if !testing::is_root("readings") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    let evil = base.join("evil").display().to_string();
    for (word, expected) in [
        ("evil".to_owned(), changeable("evil")),
        ("./evil".to_owned(), changeable("./evil")),
        ("theirs/../evil".to_owned(), changeable("theirs/../evil")),
        (evil.clone(), changeable(&evil)),
        ("if=evil".to_owned(), changeable("evil")),
        ("@evil".to_owned(), changeable("evil")),
        ("--file=evil".to_owned(), changeable("evil")),
        ("--data=@evil".to_owned(), changeable("evil")),
        (format!("--file={evil}"), changeable(&evil)),
        (format!("-f{evil}"), changeable(&evil)),
        ("-f./evil".to_owned(), changeable("./evil")),
        ("theirs/kept".to_owned(), changeable("theirs/kept")),
        ("-fevil".into(), changeable("evil")),
        ("-sfevil".into(), changeable("evil")),
        (format!("-sf{evil}"), changeable(&evil)),
        ("-sf./evil".into(), changeable("./evil")),
        ("--action=exec=evil".into(), changeable("evil")),
        (format!("-oDPkg::Pre-Invoke::={evil}"), changeable(&evil)),
        ("--from-file=key=evil".into(), changeable("evil")),
        ("--data-urlencode=name@evil".into(), changeable("evil")),
        ("src=evil,dst=safe".into(), changeable("evil")),
        ("dst=safe,src=evil".into(), changeable("evil")),
        ("safe:evil".into(), changeable("evil")),
    ] {
        assert_eq!(check(base, &word), expected, "{word}");
    }
}

#[test]
fn words_that_name_nothing_changeable_are_harmless() {
    if !testing::is_root("harmless words") {
        return;
    }
    let directory = tree();
    let long = "x/".repeat(5_000);
    for word in [
        "",
        "=",
        "@",
        "--",
        "-",
        "safe",
        "./safe",
        "if=safe",
        "@safe",
        "none",
        "none/evil",
        "safe/evil",
        "theirs",
        "theirs/",
        ".",
        "..",
        "/",
        "--opt=",
        "-la",
        "s/evil/good/",
        "https://host/evil",
        "/proc/sys/kernel/hostname",
        "/proc/meminfo",
        "/dev/null",
        "/dev/zero",
        "/bin/sh",
        &"x".repeat(300),
        &long,
    ] {
        assert_eq!(check(directory.path(), word), Operand::Harmless, "{word}");
    }
}

//
#[test]
fn a_name_at_which_a_stranger_can_put_a_file_counts_as_theirs() {
    if !testing::is_root("names that do not exist") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    let absolute = base.join("theirs/new").display().to_string();
    symlink("theirs/new", base.join("dangling")).unwrap();
    for (word, expected) in [
        (absolute.clone(), changeable(&absolute)),
        (format!("--file={absolute}"), changeable(&absolute)),
        (format!("@{absolute}"), changeable(&absolute)),
        (format!("-f{absolute}"), changeable(&absolute)),
        ("theirs/new".into(), changeable("theirs/new")),
        ("theirs/new/deeper".into(), changeable("theirs/new/deeper")),
        ("theirs/kept/below".into(), changeable("theirs/kept/below")),
        ("dangling".into(), changeable("dangling")),
        ("./new".into(), Operand::Harmless),
        (base.join("new/theirs").display().to_string(), Operand::Harmless),
    ] {
        assert_eq!(check(base, &word), expected, "{word}");
    }
    let theirs = base.join("theirs");
    assert_eq!(check(&theirs, "./new"), changeable("./new"));
    // Nobody can make a name of that length.
    for word in ["x".repeat(300), format!("./{}", "x".repeat(300)), "y".repeat(300) + "/z"] {
        assert_eq!(check(&theirs, &word), Operand::Harmless);
    }
    // Else nearly every word would be a name there.
    for word in ["restart", "new.sh", "s/old/new/", "https://host/x", "--opt=new"] {
        assert_eq!(check(&theirs, word), Operand::Harmless, "{word}");
    }
}

#[test]
fn links_are_followed_and_the_way_there_counts() {
    if !testing::is_root("links") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    symlink("evil", base.join("to-evil")).unwrap();
    symlink("safe", base.join("to-safe")).unwrap();
    symlink(base.join("safe"), base.join("theirs/to-safe")).unwrap();
    symlink("theirs/to-safe", base.join("via-theirs")).unwrap();
    symlink("nowhere", base.join("dangling")).unwrap();
    symlink("theirs", base.join("dir")).unwrap();
    symlink("loop", base.join("loop")).unwrap();
    symlink("../safe", base.join("theirs/up")).unwrap();
    assert_eq!(check(base, "to-evil"), changeable("to-evil"));
    assert_eq!(check(base, "to-safe"), Operand::Harmless);
    assert_eq!(check(base, "theirs/to-safe"), changeable("theirs/to-safe"));
    assert_eq!(check(base, "via-theirs"), changeable("via-theirs"));
    assert_eq!(check(base, "theirs/up"), changeable("theirs/up"));
    assert_eq!(check(base, "dangling"), Operand::Harmless);
    assert_eq!(check(base, "dir"), Operand::Harmless);
    assert_eq!(check(base, "dir/kept"), changeable("dir/kept"));
    assert!(matches!(check(base, "loop"), Operand::Unreadable(_)));
}

#[test]
fn a_link_owned_by_a_stranger_in_roots_directory_cannot_be_replaced_by_them() {
    if !testing::is_root("link owner") {
        return;
    }
    let directory = tree();
    let link = directory.path().join("link");
    symlink("safe", &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(STRANGER), None).unwrap();
    assert_eq!(check(directory.path(), "link"), Operand::Harmless);
}

//
#[test]
fn names_that_differ_per_process_are_refused() {
    if !testing::is_root("magic links") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    symlink("/proc/self/root", base.join("root")).unwrap();
    symlink("/dev/stdin", base.join("in")).unwrap();
    symlink("/proc/self/fd", base.join("fds")).unwrap();
    symlink("/proc", base.join("proc")).unwrap();
    for name in [
        "/proc/1/root/etc/passwd",
        "/proc/self/root/etc/passwd",
        "/proc/thread-self/cwd",
        "/proc/self/fd/0",
        "/proc/4194303/root/x",
        "/proc/1/status",
        "//proc/./self/exe",
        "/usr/../proc/self/exe",
        "/dev/fd/0",
        "/dev/fd/63",
        "/dev/stdin",
        "/dev/stdout",
        "/dev/stderr",
        "/dev/../dev/stdin",
        "root/etc/passwd",
        "in",
        "fds/0",
        "fds/63",
        "proc/self/exe",
        "proc/1/cwd",
    ] {
        let expected = Operand::MagicLink(name.as_bytes().to_vec());
        assert_eq!(check(base, name), expected, "{name}");
        assert_eq!(check(base, &format!("--file={name}")), expected, "{name}");
        assert_eq!(check(base, &format!("@{name}")), expected, "{name}");
    }
    assert!(matches!(check(Path::new("/"), "proc/1/root"), Operand::MagicLink(_)));
    assert!(matches!(check(Path::new("/dev"), "stdin"), Operand::MagicLink(_)));
}

#[test]
fn plain_process_tables_reached_through_roots_links_are_fine() {
    if !testing::is_root("process tables") {
        return;
    }
    let directory = tree();
    assert_eq!(check(directory.path(), "/proc/mounts"), Operand::Harmless);
}

#[test]
fn pipes_and_sockets_and_devices_count_by_who_is_behind_them() {
    if !testing::is_root("special files") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    for (name, mode, owner) in [("p0", 0o644, 0), ("p1", 0o666, 0), ("p2", 0o644, STRANGER)] {
        let path = base.join(name);
        nix::unistd::mkfifo(&path, stat::Mode::from_bits_truncate(0o600)).unwrap();
        chown(&path, Some(owner), None).unwrap();
        chmod(&path, mode);
    }
    let _mine = UnixListener::bind(base.join("s0")).unwrap();
    chmod(&base.join("s0"), 0o666);
    let _theirs = UnixListener::bind(base.join("s1")).unwrap();
    chown(base.join("s1"), Some(STRANGER), None).unwrap();
    assert_eq!(check(base, "p0"), Operand::Harmless);
    assert_eq!(check(base, "p1"), changeable("p1"));
    assert_eq!(check(base, "p2"), changeable("p2"));
    assert_eq!(check(base, "s0"), Operand::Harmless);
    assert_eq!(check(base, "s1"), changeable("s1"));
}

#[test]
fn root_files_in_sticky_directories_and_with_access_lists_are_changeable() {
    if !testing::is_root("sticky directories") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    fs::create_dir(base.join("sticky")).unwrap();
    file(&base.join("sticky/f"), 0o600, 0);
    chmod(&base.join("sticky"), 0o1777);
    assert_eq!(check(base, "sticky/f"), changeable("sticky/f"));
    if testing::grant_by_acl(&base.join("safe"), STRANGER) {
        assert_eq!(check(base, "safe"), changeable("safe"));
    }
}

#[test]
fn relative_names_inherit_what_the_working_directory_is() {
    if !testing::is_root("working directory") {
        return;
    }
    let directory = tree();
    let theirs = directory.path().join("theirs");
    assert_eq!(check(&theirs, "kept"), changeable("kept"));
    // Root's directory inside the stranger's: they can swap it for another one.
    fs::create_dir(theirs.join("inner")).unwrap();
    file(&theirs.join("inner/f"), 0o644, 0);
    assert_eq!(check(&theirs.join("inner"), "f"), changeable("f"));
}

#[test]
fn working_directory_whose_name_is_gone_is_changeable() {
    if !testing::is_root("removed directory") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    fs::create_dir(base.join("a")).unwrap();
    file(&base.join("a/f"), 0o644, 0);
    let opened = open_directory(&base.join("a")).unwrap();
    assert_eq!(check_word(opened.fd.as_fd(), b"f", ROOT), Operand::Harmless);
    // Its name is gone, so nothing says any more who could have changed the way to it.
    fs::remove_file(base.join("a/f")).unwrap();
    fs::remove_dir(base.join("a")).unwrap();
    assert_eq!(check_word(opened.fd.as_fd(), b"../safe", ROOT), changeable("../safe"));
}

#[test]
fn trusted_owner_makes_a_file_harmless() {
    if !testing::is_root("trusted owner") {
        return;
    }
    let directory = tree();
    let base = open_directory(directory.path()).unwrap();
    let trusted = &[0, STRANGER];
    assert_eq!(check_word(base.fd.as_fd(), b"evil", trusted), Operand::Harmless);
    assert_eq!(check_word(base.fd.as_fd(), b"theirs/kept", trusted), Operand::Harmless);
}

#[test]
fn worst_reading_of_a_word_wins() {
    if !testing::is_root("worst reading") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    file(&base.join("@safe"), 0o644, STRANGER);
    assert_eq!(check(base, "@safe"), changeable("@safe"));
    file(&base.join("evil=safe"), 0o644, STRANGER);
    assert_eq!(check(base, "evil=safe"), changeable("evil=safe"));
}

//
#[test]
fn unsearchable_directory_is_unreadable_and_not_harmless() {
    if !testing::is_root("unsearchable directory") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    fs::create_dir(base.join("closed")).unwrap();
    file(&base.join("closed/f"), 0o644, 0);
    chmod(&base.join("closed"), 0o700);
    let cwd = File::open(base).unwrap();
    let result =
        testing::as_user(STRANGER, || check_word(cwd.as_fd(), b"closed/f", &[0, STRANGER]));
    assert_eq!(result, Operand::Unreadable(io::ErrorKind::PermissionDenied));
}

//
#[test]
fn a_name_leads_to_a_file_of_theirs_or_it_does_not() {
    if !testing::is_root("names of theirs") {
        return;
    }
    let directory = tree();
    let base = directory.path();
    let theirs = |cwd: &Path, name: &str| {
        let directory = open_directory(cwd).unwrap();
        is_theirs(directory.fd.as_fd(), name.as_bytes(), ROOT)
    };
    for name in ["evil", "./evil", "theirs/kept", "theirs/new"] {
        assert!(theirs(base, name).unwrap(), "{name}");
    }
    assert!(theirs(&base.join("theirs"), "new.sh").unwrap(), "they can make it there");
    for name in ["safe", "/bin/sh", "new", "theirs", "/etc/passwd"] {
        assert!(!theirs(base, name).unwrap(), "{name}");
    }
    assert!(!theirs(&base.join("theirs"), "/bin/sh").unwrap());
    assert!(theirs(base, "/proc/self/environ").is_err());
}
