//! Real throwaway instances. Root only: without it the tests say that they are skipped.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser as _;
use olb_sys::harden::effective_uid;

use super::{belongs_to_root, quoted};
use crate::args::{Cli, Command, DevCommand};
use crate::instance::built::{Seen, olb};
use crate::instance::random_suffix;

/// A folder for an instance that is ended when the test is over, however it ends.
struct Up {
    dir: PathBuf,
}

fn skipped() -> bool {
    let is_root = effective_uid() == 0;
    if !is_root {
        eprintln!("skipped: throwaway instances need root");
    }
    !is_root
}

impl Up {
    fn new() -> Option<Self> {
        Self::with(&[])
    }

    /// An instance that was started with these options too.
    fn with(more: &[&str]) -> Option<Self> {
        if skipped() {
            return None;
        }
        let up = Self::nowhere();
        up.is_started(up.dev("up", &[&["--requester", "61200"], more].concat()));
        Some(up)
    }

    /// A folder's name, and nothing there yet.
    fn nowhere() -> Self {
        Self { dir: format!("/var/lib/olb-dev-test-{}", random_suffix().unwrap()).into() }
    }

    #[track_caller]
    fn is_started(&self, output: Output) {
        assert!(output.status.success(), "{output:?}");
        let line = format!("export OLB_RUNTIME_DIR={}/run\n", self.dir.display());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), line);
    }

    fn keys(&self) -> String {
        let run = self.dir.join("run");
        let listed = olb().args(["keys", "list"]).env("OLB_RUNTIME_DIR", run).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    }

    fn dev(&self, command: &str, more: &[&str]) -> Output {
        olb().args(["dev", command, "--dir"]).arg(&self.dir).args(more).output().unwrap()
    }

    /// The supervisor and both halves.
    fn processes(&self) -> Vec<Seen> {
        let list = std::fs::read_to_string(self.dir.join("state/processes")).unwrap();
        let pids = list.lines().skip(1).map(|line| line.split(' ').nth(1).unwrap());
        pids.map(|pid| Seen::now(pid.parse().unwrap())).collect()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.dir.exists() {
            self.dev("down", &[]);
        }
    }
}

/// Without a reaper above them, ended orphans stay listed; they are no longer running.
fn has_ended(process: &Seen) -> bool {
    process.find().is_none_or(|found| {
        let mut fds = [olb_sys::poll::PollFd::new(found.pidfd(), olb_sys::poll::PollFlags::POLLIN)];
        olb_sys::poll::poll(&mut fds, Some(0)).unwrap() == 1
    })
}

#[test]
fn an_instance_serves_and_then_is_gone() {
    let Some(up) = Up::new() else { return };
    let processes = up.processes();
    assert_eq!(processes.len(), 3);
    let keys = up.keys();
    assert!(keys.lines().any(|line| line.starts_with("root ")), "{keys}");
    let again = up.dev("up", &["--requester", "61200"]);
    assert_eq!(again.status.code(), Some(64), "the folder exists: {again:?}");
    let down = up.dev("down", &[]);
    assert!(down.status.success(), "{down:?}");
    assert!(processes.iter().all(has_ended) && !up.dir.exists());
    assert_eq!(up.dev("down", &[]).status.code(), Some(64), "there is none any more");
}

#[test]
fn the_halves_of_a_killed_supervisor_are_still_found() {
    let Some(up) = Up::new() else { return };
    let processes = up.processes();
    processes[0].find().unwrap().signal(9).unwrap();
    let down = up.dev("down", &[]);
    assert!(down.status.success(), "{down:?}");
    assert!(processes.iter().all(has_ended) && !up.dir.exists());
}

#[test]
fn of_several_that_start_in_one_folder_one_does_and_the_others_touch_nothing() {
    if skipped() {
        return;
    }
    let up = Up::nowhere();
    let start = || {
        let words = ["dev", "up", "--requester", "61200", "--dir"];
        olb().args(words).arg(&up.dir).spawn().unwrap()
    };
    let starting = [start(), start(), start(), start()];
    let ended = starting.map(|child| child.wait_with_output().unwrap());
    let (started, refused): (Vec<_>, Vec<_>) =
        ended.into_iter().partition(|output| output.status.success());
    for output in refused {
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("exists already"), "{output:?}");
    }
    let [started] = started.try_into().unwrap();
    up.is_started(started);
    assert!(up.keys().contains("root "), "the one that was started serves");
}

/// Whether any process was started with the folder's path among its words.
fn somebody_names(dir: &Path) -> bool {
    let dir = dir.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap();
    let words = processes.filter_map(|one| std::fs::read(one.ok()?.path().join("cmdline")).ok());
    words.into_iter().any(|words| String::from_utf8_lossy(&words).contains(dir))
}

#[test]
fn an_instance_that_is_forgotten_ends_by_itself_and_removes_its_folder() {
    let Some(up) = Up::with(&["--lifetime", "1s"]) else { return };
    let begun = Instant::now();
    while up.dir.exists() || somebody_names(&up.dir) {
        assert!(begun.elapsed() < Duration::from_secs(120), "it lives on");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_forgotten_instance_has_eight_hours() {
    let words = ["olb", "dev", "up", "--dir", "/x", "--requester", "agent"];
    let Command::Dev(DevCommand::Up(args)) = Cli::try_parse_from(words).unwrap().command else {
        panic!("another command");
    };
    assert_eq!(args.life.lifetime, 8 * 60 * 60);
}

/// `olb dev up` as it runs below sudo by `uid`, on a host that has this one more account.
fn up_by_sudo(up: &Up, uid: u32, home: &Path) -> Output {
    let passwd = home.with_file_name("passwd");
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let account = format!("olb-test-sam:x:{uid}:{uid}::{}:/bin/sh\n", home.display());
    std::fs::write(&passwd, accounts + &account).unwrap();
    let script = "mount --bind \"$1\" /etc/passwd && shift && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(passwd).arg(olb().get_program());
    command.args(["dev", "up", "--requester", "61200", "--dir"]).arg(&up.dir);
    command.env("SUDO_UID", uid.to_string()).output().unwrap()
}

#[test]
fn who_starts_it_with_sudo_may_approve_with_a_key_of_their_own() {
    if skipped() {
        return;
    }
    let [uid] = crate::instance::uids::unused().unwrap();
    let folder = tempfile::Builder::new().tempdir_in("/run").unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    // A home that cannot be written is no reason not to start.
    std::fs::create_dir(&home).unwrap();
    let up = Up::nowhere();
    let output = up_by_sudo(&up, uid, &home);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("olb-test-sam cannot be enrolled"), "{said}");
    up.is_started(output);
    assert!(!up.keys().contains("olb-test-sam"));

    chown(&home, Some(uid), Some(uid)).unwrap();
    let up = Up::nowhere();
    up.is_started(up_by_sudo(&up, uid, &home));
    let keys = up.keys();
    assert!(keys.contains("olb-test-sam ") && keys.contains("root "), "{keys}");
    let key = std::fs::metadata(home.join(".config/olb/approver.key")).unwrap();
    assert_eq!((key.uid(), key.mode() & 0o777), (uid, 0o600));
}

#[test]
fn a_folder_that_others_can_redirect_is_refused() {
    if skipped() {
        return;
    }
    for dir in ["/tmp/olb-try", "/usr/../tmp/olb-try", "/no/such/olb-try", "/proc/self/cwd/olb-try"]
    {
        let output =
            olb().args(["dev", "up", "--requester", "61200", "--dir", dir]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{dir}: {output:?}");
        assert!(!Path::new(dir).exists(), "{dir}");
    }
}

#[test]
fn only_folders_of_root_count() {
    assert!(belongs_to_root(Path::new("/")) && belongs_to_root(Path::new("/usr")));
    assert!(!belongs_to_root(Path::new("/tmp")), "others may write");
    assert!(!belongs_to_root(Path::new("/proc/self/cwd")), "a link");
    assert!(!belongs_to_root(Path::new("/no/such/folder")));
}

#[test]
fn what_is_printed_survives_a_shell() {
    assert_eq!(quoted(OsStr::new("/opt/olb-try/run")), b"/opt/olb-try/run");
    assert_eq!(quoted(OsStr::new("/opt/a b/run")), b"'/opt/a b/run'");
}
