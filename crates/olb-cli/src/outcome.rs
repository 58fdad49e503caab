//! The file that `--outcome-file` names: one JSON object about how a run ended. Standard output
//! belongs to the command.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;
use olb_lease::{CutBy, Outcome, PlanDigest, Usage};
use olb_review::display::safe;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::json;
use crate::out::tell;
use crate::trust::Finished;

/// An open outcome file, or none. Opened before anything runs, so that a wrong path costs nothing.
#[derive(Debug)]
pub(crate) struct OutcomeFile(Option<File>);

impl OutcomeFile {
    /// Creates or empties the file: a plain file, not what somebody else's link points at.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        open(path).map(|file| Self(Some(file))).map_err(|error| {
            let shown = safe(path.as_os_str().as_encoded_bytes());
            Failure::usage(format!("the outcome file {shown} cannot be written ({error})"))
        })
    }

    /// Writes the object, the first one only. The run is over by then: a failure is told, and
    /// changes no exit code.
    pub(crate) fn put(&mut self, object: impl FnOnce() -> Map<String, Value>) {
        let Some(mut file) = self.0.take() else {
            return;
        };
        let line = json::line(&object()) + "\n";
        if let Err(error) = file.write_all(line.as_bytes()) {
            tell!("olb: the outcome file could not be written ({error}).");
        }
    }

    /// Writes a failure.
    pub(crate) fn put_failure(&mut self, failure: &Failure) {
        self.put(|| json::failure(failure));
    }
}

/// Nothing is emptied before it is known to be a plain file, and a pipe that nobody reads from does
/// not keep us.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
    }
    file.set_len(0)?;
    Ok(file)
}

/// A run's end as its verified receipt proves it.
pub(crate) fn finished(plan: PlanDigest, finished: &Finished) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("request_id".into(), plan.request_id().to_string().into());
    let (state, field) = match finished.outcome {
        Outcome::Exited(code) => ("exited", ("exit_code", Value::from(code))),
        Outcome::Killed(signal) => ("killed", ("signal", Value::from(signal))),
        Outcome::SpawnFailed(errno) => ("spawn_failed", ("errno", Value::from(errno))),
        Outcome::Unknown { may_be_running } => {
            ("outcome_unknown", ("may_be_running", Value::from(may_be_running)))
        }
    };
    object.insert("state".into(), state.into());
    object.insert(field.0.into(), field.1);
    object.insert("receipt".into(), "verified".into());
    for (name, stream) in [("stdout", finished.stdout), ("stderr", finished.stderr)] {
        object.insert(format!("{name}_bytes"), stream.bytes.into());
        object.insert(format!("{name}_sha256"), stream.sha256.hex().into());
    }
    let cut_by = match finished.cut_by {
        CutBy::Nobody => Value::Null,
        CutBy::Requester => "requester".into(),
        CutBy::Limit => "limit".into(),
        CutBy::Broker => "broker".into(),
    };
    object.insert("cut_by".into(), cut_by);
    object.insert("duration_ms".into(), finished.duration_ms.into());
    object.insert("usage".into(), usage(finished.usage));
    object
}

/// What a command used, for programs.
pub(crate) fn usage(usage: Option<Usage>) -> Value {
    let object = |Usage { user_ms, system_ms, max_rss_kib }| serde_json::json!({ "user_ms": user_ms, "system_ms": system_ms, "max_rss_kib": max_rss_kib });
    usage.map_or(Value::Null, object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::trust::tests::{finished as event, keys, receipt, run_of};

    #[test]
    fn a_run_that_is_over_has_the_documented_fields() {
        let plan = PlanDigest([5; 32]);
        for (outcome, state, field, value) in [
            (Outcome::Exited(3), "exited", "exit_code", json!(3)),
            (Outcome::Killed(9), "killed", "signal", json!(9)),
            (Outcome::SpawnFailed(2), "spawn_failed", "errno", json!(2)),
        ] {
            let end = keys().finished(&receipt(event(plan, outcome, b"hi")), run_of(plan)).unwrap();
            let object = finished(plan, &end);
            assert_eq!((&object["state"], &object[field]), (&json!(state), &value));
            assert_eq!(
                (&object["receipt"], &object["stdout_bytes"]),
                (&json!("verified"), &json!(2))
            );
            assert_eq!(object["request_id"], plan.request_id().to_string());
        }
    }

    #[test]
    fn the_file_holds_one_line_and_a_wrong_path_is_told_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcome");
        let mut file = OutcomeFile::create(Some(&path)).unwrap();
        file.put_failure(&Failure::no_broker());
        file.put_failure(&Failure::bad_answer());
        let text = std::fs::read_to_string(&path).unwrap();
        let object: Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(object["error"], "unavailable");
        assert_eq!(OutcomeFile::create(Some(dir.path())).unwrap_err().code, 64);
        OutcomeFile::create(None).unwrap().put_failure(&Failure::no_broker());
    }

    #[test]
    fn links_pipes_and_devices_are_no_outcome_files() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("precious"), "keep").unwrap();
        symlink(path("precious"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "pipe"] {
            assert_eq!(OutcomeFile::create(Some(&path(name))).unwrap_err().code, 64, "{name}");
        }
        assert_eq!(OutcomeFile::create(Some(Path::new("/dev/null"))).unwrap_err().code, 64);
        assert_eq!(std::fs::read_to_string(path("precious")).unwrap(), "keep");
        OutcomeFile::create(Some(&path("new"))).unwrap();
        assert_eq!(std::fs::metadata(path("new")).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = OutcomeFile::create(Some(&path("precious"))).unwrap();
        assert_eq!(std::fs::read_to_string(path("precious")).unwrap(), "");
        again.put_failure(&Failure::no_broker());
    }
}
