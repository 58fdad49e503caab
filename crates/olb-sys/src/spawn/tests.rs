use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::*;
use crate::pipe::pipe;
use crate::process::Exit;
use crate::testing::{self, STRANGER};

const GROUPS: &[u32] = &[12_346, 12_347];
const IDENTITY: Identity<'static> = Identity { uid: STRANGER, gid: 12_346, groups: GROUPS };

fn strings(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).unwrap()).collect()
}

/// What a test says about a command; the rest is the same for all.
struct Case<'a> {
    path: &'a CStr,
    argv: &'a [&'a str],
    identity: Option<Identity<'a>>,
}

impl Case<'_> {
    /// Starts with pipes as stdin and stdout and returns our ends.
    fn start(&self) -> Result<(Child, File, File), SpawnError> {
        let (stdin, to_child) = pipe().unwrap();
        let (from_child, stdout) = pipe().unwrap();
        let cwd = File::open("/usr").unwrap();
        let child = spawn(&Spawn {
            path: self.path,
            argv: &strings(self.argv),
            envp: &strings(&["PATH=/usr/bin:/bin", "LANG=C"]),
            cwd: cwd.as_fd(),
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: File::open("/dev/null").unwrap().as_fd(),
            identity: self.identity,
            umask: 0o027,
            cgroup_procs: None,
        })?;
        Ok((child, File::from(to_child), File::from(from_child)))
    }
}

fn shell(script: &str) -> (Child, File, File) {
    let case = Case { path: c"/bin/sh", argv: &["sh", "-c", script], identity: None };
    case.start().unwrap()
}

/// A `cat` that has started: it echoed a line and now waits for more.
fn running_cat(identity: Option<Identity<'_>>) -> (Child, File, File) {
    let case = Case { path: c"/bin/cat", argv: &["cat"], identity };
    let (child, mut stdin, mut stdout) = case.start().unwrap();
    stdin.write_all(b"!").unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    (child, stdin, stdout)
}

fn status_field(child: &Child, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn command_has_exactly_the_ids_it_was_given() {
    if !testing::is_root("identity") {
        return;
    }
    let (mut child, stdin, _stdout) = running_cat(Some(IDENTITY));
    assert_eq!(status_field(&child, "Uid"), "12345 12345 12345 12345");
    assert_eq!(status_field(&child, "Gid"), "12346 12346 12346 12346");
    assert_eq!(status_field(&child, "Groups"), "12346 12347");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_field(&child, set), "0000000000000000", "{set}");
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap(), Exit::Exited(0));
}

#[test]
fn command_of_root_keeps_no_group_of_the_daemon() {
    if !testing::is_root("groups") {
        return;
    }
    let identity = Identity { uid: 0, gid: 0, groups: &[0] };
    let (child, _stdin, _stdout) = running_cat(Some(identity));
    assert_eq!(status_field(&child, "Groups"), "0");
}

#[test]
fn without_an_identity_the_callers_ids_stay() {
    let (child, _stdin, _stdout) = running_cat(None);
    let uid = nix::unistd::geteuid().as_raw();
    assert_eq!(status_field(&child, "Uid"), format!("{uid} {uid} {uid} {uid}"));
}

#[test]
fn command_has_three_descriptors_and_no_other() {
    // One that lacks close-on-exec, as a library might leave it.
    let null = File::open("/dev/null").unwrap();
    let leaky = nix::unistd::dup(&null).unwrap();
    let (child, _stdin, _stdout) = running_cat(None);
    let names: BTreeSet<String> = fs::read_dir(format!("/proc/{}/fd", child.pid()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["0", "1", "2"].map(str::to_owned).into());
    drop(leaky);
}

#[test]
fn command_starts_with_default_signals_whatever_the_daemon_did() {
    let own_set = |name: &str| {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    let bit = |signal: libc::c_int| 1_u64 << (signal - 1);
    let mut blocked = nix::sys::signal::SigSet::empty();
    blocked.add(nix::sys::signal::Signal::SIGUSR1);
    blocked.thread_block().unwrap();
    assert_ne!(own_set("SigIgn") & bit(libc::SIGPIPE), 0, "Rust ignores SIGPIPE");
    let before = own_set("SigBlk");
    assert_ne!(before & bit(libc::SIGUSR1), 0);
    let (child, _stdin, _stdout) = running_cat(None);
    for set in ["SigIgn", "SigBlk", "SigCgt"] {
        assert_eq!(status_field(&child, set), "0000000000000000", "{set}");
    }
    assert_eq!(own_set("SigBlk"), before, "the mask of this thread comes back");
}

#[test]
fn command_leads_its_own_session_in_its_directory_with_its_umask() {
    let (child, _stdin, _stdout) = running_cat(None);
    let pid = child.pid();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let own = pid.to_string();
    assert_eq!((fields[2], fields[3]), (own.as_str(), own.as_str()), "group and session");
    assert_eq!(status_field(&child, "Umask"), "0027");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/usr"));
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(environment, b"PATH=/usr/bin:/bin\0LANG=C\0");
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score, "0\n");
}

#[test]
fn command_has_the_soft_limits_of_a_login() {
    let (child, _stdin, _stdout) = running_cat(None);
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.pid())).unwrap();
    let soft = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(soft("Max open files"), "1024");
    assert_eq!(soft("Max core file size"), "0");
}

#[test]
fn command_has_the_timer_slack_of_a_login_whatever_the_daemon_has() {
    nix::sys::prctl::set_timerslack(90_000).unwrap();
    let (_child, _stdin, mut stdout) = shell("cat /proc/self/timerslack_ns");
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "50000\n");
}

#[test]
fn low_numbered_descriptors_can_be_given_in_any_order() {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let cwd = File::open("/").unwrap();
    let mut child = spawn(&Spawn {
        path: c"/bin/sleep",
        argv: &strings(&["sleep", "600"]),
        envp: &[],
        cwd: cwd.as_fd(),
        stdin: stderr.as_fd(),
        stdout: stdin.as_fd(),
        stderr: stdout.as_fd(),
        identity: None,
        umask: 0o022,
        cgroup_procs: None,
    })
    .unwrap();
    let link = |pid: &str, fd: u8| fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    let pid = child.pid().to_string();
    let theirs = [link(&pid, 0), link(&pid, 1), link(&pid, 2)];
    assert_eq!(theirs, [link("self", 2), link("self", 0), link("self", 1)]);
    child.signal_group(libc::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Killed(9));
}

#[test]
fn exit_code_and_fatal_signal_are_told_apart() {
    for (script, expected) in [
        ("exit 0", Exit::Exited(0)),
        ("exit 7", Exit::Exited(7)),
        ("exit 255", Exit::Exited(255)),
        ("exit 137", Exit::Exited(137)),
        ("kill -9 $$", Exit::Killed(9)),
        ("kill -13 $$", Exit::Killed(13)),
        ("kill -40 $$", Exit::Killed(40)),
    ] {
        let (mut child, _stdin, _stdout) = shell(script);
        assert_eq!(child.wait().unwrap(), expected, "{script}");
        assert_eq!(child.wait().unwrap(), expected, "again: {script}");
        assert_eq!(child.try_wait().unwrap(), Some(expected));
    }
}

#[test]
fn pidfd_becomes_readable_at_the_end_and_peeking_does_not_reap() {
    let (mut child, stdin, _stdout) = running_cat(None);
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.peek().unwrap(), None);
    drop(stdin);
    let mut ready = [crate::poll::PollFd::new(child.pidfd(), crate::poll::PollFlags::POLLIN)];
    assert_eq!(crate::poll::poll(&mut ready, None).unwrap(), 1);
    assert_eq!(child.peek().unwrap(), Some(Exit::Exited(0)));
    child.signal_group(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Exited(0));
    assert_eq!(child.peek().unwrap(), Some(Exit::Exited(0)));
}

#[test]
fn signal_reaches_the_whole_group_and_never_a_reaped_one() {
    let (mut child, _stdin, mut stdout) = shell("sleep 600 & echo; wait");
    stdout.read_exact(&mut [0]).unwrap();
    child.signal_group(libc::SIGTERM).unwrap();
    // End of file: the background process, which holds the pipe too, is gone.
    assert_eq!(stdout.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(child.wait().unwrap(), Exit::Killed(15));
    let error = child.signal_group(libc::SIGTERM).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn what_a_leader_left_in_its_group_is_seen_until_it_is_gone() {
    let (mut child, _stdin, mut stdout) = shell("sleep 600 & echo; exit 3");
    stdout.read_exact(&mut [0]).unwrap();
    let mut ended = [crate::poll::PollFd::new(child.pidfd(), crate::poll::PollFlags::POLLIN)];
    assert_eq!(crate::poll::poll(&mut ended, None).unwrap(), 1);
    assert!(child.group_has_others());
    child.signal_group(libc::SIGKILL).unwrap();
    assert_eq!(stdout.read(&mut [0; 8]).unwrap(), 0);
    // Its files are closed a moment before it counts as ended.
    while child.group_has_others() {
        std::thread::yield_now();
    }
    assert_eq!(child.wait().unwrap(), Exit::Exited(3));
}

#[test]
fn failed_exec_is_reported_with_errno_and_stage_and_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    fs::write(&plain, "echo").unwrap();
    testing::chmod(&plain, 0o644);
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, "\x01\x02\x03\x04").unwrap();
    testing::chmod(&garbage, 0o755);
    let name = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    for (path, errno) in [
        (c"/nonexistent/program".to_owned(), libc::ENOENT),
        (name(&plain), libc::EACCES),
        (name(directory.path()), libc::EACCES),
        (name(&garbage), libc::ENOEXEC),
    ] {
        let case = Case { path: &path, argv: &["x"], identity: None };
        let error = case.start().unwrap_err();
        assert_eq!(error, SpawnError { errno, stage: Stage::Exec }, "{path:?}");
    }
    let children = fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "no zombie of this thread");
}

#[test]
fn failure_before_exec_names_its_stage() {
    let null = File::open("/dev/null").unwrap();
    let root = File::open("/").unwrap();
    let command = Spawn {
        path: c"/bin/true",
        argv: &strings(&["true"]),
        envp: &[],
        cwd: root.as_fd(),
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        identity: None,
        umask: 0o022,
        cgroup_procs: None,
    };
    let not_a_directory = spawn(&Spawn { cwd: null.as_fd(), ..command }).unwrap_err();
    assert_eq!(not_a_directory, SpawnError { errno: libc::ENOTDIR, stage: Stage::Directory });
    // Open for reading only: joining the cgroup must not fail silently.
    let no_cgroup = spawn(&Spawn { cgroup_procs: Some(null.as_fd()), ..command }).unwrap_err();
    assert_eq!(no_cgroup, SpawnError { errno: libc::EBADF, stage: Stage::Cgroup });
    assert_eq!(spawn(&command).unwrap().wait().unwrap(), Exit::Exited(0));
}

#[test]
fn ordinary_user_cannot_start_a_command_as_somebody_else() {
    if !testing::is_root("foreign identity") {
        return;
    }
    let error = testing::as_user(STRANGER, || {
        let identity = Some(Identity { uid: 0, gid: 0, groups: &[] });
        let case = Case { path: c"/bin/true", argv: &["true"], identity };
        case.start().unwrap_err()
    });
    assert_eq!(error, SpawnError { errno: libc::EPERM, stage: Stage::Groups });
}

#[test]
fn many_threads_can_spawn_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for code in 0..20_u8 {
                    let (mut child, _stdin, _stdout) = shell(&format!("exit {code}"));
                    assert_eq!(child.wait().unwrap(), Exit::Exited(code));
                }
            });
        }
    });
}

#[test]
fn every_stage_survives_the_way_through_shared_memory() {
    for stage in [
        Stage::Clone,
        Stage::Cgroup,
        Stage::Session,
        Stage::Directory,
        Stage::Descriptors,
        Stage::Keyring,
        Stage::Capabilities,
        Stage::Groups,
        Stage::Gid,
        Stage::Uid,
        Stage::Signals,
        Stage::Exec,
    ] {
        assert_eq!(Stage::from_number(stage as i32), stage);
    }
}
