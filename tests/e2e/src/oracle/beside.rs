//! The probe, called in the same way under the broker and under sudo.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use olb_lease::VerdictKind;
use olb_wire::{ByteBuf, Submit};

use super::cgroup::Cgroup;
use super::{Dump, Names, Oracle, Side, Sudo};
use crate::hostile_client::{submit_of, view};
use crate::instance::{Instance, Options};
use crate::scene::{ROOMY, Scene};
use crate::terminal::pseudo_terminal;

/// A caller, and how it calls.
#[derive(Clone, Copy)]
pub struct Context {
    /// What the list calls it.
    pub name: &'static str,
    /// Settings of the caller while it is still root.
    pub settings: &'static [&'static str],
    /// Settings once it is the requester.
    pub own_settings: &'static [&'static str],
    /// Options, which mean the same to `sudo` and to `olb exec`.
    pub options: &'static [&'static str],
    /// What it has exported.
    pub variables: &'static [(&'static str, &'static str)],
    /// Its working directory, if not the one with the probe.
    pub directory: Option<&'static str>,
    /// Where it sits.
    pub calls_from: From,
}

/// What a caller has as standard input; at a terminal, that is its output too.
#[derive(Clone, Copy)]
pub enum From {
    /// Nothing.
    Nowhere,
    /// A pipe with some bytes in it.
    Pipe,
    /// A terminal of its own.
    Terminal,
    /// Nothing, and nobody reads its output any more.
    WhoeverLeft,
}

/// A caller about whom there is nothing to say.
pub const PLAIN: Context = Context {
    name: "plain",
    settings: &[],
    own_settings: &[],
    options: &[],
    variables: &[],
    directory: None,
    calls_from: From::Nowhere,
};

/// A broker with the way that sudo would be used on the same host.
pub struct Beside {
    /// The broker.
    pub scene: Scene,
    /// The probe.
    pub oracle: Oracle,
    /// What a caller is about whom nothing is said.
    pub usual: Dump,
    /// What is another in every run.
    pub names: Names,
    sudo: Sudo,
    _runs: Cgroup,
}

impl Beside {
    /// With a root half that is started by a caller with these settings.
    pub fn started_with(settings: &[&str]) -> Self {
        let oracle = Oracle::new();
        let runs = Cgroup::new();
        let mut wrapper = vec![oracle.caller()];
        wrapper.extend(settings.iter().map(|setting| (*setting).to_owned()));
        wrapper.push("--".into());
        let instance = Instance::with(Options {
            execd: format!("cgroup_parent = {}\n", runs.path().display()),
            brokerd: ROOMY.into(),
            execd_wrapper: wrapper,
            ..Options::default()
        });
        let alice = instance.enrol(0);
        let agent = instance.requester(0);
        let sudo = Sudo::for_uid(agent, &oracle.probe());
        let names = Names::default()
            .with(&oracle.probe(), "PROBE")
            .with(oracle.dir().to_str().expect("UTF-8"), "DIRECTORY")
            .with(sudo.name(), "NAME")
            .with(&agent.to_string(), "UID");
        let scene = Scene::of(instance, alice);
        let mut bench = Self { scene, oracle, usual: Dump::default(), names, sudo, _runs: runs };
        bench.usual = bench.direct(PLAIN);
        bench
    }

    fn directory(&self, context: Context) -> PathBuf {
        context.directory.map_or_else(|| self.oracle.dir().to_owned(), PathBuf::from)
    }

    /// Runs `words` as the caller of `context`.
    pub fn call<W: AsRef<OsStr>>(&self, context: Context, words: &[W]) -> Output {
        let instance = &self.scene.instance;
        let mut command = Command::new(self.oracle.caller());
        command.args(context.settings).arg(format!("user={}", instance.requester(0)));
        command.args(context.own_settings).arg("--").args(words);
        command.current_dir(self.directory(context));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
        command.env("LANG", "en_GB.UTF-8").env("TERM", "vt100").env("USER", self.sudo.name());
        command.env("OLB_RUNTIME_DIR", instance.runtime()).envs(context.variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match context.calls_from {
            From::Nowhere => command.output().expect("the caller"),
            From::Pipe => {
                let (read, write) = olb_sys::pipe::pipe().expect("a pipe");
                fs::File::from(write).write_all(b"for the command").expect("room");
                command.stdin(read).output().expect("the caller")
            }
            From::Terminal => self.at_a_terminal(command),
            From::WhoeverLeft => {
                let (read, write) = olb_sys::pipe::pipe().expect("a pipe");
                drop(read);
                command.stdout(write).output().expect("the caller")
            }
        }
    }

    /// Runs it at a terminal of the requester's; what appears on the screen is its output.
    fn at_a_terminal(&self, mut command: Command) -> Output {
        let (mut screen, line) = pseudo_terminal(self.scene.instance.requester(0));
        command.stdout(line.try_clone().expect("the terminal"));
        command.stderr(line.try_clone().expect("the terminal")).stdin(line);
        let mut child = command.spawn().expect("the caller");
        // Our copies of the terminal are in it.
        drop(command);
        let mut stdout = Vec::new();
        // A terminal that nobody has open any more is an error rather than an end.
        screen.read_to_end(&mut stdout).ok();
        stdout.retain(|byte| *byte != b'\r');
        Output { status: child.wait().expect("its end"), stdout, stderr: Vec::new() }
    }

    /// The probe itself, as the caller.
    pub fn direct(&self, context: Context) -> Dump {
        said(&self.call(context, &[self.oracle.probe()])).expect("the probe runs")
    }

    /// The probe under sudo, if it runs.
    pub fn under_sudo<W: AsRef<OsStr>>(&self, context: Context, words: &[W]) -> Option<Dump> {
        said(&self.call(context, &self.sudo_words(context, words)))
    }

    /// The command line with which sudo runs the probe.
    pub fn sudo_words<W: AsRef<OsStr>>(&self, context: Context, words: &[W]) -> Vec<OsString> {
        let mut all = vec!["/usr/bin/sudo".into(), "-n".into()];
        all.extend(context.options.iter().map(OsString::from));
        all.push(self.oracle.probe().into());
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        all
    }

    /// The submit of the probe with `words`, as the caller of `context` means it.
    pub fn submit<W: AsRef<OsStr>>(&self, context: Context, words: &[W]) -> Submit {
        let mut submit = submit_of(&self.scene.instance, &[&self.oracle.probe()]);
        let directory = self.directory(context);
        let identity = directory.metadata().expect("the directory");
        let command = &mut submit.command;
        command.argv.extend(words.iter().map(|word| ByteBuf::from(word.as_ref().as_bytes())));
        command.cwd = ByteBuf::from(directory.as_os_str().as_bytes());
        (command.cwd_dev, command.cwd_ino) = (identity.dev(), identity.ino());
        for option in context.options.chunks(2) {
            match option {
                ["-u", user] => command.user = Some((*user).into()),
                ["-g", group] => command.group = Some((*group).into()),
                other => panic!("{other:?}"),
            }
        }
        submit
    }

    /// Asks, answers yes, and presents the lease as the caller of `context` does.
    pub fn here<W: AsRef<OsStr>>(&mut self, context: Context, words: &[W]) -> Option<Dump> {
        let all = self.here_words(context, words);
        said(&self.call(context, &all))
    }

    /// Asks and answers yes; the command line with which the lease is presented.
    pub fn here_words<W: AsRef<OsStr>>(&mut self, context: Context, words: &[W]) -> Vec<OsString> {
        let asked = view(self.scene.agent.submit(self.submit(context, words)));
        let decided = view(self.scene.decide(VerdictKind::Approve, &asked.plan));
        assert_eq!(decided.state, "approved", "{}", context.name);
        let olb = self.scene.instance.path("bin/olb");
        let mut all = vec![olb.into_os_string(), "exec".into(), "--id".into()];
        all.push(asked.request_id.into());
        all.extend(context.options.iter().map(OsString::from));
        all.extend(["--".into(), self.oracle.probe().into()]);
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        all
    }

    /// In words, beside what the caller was.
    pub fn in_words(&self, dump: &Dump, caller: &Dump) -> Dump {
        dump.in_words(Side { caller, usual: &self.usual }, &self.names)
    }
}

/// What the probe said, if it ran; what was said in its place is shown.
///
/// # Panics
/// It ran and failed.
pub fn said(output: &Output) -> Option<Dump> {
    let said = str::from_utf8(&output.stdout).expect("ASCII");
    if said.is_empty() {
        println!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    Some(Dump::read(said))
}
