//! The plan: what would run, complete. Built once by the front, kept as bytes, never rebuilt.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::cbor::{CborError, Reader, Writer, validate};
use crate::digest::{tagged, write_env};
use crate::id::{Audience, Digest, PlanDigest};

mod files;

pub use files::{Directory, Executable, Staged, Unbound};

/// A plan's encoding is at most this long, in bytes.
pub const PLAN_BYTES_MAX: usize = 128 * 1024;

/// The limits inside a plan.
pub mod limit {
    /// Words of an argument vector.
    pub const ARGV_WORDS: usize = 1024;
    /// Bytes of one word of an argument vector (Linux allows 128 KiB less one).
    pub const ARGV_WORD_BYTES: usize = 96 * 1024;
    /// Bytes of a path.
    pub const PATH_BYTES: usize = 4095;
    /// Environment variables.
    pub const ENV_VARS: usize = 256;
    /// Bytes of one value of an environment variable.
    pub const ENV_VALUE_BYTES: usize = 32 * 1024;
    /// Supplementary groups of the target account.
    pub const GROUPS: usize = 256;
    /// Bytes of the requester's stated reason.
    pub const REASON_BYTES: usize = 1024;
    /// Bytes of a session key.
    pub const SESSION_BYTES: usize = 256;
    /// Bytes of a host name (RFC 1123) and of an account name.
    pub const NAME_BYTES: usize = 253;
    /// Bytes of standard input.
    pub const STDIN_BYTES: u64 = 1024 * 1024;
    /// The longest wall-clock limit of a command, in seconds: 24 hours.
    pub const WALL_CLOCK_SECS: u32 = 24 * 60 * 60;
    /// Staged files.
    pub const STAGED: usize = 16;
    /// Bytes of all staged files together.
    pub const STAGED_BYTES: u64 = 64 * 1024 * 1024;
    /// Unbound files.
    pub const UNBOUND: usize = 64;
}

/// Why bytes are not a plan, or a plan cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Not deterministic CBOR, or not the fields of a plan in their order.
    #[error("the plan does not decode: {0}")]
    Cbor(#[from] CborError),
    /// A field is outside its limit.
    #[error("the plan's {0} is outside its limit")]
    Limit(&'static str),
    /// A byte string that the kernel takes as text holds a NUL byte.
    #[error("the plan's {0} holds a NUL byte")]
    Nul(&'static str),
}

/// The target account, by name and by the numbers that are bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// Account name as resolved when the request was made; shown, never resolved again by root.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, strictly ascending.
    pub groups: Vec<u32>,
}

/// Bound bytes for standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stdin {
    /// How many bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// What would run. SPEC.md section "Plan" gives the encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// 16 random bytes: two plans are never equal.
    pub random: [u8; 16],
    /// Host name shown to the human.
    pub host: String,
    /// The broker this plan is for.
    pub audience: Audience,
    /// Who asks: the uid of the requester.
    pub requester_uid: u32,
    /// The arguments as typed.
    pub typed_argv: Vec<Vec<u8>>,
    /// The arguments as they will be passed to `execve`: see [`crate::staging::argv`].
    pub argv: Vec<Vec<u8>>,
    /// What is executed.
    pub executable: Executable,
    /// The complete final environment.
    pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The `NAME=value` words the requester typed, ascending by name; each is in `environment`.
    pub environment_words: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Working directory.
    pub cwd: Directory,
    /// Whether others than root can change it or a directory on the way to it.
    pub cwd_changeable: bool,
    /// Target account.
    pub run_as: RunAs,
    /// Bound standard input; `None` is `/dev/null`, never "any".
    pub stdin: Option<Stdin>,
    /// Files that are bound by their content, ascending by word.
    pub staged: Vec<Staged>,
    /// Files that are named and not bound, ascending by word; none of them is staged.
    pub unbound: Vec<Unbound>,
    /// Wall-clock limit of the command, in seconds, 1 to [`limit::WALL_CLOCK_SECS`].
    pub wall_clock_secs: u32,
    /// Whether the command has to come to its own end: then it is not cut when its time is over or
    /// its client is gone.
    pub whole: bool,
    /// The requester's own words about why.
    pub reason: String,
    /// The requester's session key.
    pub session: String,
}

/// How many pairs the plan's map has.
const PAIRS: u64 = 18;

/// Names a plan: SHA-256 over `olbl/plan/v1`, a zero byte, and the plan's bytes.
#[must_use]
pub fn plan_digest(plan: &[u8]) -> PlanDigest {
    PlanDigest(tagged("olbl/plan/v1", plan))
}

impl Plan {
    /// The one encoding of this plan.
    ///
    /// # Errors
    /// A field is outside its limit.
    pub fn encode(&self) -> Result<Vec<u8>, PlanError> {
        self.check()?;
        let mut cbor = Writer::new();
        cbor.map(usize::try_from(PAIRS).unwrap_or(0));
        cbor.uint(0).uint(1);
        cbor.uint(1).bytes(&self.random);
        cbor.uint(2).text(&self.host);
        cbor.uint(3).bytes(self.audience.as_bytes());
        cbor.uint(4).uint(self.requester_uid.into());
        write_words(cbor.uint(5), &self.typed_argv);
        write_words(cbor.uint(6), &self.argv);
        self.executable.write(cbor.uint(7));
        write_env(cbor.uint(8), &self.environment);
        write_env(cbor.uint(9), &self.environment_words);
        files::write_cwd(cbor.uint(10), &self.cwd, self.cwd_changeable);
        let run_as = &self.run_as;
        cbor.uint(11).array(4).text(&run_as.name).uint(run_as.uid.into()).uint(run_as.gid.into());
        cbor.array(run_as.groups.len());
        for group in &run_as.groups {
            cbor.uint((*group).into());
        }
        cbor.uint(12);
        match &self.stdin {
            None => cbor.null(),
            Some(stdin) => cbor.array(2).uint(stdin.size).bytes(stdin.sha256.as_bytes()),
        };
        files::write_staged(cbor.uint(13), &self.staged);
        files::write_unbound(cbor.uint(14), &self.unbound);
        cbor.uint(15).array(2).uint(self.wall_clock_secs.into()).bool(self.whole);
        cbor.uint(16).text(&self.reason);
        cbor.uint(17).text(&self.session);
        let bytes = cbor.finish();
        if bytes.len() > PLAN_BYTES_MAX { Err(PlanError::Limit("length")) } else { Ok(bytes) }
    }

    /// Reads a plan; only its one encoding is accepted.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PlanError> {
        validate(bytes, PLAN_BYTES_MAX)?;
        let mut cbor = Reader::new(bytes);
        let plan = Self::read(&mut cbor)?;
        cbor.end()?;
        plan.check()?;
        debug_assert_eq!(plan.encode().as_deref(), Ok(bytes), "decoding lost something");
        Ok(plan)
    }

    fn read(cbor: &mut Reader<'_>) -> Result<Self, PlanError> {
        cbor.map_len(PAIRS)?;
        cbor.key(0)?;
        cbor.key(1)?;
        cbor.key(1)?;
        let random = cbor.array_of()?;
        cbor.key(2)?;
        let host = cbor.text()?.into();
        cbor.key(3)?;
        let audience = Audience(cbor.array_of()?);
        cbor.key(4)?;
        let requester_uid = cbor.u32("requester uid")?;
        cbor.key(5)?;
        let typed_argv = read_words(cbor)?;
        cbor.key(6)?;
        let argv = read_words(cbor)?;
        cbor.key(7)?;
        let executable = Executable::read(cbor)?;
        cbor.key(8)?;
        let environment = read_env(cbor)?;
        cbor.key(9)?;
        let environment_words = read_env(cbor)?;
        cbor.key(10)?;
        let (cwd, cwd_changeable) = files::read_cwd(cbor)?;
        cbor.key(11)?;
        let run_as = read_run_as(cbor)?;
        cbor.key(12)?;
        let stdin = read_stdin(cbor)?;
        cbor.key(13)?;
        let staged = files::read_staged(cbor)?;
        cbor.key(14)?;
        let unbound = files::read_unbound(cbor)?;
        cbor.key(15)?;
        cbor.array_len(2)?;
        let (wall_clock_secs, whole) = (cbor.u32("wall-clock limit")?, cbor.bool()?);
        cbor.key(16)?;
        let reason = cbor.text()?.into();
        cbor.key(17)?;
        let session = cbor.text()?.into();
        #[rustfmt::skip]
        let plan = Self {
            random, host, audience, requester_uid, typed_argv, argv, executable, environment,
            environment_words, cwd, cwd_changeable, run_as, stdin, staged, unbound, wall_clock_secs,
            whole, reason, session,
        };
        Ok(plan)
    }

    fn check(&self) -> Result<(), PlanError> {
        check_argv("typed arguments", &self.typed_argv)?;
        check_argv("arguments", &self.argv)?;
        check_path("executable", &self.executable.path)?;
        check_path("working directory", &self.cwd.path)?;
        check_env("environment", &self.environment)?;
        check_env("environment words", &self.environment_words)?;
        self.check_files()?;
        let bound = |(name, value): (&Vec<u8>, &Vec<u8>)| self.environment.get(name) == Some(value);
        let groups = &self.run_as.groups;
        let limits = [
            (within(&self.host, 1, limit::NAME_BYTES), "host name"),
            (within(&self.run_as.name, 1, limit::NAME_BYTES), "target account's name"),
            (self.reason.len() <= limit::REASON_BYTES, "reason"),
            (self.session.len() <= limit::SESSION_BYTES, "session"),
            (self.requester_uid != u32::MAX, "requester uid"),
            (self.run_as.uid != u32::MAX && self.run_as.gid != u32::MAX, "target account"),
            (groups.len() <= limit::GROUPS && !groups.contains(&u32::MAX), "target groups"),
            (groups.is_sorted_by(|a, b| a < b), "order of the target groups"),
            (self.executable.ctime_nanos < 1_000_000_000, "executable's change time"),
            ((1..=limit::WALL_CLOCK_SECS).contains(&self.wall_clock_secs), "wall-clock limit"),
            (self.environment_words.iter().all(bound), "environment words"),
            (
                self.stdin.as_ref().is_none_or(|stdin| stdin.size <= limit::STDIN_BYTES),
                "standard input",
            ),
        ];
        match limits.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(PlanError::Limit(what)),
            None => Ok(()),
        }
    }
}

fn within(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len())
}

fn check_argv(what: &'static str, argv: &[Vec<u8>]) -> Result<(), PlanError> {
    let sizes = (1..=limit::ARGV_WORDS).contains(&argv.len())
        && argv.iter().all(|word| word.len() <= limit::ARGV_WORD_BYTES)
        && argv.first().is_some_and(|name| !name.is_empty());
    if !sizes {
        return Err(PlanError::Limit(what));
    }
    if argv.iter().any(|word| word.contains(&0)) { Err(PlanError::Nul(what)) } else { Ok(()) }
}

fn check_path(what: &'static str, path: &[u8]) -> Result<(), PlanError> {
    if path.contains(&0) {
        return Err(PlanError::Nul(what));
    }
    let parts_are_plain = path.split(|byte| *byte == b'/').skip(1).all(|part| {
        !part.is_empty() && part != b"." && part != b".." // canonical
    });
    let canonical = path == b"/" || (path.starts_with(b"/") && parts_are_plain);
    if canonical && path.len() <= limit::PATH_BYTES { Ok(()) } else { Err(PlanError::Limit(what)) }
}

fn check_env(what: &'static str, vars: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), PlanError> {
    let named = |name: &[u8]| {
        name.first().is_some_and(|first| !first.is_ascii_digit())
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            && name.len() <= limit::NAME_BYTES
    };
    let sizes = vars.len() <= limit::ENV_VARS
        && vars.iter().all(|(name, value)| named(name) && value.len() <= limit::ENV_VALUE_BYTES);
    if !sizes {
        return Err(PlanError::Limit(what));
    }
    if vars.values().any(|value| value.contains(&0)) { Err(PlanError::Nul(what)) } else { Ok(()) }
}

fn write_words(cbor: &mut Writer, words: &[Vec<u8>]) {
    cbor.array(words.len());
    for word in words {
        cbor.bytes(word);
    }
}

fn read_words(cbor: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, PlanError> {
    let count = cbor.array()?;
    if count > limit::ARGV_WORDS as u64 {
        return Err(PlanError::Limit("number of arguments"));
    }
    (0..count).map(|_| Ok(cbor.bytes()?.to_vec())).collect()
}

fn read_env(cbor: &mut Reader<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, PlanError> {
    let count = cbor.map()?;
    if count > limit::ENV_VARS as u64 {
        return Err(PlanError::Limit("number of environment variables"));
    }
    (0..count).map(|_| Ok((cbor.bytes()?.to_vec(), cbor.bytes()?.to_vec()))).collect()
}

fn read_run_as(cbor: &mut Reader<'_>) -> Result<RunAs, PlanError> {
    cbor.array_len(4)?;
    let name = cbor.text()?.into();
    let uid = cbor.u32("target uid")?;
    let gid = cbor.u32("target gid")?;
    let count = cbor.array()?;
    if count > limit::GROUPS as u64 {
        return Err(PlanError::Limit("number of target groups"));
    }
    let groups = (0..count).map(|_| cbor.u32("target group")).collect::<Result<_, _>>()?;
    Ok(RunAs { name, uid, gid, groups })
}

fn read_stdin(cbor: &mut Reader<'_>) -> Result<Option<Stdin>, PlanError> {
    if cbor.null() {
        return Ok(None);
    }
    cbor.array_len(2)?;
    Ok(Some(Stdin { size: cbor.uint()?, sha256: Digest(cbor.array_of()?) }))
}
