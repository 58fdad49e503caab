//! Who looks on while things are executed, and does not ask the broker: the kernel's announcements,
//! taken down by `tests/judges/witness.py`, and the executed program itself.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::instance::Instance;
use crate::judges::Judges;

const RECORDER: &str = "olb-test-recorder";

/// A program whose executions are seen, by the broker or by anybody, and who sees them.
pub struct Witness {
    folder: PathBuf,
    seen: Option<Seen>,
}

/// What the kernel's witness said so far.
struct Seen {
    witness: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    relay: Option<JoinHandle<bool>>,
}

impl Witness {
    /// Begins to look at a running instance, and puts the program there.
    pub fn of(instance: &Instance, judges: &Judges) -> Self {
        let folder = instance.path("recorder");
        fs::create_dir(&folder).expect("a new folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("its mode");
        instance.install(RECORDER, &folder);
        File::create(folder.join("executed")).expect("a file");
        // Commands of other accounts add to it, too.
        fs::set_permissions(folder.join("executed"), Permissions::from_mode(0o666))
            .expect("a mode");
        let seen = Seen::begin(judges, instance.execd_pid(), &folder.join(RECORDER));
        Self { folder, seen }
    }

    /// The program's path.
    pub fn program(&self) -> String {
        self.folder.join(RECORDER).to_str().expect("UTF-8").to_owned()
    }

    /// Every execution so far, as the kernel showed it; as the program itself wrote it down where the
    /// kernel announces nothing.
    pub fn lines(&self) -> Vec<Value> {
        match &self.seen {
            Some(seen) => seen.lines.lock().expect("the lines").clone(),
            None => self.recorded(),
        }
    }

    /// What the program itself wrote down.
    pub fn recorded(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("executed")).expect("the file");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Executes `words` outside of the broker, as root can, with account, environment and working
    /// directory of the execution `like`; how that was seen.
    pub fn outside(&self, judges: &Judges, like: &Value, words: &[&str]) -> Value {
        let mut command = judges.python("outside.py");
        let status = command.arg(like.to_string()).args(words).status().expect("python");
        assert!(status.success(), "{status}");
        self.lines().pop().expect("that it was seen")
    }

    /// Stops looking; every execution until now.
    pub fn end(mut self) -> Vec<Value> {
        let lines = self.lines();
        if let Some(seen) = self.seen.take() {
            seen.end();
        }
        lines
    }
}

impl Seen {
    /// Begins to listen, if the kernel announces anything here.
    fn begin(judges: &Judges, broker: u32, program: &Path) -> Option<Self> {
        let mut command = judges.python("witness.py");
        command.arg(broker.to_string()).arg(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut witness = command.spawn().expect("the witness");
        let mut said = BufReader::new(witness.stdout.take().expect("its output")).lines();
        match said.next().expect("a word").expect("text").as_str() {
            "ready" => {}
            "unavailable" => {
                witness.wait().expect("its end");
                // Straight to the file descriptor: the test harness would swallow it.
                let said =
                    "the kernel announces no executions here; judged is what ran says of itself";
                writeln!(std::io::stderr(), "{said}").ok();
                return None;
            }
            other => panic!("{other}"),
        }
        let gate = program.with_file_name("gate");
        assert!(
            Command::new("mkfifo")
                .args(["-m", "666"])
                .arg(&gate)
                .status()
                .expect("mkfifo")
                .success()
        );
        let lines = Arc::default();
        let relay = relay(said, Arc::clone(&lines), gate, program.display().to_string());
        Some(Self { witness, lines, relay: Some(relay) })
    }

    /// Waits for the witness's last word.
    fn end(mut self) {
        drop(self.witness.stdin.take());
        let was_complete = self.relay.take().expect("a relay").join().expect("its end");
        assert!(
            self.witness.wait().expect("its end").success() && was_complete,
            "not all was seen"
        );
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        drop(self.witness.stdin.take());
        self.witness.wait().ok();
    }
}

/// Takes down what the witness says, and lets each program go on that it has looked at. At the end:
/// whether the witness said that this was all.
fn relay(
    said: Lines<BufReader<ChildStdout>>,
    lines: Arc<Mutex<Vec<Value>>>,
    gate: PathBuf,
    program: String,
) -> JoinHandle<bool> {
    // Open for both, so that it opens at once and nobody's opening ever waits.
    let mut open = File::options().read(true).write(true).open(&gate).expect("the gate");
    std::thread::spawn(move || {
        let mut is_complete = false;
        for line in said.map_while(Result::ok) {
            if line == "end" {
                is_complete = true;
                break;
            }
            let line: Value = serde_json::from_str(&line).expect("JSON");
            let is_at_the_gate = line["executable"][0] == program.as_str();
            lines.lock().expect("the lines").push(line);
            if is_at_the_gate {
                open.write_all(b"x").expect("the gate");
            }
        }
        // Whoever comes later finds no gate; whoever waits finds its end.
        fs::remove_file(&gate).ok();
        is_complete
    })
}
