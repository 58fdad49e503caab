//! When two requests ask for the same thing, and when one is like another that was denied.

use std::collections::BTreeSet;

use olb_lease::cbor::Writer;
use olb_lease::{Digest, Plan, sha256};

/// Digest of what was asked: equal keys are one request. Not part of it: reason, session, limits
/// and random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchKey(pub Digest);

/// Digest of what a denial is about: requester, target uid, executable, and the set of arguments
/// that are no options. Varying anything else does not evade a cool-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoolOffKey(pub Digest);

impl MatchKey {
    /// SHA-256 over CBOR `["olbl/match/v1", requester, [typed argument...], [cwd path, dev, ino],
    /// [[name, value]...], [uid, gid, [group...]], stdin SHA-256 / null, [executable path, dev, ino,
    /// size, ctime seconds, nanoseconds]]`.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut cbor = Writer::new();
        cbor.array(8).text("olbl/match/v1").uint(plan.requester_uid.into());
        cbor.array(plan.typed_argv.len());
        for word in &plan.typed_argv {
            cbor.bytes(word);
        }
        cbor.array(3).bytes(&plan.cwd.path).uint(plan.cwd.dev).uint(plan.cwd.ino);
        cbor.array(plan.environment_words.len());
        for (name, value) in &plan.environment_words {
            cbor.array(2).bytes(name).bytes(value);
        }
        let run_as = &plan.run_as;
        cbor.array(3).uint(run_as.uid.into()).uint(run_as.gid.into()).array(run_as.groups.len());
        for group in &run_as.groups {
            cbor.uint((*group).into());
        }
        match &plan.stdin {
            None => cbor.null(),
            Some(stdin) => cbor.bytes(stdin.sha256.as_bytes()),
        };
        let file = &plan.executable;
        cbor.array(6).bytes(&file.path).uint(file.dev).uint(file.ino).uint(file.size);
        cbor.uint(file.ctime_secs).uint(file.ctime_nanos.into());
        Self(Digest(sha256(&cbor.finish())))
    }
}

impl CoolOffKey {
    /// SHA-256 over CBOR `["olbl/cool-off/v1", requester, target uid, executable path,
    /// [argument...]]`: the typed arguments after the command's name that do not begin with `-`,
    /// ascending, each once.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let operands = plan.typed_argv.iter().skip(1).filter(|word| !word.starts_with(b"-"));
        let operands: BTreeSet<_> = operands.collect();
        let mut cbor = Writer::new();
        cbor.array(5).text("olbl/cool-off/v1").uint(plan.requester_uid.into());
        cbor.uint(plan.run_as.uid.into()).bytes(&plan.executable.path).array(operands.len());
        for word in operands {
            cbor.bytes(word);
        }
        Self(Digest(sha256(&cbor.finish())))
    }
}
