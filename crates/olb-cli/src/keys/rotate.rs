//! `olb keys rotate lease` and `audit`: another key for the broker.
//!
//! The new key takes the old one's place by one rename, so that at every moment there is exactly one.
//! A root half that runs has the old one in memory until it is started again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use olb_exec_api::Info;
use olb_lease::{Audit, LeaseIssuer, Role, SigningKey};
use olb_review::display::safe;
use serde_json::{Value, json};

use super::place::Place;
use super::root_half::RootHalf;
use super::seed;
use super::write::replace;
use crate::args::{RotateArgs, Rotated};
use crate::dev;
use crate::failure::{Failure, code};
use crate::json;
use crate::out::say;

/// The unit of the installed root half.
const UNIT: &str = "olb-execd.service";
/// Not looked up in `PATH`.
const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// The installed broker's sockets, which its unit serves.
const INSTALLED_RUNTIME_DIR: &str = "/run/olb";
/// A root half without running commands has started again within this time.
const RESTART_TIME: Duration = Duration::from_secs(30);
/// Between two looks whether it has.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Which of the broker's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokerKey {
    Lease,
    Audit,
}

impl BrokerKey {
    /// Of what the command line names; `None` for a person's own.
    pub(super) fn of(which: Rotated) -> Option<Self> {
        match which {
            Rotated::Approver => None,
            Rotated::Lease => Some(Self::Lease),
            Rotated::Audit => Some(Self::Audit),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Audit => "audit",
        }
    }

    /// The public half that a running root half has.
    fn in_force(self, info: &Info) -> [u8; 32] {
        match self {
            Self::Lease => info.lease_key,
            Self::Audit => info.audit_key,
        }
    }
}

/// `olb keys rotate` of one of the broker's keys.
pub(super) fn run(which: BrokerKey, args: &RotateArgs) -> ExitCode {
    let rotated = prepare(which, args).and_then(|place| {
        let rotated = rotate(which, &place)?;
        bring_into_force(which, args, &place, &rotated).map(|state| (rotated, state))
    });
    match rotated {
        Ok((rotated, state)) if args.json => {
            say!("{}", json::line(&rotated.json(which, state)));
            ExitCode::SUCCESS
        }
        Ok((rotated, state)) => {
            say!("{}", rotated.text(which, state));
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

/// Both halves of the change, as public keys.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    old: Public,
    new: Public,
}

#[derive(Debug, PartialEq, Eq)]
struct Public {
    bytes: [u8; 32],
    hex: String,
    kid: String,
}

impl Public {
    fn of<R: Role>(key: &SigningKey<R>) -> Self {
        let key = key.public();
        Self { bytes: *key.as_bytes(), hex: key.hex(), kid: key.kid().hex() }
    }
}

/// Since when the new key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The root half was started again, and has it.
    InForce,
    /// No root half runs; the next one has it.
    AtNextStart,
}

/// Refuses what cannot be carried to its end, before anything is changed.
fn prepare(which: BrokerKey, args: &RotateArgs) -> Result<Place, Failure> {
    let name = which.name();
    if olb_sys::harden::effective_uid() != 0 {
        let text = format!("a new {name} key for the broker is for root to make; use a root shell");
        return Err(Failure::refused("not_root", text));
    }
    if args.finish || args.forget || args.key.is_some() {
        return Err(Failure::usage(format!(
            "--finish, --forget and --key are for 'rotate approver'; leave them out for {name}"
        )));
    }
    let place = Place::find(args.config.as_deref())?;
    if dev::is_instance(&place.host) {
        return Err(Failure::usage(
            "an instance of 'olb dev' ends with its root half, so its keys cannot be rotated; end \
             it and make another, which has new keys",
        ));
    }
    Ok(place)
}

fn rotate(which: BrokerKey, place: &Place) -> Result<Change, Failure> {
    olb_sys::harden::no_dumps().map_err(|error| failed(&place.state_dir, &error))?;
    let lock = File::open(&place.state_dir).map_err(|error| failed(&place.state_dir, &error))?;
    lock.try_lock().map_err(|_| {
        let text = "another 'olb keys rotate' is at work; try again when it has ended";
        Failure::new(code::UNAVAILABLE, "busy", text)
    })?;
    match which {
        BrokerKey::Lease => swap::<LeaseIssuer>(&place.state_dir.join("lease.key"), |_| Ok(())),
        BrokerKey::Audit => swap::<Audit>(&place.state_dir.join("audit.key"), |old| {
            let retired = place.state_dir.join("audit.retired");
            retire(&retired, &old.hex).map_err(|error| failed(&retired, &error))
        }),
    }
}

/// Puts a new key in the place of the one at `path`, after `before` was done about the old one.
fn swap<R: Role>(
    path: &Path,
    before: impl FnOnce(&Public) -> Result<(), Failure>,
) -> Result<Change, Failure> {
    let old = match seed::read::<R>(path) {
        Ok(old) => Public::of(&old),
        Err(error) => {
            return Err(Failure::usage(format!(
                "there is no key to replace ({}); the root half makes it at its first start",
                safe(error.to_string().as_bytes())
            )));
        }
    };
    let (seed, new) = seed::fresh::<R>().map_err(|error| failed(path, &error))?;
    before(&old)?;
    let change = Change { old, new: Public::of(&new) };
    match replace(path, &seed::to_hex(&seed), 0o400) {
        Ok(()) => Ok(change),
        // It may be there, and only not be known to be on the disk.
        Err(error) if seed::read::<R>(path).is_ok_and(|now| Public::of(&now) == change.new) => {
            Err(unsure(path, &error))
        }
        Err(error) => Err(failed(path, &error)),
    }
}

/// Keeps the public half of an audit key, so that what it signed can be verified. First this, then
/// the new key: a key that is in both places is taken for the present one.
fn retire(file: &Path, hex: &str) -> std::io::Result<()> {
    let mut text = match fs::read_to_string(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        text => text.unwrap_or_default(),
    };
    let line = format!("audit-retired {hex}");
    if text.lines().any(|found| found == line) {
        return Ok(());
    }
    text.extend([line.as_str(), "\n"]);
    replace(file, text.as_bytes(), 0o644)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    let shown = safe(path.as_os_str().as_encoded_bytes());
    Failure::usage(format!("{shown} cannot be used ({error}); the old key is still in place"))
}

fn unsure(path: &Path, error: &std::io::Error) -> Failure {
    let shown = safe(path.as_os_str().as_encoded_bytes());
    Failure::new(
        code::UNAVAILABLE,
        "not_in_force",
        format!(
            "the new key is in place in {shown}, but a power cut now could bring the old one back \
             ({error}); look at the disk, then start the root half again"
        ),
    )
}

/// Has the root half started again, where one runs and systemd can do that.
fn bring_into_force(
    which: BrokerKey,
    args: &RotateArgs,
    place: &Place,
    change: &Change,
) -> Result<State, Failure> {
    let root_half = RootHalf::of(&place.runtime_dir);
    let is_in_force = |info: &Info| which.in_force(info) == change.new.bytes;
    let why = match root_half.info() {
        Ok(None) => return Ok(State::AtNextStart),
        Ok(Some(info)) if is_in_force(&info) => return Ok(State::InForce),
        Ok(Some(_)) => "the root half that runs has the old one".to_owned(),
        // The key file is changed already, whatever the root half is busy with.
        Err(failure) => format!("whether the root half has it is not known ({})", failure.text),
    };
    // Not waited for by systemctl: where an approved command does this, the stop waits for it.
    let restarts =
        !args.no_restart && is_active(place) && systemctl(&["--no-block", "restart", UNIT]);
    if !restarts {
        return Err(not_yet(which, place, &why));
    }
    let deadline = Instant::now() + RESTART_TIME;
    while Instant::now() < deadline {
        // While it stops and starts it may answer nothing, or something else.
        if root_half.info().is_ok_and(|info| info.as_ref().is_some_and(is_in_force)) {
            return Ok(State::InForce);
        }
        thread::sleep(RESTART_PAUSE);
    }
    let name = which.name();
    Err(Failure::new(
        code::UNAVAILABLE,
        "not_in_force",
        format!(
            "the new {name} key is in place, and {UNIT} was told to restart, but it has not yet: it \
             waits for the commands that run; see 'systemctl status {UNIT}'"
        ),
    ))
}

fn not_yet(which: BrokerKey, place: &Place, why: &str) -> Failure {
    let name = which.name();
    let config: PathBuf = place.config_file.clone();
    let text = format!(
        "the new {name} key is in place, but {why}; start it again, and do not rotate again: \
         'systemctl restart {UNIT}', or where it is no unit, end it with SIGTERM (commands that run \
         may end first) and start 'olb-execd --config {}'",
        safe(config.as_os_str().as_encoded_bytes())
    );
    Failure::new(code::UNAVAILABLE, "not_in_force", text)
}

/// Whether the root half is the installed one and runs as its unit.
fn is_active(place: &Place) -> bool {
    place.runtime_dir == Path::new(INSTALLED_RUNTIME_DIR)
        && Path::new("/run/systemd/system").is_dir()
        && systemctl(&["is-active", "--quiet", UNIT])
}

fn systemctl(words: &[&str]) -> bool {
    let mut command = Command::new(SYSTEMCTL);
    command.args(words).env_clear().env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Change {
    fn text(&self, which: BrokerKey, state: State) -> String {
        let name = which.name();
        let what = match which {
            BrokerKey::Lease => "leases of the old one are void, and open requests are asked again",
            BrokerKey::Audit => "the old one verifies what it signed until now, and nothing else",
        };
        let when = match state {
            State::InForce => "The root half was started again and signs with it",
            State::AtNextStart => "No root half runs; the next one signs with it",
        };
        format!("The {name} key is {} now, it was {}. {when}: {what}.", self.new.kid, self.old.kid)
    }

    fn json(&self, which: BrokerKey, state: State) -> Value {
        json!({
            "rotated": which.name(), "kid": self.new.kid, "key": self.new.hex,
            "old_kid": self.old.kid, "old_key": self.old.hex,
            "in_force": state == State::InForce,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_takes_the_place_of_the_old_one_and_only_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease.key");
        let swap = || swap::<LeaseIssuer>(&path, |_| Ok(()));
        assert_eq!(swap().unwrap_err().code, 64, "none is made where there is none");
        assert!(!path.exists());
        let (seed, key) = seed::fresh::<LeaseIssuer>().unwrap();
        replace(&path, &seed::to_hex(&seed), 0o400).unwrap();
        let first = swap().unwrap();
        assert_eq!(first.old, Public::of(&key));
        let second = swap().unwrap();
        assert_eq!(second.old, first.new);
        assert_ne!(second.new, first.new);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_old_key_that_cannot_be_kept_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        let (seed, key) = seed::fresh::<Audit>().unwrap();
        replace(&path, &seed::to_hex(&seed), 0o400).unwrap();
        let full = |_: &Public| Err(Failure::usage("full"));
        assert!(swap::<Audit>(&path, full).is_err());
        assert_eq!(Public::of(&seed::read::<Audit>(&path).unwrap()), Public::of(&key));
    }

    #[test]
    fn a_retired_key_is_kept_once_after_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.retired");
        for hex in ["aa", "bb", "bb", "aa"] {
            retire(&file, hex).unwrap();
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "audit-retired aa\naudit-retired bb\n");
    }
}
