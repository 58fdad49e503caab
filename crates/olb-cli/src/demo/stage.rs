//! Who and what the demo plays with: its folder, its accounts, and running their commands.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use olb_lease::environment::SECURE_PATH;
use olb_sys::account::user_by_uid;
use olb_sys::harden::effective_uid;

use super::story::Story;
use crate::client::Runtime;
use crate::instance::child::{self, Output, Program};
use crate::instance::stop::Stop;
use crate::instance::{Instance, Settings, random_suffix, uids};
use crate::out::tell;

/// The operator's name in the demo.
const OPERATOR: &str = "operator";
/// The longest path that a socket can have, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The demo's folder and accounts.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    instance: Instance,
    stop: &'a Stop,
    front_uid: u32,
    requester_uid: u32,
    cleared: bool,
}

impl<'a> Stage<'a> {
    /// Makes the folder and all in it; nothing runs yet.
    ///
    /// # Errors
    /// No place for it, or no unused account numbers; what was made is removed again.
    pub(super) fn set(stop: &'a Stop) -> Result<Self> {
        let own = effective_uid();
        let [front_uid, requester_uid] = if own == 0 { uids::unused()? } else { [own, own] };
        let host = format!("demo-{}", random_suffix()?);
        let settings = Settings { host, front_uid, requesters: vec![requester_uid] };
        let mut last = anyhow!("there is no folder to work in; set TMPDIR to one");
        for base in bases() {
            let dir = base.join(format!("olb-demo-{}", random_suffix()?));
            let instance = match Instance::claim(dir) {
                Ok(instance) => instance,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let stage = Self { instance, stop, front_uid, requester_uid, cleared: false };
            match stage.furnish(&settings) {
                Ok(()) => return Ok(stage),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn furnish(&self, settings: &Settings) -> Result<()> {
        self.instance.furnish(settings)?;
        let (folder, socket) = (self.folder(), self.instance.runtime_dir().join("request.sock"));
        if !self.instance.can_run_programs() {
            return Err(anyhow!("programs cannot be run from {}", folder.display()));
        }
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(anyhow!("{} is too long a path; set TMPDIR", folder.display()));
        }
        self.instance.enrol_operator(OPERATOR)?;
        let agent = self.agent_dir();
        DirBuilder::new().mode(0o700).create(&agent).context("the agent's folder")?;
        if self.boundary() {
            lchown(&agent, Some(self.requester_uid), Some(self.requester_uid))
                .context("the agent's folder cannot be handed over")?;
        }
        Ok(())
    }

    /// Removes the folder; the halves must have ended.
    pub(super) fn clear(mut self) -> Result<()> {
        self.cleared = true;
        self.instance.remove()
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(super) fn folder(&self) -> &Path {
        self.instance.dir()
    }

    pub(super) fn stop(&self) -> &Stop {
        self.stop
    }

    /// Whether the accounts differ and root is real.
    pub(super) fn boundary(&self) -> bool {
        self.own_uid() == 0
    }

    pub(super) fn own_uid(&self) -> u32 {
        effective_uid()
    }

    pub(super) fn front_uid(&self) -> u32 {
        self.front_uid
    }

    pub(super) fn requester_uid(&self) -> u32 {
        self.requester_uid
    }

    /// Name of the requester's account, which with a boundary has none.
    pub(super) fn requester_name(&self) -> Option<String> {
        Some(user_by_uid(self.requester_uid).ok()??.name)
    }

    pub(super) fn runtime(&self) -> Runtime {
        Runtime::at(self.instance.runtime_dir())
    }

    fn agent_dir(&self) -> PathBuf {
        self.instance.dir().join("agent")
    }

    /// Where the agent keeps its lease.
    pub(super) fn lease_file(&self) -> PathBuf {
        self.agent_dir().join("lease.txt")
    }

    /// Puts the lease where the agent, and nobody else but root, can read it.
    pub(super) fn write_lease(&self, lease: &str) -> Result<()> {
        let write = || {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(self.lease_file())?;
            if self.boundary() {
                // By descriptor: in the agent's own folder a name may mean another file by now.
                fchown(&file, Some(self.requester_uid), Some(self.requester_uid))?;
            }
            file.write_all(format!("{lease}\n").as_bytes())
        };
        write().context("the agent's lease cannot be written")
    }

    /// The operator runs `olb`, shown and with its output.
    pub(super) fn operator(&self, story: &Story, arguments: &[&str]) -> Result<Output> {
        let prompt = if self.boundary() { "#" } else { "$" };
        story.command(prompt, &[&["olb"], arguments].concat())?;
        let output = child::olb(&self.instance, self.own_uid(), arguments, self.stop)?;
        story.output(&output)?;
        Ok(output)
    }

    /// The agent runs `olb`, shown and with its output.
    pub(super) fn agent(&self, story: &Story, arguments: &[&str]) -> Result<Output> {
        story.command("$", &[&["olb"], arguments].concat())?;
        let output = self.agent_quietly(arguments)?;
        story.output(&output)?;
        Ok(output)
    }

    /// The agent runs `olb`; nothing is shown.
    pub(super) fn agent_quietly(&self, arguments: &[&str]) -> Result<Output> {
        child::olb(&self.instance, self.requester_uid, arguments, self.stop)
    }

    /// The agent runs a command by itself, without the broker.
    pub(super) fn plain(&self, story: &Story, words: &[&str]) -> Result<()> {
        story.command("$", words)?;
        let path = find(words.first().copied().unwrap_or_default())?;
        let account = (self.requester_uid, self.requester_uid);
        let program = Program { path: &path, argv: words, variables: &[], account };
        story.output(&program.run(Some(self.stop))?)
    }
}

/// The program of this name, looked for as the broker does it.
///
/// # Errors
/// There is none.
pub(super) fn find(name: &str) -> Result<PathBuf> {
    let found = SECURE_PATH.split(':').map(|dir| Path::new(dir).join(name));
    let found = found.filter_map(|path| fs::canonicalize(path).ok()).next();
    found.with_context(|| format!("{name} is not installed"))
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if self.cleared {
            return;
        }
        if let Err(error) = self.instance.remove() {
            tell!("olb: {error:#}");
        }
    }
}

/// Folders in which the demo may make its own, best first.
fn bases() -> Vec<PathBuf> {
    if effective_uid() == 0 {
        // Many hosts mount /run without the right to run programs from it.
        return vec!["/run".into(), "/var/lib".into()];
    }
    let named = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(env::var_os);
    let named = named.map(PathBuf::from).filter(|path| path.is_absolute());
    named.chain(["/tmp".into()]).collect()
}
