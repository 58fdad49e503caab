//! `olb dev`: a throwaway broker in the background, for plugin authors and tests. Root only.
//!
//! `up` makes the folder and starts a supervisor that owns both halves; `down` ends the supervisor
//! and removes the folder. The supervisor ends by itself after eight hours, and removes it then.

mod accounts;
mod processes;
mod supervise;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use olb_sys::harden::effective_uid;

use crate::args::{DevCommand, DevUpArgs};
use crate::dev::accounts::Accounts;
use crate::failure::Failure;
use crate::instance::daemon::{END_MS, READY_MS, await_ready, launch, tail};
use crate::instance::stop::{Stop, Stopped};
use crate::instance::{Instance, Settings, child, random_suffix, uids};
use crate::out::tell;

/// Host names of throwaway instances begin so: an audience that no real broker has.
const HOST_PREFIX: &str = "dev-";
/// Name of the supervisor, for its log and the list of processes.
const SUPERVISOR: &str = "supervisor";
/// The supervisor has this long to end, in milliseconds: it gives each half its time in turn.
const SUPERVISOR_END_MS: u32 = 3 * END_MS;
/// The enrolled name of root.
const OPERATOR: &str = "root";

/// Starts, owns or ends a throwaway broker.
pub(crate) fn run(command: &DevCommand) -> ExitCode {
    let done = match command {
        DevCommand::Up(args) => up(args),
        DevCommand::Down(args) => down(&args.dir),
        DevCommand::Supervise(args) => {
            existing(&args.folder.dir).and_then(|one| supervise::run(&one, args.life.lifetime))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<Failure>() {
            Ok(failure) => failure.report(false),
            Err(error) => {
                tell!("olb: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn up(args: &DevUpArgs) -> Result<()> {
    let dir = checked_path(&args.dir)?;
    let sudo_uid = std::env::var("SUDO_UID").ok();
    let accounts = Accounts::resolve(&args.requester, &args.approver, sudo_uid.as_deref())?;
    let stop = Stop::new()?;
    // From here on the folder is this process's own: another 'up' of the same folder fails there,
    // and what it finds is not its to remove.
    let instance = claim(dir)?;
    let started = start(&instance, accounts, args.life.lifetime, &stop);
    if started.is_err() {
        instance.remove()?;
    }
    started?;
    let mut line = b"export OLB_RUNTIME_DIR=".to_vec();
    line.extend(quoted(instance.runtime_dir().as_os_str()));
    line.push(b'\n');
    io::stdout().write_all(&line).context("nobody reads how to reach the instance")
}

fn claim(dir: PathBuf) -> Result<Instance> {
    let shown = dir.display().to_string();
    Instance::claim(dir).map_err(|error| {
        let found = error.downcast_ref::<io::Error>().map(io::Error::kind);
        match found {
            Some(io::ErrorKind::AlreadyExists) => {
                Failure::usage(format!("{shown} exists already; name a new folder")).into()
            }
            Some(_) | None => error,
        }
    })
}

fn start(instance: &Instance, accounts: Accounts, lifetime: u32, stop: &Stop) -> Result<()> {
    let [front_uid] = uids::unused()?;
    let host = format!("{HOST_PREFIX}{}", random_suffix()?);
    instance.furnish(&Settings { host, front_uid, requesters: accounts.requesters })?;
    let dir = instance.dir();
    ensure!(
        instance.can_run_programs(),
        "programs cannot be run from {}; choose a folder on another file system",
        dir.display()
    );
    instance.enrol_operator(OPERATOR)?;
    for approver in &accounts.approvers {
        enrol(instance, approver, stop)?;
    }
    if let Some(invoker) = &accounts.invoker
        && let Err(error) = enrol(instance, invoker, stop)
    {
        if error.is::<Stopped>() {
            return Err(error);
        }
        // Nobody asked for this by name: root can answer all the same.
        tell!("olb: {error:#}; only root and those named with --approver can approve");
    }
    let log = instance.log_file(SUPERVISOR);
    let lifetime = format!("--lifetime={lifetime}s");
    let words = ["dev", "supervise", lifetime.as_str(), "--dir"].map(Path::new);
    let arguments = [&words[..], &[dir]].concat();
    let (reader, supervisor) =
        launch(&instance.program("olb"), &arguments, &log, SUPERVISOR_END_MS)?;
    // It waits for two daemons, one after the other.
    if !await_ready(reader, stop, READY_MS.saturating_mul(2))? {
        drop(supervisor);
        bail!("the instance did not start; its log ends: {}", tail(&log));
    }
    supervisor.leave();
    Ok(())
}

/// Enrols a person, whose key is made as that person where there is none yet.
fn enrol(instance: &Instance, approver: &str, stop: &Stop) -> Result<()> {
    let folder = instance.approvers_dir().display().to_string();
    let words = ["keys", "enroll", "--user", approver, "--approvers-dir", &folder];
    let enrolled = child::olb(instance, effective_uid(), &words, stop)?;
    let said = String::from_utf8_lossy(&enrolled.stderr).trim_end().to_owned();
    ensure!(enrolled.code == 0, "{approver} cannot be enrolled: {said}");
    Ok(())
}

fn down(dir: &Path) -> Result<()> {
    let instance = existing(dir)?;
    processes::end_all(&instance)?;
    instance.remove()?;
    tell!("olb: the instance in {} is ended and removed", instance.dir().display());
    Ok(())
}

/// Whether a broker with this host name is an instance that `up` made.
pub(crate) fn is_instance(host: &str) -> bool {
    host.starts_with(HOST_PREFIX)
}

/// The instance in `dir`, if it is one that `up` made.
fn existing(dir: &Path) -> Result<Instance> {
    let instance = Instance::at(checked_path(dir)?);
    let config = std::fs::read_to_string(instance.config_file()).unwrap_or_default();
    if config.starts_with(&format!("host = {HOST_PREFIX}")) {
        return Ok(instance);
    }
    let text = format!("there is no instance of 'olb dev up' in {}", instance.dir().display());
    Err(Failure::usage(text).into())
}

/// `dir` as an absolute path that only root can redirect.
///
/// # Errors
/// Not root, or somebody else can change a folder above.
fn checked_path(dir: &Path) -> Result<PathBuf> {
    if effective_uid() != 0 {
        let text = "'olb dev' starts a broker that runs commands as root; run it as root";
        return Err(Failure::usage(text).into());
    }
    let dir = std::path::absolute(dir).context("the folder's path cannot be used")?;
    let plain = |part: std::path::Component<'_>| !matches!(part, std::path::Component::ParentDir);
    let Some(parent) = dir.parent().filter(|_| dir.components().all(plain)) else {
        return Err(Failure::usage("name the folder by a path without '..'").into());
    };
    match parent.ancestors().find(|part| !belongs_to_root(part)) {
        None => Ok(dir),
        Some(part) => {
            let part = part.display();
            Err(Failure::usage(format!(
                "{part} is missing, a link, or can be changed by somebody other than root; \
                 choose a folder whose parents are root's, such as /opt/olb-try"
            ))
            .into())
        }
    }
}

fn belongs_to_root(part: &Path) -> bool {
    const OTHERS_MAY_WRITE: u32 = 0o022;
    part.symlink_metadata().is_ok_and(|found| {
        found.is_dir() && found.uid() == 0 && found.mode() & OTHERS_MAY_WRITE == 0
    })
}

/// A word that a shell reads back as it is.
fn quoted(word: &OsStr) -> Vec<u8> {
    olb_review::quote::word(word.as_bytes()).into_bytes()
}
