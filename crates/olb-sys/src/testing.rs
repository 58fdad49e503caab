//! What the tests of this crate share: acting as another user, and directories only root can change.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use tempfile::TempDir;

/// A user that exists on no host; numbers are all the kernel needs.
pub(crate) const STRANGER: u32 = 12_345;

/// Whether the test may go on; says so visibly when it may not.
pub(crate) fn is_root(test: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        say(&format!("SKIPPED {test}: it needs root to act as several users"));
    }
    is_root
}

/// Written past the test runner, which would hide what a passing test prints.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap();
}

/// A directory whose whole path only root can change, searchable by all.
pub(crate) fn root_directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("olb-sys-").tempdir_in("/var/lib").unwrap();
    chmod(directory.path(), 0o755);
    directory
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Creates a file with exactly this mode and owner.
pub(crate) fn file(path: &Path, mode: u32, owner: u32) {
    fs::write(path, "content").unwrap();
    std::os::unix::fs::chown(path, Some(owner), None).unwrap();
    chmod(path, mode);
}

/// Runs `action` with the ids of another user.
///
/// The raw system calls change the ids of one thread only, which ends afterwards.
pub(crate) fn as_user<T: Send>(uid: u32, action: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: plain numbers; only this thread's ids change.
                let results = unsafe {
                    [
                        libc::syscall(libc::SYS_setgroups, 0_usize, std::ptr::null::<u32>()),
                        libc::syscall(libc::SYS_setresgid, uid, uid, uid),
                        libc::syscall(libc::SYS_setresuid, uid, uid, uid),
                    ]
                };
                assert_eq!(results, [0, 0, 0]);
                action()
            })
            .join()
            .unwrap()
    })
}

/// Lets `uid` read a file through an access control list. False where there are none.
pub(crate) fn grant_by_acl(path: &Path, uid: u32) -> bool {
    const NOBODY: u32 = u32::MAX;
    let mut value = 2_u32.to_le_bytes().to_vec();
    // Tags: owner, named user, group, mask, others.
    for (tag, permissions, id) in
        [(1_u16, 6_u16, NOBODY), (2, 4, uid), (4, 4, NOBODY), (16, 4, NOBODY), (32, 4, NOBODY)]
    {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = c"system.posix_acl_access";
    // SAFETY: NUL-terminated strings and a buffer of the stated length.
    let result = unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if result != 0 {
        say("SKIPPED in part: no access control lists on this file system");
    }
    result == 0
}

/// Root's directory with root's `safe`, a stranger's `evil`, and a stranger's directory `theirs`
/// that holds root's `kept`.
pub(crate) fn tree() -> TempDir {
    let directory = root_directory();
    let base = directory.path();
    file(&base.join("safe"), 0o644, 0);
    file(&base.join("evil"), 0o644, STRANGER);
    fs::create_dir(base.join("theirs")).unwrap();
    file(&base.join("theirs/kept"), 0o644, 0);
    std::os::unix::fs::chown(base.join("theirs"), Some(STRANGER), None).unwrap();
    directory
}

/// A command that runs one ignored test of this binary in a process of its own, because it changes
/// the whole process.
pub(crate) fn alone(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new("/bin/sh");
    let script = r#"exec 3</dev/null; LISTEN_PID=$$ exec "$0" --exact "$1" --ignored"#;
    command.args(["-c", script]).arg(std::env::current_exe().unwrap()).arg(test);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "request");
    command
}

/// Runs it and wants it to have run and passed.
pub(crate) fn assert_passes_alone(test: &str) {
    let output = alone(test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
