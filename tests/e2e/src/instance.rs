//! Folders, configuration and processes of one instance.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::approver::Approver;

mod half;

pub use half::Half;

/// Uids of a block: front, three requesters, three approvers, strangers.
const BLOCK: u32 = 10;
/// Above every range that distributions, subordinate uids and systemd hand out by default.
const FIRST_UID: u32 = 1_900_000_000;

/// Of each log so many lines are shown when a test fails.
const LOG_LINES: usize = 100;

/// How an instance differs from the default one.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further lines of execd.conf.
    pub execd: String,
    /// brokerd.toml.
    pub brokerd: String,
    /// Only the root half is started; the test speaks exec.sock itself.
    pub without_front: bool,
    /// Environment variables for both halves.
    pub variables: Vec<(String, String)>,
    /// Environment variables for `olb`.
    pub olb_variables: Vec<(String, String)>,
    /// Words before the root half's command line: a program that arranges something and then
    /// becomes the root half, in the same process.
    pub execd_wrapper: Vec<String>,
    /// Where the programs are, if not in the build folder that the caller was built into.
    pub binaries: Option<PathBuf>,
    /// The front's uid and the first of its block, if the users are to be another instance's.
    pub first_uid: Option<u32>,
}

/// A running instance; ends and removes itself when dropped.
pub struct Instance {
    dir: tempfile::TempDir,
    first_uid: u32,
    options: Options,
    execd: Option<Child>,
    brokerd: Option<Child>,
}

/// Whether the tests run as root, as they have to.
pub fn is_root() -> bool {
    olb_sys::harden::effective_uid() == 0
}

fn binaries() -> PathBuf {
    if let Some(dir) = std::env::var_os("OLB_TEST_BINARIES") {
        return dir.into();
    }
    let test = std::env::current_exe().expect("the test's own path");
    let dir = test.parent().expect("target/PROFILE or target/PROFILE/deps");
    if dir.ends_with("deps") { dir.parent().expect("target/PROFILE").into() } else { dir.into() }
}

fn fresh_block() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id() % 100_000;
    FIRST_UID + process * 1000 + NEXT.fetch_add(1, Ordering::SeqCst) * BLOCK
}

fn make_dir(path: &Path, mode: u32, owner: u32) {
    fs::create_dir(path).expect("a new folder");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    chown(path, Some(owner), Some(owner)).expect("its owner");
}

impl Instance {
    /// Both halves with the default configuration.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Both halves, or only the root half, with `options`.
    pub fn with(options: Options) -> Self {
        let mut instance = Self::laid_out(options);
        instance.start_execd();
        if !instance.options.without_front {
            instance.start_brokerd();
        }
        instance
    }

    /// Everything but running processes.
    pub fn laid_out(options: Options) -> Self {
        assert!(is_root(), "end-to-end tests use real uids: run them as root");
        let dir = tempfile::Builder::new().prefix("olb-test-").tempdir_in("/run").expect("/run");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("its mode");
        let first_uid = options.first_uid.unwrap_or_else(fresh_block);
        let instance = Self { dir, first_uid, options, execd: None, brokerd: None };
        instance.lay_out();
        instance
    }

    fn lay_out(&self) {
        make_dir(&self.state(), 0o700, 0);
        make_dir(&self.runtime(), 0o711, 0);
        make_dir(&self.path("front"), 0o700, self.front());
        make_dir(&self.path("bin"), 0o755, 0);
        make_dir(&self.path("approvers.d"), 0o755, 0);
        make_dir(&self.path("work"), 0o755, 0);
        for name in ["olb", "olb-execd", "olb-brokerd", "olb-test-peer"] {
            self.install(name, &self.path("bin"));
        }
        let requesters = [0, 1, 2].map(|at| self.requester(at).to_string()).join(",");
        let text = format!(
            "host = test-host\nfront_uid = {}\nruntime_dir = {}\nstate_dir = {}\n\
             approvers_dir = {}\nstaging_dir = {}\nrequesters = {requesters}\n{}",
            self.front(),
            self.runtime().display(),
            self.state().display(),
            self.path("approvers.d").display(),
            self.staging().display(),
            self.options.execd
        );
        fs::write(self.state().join("execd.conf"), text).expect("execd.conf");
        fs::write(self.path("brokerd.toml"), &self.options.brokerd).expect("brokerd.toml");
    }

    /// Copies one of the programs that were built into `folder`.
    pub(crate) fn install(&self, name: &str, folder: &Path) {
        let from = self.options.binaries.clone().unwrap_or_else(binaries).join(name);
        fs::copy(&from, folder.join(name)).unwrap_or_else(|error| {
            panic!("{}: {error}; build it first: cargo build --bins", from.display())
        });
    }

    /// A path inside the instance's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder with keys and ledger.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The folder with the sockets.
    pub fn runtime(&self) -> PathBuf {
        self.path("run")
    }

    /// The folder with copies of staged files.
    pub fn staging(&self) -> PathBuf {
        self.path("pin")
    }

    /// A folder that only root can change, as working directory.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// The front's uid.
    pub fn front(&self) -> u32 {
        self.first_uid
    }

    /// A listed requester's uid; there are three.
    pub fn requester(&self, at: u32) -> u32 {
        assert!(at < 3);
        self.first_uid + 1 + at
    }

    /// A uid that is on no list.
    pub fn stranger(&self) -> u32 {
        self.first_uid + 9
    }

    /// Enrols a new approver (there may be three) without limits beyond the usual.
    pub fn enrol(&self, at: u32) -> Approver {
        assert!(at < 3);
        self.enrol_as(self.first_uid + 4 + at, &format!("approver-{at}"), "")
    }

    /// Enrols a key for `uid`; lines in `limits` replace the usual ones of the same key.
    pub fn enrol_as(&self, uid: u32, name: &str, limits: &str) -> Approver {
        let approver = Approver::new(uid, name);
        let usual = format!(
            "name = {name}\nuid = {uid}\nkey = {}\nrequesters = any\nrun_as = any\n\
             run_as_groups = any\nmax_lease_secs = 900\nmax_approvals_per_hour = 1000000\nnot_after = 0\n\
             second = none\n",
            approver.key().public().hex()
        );
        let key_of = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let replaced: Vec<String> = limits.lines().map(key_of).collect();
        let kept = usual.lines().filter(|line| !replaced.contains(&key_of(line)));
        let text: String = kept.chain(limits.lines()).flat_map(|line| [line, "\n"]).collect();
        fs::write(self.enrolment(name), text).expect("the enrolment");
        let key = self.path(&format!("{name}.key"));
        fs::write(&key, approver.key_text()).expect("the key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("its mode");
        chown(&key, Some(uid), Some(uid)).expect("its owner");
        approver
    }

    /// The enrolment file of `name`.
    pub fn enrolment(&self, name: &str) -> PathBuf {
        self.path("approvers.d").join(format!("{name}.conf"))
    }

    /// The key file of `name`.
    pub fn key_file(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.key"))
    }

    /// The log of `execd` or `brokerd`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    /// What is in it.
    pub fn read_log(&self, name: &str) -> String {
        fs::read_to_string(self.log(name)).unwrap_or_default()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for half in [Half::Front, Half::Root] {
            self.kill(half);
        }
        if std::thread::panicking() {
            for name in ["execd", "brokerd"] {
                let log = self.read_log(name);
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.len().saturating_sub(LOG_LINES);
                eprintln!("--- the end of {name}'s log\n{}", lines[last..].join("\n"));
            }
        }
    }
}
