//! An agent with a home of its own, and files in it that change.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::approver::Approver;
use crate::instance::{Instance, Options};
use crate::olb::Ran;
use crate::process::wait_until;

/// Three scripts, each of which says which it is.
pub const APPROVED: &str = "echo approved\n";
/// See [`APPROVED`].
pub const OTHER: &str = "echo other\n";
/// See [`APPROVED`].
pub const THIRD: &str = "echo third\n";

/// A broker, an approver, and an agent with a home.
pub struct Home {
    /// The broker.
    pub instance: Instance,
    /// Who decides.
    pub alice: Approver,
    /// Who asks.
    pub agent: u32,
}

impl Home {
    /// With the default configuration.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// With `options`.
    pub fn with(options: Options) -> Self {
        let instance = Instance::with(options);
        let alice = instance.enrol(0);
        let agent = instance.requester(0);
        let home = Self { instance, alice, agent };
        fs::create_dir(home.path("")).expect("the home");
        home.own("", 0o700);
        home
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.instance.path("home").join(name)
    }

    /// Makes a file in the home the agent's, with this mode.
    pub fn own(&self, name: &str, mode: u32) {
        chown(self.path(name), Some(self.agent), Some(self.agent)).expect("the home");
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("the home");
    }

    /// Writes a file of the agent's in the home.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("the home");
        self.own(name, 0o644);
    }

    /// `olb` as the agent, in its home.
    pub fn olb(&self, words: &[&str]) -> Ran {
        let mut command = self.instance.olb_command(self.agent, words);
        command.current_dir(self.path("")).output().expect("the home").into()
    }

    /// Asks for `command`; the id of its request.
    pub fn ask(&self, command: &[&str]) -> String {
        let asked = self.olb(&[&["request", "--json", "--"], command].concat()).expect(75).json();
        asked["request_id"].as_str().expect("the home").to_owned()
    }

    /// Approves the request with this id.
    pub fn approve(&self, id: &str) {
        self.instance.olb_as(&self.alice, &["approve", "--id", id]).expect(0);
    }

    /// The request as the approver is shown it, each value on one line.
    pub fn shown(&self, id: &str) -> String {
        let shown = self.instance.olb_as_operator(&self.alice, &["show", id]).expect(0).stdout;
        shown.replace("\n         | ", "")
    }

    /// Asks for `command`, has it approved, and runs it by its id.
    pub fn done(&self, command: &[&str]) -> Ran {
        let id = self.ask(command);
        self.approve(&id);
        self.olb(&[&["exec", "--id", &id, "--"], command].concat())
    }

    /// The exit code of presenting a lease for this request, which is decided unless it is already.
    pub fn decide_and_run(&self, id: &str, command: &[&str]) -> i32 {
        self.instance.olb_as(&self.alice, &["approve", "--id", id]);
        self.olb(&[&["exec", "--id", id, "--"], command].concat()).code
    }

    /// `olb run`, once it waits for the human; and the id of its request.
    pub fn waiting(&self, command: &[&str]) -> (Child, String) {
        let words = [&["run", "--wait", "120s", "--"], command].concat();
        let mut run = self.instance.olb_command(self.agent, &words);
        let mut run = run.current_dir(self.path("")).spawn().expect("the home");
        let mut line = String::new();
        BufReader::new(run.stderr.take().expect("the home"))
            .read_line(&mut line)
            .expect("the home");
        let is_code = |word: &&str| word.len() == 7 && word.as_bytes()[3] == b'-';
        let code = line.split_whitespace().find(is_code);
        let code = code.unwrap_or_else(|| panic!("no code in {line:?}"));
        let shown = self.instance.olb_as_operator(&self.alice, &["show", code, "--json"]);
        let id = shown.expect(0).json()["request_id"].as_str().expect("the home").to_owned();
        (run, id)
    }

    /// Waits until neither half keeps a file.
    pub fn nothing_is_left(&self) {
        let count =
            |folder: &str| fs::read_dir(self.instance.path(folder)).expect("the home").count();
        wait_until("no files are kept", || count("front/blobs") + count("pin") == 0);
    }
}

/// How a file is swapped for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// At every moment there is one.
    Seamless,
    /// In each way there is, its folder's included.
    Any,
}

/// Swaps `name` in the home for others in a tight loop while `during` runs.
pub fn swapping<T>(home: &Home, name: &str, way: Way, during: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (file, beside) = (home.path(name), home.path("beside"));
            let third = home.path("third");
            fs::write(&third, THIRD).expect("the home");
            while !over.load(Ordering::Relaxed) {
                for text in [OTHER, APPROVED] {
                    fs::write(&beside, text).expect("the home");
                    fs::rename(&beside, &file).expect("the home");
                }
                std::os::unix::fs::symlink(&third, &beside).expect("the home");
                fs::rename(&beside, &file).expect("the home");
                if way == Way::Any {
                    fs::remove_file(&file).expect("the home");
                    fs::write(&file, OTHER).expect("the home");
                    fs::rename(home.path("folder"), home.path("moved")).expect("the home");
                    fs::rename(home.path("moved"), home.path("folder")).expect("the home");
                }
            }
        });
        // Also where a test fails.
        let _end = End(&over);
        during()
    })
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
