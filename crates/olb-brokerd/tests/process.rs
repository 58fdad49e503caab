//! The daemon as a process: where its sockets come from, what it drops, how it ends.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails where its helper does")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use olb_sys::harden::effective_uid;
use tempfile::TempDir;

/// An account that no host gives out.
const FRONT: u32 = 54_322;
const DAEMON: &str = env!("CARGO_BIN_EXE_olb-brokerd");

struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        if effective_uid() == 0 {
            chown(&state, Some(FRONT), Some(FRONT)).unwrap();
        }
        Self { folder }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The options that every start needs; as root also the account to become.
    fn options(&self) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let state = path(&self.folder.path().join("state"));
        let mut options =
            vec!["--runtime-dir".into(), path(self.folder.path()), "--state-dir".into(), state];
        if effective_uid() == 0 {
            options.extend(["--drop-to".into(), format!("{FRONT}:{FRONT}")]);
        }
        options
    }

    /// Starts the daemon with two listening sockets passed as systemd does it, under these names.
    fn start_with(&self, first: UnixListener, second: UnixListener, names: &str) -> Child {
        let script = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ exec \"$@\"";
        Command::new("sh")
            .args(["-c", script, "sh", DAEMON])
            .args(self.options())
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", names)
            .stdin(OwnedFd::from(first))
            .stdout(OwnedFd::from(second))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// What the daemon said until it ended, and whether that was a success.
fn ended(mut child: Child) -> (bool, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().success(), said)
}

/// Waits for the line `ready`.
fn wait_until_ready(from: impl std::io::Read) {
    let ready = BufReader::new(from).lines().any(|line| line.unwrap() == "ready");
    assert!(ready, "the daemon ended before it was ready");
}

fn terminate(mut child: Child) {
    let kill = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn passed_sockets_are_taken_by_their_names_and_not_by_their_places() {
    let host = Host::new();
    let request = UnixListener::bind(host.socket("request.sock")).unwrap();
    let review = UnixListener::bind(host.socket("review.sock")).unwrap();
    let mut child = host.start_with(review, request, "review:request");
    wait_until_ready(child.stderr.take().unwrap());
    UnixStream::connect(host.socket("request.sock")).unwrap();
    terminate(child);
}

#[test]
fn a_socket_under_the_wrong_name_stops_the_start() {
    let host = Host::new();
    let request = UnixListener::bind(host.socket("request.sock")).unwrap();
    let review = UnixListener::bind(host.socket("review.sock")).unwrap();
    let (success, said) = ended(host.start_with(review, request, "request:review"));
    assert!(!success);
    assert!(said.contains("is not") && said.contains("request.sock"), "{said}");
}

#[test]
fn sockets_passed_twice_or_under_an_unknown_name_stop_the_start() {
    for (names, want) in
        [("request:request", "two sockets named request"), ("request:admin", "admin")]
    {
        let host = Host::new();
        let request = UnixListener::bind(host.socket("request.sock")).unwrap();
        let again = request.try_clone().unwrap();
        let (success, said) = ended(host.start_with(request, again, names));
        assert!(!success && said.contains(want), "{names}: {said}");
    }
}

#[test]
fn started_as_root_it_serves_as_somebody_else_and_cannot_return() {
    if effective_uid() != 0 {
        eprintln!("skipped: only root can drop privileges");
        return;
    }
    let host = Host::new();
    let mut child =
        Command::new(DAEMON).args(host.options()).stdout(Stdio::piped()).spawn().unwrap();
    wait_until_ready(child.stdout.take().unwrap());
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let front = vec![FRONT.to_string(); 4];
    assert_eq!((field("Uid:"), field("Gid:")), (front.clone(), front));
    assert_eq!(field("Groups:"), Vec::<String>::new());
    for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    let mode = fs::metadata(host.socket("request.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    let database = fs::metadata(host.folder.path().join("state/broker.db")).unwrap();
    assert_eq!(database.permissions().mode() & 0o777, 0o600);
    terminate(child);
}

#[test]
fn it_does_not_serve_as_root() {
    if effective_uid() != 0 {
        eprintln!("skipped: only root can be refused to serve as root");
        return;
    }
    let host = Host::new();
    let options = host.options();
    let child = Command::new(DAEMON)
        .args(&options[..4])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (success, said) = ended(child);
    assert!(!success && said.contains("does not serve as root"), "{said}");
    assert!(!host.socket("request.sock").exists());
}

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let host = Host::new();
    let config = host.folder.path().join("front.toml");
    let start = |mode| {
        fs::write(&config, "[limits]\nno_such_limit = 1\n").unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
        let child = Command::new(DAEMON)
            .args(host.options())
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        ended(child)
    };
    let (success, said) = start(0o644);
    assert!(!success && said.contains("no_such_limit"), "{said}");
    let (success, said) = start(0o666);
    assert!(!success && !said.contains("no_such_limit"), "{said}");
}
