//! When two requests ask for the same thing, and when one is like another that was denied.

use std::collections::BTreeSet;

use olb_lease::cbor::Writer;
use olb_lease::{Digest, Plan, Staged, sha256};

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
    /// size, ctime seconds, nanoseconds] / null, [[word, prefix, path, size, SHA-256,
    /// executable]...], [[word, path]...]]`. The executable is null where it is the first of the
    /// staged files: its path has random bytes in it.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut cbor = Writer::new();
        cbor.array(10).text("olbl/match/v1").uint(plan.requester_uid.into());
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
        if staged_program(plan).is_some() {
            cbor.null();
        } else {
            cbor.array(6).bytes(&file.path).uint(file.dev).uint(file.ino).uint(file.size);
            cbor.uint(file.ctime_secs).uint(file.ctime_nanos.into());
        }
        cbor.array(plan.staged.len());
        for file in &plan.staged {
            cbor.array(6).uint(file.word.into()).uint(file.prefix.into()).bytes(&file.path);
            cbor.uint(file.size).bytes(file.sha256.as_bytes()).bool(file.executable);
        }
        cbor.array(plan.unbound.len());
        for file in &plan.unbound {
            cbor.array(2).uint(file.word.into()).bytes(&file.path);
        }
        Self(Digest(sha256(&cbor.finish())))
    }
}

impl CoolOffKey {
    /// SHA-256 over CBOR `["olbl/cool-off/v1", requester, target uid, executable path,
    /// [argument...]]`: the typed arguments after the command's name that do not begin with `-`,
    /// ascending, each once. The path is that of the file that was read, where a copy of it would
    /// be run.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let operands = plan.typed_argv.iter().skip(1).filter(|word| !word.starts_with(b"-"));
        let operands: BTreeSet<_> = operands.collect();
        let mut cbor = Writer::new();
        cbor.array(5).text("olbl/cool-off/v1").uint(plan.requester_uid.into());
        let program = staged_program(plan).map_or(&plan.executable.path, |file| &file.path);
        cbor.uint(plan.run_as.uid.into()).bytes(program).array(operands.len());
        for word in operands {
            cbor.bytes(word);
        }
        Self(Digest(sha256(&cbor.finish())))
    }
}

/// What is executed, where a copy of it is bound.
fn staged_program(plan: &Plan) -> Option<&Staged> {
    plan.staged.first().filter(|file| file.word == 0)
}

#[cfg(test)]
mod tests {
    use olb_lease::{Stdin, Unbound};

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

    fn staged(word: u32) -> Staged {
        let (path, sha256) = (b"/srv/app/x".to_vec(), Digest([1; 32]));
        Staged { word, prefix: 0, path, size: 1, sha256, executable: true }
    }

    #[test]
    fn the_keys_have_their_known_answers() {
        let want = "ce8f9bfd6364ff5efb0260dd1181d41fa5a1431d5434191b9eef52089171c69d";
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
            changed(|plan| plan.staged = vec![staged(1)]),
            changed(|plan| plan.staged = vec![staged(0)]),
            changed(|plan| plan.staged = vec![staged(1), staged(2)]),
            changed(|plan| plan.staged = vec![Staged { prefix: 1, ..staged(1) }]),
            changed(|plan| plan.staged = vec![Staged { path: b"/x".to_vec(), ..staged(1) }]),
            changed(|plan| plan.staged = vec![Staged { size: 2, ..staged(1) }]),
            changed(|plan| plan.staged = vec![Staged { sha256: Digest([2; 32]), ..staged(1) }]),
            changed(|plan| plan.staged = vec![Staged { executable: false, ..staged(1) }]),
            changed(|plan| plan.unbound = vec![Unbound { word: 1, path: b"/x".to_vec() }]),
            changed(|plan| plan.unbound = vec![Unbound { word: 2, path: b"/x".to_vec() }]),
            changed(|plan| plan.unbound = vec![Unbound { word: 1, path: b"/y".to_vec() }]),
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
            plan.whole = true;
            plan.cwd_changeable = !plan.cwd_changeable;
        });
        assert_eq!(MatchKey::of(&same), MatchKey::of(&sample()));
    }

    #[test]
    fn where_the_copy_of_a_program_will_be_changes_neither_key() {
        let placed = |path: &[u8]| {
            changed(|plan| {
                plan.staged = vec![staged(0)];
                plan.executable.path = path.to_vec();
            })
        };
        let (one, other) = (placed(b"/pin/1/0/x"), placed(b"/pin/2/0/x"));
        assert_eq!(MatchKey::of(&one), MatchKey::of(&other));
        assert_eq!(CoolOffKey::of(&one), CoolOffKey::of(&other));
        let another = changed(|plan| {
            plan.staged = vec![Staged { path: b"/srv/app/y".to_vec(), ..staged(0) }];
        });
        assert_ne!(CoolOffKey::of(&one), CoolOffKey::of(&another));
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
