//! Properties over generated values: what is written is read, and nothing else is.

use std::collections::BTreeMap;

use ciborium::Value;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::cbor::{DEPTH_MAX, Writer, validate};
use crate::{
    ChainHead, Cti, CutBy, Digest, Directory, Epoch, EpochReason, Evidence, Executable, Kid,
    Outcome, Plan, PlanDigest, RawReceipt, RawVerdict, ReceiptClaims, Record, RecordEvent, RunAs,
    Staged, Stdin, StreamSummary, Unbound, Usage, VerdictClaims, VerdictKind, plan_limit as limit,
};

use super::fixture::{self, approver, audit};

/// Words as the kernel takes them: any bytes but NUL.
fn word(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..max)
}

fn argv() -> impl Strategy<Value = Vec<Vec<u8>>> {
    (vec(1..=u8::MAX, 1..20), vec(word(300), 0..30)).prop_map(|(name, mut rest)| {
        rest.insert(0, name);
        rest
    })
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec("[a-zA-Z0-9_-][a-zA-Z0-9._ -]{0,20}", 0..6)
        .prop_map(|parts| format!("/{}", parts.join("/")).into_bytes())
}

fn environment() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    btree_map("[A-Za-z_][A-Za-z0-9_]{0,40}".prop_map(Into::into), word(60), 0..20)
}

fn uid() -> impl Strategy<Value = u32> {
    0..u32::MAX
}

prop_compose! {
    fn executable()(
        path in path(), dev: u64, ino: u64, size: u64, ctime_secs: u64,
        ctime_nanos in 0..1_000_000_000_u32,
    ) -> Executable {
        Executable { path, dev, ino, size, ctime_secs, ctime_nanos }
    }
}

prop_compose! {
    fn run_as()(
        name in "\\PC{1,30}", uid in uid(), gid in uid(), groups in btree_set(uid(), 0..40),
    ) -> RunAs {
        RunAs { name, uid, gid, groups: groups.into_iter().collect() }
    }
}

fn stdin() -> impl Strategy<Value = Option<Stdin>> {
    option::of((0..=1_048_576_u64, any::<[u8; 32]>()))
        .prop_map(|bound| bound.map(|(size, sha256)| Stdin { size, sha256: Digest(sha256) }))
}

prop_compose! {
    fn plans()(
        random: [u8; 16], requester_uid in uid(), typed_argv in argv(), argv in argv(),
        executable in executable(), environment in environment(), words in any::<u64>(),
        cwd in path(), identity: (u64, u64, bool), run_as in run_as(), stdin in stdin(),
        files in files(), life in (1..=86_400_u32, any::<bool>()), reason in "\\PC{0,200}", session in "\\PC{0,60}",
    ) -> Plan {
        let chosen = environment.iter().enumerate().filter(|(at, _)| words >> at & 1 == 1);
        let (typed_argv, staged, unbound) = with_files(typed_argv, files);
        let environment_words = chosen.map(|(_, (n, v))| (n.clone(), v.clone())).collect();
        Plan {
            random, requester_uid, typed_argv, argv, executable, environment, environment_words,
            cwd: Directory { path: cwd, dev: identity.0, ino: identity.1 },
            cwd_changeable: identity.2, run_as, stdin, staged, unbound,
            wall_clock_secs: life.0, whole: life.1, reason, session, ..fixture::plan()
        }
    }
}

prop_compose! {
    fn verdicts()(
        kind in prop_oneof![
            Just(VerdictKind::Approve), Just(VerdictKind::Deny), Just(VerdictKind::Revoke)
        ],
        plan: [u8; 32], epoch: [u8; 16], issued_at in 0..u32::MAX, life in 1..=u32::MAX,
        channel in "[a-z0-9-]{1,32}", messages in vec("[ -~]{0,64}", 0..=8),
        digests: ([u8; 32], [u8; 32]), reason in "\\PC{0,120}",
    ) -> VerdictClaims {
        VerdictClaims {
            kind, plan: PlanDigest(plan), epoch: Epoch(epoch), issued_at,
            expires_at: issued_at.saturating_add(life),
            evidence: Evidence {
                channel, messages, shown: Digest(digests.0), reply: Digest(digests.1),
            },
            reason,
        }
    }
}

/// A word that names a file, by what stands before the name; its path, size, digest and whether it
/// is executable. Without a digest it is unbound.
type Named = (bool, Vec<u8>, u64, Option<[u8; 32]>, bool);

fn files() -> impl Strategy<Value = Vec<Named>> {
    let size = 0..=limit::STAGED_BYTES / 8;
    vec((any::<bool>(), path(), size, option::of(any::<[u8; 32]>()), any::<bool>()), 0..8)
}

/// The typed words with one more for each file, and the lists of them.
fn with_files(
    mut typed: Vec<Vec<u8>>,
    files: Vec<Named>,
) -> (Vec<Vec<u8>>, Vec<Staged>, Vec<Unbound>) {
    let (mut staged, mut unbound) = (Vec::new(), Vec::new());
    for (has_prefix, path, size, sha256, executable) in files {
        let word = u32::try_from(typed.len()).unwrap();
        let before: &[u8] = if has_prefix { b"--file=" } else { b"" };
        typed.push([before, b"dir/name"].concat());
        match sha256.map(Digest) {
            None => unbound.push(Unbound { word, path }),
            Some(sha256) => {
                let prefix = u32::try_from(before.len()).unwrap();
                staged.push(Staged { word, prefix, path, size, sha256, executable });
            }
        }
    }
    (typed, staged, unbound)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<u8>().prop_map(Outcome::Exited),
        any::<u8>().prop_map(Outcome::Killed),
        any::<u16>().prop_map(Outcome::SpawnFailed),
        any::<bool>().prop_map(|may_be_running| Outcome::Unknown { may_be_running }),
    ]
}

fn stream() -> impl Strategy<Value = StreamSummary> {
    any::<(u64, [u8; 32])>()
        .prop_map(|(bytes, sha256)| StreamSummary { bytes, sha256: Digest(sha256) })
}

fn finished() -> impl Strategy<Value = RecordEvent> {
    let cut_by = prop_oneof![
        Just(CutBy::Nobody),
        Just(CutBy::Requester),
        Just(CutBy::Limit),
        Just(CutBy::Broker)
    ];
    let names = any::<([u8; 32], [u8; 16])>();
    let usage = option::of(any::<(u64, u64, u64)>()).prop_map(|used| {
        used.map(|(user_ms, system_ms, max_rss_kib)| Usage { user_ms, system_ms, max_rss_kib })
    });
    (names, outcome(), stream(), stream(), cut_by, any::<u64>(), usage).prop_map(
        |((plan, cti), outcome, stdout, stderr, cut_by, duration_ms, usage)| {
            RecordEvent::Finished {
                plan: PlanDigest(plan),
                cti: Cti(cti),
                outcome,
                stdout,
                stderr,
                cut_by,
                duration_ms,
                usage,
            }
        },
    )
}

fn event() -> impl Strategy<Value = RecordEvent> {
    let reason = prop_oneof![
        Just(EpochReason::NewLedger),
        Just(EpochReason::Boot),
        Just(EpochReason::Restored),
        Just(EpochReason::NewKey)
    ];
    let names = || any::<([u8; 32], [u8; 16])>().prop_map(|(p, c)| (PlanDigest(p), Cti(c)));
    let blob = || vec(any::<u8>(), 0..400);
    prop_oneof![
        (reason, any::<[u8; 8]>())
            .prop_map(|(reason, kid)| RecordEvent::EpochBegan { reason, lease_kid: Kid(kid) }),
        (blob(), blob(), "[a-z0-9._-]{1,64}", any::<u32>(), option::of(any::<[u8; 16]>()))
            .prop_map(|(plan, verdict, approver, approver_uid, cti)| RecordEvent::Decided {
                plan,
                verdict,
                approver,
                approver_uid,
                cti: cti.map(Cti),
            }),
        names().prop_map(|(plan, cti)| RecordEvent::Burned { plan, cti }),
        (names(), "\\PC{0,100}").prop_map(|((plan, cti), reason)| RecordEvent::Refused {
            plan,
            cti,
            reason
        }),
        finished(),
        any::<[u8; 8]>().prop_map(|kid| RecordEvent::KeyEnded { kid: Kid(kid) }),
    ]
}

fn records() -> impl Strategy<Value = Record> {
    (any::<u64>(), any::<[u8; 16]>(), event()).prop_map(|(at, epoch, event)| Record {
        at,
        epoch: Epoch(epoch),
        event,
    })
}

/// Values in the project's subset, within the depth limit, maps in deterministic order.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        "\\PC{0,40}".prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
    ];
    let depth = u32::try_from(DEPTH_MAX).unwrap();
    leaf.prop_recursive(depth, 64, 6, |inner| {
        let key = prop_oneof![
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,30}".prop_map(Value::Text),
            vec(any::<u8>(), 0..30).prop_map(Value::Bytes),
        ];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((key, inner), 0..6).prop_map(sorted),
        ]
    })
}

fn sorted(mut pairs: Vec<(Value, Value)>) -> Value {
    pairs.sort_by_key(|(key, _)| encoded(key));
    pairs.dedup_by_key(|(key, _)| encoded(key));
    Value::Map(pairs)
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// Writes a value with the crate's own writer.
fn write(cbor: &mut Writer, value: &Value) {
    match value {
        Value::Integer(number) => {
            if let Ok(number) = u64::try_from(*number) {
                cbor.uint(number);
            } else {
                cbor.int(i64::try_from(*number).unwrap());
            }
        }
        Value::Bytes(bytes) => {
            cbor.bytes(bytes);
        }
        Value::Text(text) => {
            cbor.text(text);
        }
        Value::Bool(value) => {
            cbor.bool(*value);
        }
        Value::Null => {
            cbor.null();
        }
        Value::Array(items) => {
            cbor.array(items.len());
            items.iter().for_each(|item| write(cbor, item));
        }
        Value::Map(pairs) => {
            cbor.map(pairs.len());
            for (key, value) in pairs {
                write(cbor, key);
                write(cbor, value);
            }
        }
        other => panic!("not in the subset: {other:?}"),
    }
}

/// Two independent decoders read what the validator accepts, and one writes the same bytes again.
fn others_agree(bytes: &[u8]) {
    let value: Value = ciborium::from_reader(bytes).expect("ciborium reads it");
    assert_eq!(encoded(&value), bytes, "another encoding of the same value was accepted");
    serde_cbor::from_slice::<serde_cbor::Value>(bytes).expect("serde_cbor reads it");
}

proptest! {
    #[test]
    fn plans_come_back_and_have_one_encoding(plan in plans()) {
        let bytes = plan.encode().unwrap();
        others_agree(&bytes);
        prop_assert_eq!(Plan::decode(&bytes), Ok(plan));
    }

    #[test]
    fn verdicts_come_back(claims in verdicts()) {
        let signed = claims.sign(&approver()).unwrap();
        others_agree(&signed);
        others_agree(&fixture::payload(&signed));
        let verified = RawVerdict::parse(&signed).unwrap().verify(approver().public()).unwrap();
        prop_assert_eq!(verified.claims(), &claims);
    }

    #[test]
    fn records_come_back_bare_and_in_a_receipt(
        record in records(), sequence in 1..=u64::MAX, previous: [u8; 32],
    ) {
        let bytes = record.encode();
        others_agree(&bytes);
        prop_assert_eq!(Record::decode(&bytes), Ok(record.clone()));
        let claims = ReceiptClaims { sequence, previous: ChainHead(previous), record: bytes };
        let signed = claims.sign(&audit());
        let read = RawReceipt::parse(&signed).unwrap().verify(audit().public()).unwrap();
        prop_assert_eq!(read.decode_record(), Ok(record));
        prop_assert_eq!(read, claims);
    }

    #[test]
    fn what_the_writer_writes_is_valid_and_what_others_write(value in values()) {
        let mut cbor = Writer::new();
        write(&mut cbor, &value);
        let bytes = cbor.finish();
        prop_assert_eq!(validate(&bytes, bytes.len()), Ok(()));
        prop_assert_eq!(bytes, encoded(&value));
    }

    #[test]
    fn what_is_accepted_has_one_meaning(
        value in values(), edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = encoded(&value);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if validate(&bytes, bytes.len()).is_ok() {
            others_agree(&bytes);
        }
    }

    #[test]
    fn noise_is_refused_or_has_one_meaning(bytes in vec(any::<u8>(), 0..40)) {
        if validate(&bytes, bytes.len()).is_ok() {
            others_agree(&bytes);
        }
    }
}
