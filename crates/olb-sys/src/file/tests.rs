use std::os::unix::fs::{chown, symlink};

use super::*;
use crate::testing::{self, STRANGER, chmod};

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

// [F-1]
#[test]
fn file_of_the_right_owner_and_mode_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "12345").unwrap();
    chmod(&path, 0o644);
    assert_eq!(read_trusted(&path, 5, own_uid()).unwrap(), b"12345");
    let result = read_trusted(&path, 4, own_uid());
    assert!(matches!(result, Err(TrustedFileError::TooLarge { max: 4, .. })));
    chmod(&path, 0o600);
    assert_eq!(read_private(&path, 5, own_uid()).unwrap(), b"12345");
}

// [F-1] [K-5]
#[test]
fn file_that_others_can_write_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "x").unwrap();
    for mode in [0o620, 0o602, 0o666] {
        chmod(&path, mode);
        let result = read_trusted(&path, 9, own_uid());
        assert!(matches!(result, Err(TrustedFileError::Writable(_))), "{mode:o}");
    }
    for mode in [0o640, 0o604, 0o610, 0o601] {
        chmod(&path, mode);
        let result = read_private(&path, 9, own_uid());
        assert!(matches!(result, Err(TrustedFileError::NotPrivate(_))), "{mode:o}");
    }
}

// [F-1] [K-5]
#[test]
fn file_of_another_owner_is_not_believed() {
    if !testing::is_root("file owner") {
        return;
    }
    let directory = testing::root_directory();
    let path = directory.path().join("f");
    fs::write(&path, "x").unwrap();
    chown(&path, Some(STRANGER), None).unwrap();
    chmod(&path, 0o600);
    for result in [read_trusted(&path, 9, 0), read_private(&path, 9, 0)] {
        assert!(matches!(result, Err(TrustedFileError::WrongOwner { got: STRANGER, .. })));
    }
    assert_eq!(read_trusted(&path, 9, STRANGER).unwrap(), b"x");
}

// [F-1] [K-5]
#[test]
fn links_pipes_and_directories_are_no_files_and_do_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::write(base.join("f"), "x").unwrap();
    symlink("f", base.join("link")).unwrap();
    nix::unistd::mkfifo(&base.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600))
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(base.join("socket")).unwrap();
    for name in ["link", "fifo", "socket", "."] {
        for read in [read_trusted, read_private] {
            let result = read(&base.join(name), 9, own_uid());
            assert!(matches!(result, Err(TrustedFileError::NotRegular(_))), "{name}: {result:?}");
        }
    }
    let result = read_trusted(&base.join("none"), 9, own_uid());
    assert!(matches!(result, Err(TrustedFileError::Missing(_))));
}

#[test]
fn new_file_has_exactly_the_mode_and_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    write_new_private(&path, b"secret", 0o400).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o400);
    assert_eq!(fs::read(&path).unwrap(), b"secret");
    let error = write_new_private(&path, b"other", 0o400).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"secret");
    let link = directory.path().join("link");
    symlink("elsewhere", &link).unwrap();
    assert!(write_new_private(&link, b"x", 0o600).is_err());
    assert!(!directory.path().join("elsewhere").exists());
}

#[test]
fn terminal_number_is_found_behind_any_process_name() {
    let none = b"1 (sh) S 0 1 1 0 -1 4194560 0";
    assert_eq!(parse_terminal(none).unwrap(), None);
    // 34817 = 0x8801: major 136, minor 1; the name tries to look like more fields.
    let pts = b"1 (a) S 9 9 9 9) S 0 1 1 34817 -1 0";
    assert_eq!(parse_terminal(pts).unwrap(), Some(libc::makedev(136, 1)));
    // Minor numbers above 255 continue at bit 20.
    let high = format!("1 (sh) S 0 1 1 {} -1 0", 136 << 8 | 0x2c | 1 << 20);
    assert_eq!(parse_terminal(high.as_bytes()).unwrap(), Some(libc::makedev(136, 0x12c)));
    assert!(parse_terminal(b"nonsense").is_err());
    assert!(parse_terminal(b"1 (sh) S 0").is_err());
}

#[test]
fn a_file_that_is_open_for_writing_anywhere_has_writers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let writer = File::create(&path).unwrap();
    let reader = File::open(&path).unwrap();
    assert!(has_writers(&reader).unwrap());
    let other = writer.try_clone().unwrap();
    drop(writer);
    assert!(has_writers(&reader).unwrap());
    drop(other);
    assert!(!has_writers(&reader).unwrap());
}
