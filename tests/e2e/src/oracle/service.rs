//! The probe as a service of systemd: a systemd of its own, process 1 of namespaces of its own,
//! which starts nothing but this service.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::cgroup::Cgroup;
use super::{Dump, Oracle, is_version};

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// The version of which docs/differences.md speaks.
const VERSION: &str = "systemd 252 ";

/// Arranges the mounts and becomes systemd. The host's files are read-only for it, its own `/run`
/// is empty but for the folder with the probe (`$1`), and the cgroup it starts in is its root.
const BOOT: &str = r#"
set -eu
mount --make-rprivate /
mount --bind "$1" /mnt
mount -o remount,bind,ro /
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p "$1" /run/systemd/system
mount --move /mnt "$1"
cp "$1/probe.service" /run/systemd/system/
exec env -i container=test "$2" --system --unit=probe.service --log-target=console \
  --log-level=warning --show-status=no
"#;

/// A new FIFO, open for reading whether or not somebody will write.
fn pipe(path: &Path) -> File {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO");
    let flags = OFlag::O_NONBLOCK.bits();
    File::options().read(true).custom_flags(flags).open(path).expect("its reading end")
}

/// What the probe says as a service of root's that runs in `directory`, without what it has only
/// because this systemd is the test's own; `None` where the systemd of which the list speaks is not
/// installed.
///
/// # Panics
/// systemd is there and did not run it.
pub fn as_a_service(oracle: &Oracle, directory: &Path) -> Option<Dump> {
    if !is_version(SYSTEMD, VERSION) {
        return None;
    }
    let (dir, probe) = (oracle.dir().display(), oracle.probe());
    let unit = format!(
        "[Unit]\nDefaultDependencies=no\nSuccessAction=exit-force\nFailureAction=exit-force\n\
         [Service]\nType=oneshot\nUser=root\nWorkingDirectory={}\nExecStart={probe}\nStandardInput=null\n\
         StandardOutput=file:{dir}/service.out\nStandardError=file:{dir}/service.err\n",
        directory.display()
    );
    fs::write(oracle.dir().join("probe.service"), unit).expect("the unit");
    // Pipes, as under the others. What the probe says fits into one, so it is read afterwards.
    let pipes = ["service.out", "service.err"].map(|name| pipe(&oracle.dir().join(name)));
    let root = Cgroup::new();
    let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", root.path().display());
    let mut command = Command::new(oracle.caller());
    command.args(["--", "/bin/sh", "-c", &enter, "sh", "/usr/bin/unshare", "--fork"]);
    command.args([
        "--kill-child",
        "--pid",
        "--mount",
        "--mount-proc",
        "--cgroup",
        "--uts",
        "--ipc",
    ]);
    command.args(["/bin/sh", "-c", BOOT, "sh"]).arg(oracle.dir()).arg(SYSTEMD);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let ran = command.output().expect("unshare");
    let [mut said, mut complaint] = [String::new(), String::new()];
    let [mut out, mut err] = pipes;
    out.read_to_string(&mut said).expect("its output");
    err.read_to_string(&mut complaint).expect("its errors");
    assert!(said.contains("argc="), "{complaint}\n{}", String::from_utf8_lossy(&ran.stderr));
    Some(Dump::read(&said).without("namespace."))
}
