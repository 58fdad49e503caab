//! The probe as a service of systemd: a systemd of its own, process 1 of namespaces of its own,
//! which starts nothing but this service.

use std::fmt::Write as _;
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
    // Pipes, as under the others. What the probe says fits into one, so it is read afterwards.
    let paths = ["service.out", "service.err"].map(|name| oracle.dir().join(name));
    let [mut out, mut err] = paths.each_ref().map(|path| pipe(path));
    let [out_path, err_path] = paths.each_ref().map(|path| path.display());
    let (probe, directory) = (oracle.probe(), directory.display());
    let complaint = run(
        oracle,
        &format!(
            "WorkingDirectory={directory}\nExecStart={probe}\nStandardInput=null\n\
             StandardOutput=file:{out_path}\nStandardError=file:{err_path}\n"
        ),
    );
    let [mut said, mut error] = [String::new(), String::new()];
    out.read_to_string(&mut said).expect("its output");
    err.read_to_string(&mut error).expect("its errors");
    assert!(said.contains("argc="), "{error}\n{complaint}");
    Some(Dump::read(&said).without("namespace."))
}

/// The words behind the probe, as it prints them, when it is the command of a service: one command
/// line for each of `vectors`. `None` where systemd is not installed.
///
/// # Panics
/// systemd is there and did not run all of them.
pub fn words_of_a_service(oracle: &Oracle, vectors: &[Vec<Vec<u8>>]) -> Option<Vec<Vec<String>>> {
    if !Path::new(SYSTEMD).exists() {
        return None;
    }
    let out = oracle.dir().join("words.out");
    let mut service = format!("StandardOutput=append:{}\n", out.display());
    for words in vectors {
        // The colon: a dollar sign is one.
        write!(service, "ExecStart=:{} argv-only", oracle.probe()).expect("memory");
        service.extend(words.iter().map(|word| format!(" \"{}\"", unit_escaped(word))));
        service.push('\n');
    }
    let complaint = run(oracle, &service);
    let printed = fs::read_to_string(&out).unwrap_or_default();
    let runs: Vec<Vec<String>> = printed
        .split_inclusive('\n')
        .collect::<Vec<_>>()
        .chunk_by(|_, next| !next.starts_with("argc="))
        .map(|lines| Dump::read(&lines.concat()))
        .map(|dump| dump.arguments()[1..].iter().map(|word| (*word).to_owned()).collect())
        .collect();
    assert_eq!(runs.len(), vectors.len(), "{complaint}");
    Some(runs)
}

/// A word between the quotation marks of a unit's command line.
fn unit_escaped(word: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        b'%' => "%%".to_owned(),
        byte => format!("\\x{byte:02x}"),
    };
    word.iter().map(escape).collect()
}

/// Runs a service of root's with these further lines to its end; what was said about it.
fn run(oracle: &Oracle, service: &str) -> String {
    let unit = format!(
        "[Unit]\nDefaultDependencies=no\nSuccessAction=exit-force\nFailureAction=exit-force\n\
         [Service]\nType=oneshot\nUser=root\n{service}"
    );
    fs::write(oracle.dir().join("probe.service"), unit).expect("the unit");
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
    String::from_utf8_lossy(&ran.stderr).into_owned()
}
