//! Plans for tests that speak exec.sock themselves.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use olb_exec_api::Info;
use olb_lease::{Digest, Directory, Executable, Plan, RunAs, Staged, environment, sha256, staging};
use olb_sys::memfd::sealed_memfd;
use rand::TryRng as _;

use crate::instance::Instance;

/// The words of a command.
pub fn command(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// A plan for `argv` (its first word an absolute path) as the front would build it.
pub fn plan_for(instance: &Instance, info: &Info, requester: u32, argv: &[&str]) -> Plan {
    let path = Path::new(argv[0]).canonicalize().expect("the executable");
    let file = path.metadata().expect("the executable");
    let cwd = instance.work();
    let cwd_file = cwd.metadata().expect("the working directory");
    let mut random = [0; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut random).expect("random numbers");
    let root = environment::Account { name: "root", home: b"/root", shell: b"/bin/bash" };
    Plan {
        random,
        host: info.host.clone(),
        audience: info.audience,
        requester_uid: requester,
        typed_argv: command(argv),
        argv: command(argv),
        executable: Executable {
            path: path.to_str().expect("UTF-8").into(),
            dev: file.dev(),
            ino: file.ino(),
            size: file.size(),
            ctime_secs: file.ctime().try_into().expect("after 1970"),
            ctime_nanos: file.ctime_nsec().try_into().expect("nanoseconds"),
        },
        environment: environment::base(root),
        environment_words: [].into(),
        cwd: Directory {
            path: cwd.to_str().expect("UTF-8").into(),
            dev: cwd_file.dev(),
            ino: cwd_file.ino(),
        },
        cwd_changeable: true,
        run_as: RunAs { name: "root".into(), uid: 0, gid: 0, groups: vec![0] },
        stdin: None,
        staged: Vec::new(),
        unbound: Vec::new(),
        wall_clock_secs: 60,
        whole: false,
        reason: String::new(),
        session: String::new(),
    }
}

/// A file of which a plan binds the content.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// Which word names it.
    pub word: u32,
    /// How many bytes stand before the name.
    pub prefix: u32,
    /// What it holds.
    pub content: &'a [u8],
    /// Whether its copy can be executed.
    pub executable: bool,
}

/// `plan` with these files staged, as the front would build it; and the memory files to hand over.
pub fn staged(plan: Plan, info: &Info, files: &[Bound<'_>]) -> (Plan, Vec<OwnedFd>) {
    let name_of = |file: &Bound<'_>| {
        let word = &plan.typed_argv[file.word as usize];
        word.rsplit(|byte| *byte == b'/').next().expect("a name")[..].to_vec()
    };
    let list: Vec<Staged> = files
        .iter()
        .map(|file| Staged {
            word: file.word,
            prefix: file.prefix,
            path: [plan.cwd.path.as_slice(), b"/", &name_of(file)].concat(),
            size: file.content.len() as u64,
            sha256: Digest(sha256(file.content)),
            executable: file.executable,
        })
        .collect();
    let typed = plan.typed_argv.clone();
    let places = staging::places(&info.staging, &plan.random, &typed, &list).expect("places");
    let argv = staging::argv(&info.staging, &plan.random, &typed, &list).expect("words");
    let executable = match list.first() {
        Some(Staged { word: 0, size, .. }) => Executable {
            path: places[0].clone(),
            dev: 0,
            ino: 0,
            size: *size,
            ctime_secs: 0,
            ctime_nanos: 0,
        },
        _ => plan.executable.clone(),
    };
    let memory = |file: &Bound<'_>| sealed_memfd("staged", file.content).expect("memory");
    (Plan { argv, executable, staged: list, ..plan }, files.iter().map(memory).collect())
}
