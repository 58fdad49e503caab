//! Start and stop: keys, ledger, epoch, sockets, in the order in which each needs the one before.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use olb_lease::{Epoch, EpochReason, SigningKey, audience};
use olb_ledger::{Ledger, LedgerError, Opened, Options};
use olb_sys::clock::{boot_id, unix_secs};
use olb_sys::crash::crash_point;
use olb_sys::harden;
use olb_sys::peer::require_identity_uid_map;
use olb_sys::poll::{PollFd, PollFlags, poll};
use thiserror::Error;

use crate::broker::{Broker, Slots};
use crate::cgroup::RunGroups;
use crate::config::{Config, ConfigError};
use crate::counter::CounterFile;
use crate::enrolment::Known;
use crate::journal::Journal;
use crate::keys::{self, KeyFileError};
use crate::server::{Server, listen};
use crate::staging::Staging;

/// What is in the way of a start is waited for so often and so long: two seconds.
const PATIENCE_ATTEMPTS: u32 = 400;
const PATIENCE_PAUSE: Duration = Duration::from_millis(5);

/// Why the root half does not run.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The ledger.
    #[error("the ledger cannot be used: {0}")]
    Ledger(#[from] LedgerError),
    /// The kernel would not tell uids apart.
    #[error("peers cannot be told apart: {0}")]
    UidMap(#[from] olb_sys::peer::MapError),
    /// A file or a socket.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn context<T>(what: &str, path: &Path, result: io::Result<T>) -> Result<T, StartError> {
    let what = || format!("cannot {what} {}", path.display());
    result.map_err(|source| StartError::Io { what: what(), source })
}

/// Runs the root half with the configuration at `path` until it is told to stop.
///
/// # Errors
/// It could not start. What fails later is refused and reported, and the service goes on.
pub fn run(path: &Path) -> Result<(), StartError> {
    let own_uid = harden::effective_uid();
    context("harden", Path::new("this process"), harden::no_dumps())?;
    harden::private_umask();
    let mut config = Config::read(path, own_uid)?;
    let uids = [config.requesters.as_slice(), &[config.front_uid, own_uid]].concat();
    require_identity_uid_map(&uids)?;
    for dir in [&config.state_dir, &config.runtime_dir, &config.approvers_dir] {
        check_dir(dir, own_uid)?;
    }
    let files =
        context("count the descriptors of", Path::new("this process"), harden::raise_nofile())?;
    config.limits.fit(files);
    let stop = context("catch signals for", path, harden::termination_fd())?;
    let broker = Arc::new(open(config, own_uid)?);
    // What was revoked while nobody was here is recorded before anything else happens.
    drop(broker.enrolments(unix_secs()));
    let socket = broker.config.runtime_dir.join("exec.sock");
    let listener = patiently(|| listen(&socket, broker.config.front_uid));
    let listener = context("listen on", &socket, listener)?;
    let started = Server::start(Arc::clone(&broker), listener);
    let (server, ended) = context("serve", &socket, started)?;
    crash_point("start-before-ready");
    say_ready(&broker);
    wait_for_stop(&stop);
    broker.journal.note("stopping: no new work; waiting for the commands that run");
    server.stop_accepting();
    // Ends, with an error, when the last worker is gone.
    ended.recv().ok();
    std::fs::remove_file(&socket).ok();
    Ok(())
}

/// Files are taken from, and written to, folders that only this process's user can change.
fn check_dir(path: &Path, own_uid: u32) -> Result<(), StartError> {
    let found = context("look at the folder", path, std::fs::symlink_metadata(path))?;
    let is_ours = found.is_dir() && found.uid() == own_uid && found.mode() & 0o022 == 0;
    let text = "not a folder of the root half's user that nobody else can write";
    let checked = if is_ours { Ok(()) } else { Err(io::Error::other(text)) };
    context("use the folder", path, checked)
}

fn open(config: Config, own_uid: u32) -> Result<Broker, StartError> {
    let lock_path = config.state_dir.join("execd.lock");
    let lock = patiently(|| take_lock(&lock_path));
    let lock = context("be the only root half that holds", &lock_path, lock)?;
    let (lease_key, audit_key) = keys::load_or_create(&config.state_dir, own_uid)?;
    let retired = keys::retired(&config.state_dir, own_uid)?;
    let audit_public = audit_key.public().clone();
    let journal = Journal::default();
    let counter_path = config.runtime_dir.join("burn.seq");
    let counter = CounterFile::open(&counter_path);
    let (counter, held) = context("open", &counter_path, counter)?;
    let boot = context("read the boot id from", Path::new("/proc"), boot_id())?;
    let fresh = keys::random().ok_or(KeyFileError::Random)?;
    let run_groups = open_run_groups(&config)?;
    // What an earlier process of ours started is ended before its outcome is written down.
    let all_ended =
        run_groups.as_ref().is_some_and(|groups| groups.end_leftovers(&config.state_dir));
    let staging = open_staging(&config, own_uid)?;
    let options = Options {
        path: config.state_dir.join("ledger.db"),
        boot_id: boot,
        burn_counter: held,
        counter: Box::new(counter),
        fresh_epoch: Epoch(fresh),
        lease_kid: lease_key.public().kid(),
        audit_key,
        now: unix_secs(),
        ballast_bytes: config.limits.ballast_bytes,
        may_be_running: !all_ended,
    };
    let (ledger, opened) = Ledger::open(options)?;
    crash_point("start-after-ledger");
    report(&journal, &opened);
    let (sequence, head) = ledger.head()?;
    journal.anchor(sequence, head, audit_public.kid());
    let audience = audience(&config.host, lease_key.public());
    let broker = Broker {
        audience,
        epoch: opened.epoch,
        audit_key: audit_public,
        known: Known::default(),
        revoked: Mutex::new(ledger.revoked_keys()?),
        slots: Slots::default(),
        stopping: AtomicBool::new(false),
        config,
        lease_key,
        ledger,
        own_uid,
        lock,
        run_groups,
        staging,
        journal,
    };
    publish_keys(&broker, &retired)?;
    Ok(broker)
}

/// Held as long as the process lives: two root halves would end each other's runs.
fn take_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    lock.try_lock()?;
    Ok(lock)
}

/// Tries again for a while what another process is in the way of. A root half that was killed while
/// it started a command leaves a child that holds its descriptors until it becomes that command.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = PATIENCE_ATTEMPTS;
    loop {
        match attempt() {
            Err(error) if left > 0 && is_in_the_way(&error) => thread::sleep(PATIENCE_PAUSE),
            result => return result,
        }
        left = left.saturating_sub(1);
    }
}

fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::AddrInUse)
}

fn open_run_groups(config: &Config) -> Result<Option<RunGroups>, StartError> {
    let open = |parent: &PathBuf| context("use the cgroup", parent, RunGroups::open(parent));
    config.cgroup_parent.as_ref().map(open).transpose()
}

fn open_staging(config: &Config, own_uid: u32) -> Result<Option<Staging>, StartError> {
    let open = |dir: &PathBuf| {
        let staging = Staging::open(dir, config.limits.staged_bytes, own_uid == 0);
        context("keep copies of staged files in", dir, staging)
    };
    config.staging_dir.as_ref().map(open).transpose()
}

fn report(journal: &Journal, opened: &Opened) {
    if let Some(reason) = opened.epoch_reason {
        let why = match reason {
            EpochReason::NewLedger => "the ledger is new",
            EpochReason::Boot => "the host was booted",
            EpochReason::Restored => "the ledger is older than its burn counter: a restored copy",
            EpochReason::NewKey => "the lease key is new",
        };
        journal.note(&format!("a new epoch begins ({why}); leases from before are void"));
    }
    for plan in &opened.unknown {
        journal.note(&format!(
            "{} was burned, and how it ended is not known: it may have run, and may be running",
            plan.request_id()
        ));
    }
}

/// Writes the public keys where everybody can read them.
fn publish_keys(broker: &Broker, retired: &str) -> Result<(), StartError> {
    let lease: &SigningKey<_> = &broker.lease_key;
    let (audit, lease) = (broker.audit_key.hex(), lease.public().hex());
    let text = format!("audit {audit}\nlease {lease}\n{retired}");
    let path: PathBuf = broker.config.runtime_dir.join("keys.pub");
    let draft = broker.config.runtime_dir.join("keys.pub.new");
    let write = || {
        std::fs::write(&draft, text)?;
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o644))?;
        std::fs::rename(&draft, &path)
    };
    context("write", &path, write())
}

/// Tells whoever started us that requests are served, by a line on standard output.
fn say_ready(broker: &Broker) {
    let mut out = io::stdout();
    // Nobody may be listening; serving goes on.
    writeln!(out, "ready").and_then(|()| out.flush()).ok();
    if !broker.has_boundary() {
        broker.journal.note("not running as root: there is NO privilege boundary in this mode");
    }
}

fn wait_for_stop(stop: &OwnedFd) {
    let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    // An error would mean that signals cannot be waited for: stopping is the safe answer.
    poll(&mut fds, None).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dying_process_still_holds_is_waited_for_and_nothing_else_is() {
        let held_for = |last: u32, kind: io::ErrorKind| {
            let mut attempts = 0;
            let result = patiently(|| {
                attempts += 1;
                if attempts < last { Err(io::Error::from(kind)) } else { Ok(()) }
            });
            (result.is_ok(), attempts)
        };
        assert_eq!(held_for(3, io::ErrorKind::WouldBlock), (true, 3));
        assert_eq!(held_for(3, io::ErrorKind::AddrInUse), (true, 3));
        assert_eq!(held_for(3, io::ErrorKind::PermissionDenied), (false, 1));
        let forever = held_for(u32::MAX, io::ErrorKind::WouldBlock);
        assert_eq!(forever, (false, PATIENCE_ATTEMPTS + 1));
    }
}
