//! A command that writes down its own execution, as the kernel shows it to itself: one JSON line at
//! the end of the file `executed` in the folder that it lies in. It knows nothing of the broker.
//!
//! If there is a FIFO `gate` in that folder, it then waits for one byte from it, or for its end, so
//! that others can look at it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

fn bytes(name: &str) -> String {
    let bytes = fs::read(Path::new("/proc/self").join(name)).expect("a file about oneself");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn place(name: &str) -> Value {
    let link = Path::new("/proc/self").join(name);
    let (path, found) = (fs::read_link(&link), fs::metadata(&link));
    let found = found.expect("what it leads to");
    json!([path.expect("a link").to_str().expect("UTF-8"), found.dev(), found.ino()])
}

fn numbers(status: &str, name: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let words = line.unwrap_or_else(|| panic!("{name} in {status}")).split_whitespace();
    words.map(|word| word.parse().expect("a number")).collect()
}

#[allow(clippy::disallowed_methods, reason = "the broker's own clock is not to be believed")]
fn main() {
    let status = fs::read_to_string("/proc/self/status").expect("one's own status");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let line = json!({
        "pid": std::process::id(),
        "time_ns": u64::try_from(now.as_nanos()).expect("a time before 2500"),
        "ppid": numbers(&status, "PPid:")[0],
        "uid": numbers(&status, "Uid:")[1],
        "gid": numbers(&status, "Gid:")[1],
        "groups": numbers(&status, "Groups:"),
        "executable": place("exe"),
        "directory": place("cwd"),
        "argv": bytes("cmdline"),
        "environment": bytes("environ"),
    });
    let program = std::env::current_exe().expect("one's own path");
    let folder = program.parent().expect("a folder");
    let mut file = File::options().append(true).open(folder.join("executed")).expect("the file");
    file.write_all(format!("{line}\n").as_bytes()).expect("one more line");
    if let Ok(mut gate) = File::open(folder.join("gate")) {
        gate.read_exact(&mut [0]).ok();
    }
}
