//! `execd.conf`: what the root half is told by its administrator.

use std::path::{Path, PathBuf};

use olb_exec_api::{LineError, Lines};
use olb_ledger::TAIL_BYTES_MAX;
use olb_sys::file::{TrustedFileError, read_trusted};
use thiserror::Error;

/// The configuration file is at most this long, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Why there is no configuration to run with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is missing, too open or too long.
    #[error("cannot use the configuration {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: TrustedFileError,
    },
    /// The file does not read.
    #[error("cannot use the configuration {path}: {source}")]
    Line {
        /// The file.
        path: String,
        /// Why.
        source: LineError,
    },
    /// A uid that may never be a requester is on the list.
    #[error("uid {uid} cannot be a requester: it is root, the front or an account for 'nobody'")]
    Requester {
        /// The uid.
        uid: u32,
    },
}

/// Limits that the root half enforces.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Commands that run at once, in all.
    pub executions: u32,
    /// Commands that run at once for one requester.
    pub executions_per_uid: u32,
    /// Connections to exec.sock that are served at once.
    pub connections: u32,
    /// From TERM to KILL when a command is cut, in seconds.
    pub kill_grace_secs: u32,
    /// The last bytes of each stream that are kept.
    pub tail_bytes: u32,
    /// A verdict older than this is refused, in seconds.
    pub verdict_age_secs: u32,
    /// The longest lifetime of a lease, in seconds.
    pub lease_lifetime_secs: u32,
    /// Bytes kept aside so that outcomes can be recorded on a full disk.
    pub ballast_bytes: u64,
    /// Bytes of copies of staged files that there are at once, in all.
    pub staged_bytes: u64,
}

/// What a running command, and a connection that is served, may need at most; with room to spare.
const FILES_PER_EXECUTION: u64 = 32;
const FILES_PER_CONNECTION: u64 = 24;

impl Limits {
    /// Lowers what happens at once to what `files` descriptors are enough for. Without one a file
    /// cannot be looked at, which would be taken for the file's fault.
    pub fn fit(&mut self, files: u64) {
        let enough_for =
            |each: u64| u32::try_from(files.div_euclid(each)).unwrap_or(u32::MAX).max(1);
        self.executions = self.executions.min(enough_for(FILES_PER_EXECUTION));
        self.connections = self.connections.min(enough_for(FILES_PER_CONNECTION));
    }
}

/// What the root half runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Host name shown to humans; part of the audience.
    pub host: String,
    /// The only uid that may connect to exec.sock.
    pub front_uid: u32,
    /// Sockets, public keys and the burn counter.
    pub runtime_dir: PathBuf,
    /// Keys and ledger.
    pub state_dir: PathBuf,
    /// Enrolment files.
    pub approvers_dir: PathBuf,
    /// The uids that may ask.
    pub requesters: Vec<u32>,
    /// Parent of the cgroups of runs; without one only process groups can be signalled.
    pub cgroup_parent: Option<PathBuf>,
    /// Copies of staged files; without one there are none, and plans with such files are refused.
    pub staging_dir: Option<PathBuf>,
    /// Limits.
    pub limits: Limits,
}

impl Config {
    /// Reads the file; it has to belong to `trusted_uid` and be writable by nobody else.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path, trusted_uid: u32) -> Result<Self, ConfigError> {
        let name = || path.display().to_string();
        let bytes = read_trusted(path, FILE_BYTES_MAX, trusted_uid)
            .map_err(|source| ConfigError::File { path: name(), source })?;
        let config =
            Self::parse(&bytes).map_err(|source| ConfigError::Line { path: name(), source })?;
        match config.requesters.iter().find(|uid| config.is_never_requester(**uid, trusted_uid)) {
            Some(uid) => Err(ConfigError::Requester { uid: *uid }),
            None => Ok(config),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, LineError> {
        let mut lines = Lines::parse(bytes)?;
        let config = Self {
            host: lines.text("host")?,
            front_uid: lines.number("front_uid")?,
            runtime_dir: lines.text("runtime_dir")?.into(),
            state_dir: lines.text("state_dir")?.into(),
            approvers_dir: lines.text("approvers_dir")?.into(),
            requesters: lines.uids("requesters")?,
            cgroup_parent: lines.optional("cgroup_parent").map(PathBuf::from),
            staging_dir: lines.optional("staging_dir").map(PathBuf::from),
            limits: Limits {
                executions: lines.number_or("max_executions", 64)?,
                executions_per_uid: lines.number_or("max_executions_per_uid", 8)?,
                connections: lines.number_or("max_connections", 512)?,
                kill_grace_secs: lines.number_or("kill_grace_secs", 5)?,
                tail_bytes: lines.number_or("tail_bytes", 4096)?,
                verdict_age_secs: lines.number_or("max_verdict_age_secs", 120)?,
                lease_lifetime_secs: lines.number_or("max_lease_lifetime_secs", 3600)?,
                ballast_bytes: lines.number_or("ballast_bytes", 4 * 1024 * 1024)?,
                staged_bytes: lines.number_or("max_staged_bytes", 256 * 1024 * 1024)?,
            },
        };
        lines.end()?;
        if config.limits.tail_bytes as usize > TAIL_BYTES_MAX {
            return Err(LineError::Value { key: "tail_bytes", wants: "at most 16384" });
        }
        Ok(config)
    }

    /// Whether `uid` may never be a requester: root, the front and the overflow account. Where the
    /// root half is not root (`own_uid`), its own user is all of these at once, and may.
    fn is_never_requester(&self, uid: u32, own_uid: u32) -> bool {
        const OVERFLOW_UID: u32 = 65_534;
        own_uid == 0 && (uid == 0 || uid == self.front_uid || uid == OVERFLOW_UID)
    }
}

impl Limits {
    /// The limits by the names that the configuration gives them.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("max_executions", self.executions.into()),
            ("max_executions_per_uid", self.executions_per_uid.into()),
            ("max_connections", self.connections.into()),
            ("kill_grace_secs", self.kill_grace_secs.into()),
            ("tail_bytes", self.tail_bytes.into()),
            ("max_verdict_age_secs", self.verdict_age_secs.into()),
            ("max_lease_lifetime_secs", self.lease_lifetime_secs.into()),
            ("ballast_bytes", self.ballast_bytes),
            ("max_staged_bytes", self.staged_bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "host = h\nfront_uid = 7\nruntime_dir = /r\nstate_dir = /s\n\
                        approvers_dir = /a\nrequesters = 1001,1002\n";

    #[test]
    fn defaults_fill_in_the_limits() {
        let config = Config::parse(BASE.as_bytes()).unwrap();
        assert_eq!(config.requesters, [1001, 1002]);
        assert_eq!(config.limits.executions, 64);
    }

    // [F-2]
    #[test]
    fn an_unknown_key_is_refused() {
        let text = format!("{BASE}max_execution = 3\n");
        assert!(matches!(Config::parse(text.as_bytes()), Err(LineError::Unknown { .. })));
    }

    // [F-2]
    #[test]
    fn a_tail_longer_than_answers_can_carry_is_refused() {
        let parse = |bytes| Config::parse(format!("{BASE}tail_bytes = {bytes}\n").as_bytes());
        assert_eq!(parse(TAIL_BYTES_MAX).unwrap().limits.tail_bytes, 16_384);
        assert!(matches!(parse(TAIL_BYTES_MAX + 1), Err(LineError::Value { .. })));
    }

    // [F-3]
    #[test]
    fn root_the_front_and_nobody_are_never_requesters() {
        let config = Config::parse(BASE.as_bytes()).unwrap();
        assert!([0, 7, 65_534].into_iter().all(|uid| config.is_never_requester(uid, 0)));
        assert!(!config.is_never_requester(1001, 0));
        assert!(!config.is_never_requester(7, 7), "without a boundary one user is everybody");
    }
}
