//! What agentack is not even asked about: a trail that holds, signature for signature, and yet says
//! what no root half writes. Planted with the audit key, as root could.

use std::fs;
use std::path::PathBuf;

use olb_e2e_tests::{Archive, Evidence, Instance, Judges, exported, forged, recorded, written};
use olb_exec_api::SequencedRecord;
use olb_lease::{Audit, Record, RecordEvent, SigningKey};

/// A broker that ran two commands, and all that a judge is shown of it but for executions.
struct Bench {
    judges: Judges,
    archive: Archive,
    leases: Vec<String>,
}

impl Bench {
    fn open() -> Self {
        let judges = Judges::installed();
        let instance = Instance::start();
        let (alice, agent) = (instance.enrol(0), instance.requester(0));
        let leases = [["id", "-u"], ["id", "-g"]].map(|command| {
            let (_, lease) = instance.approved(agent, &alice, &command);
            instance.exec(agent, &lease, &command).expect(0);
            lease
        });
        let archive = Archive { instance, alice, agent };
        Self { judges, archive, leases: leases.into() }
    }

    /// What becomes of `lines` as evidence, with `keys` as the broker's public keys.
    fn judge(&self, lines: &[SequencedRecord], keys: PathBuf) -> Result<(), String> {
        let evidence = Evidence {
            trail: written(lines),
            leases: self.leases.clone(),
            seen: Vec::new(),
            recorded: None,
            keys,
            approvers: vec![self.archive.alice.key().public().hex()],
            broker: self.archive.instance.execd_pid(),
        };
        self.judges.judge(&evidence).map(drop)
    }

    fn keys(&self) -> PathBuf {
        self.archive.instance.runtime().join("keys.pub")
    }

    fn records(&self) -> Vec<Record> {
        recorded(&exported(&self.archive.export()))
    }
}

#[track_caller]
fn refused(result: Result<(), String>, part: &str) {
    let why = result.expect_err(part);
    assert!(why.contains("the evidence does not hold") && why.contains(part), "{part}: {why}");
}

fn places(records: &[Record], is_it: impl Fn(&RecordEvent) -> bool) -> Vec<usize> {
    (0..records.len()).filter(|at| is_it(&records[*at].event)).collect()
}

#[test]
fn agentack_is_not_shown_a_verdict_on_another_plan_or_a_second_burn() {
    let bench = Bench::open();
    let (own, records) = (bench.archive.audit_key(), bench.records());
    let judge = |records: &[Record]| bench.judge(&forged(records, &own), bench.keys());
    judge(&records).unwrap();

    let [first, second] =
        places(&records, |event| matches!(event, RecordEvent::Decided { .. }))[..]
    else {
        panic!("{records:?}")
    };
    let verdict_of = |at: usize| match &records[at].event {
        RecordEvent::Decided { verdict, .. } => verdict.clone(),
        other => panic!("{other:?}"),
    };
    let mut swapped = records.clone();
    for (at, from) in [(first, second), (second, first)] {
        let RecordEvent::Decided { verdict, .. } = &mut swapped[at].event else { panic!() };
        *verdict = verdict_of(from);
    }
    refused(judge(&swapped), "has a verdict on another plan");

    let burns = places(&records, |event| matches!(event, RecordEvent::Burned { .. }));
    for again in [burns[0] + 1, records.len()] {
        let mut planted = records.clone();
        planted.insert(again, records[burns[0]].clone());
        refused(judge(&planted), "burns a lease again");
    }
}

// [T-6] [T-7]
#[test]
fn agentack_is_not_shown_a_trail_whose_key_changed_unsaid_or_came_back() {
    let bench = Bench::open();
    let (old, mut records) = (bench.archive.audit_key(), bench.records());
    let new: SigningKey<Audit> = SigningKey::from_seed(&[9; 32].into()).unwrap();
    let [retired, present] = [&old, &new].map(|key| key.public().hex());
    let published = fs::read_to_string(bench.keys()).unwrap();
    let lease = published.lines().find(|line| line.starts_with("lease ")).unwrap();
    let text = format!("audit {present}\naudit-retired {retired}\n{lease}\n");
    let keys = bench.archive.file("rotated.pub", &text);
    // The chain is the same whoever signs.
    let spliced = |records: &[Record], parts: &[(usize, &SigningKey<Audit>)]| {
        let mut lines = Vec::new();
        for (end, key) in parts {
            lines.extend_from_slice(&forged(records, key)[lines.len()..*end]);
        }
        bench.judge(&lines, keys.clone())
    };
    let last = records.len() - 1;
    refused(spliced(&records, &[(last, &old), (last + 1, &new)]), "another key than");
    refused(spliced(&records, &[(last + 1, &old)]), "was replaced since");

    let before = records.clone();
    let ended = RecordEvent::KeyEnded { kid: old.public().kid() };
    records.insert(last, Record { event: ended, ..records[last].clone() });
    spliced(&records, &[(last, &old), (last + 2, &new)]).unwrap();
    refused(spliced(&records, &[(last, &old), (last + 1, &new), (last + 2, &old)]), "had ended");
    let other = RecordEvent::KeyEnded { kid: new.public().kid() };
    records[last].event = other;
    refused(spliced(&records, &[(last, &old), (last + 2, &new)]), "another key than");
    spliced(&before, &[(last + 1, &new)]).unwrap();
}
