//! Judges that are not ours: python-cwt on leases, agentack on what was approved and executed.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use serde_json::Value;

use crate::olb::Ran;

/// The installed programs.
#[derive(Debug, Clone)]
pub struct Judges {
    bin: PathBuf,
    scripts: PathBuf,
}

/// What agentack says of a trace.
#[derive(Debug)]
pub struct Opinion {
    /// Its exit code: 0 pass, 1 fail, 3 incomplete.
    pub code: i32,
    /// The rules that it sees broken, such as `ACK004`.
    pub rules: Vec<String>,
}

/// Everything that a trace is made of.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Of `olb audit export`.
    pub trail: String,
    /// Every lease that was given, as text.
    pub leases: Vec<String>,
    /// Every execution as a witness saw it.
    pub seen: Vec<Value>,
    /// The same as the executed program wrote it down, if that is to be compared.
    pub recorded: Option<Vec<Value>>,
    /// keys.pub.
    pub keys: PathBuf,
    /// The public keys of those who may decide.
    pub approvers: Vec<String>,
    /// The root half's process id.
    pub broker: u32,
}

impl Judges {
    /// Installs them below the build folder where they are not there yet.
    ///
    /// # Panics
    /// They cannot be installed: what is missing is said, and the test is not passed over.
    pub fn installed() -> Self {
        static INSTALLED: OnceLock<Result<Judges, String>> = OnceLock::new();
        let told = INSTALLED.get_or_init(Self::install);
        told.clone().unwrap_or_else(|told| panic!("python-cwt and agentack are not there:\n{told}"))
    }

    fn install() -> Result<Self, String> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../judges");
        let test = std::env::current_exe().expect("the test's own path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps");
        let dir = target.join("judges");
        let output = Command::new(scripts.join("install")).arg(&dir).output().expect("bash");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(Self { bin: dir.join("venv/bin"), scripts })
    }

    /// One of our scripts in their Python, not started yet.
    pub fn python(&self, script: &str) -> Command {
        let mut command = Command::new(self.bin.join("python"));
        command.arg("-B").arg(self.scripts.join(script));
        command
    }

    /// What python-cwt says of each lease; see `tests/judges/lease.py`.
    pub fn leases(&self, cases: &[Value]) -> Vec<Value> {
        let mut command = self.python("lease.py");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python");
        let mut input = child.stdin.take().expect("its input");
        let text: String = cases.iter().map(|case| format!("{case}\n")).collect();
        let writer = thread::spawn(move || input.write_all(text.as_bytes()));
        let ran = Ran::from(child.wait_with_output().expect("its end")).expect(0);
        writer.join().expect("an end").expect("all was read");
        let answers = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let answers: Vec<Value> = answers.collect();
        assert_eq!(answers.len(), cases.len());
        answers
    }

    /// What agentack says of this evidence; or why that is no evidence.
    pub fn judge(&self, evidence: &Evidence) -> Result<Opinion, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let lines =
            |values: &[Value]| values.iter().map(|one| format!("{one}\n")).collect::<String>();
        let trace = dir.path().join("trace.jsonl");
        let mut command = self.python("trace.py");
        command.arg("--trail").arg(file("trail", &evidence.trail));
        command.arg("--leases").arg(file("leases", &evidence.leases.join("\n")));
        command.arg("--keys").arg(&evidence.keys).arg("--out").arg(&trace);
        command.arg("--witness").arg(file("witness", &lines(&evidence.seen)));
        if let Some(recorded) = &evidence.recorded {
            command.arg("--recorder").arg(file("recorder", &lines(recorded)));
        }
        command.args(["--broker", &evidence.broker.to_string()]);
        for approver in &evidence.approvers {
            command.args(["--approver", approver]);
        }
        let made = Ran::from(command.output().expect("python"));
        if made.code != 0 {
            return Err(made.stderr);
        }
        Ok(self.check(&trace))
    }

    fn check(&self, trace: &Path) -> Opinion {
        let report = trace.with_file_name("report.json");
        let mut command = Command::new(self.bin.join("agentack"));
        command.arg("check").arg(trace).arg("--json").arg(&report);
        let ran = Ran::from(command.output().expect("agentack"));
        let text = fs::read_to_string(report).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let rules = report["result"]["rule_counts"].as_object().expect("the rules");
        // Shown where a test fails.
        println!("{}", ran.stdout);
        Opinion { code: ran.code, rules: rules.keys().cloned().collect() }
    }
}
