//! A private instance of the broker: its folder, configuration, keys and two processes. `olb demo`
//! and `olb dev` are built on it.
//!
//! The folder holds `bin` (copies of the three programs, so that accounts that cannot reach the
//! originals can run them), `run` (sockets and public keys), `state` (the root half's and the
//! operator's own) and `front` (the front's own).

#[cfg(test)]
pub(crate) mod built;
pub(crate) mod child;
pub(crate) mod daemon;
pub(crate) mod stop;
pub(crate) mod uids;

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use olb_sys::file::write_new_private;
use olb_sys::harden::effective_uid;
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::keys;

/// The command line, the root half and the front.
const PROGRAMS: [&str; 3] = ["olb", "olb-execd", "olb-brokerd"];
/// Where a package puts the daemons.
const PACKAGED: &str = "/usr/lib/olb";

/// What an instance is told when it is made.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Host name in plans: an audience of its own.
    pub(crate) host: String,
    /// Uid, and gid, of the front.
    pub(crate) front_uid: u32,
    /// Who may ask.
    pub(crate) requesters: Vec<u32>,
}

/// Paths of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    dir: PathBuf,
}

impl Instance {
    /// The instance in this folder, whether it exists or not.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sockets and public keys: what `OLB_RUNTIME_DIR` names.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Databases, keys, enrolments, logs: the root half's and the operator's.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The front's own folder.
    pub(crate) fn front_dir(&self) -> PathBuf {
        self.dir.join("front")
    }

    pub(crate) fn approvers_dir(&self) -> PathBuf {
        self.state_dir().join("approvers.d")
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.state_dir().join("execd.conf")
    }

    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.state_dir().join(format!("{name}.log"))
    }

    /// The private key of the operator who made the instance.
    pub(crate) fn operator_key(&self) -> PathBuf {
        self.state_dir().join(format!("approver-{}.key", effective_uid()))
    }

    /// The instance's copy of a program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// Makes the folder. Whoever succeeds owns it: only they may furnish and remove it.
    ///
    /// # Errors
    /// One sentence; the folder exists already, perhaps since a moment ago, or cannot be made.
    pub(crate) fn claim(dir: PathBuf) -> Result<Self> {
        make_dir(&dir, passable())?;
        Ok(Self { dir })
    }

    /// Makes all in the folder that the daemons need to start.
    ///
    /// # Errors
    /// One sentence; what was made so far is left for [`Self::remove`].
    pub(crate) fn furnish(&self, settings: &Settings) -> Result<()> {
        let passable = passable();
        make_dir(&self.runtime_dir(), passable)?;
        make_dir(&self.dir.join("bin"), passable)?;
        make_dir(&self.state_dir(), 0o700)?;
        make_dir(&self.approvers_dir(), 0o700)?;
        make_dir(&self.front_dir(), 0o700)?;
        if effective_uid() == 0 {
            lchown(self.front_dir(), Some(settings.front_uid), Some(settings.front_uid))
                .context("the front's folder cannot be handed to its account")?;
        }
        self.copy_programs()?;
        write_new_private(&self.config_file(), self.config(settings).as_bytes(), 0o600)
            .with_context(|| format!("{} cannot be written", self.config_file().display()))
    }

    fn config(&self, settings: &Settings) -> String {
        let requesters: Vec<String> = settings.requesters.iter().map(u32::to_string).collect();
        format!(
            "host = {}\nfront_uid = {}\nruntime_dir = {}\nstate_dir = {}\napprovers_dir = {}\n\
             staging_dir = {}\nrequesters = {}\n",
            settings.host,
            settings.front_uid,
            self.runtime_dir().display(),
            self.state_dir().display(),
            self.approvers_dir().display(),
            self.dir.join("pin").display(),
            requesters.join(",")
        )
    }

    fn copy_programs(&self) -> Result<()> {
        for name in PROGRAMS {
            let (from, to) = (installed(name)?, self.program(name));
            fs::copy(&from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
            set_mode(&to, 0o755)?;
        }
        Ok(())
    }

    /// Whether programs can be run from the folder: some file systems are mounted `noexec`.
    pub(crate) fn can_run_programs(&self) -> bool {
        let mut command = Command::new(self.program("olb"));
        let quiet = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    /// Enrols the user who makes the instance, with a new key.
    pub(crate) fn enrol_operator(&self, name: &str) -> Result<()> {
        let uid = effective_uid();
        let key = keys::own(Some(&self.operator_key()))?.public;
        let text = format!(
            "name = {name}\nuid = {uid}\nkey = {key}\nrequesters = any\nrun_as = any\n\
             run_as_groups = any\nmax_lease_secs = 900\nmax_approvals_per_hour = 3600\nnot_after = 0\nsecond = none\n"
        );
        let file = self.approvers_dir().join(format!("{name}.conf"));
        write_new_private(&file, text.as_bytes(), 0o600)
            .with_context(|| format!("{} cannot be written", file.display()))
    }

    /// The account of the front, as the folder's owner says.
    pub(crate) fn front_uid(&self) -> Result<u32> {
        let metadata = fs::symlink_metadata(self.front_dir());
        Ok(metadata.with_context(|| format!("{} is no instance", self.dir.display()))?.uid())
    }

    /// Removes the folder with all that is in it.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("{} cannot be removed; remove it by hand", self.dir.display()))
    }
}

/// Some letters and digits that nobody can guess, for names of folders and hosts.
pub(crate) fn random_suffix() -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 10];
    SysRng.try_fill_bytes(&mut bytes).context("the operating system gave no random numbers")?;
    let letter = |byte: &u8| LETTERS.get(usize::from(byte & 31)).copied();
    Ok(bytes.iter().filter_map(letter).map(char::from).collect())
}

/// A program of ours: beside this one, else where a package puts it.
fn installed(name: &str) -> Result<PathBuf> {
    let own = fs::read_link("/proc/self/exe").context("/proc is not mounted; mount it")?;
    let beside = own.parent().map(|folder| folder.join(name));
    let places = [beside, Some(Path::new(PACKAGED).join(name))];
    match places.into_iter().flatten().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is neither beside {} nor in {PACKAGED}; build it", own.display()),
    }
}

/// Where everything belongs to one user, nobody else has any business inside.
fn passable() -> u32 {
    if effective_uid() == 0 { 0o711 } else { 0o700 }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))?;
    set_mode(path, mode)
}

/// Not through the umask: the caller names the mode it wants.
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("the mode of {} cannot be set", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_the_root_half_must_know() {
        let settings = Settings {
            host: "dev-abc".into(),
            front_uid: 61_200,
            requesters: vec![61_201, 61_202],
        };
        let text = Instance::at("/run/x".into()).config(&settings);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "host = dev-abc",
                "front_uid = 61200",
                "runtime_dir = /run/x/run",
                "state_dir = /run/x/state",
                "approvers_dir = /run/x/state/approvers.d",
                "staging_dir = /run/x/pin",
                "requesters = 61201,61202",
            ]
        );
    }

    #[test]
    fn a_folder_is_claimed_once_and_the_second_one_changes_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("x");
        let first = Instance::claim(dir.clone()).unwrap();
        fs::write(first.dir().join("kept"), "x").unwrap();
        let error = Instance::claim(dir).unwrap_err();
        assert!(format!("{error:#}").contains("File exists"), "{error:#}");
        assert!(first.dir().join("kept").exists());
        first.remove().unwrap();
    }

    #[test]
    fn suffixes_differ_and_are_plain() {
        let (one, other) = (random_suffix().unwrap(), random_suffix().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 10 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
