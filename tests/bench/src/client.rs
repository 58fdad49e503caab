//! Commands of the unprivileged user: as steps for the runner, or started one by one.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use olb_e2e_tests::{Approver, Instance};

use crate::bed::Bed;
use crate::runner::{self, Burst, Step};

/// The words as they are kept.
pub fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A command that is to succeed.
pub fn step(instance: &Instance, row: &str, argv: &[&str]) -> Step {
    let (cwd, runtime) = (instance.work(), instance.runtime());
    Step { row: row.to_owned(), argv: owned(argv), code: 0, cwd, runtime }
}

/// The path of an instance's `olb`.
pub fn olb(instance: &Instance) -> String {
    text(&instance.path("bin/olb"))
}

/// A path that is known to be UTF-8.
pub fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// The words of presenting a lease for `command` that is approved now, at the measured instance.
pub fn exec_words(bed: &Bed, command: &[&str]) -> Vec<String> {
    present(&bed.instance, bed.approver(), command)
}

/// The same at any instance.
pub fn present(instance: &Instance, approver: &Approver, command: &[&str]) -> Vec<String> {
    let uid = instance.requester(0);
    let (_, lease) = instance.approved(uid, approver, command);
    let file = instance.lease_file(uid, &lease);
    owned(&[&[olb(instance).as_str(), "exec", "--lease-file", &file, "--"], command].concat())
}

/// Starts a command as the unprivileged user.
///
/// # Errors
/// It cannot be started.
pub fn start(bed: &Bed, words: &[String], stdout: Stdio) -> Result<Child, String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).uid(bed.uid()).gid(bed.uid()).current_dir(bed.instance.work());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("OLB_RUNTIME_DIR", bed.instance.runtime());
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("{program}: {error}"))
}

/// Starts commands all at once as the unprivileged user.
///
/// # Errors
/// One cannot be started.
pub fn burst(bed: &Bed, commands: Vec<Vec<String>>) -> Result<Burst, String> {
    let steps: Vec<Step> =
        commands.into_iter().map(|argv| Step { argv, ..step(&bed.instance, "", &[]) }).collect();
    runner::burst_as(&bed.program(), bed.uid(), &steps)
}
