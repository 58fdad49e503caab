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

#[cfg(test)]
mod tests {
    use olb_lease::Stdin;

    use super::*;
    use crate::sample::plan;

    fn sample() -> Plan {
        plan(1001, &["systemctl", "restart", "nginx"], 1)
    }

    fn changed(change: impl Fn(&mut Plan)) -> Plan {
        let mut plan = sample();
        change(&mut plan);
        plan
    }

    fn stdin(byte: u8) -> Option<Stdin> {
        Some(Stdin { size: 1, sha256: Digest([byte; 32]) })
    }

    #[test]
    fn the_keys_have_their_known_answers() {
        let want = "9b7fc4d4b5ab2f4a9bd179d8a2d0d2414bbc32fd0d6a717d10aa6656272b7f05";
        assert_eq!(MatchKey::of(&sample()).0.hex(), want);
        let want = "fc48804dfc07f4ac2f0de5bad7be7e630fec461315380e4388cf56ab6e212696";
        assert_eq!(CoolOffKey::of(&sample()).0.hex(), want);
    }

    #[test]
    fn what_was_asked_decides_whether_requests_match() {
        let different = [
            changed(|plan| plan.requester_uid = 1002),
            changed(|plan| plan.typed_argv[2] = b"nginx2".to_vec()),
            changed(|plan| {
                plan.typed_argv = vec![b"systemctl".to_vec(), b"restart nginx".to_vec()]
            }),
            changed(|plan| plan.cwd.path = b"/srv".to_vec()),
            changed(|plan| plan.cwd.dev = 7),
            changed(|plan| plan.cwd.ino = 7),
            changed(|plan| {
                plan.environment_words.insert(b"LANG".to_vec(), b"C".to_vec());
            }),
            changed(|plan| plan.run_as.uid = 1),
            changed(|plan| plan.run_as.gid = 1),
            changed(|plan| plan.run_as.groups = vec![0, 1]),
            changed(|plan| plan.stdin = stdin(0)),
            changed(|plan| plan.stdin = stdin(1)),
            changed(|plan| plan.executable.path = b"/bin/systemctl".to_vec()),
            changed(|plan| plan.executable.dev = 7),
            changed(|plan| plan.executable.ino = 7),
            changed(|plan| plan.executable.size = 7),
            changed(|plan| plan.executable.ctime_secs = 7),
            changed(|plan| plan.executable.ctime_nanos = 7),
        ];
        let keys: BTreeSet<_> = different.iter().chain([&sample()]).map(MatchKey::of).collect();
        assert_eq!(keys.len(), different.len() + 1);
    }

    #[test]
    fn words_about_a_request_do_not_change_what_it_matches() {
        let same = changed(|plan| {
            plan.random = [9; 16];
            plan.reason = "another".into();
            plan.session = "other".into();
            plan.wall_clock_secs = 1;
        });
        assert_eq!(MatchKey::of(&same), MatchKey::of(&sample()));
    }

    #[test]
    fn a_cool_off_is_not_evaded_by_options_order_or_surroundings() {
        let evasions = [
            changed(|plan| plan.typed_argv.insert(1, b"--no-block".to_vec())),
            changed(|plan| plan.typed_argv.insert(1, b"--".to_vec())),
            changed(|plan| plan.typed_argv.push(b"nginx".to_vec())),
            changed(|plan| plan.typed_argv.swap(1, 2)),
            changed(|plan| plan.typed_argv[0] = b"/usr/bin/systemctl".to_vec()),
            changed(|plan| plan.cwd.path = b"/".to_vec()),
            changed(|plan| plan.stdin = stdin(1)),
            changed(|plan| plan.session = "other".into()),
            changed(|plan| plan.reason = "please".into()),
            changed(|plan| plan.run_as.groups = vec![]),
            changed(|plan| {
                plan.environment_words.insert(b"LANG".to_vec(), b"C".to_vec());
            }),
        ];
        for evasion in evasions {
            assert_eq!(CoolOffKey::of(&evasion), CoolOffKey::of(&sample()), "{evasion:?}");
        }
    }

    #[test]
    fn another_operand_target_or_program_is_not_what_was_denied() {
        let others = [
            changed(|plan| plan.typed_argv[2] = b"apache2".to_vec()),
            changed(|plan| plan.typed_argv.truncate(2)),
            changed(|plan| plan.run_as.uid = 1),
            changed(|plan| plan.requester_uid = 1002),
            changed(|plan| plan.executable.path = b"/usr/bin/service".to_vec()),
        ];
        for other in others {
            assert_ne!(CoolOffKey::of(&other), CoolOffKey::of(&sample()), "{other:?}");
        }
    }
}
