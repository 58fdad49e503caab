use olb_lease::{Audit, SigningKey};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::audit::sample::{anchor_line, events, has_receipt, head_after, text, trail, trail_of};
use crate::trust::tests::{audit_key, keys};

/// What `verify` says of an export, with the heads after these records as anchors.
fn verify(export: &[u8], anchored: &[usize]) -> Result<Verified, Unproved> {
    let trail = trail();
    let heads = anchored.iter().map(|at| (*at as u64, head_after(&trail, *at))).collect();
    let mut anchors = Anchors::default();
    (anchors.heads, anchors.source) = (heads, "the journal".into());
    of_export(export, "audit.jsonl", &keys(), anchors)
}

fn broken(export: &str, anchored: &[usize]) -> String {
    match verify(export.as_bytes(), anchored) {
        Err(Unproved::Broken(text)) => text,
        other => panic!("not broken: {other:?}\n{export}"),
    }
}

fn cannot(export: &str) -> String {
    match verify(export.as_bytes(), &[]) {
        Err(Unproved::Cannot(text)) => text,
        other => panic!("not refused: {other:?}\n{export}"),
    }
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_whole_export_is_intact_and_says_how_far_it_is_proved() {
    let export = text(&trail());
    let alone = verify(export.as_bytes(), &[]).unwrap();
    assert_eq!((alone.intact.records, alone.intact.signed_upto), (9, 8));
    assert!(alone.lines().contains("nothing here says that record 9 is the last one"));
    let object = alone.json();
    assert_eq!((&object["verdict"], &object["anchored_upto"]), (&json!("intact"), &Value::Null));
    let anchored = verify(export.as_bytes(), &[2, 8]).unwrap();
    assert!(anchored.lines().ends_with("\nanchored: the journal vouches for the records up to 8"));
    assert_eq!(anchored.json()["anchored_upto"], 8);
}

// [T-5]
#[test]
fn an_older_export_is_intact_alone_and_broken_against_a_newer_anchor() {
    let lines = lines_of(&text(&trail()));
    for kept in 2..9 {
        let old = lines[..kept].join("\n");
        assert!(verify(old.as_bytes(), &[]).is_ok(), "it was whole once");
        assert!(verify(old.as_bytes(), &[2]).is_ok(), "the anchor is older");
        let told = broken(&old, &[2, 9]);
        let want = format!("the trail is broken at record {}: the end was cut off", kept + 1);
        assert!(
            told.starts_with(&want) && told.ends_with("(the journal reaches to record 9)"),
            "{told}"
        );
    }
}

#[test]
fn a_line_that_was_cut_is_named() {
    let export = text(&trail());
    for cut in [1, 30, 400] {
        let told = broken(&export[..export.len() - 1 - cut], &[]);
        assert_eq!(told, "the trail is broken: line 9 of audit.jsonl is no exported record");
    }
    assert!(
        verify(&export.as_bytes()[..export.len() - 1], &[]).is_ok(),
        "the last newline says nothing"
    );
    let long = format!("{export}{}", " ".repeat(2 << 20));
    assert!(broken(&long, &[]).contains("line 10 "));
}

#[test]
fn what_is_signed_by_nobody_proves_nothing() {
    assert!(cannot("").contains("none of its 0 records is covered"));
    let unsigned: Vec<_> = events().into_iter().filter(|event| !has_receipt(event)).collect();
    let rewritten = trail_of(unsigned, &audit_key(), has_receipt);
    assert!(cannot(&text(&rewritten)).contains("none of its 5 records is covered"));
    // A new broker's first record is covered by the head that it logs when it starts.
    let first = text(&trail()[..1]);
    assert!(verify(first.as_bytes(), &[1]).is_ok());
}

// [T-3]
// [T-4]
#[test]
fn whoever_has_no_key_cannot_chain_it_anew() {
    let other: SigningKey<Audit> = SigningKey::from_seed(&[8; 32].into()).unwrap();
    let mut events = events();
    events.remove(2);
    // With a key of one's own, which says so.
    let resigned = trail_of(events.clone(), &other, has_receipt);
    let told = cannot(&text(&resigned));
    assert!(told.contains(&other.public().kid().hex()), "{told}");
    // With that key and the name of the right one.
    let mut renamed = resigned;
    let (ours, theirs) = (audit_key().public().kid(), other.public().kid());
    for one in &mut renamed {
        if let Some(receipt) = &mut one.receipt {
            let at = receipt.windows(8).position(|part| part == theirs.0).unwrap();
            receipt[at..at + 8].copy_from_slice(&ours.0);
        }
    }
    assert!(broken(&text(&renamed), &[]).contains("at record 2: the signature of its receipt"));
    // Without any.
    let stripped = trail_of(events.clone(), &other, |_| false);
    assert!(broken(&text(&stripped), &[]).contains("at record 2: its signature is missing"));
    // With the signatures of what was there before.
    let mut kept = trail_of(events, &other, |_| false);
    let mut receipts: Vec<_> = trail().into_iter().filter_map(|one| one.receipt).collect();
    for one in &mut kept {
        let event = olb_lease::Record::decode(&one.record).unwrap().event;
        one.receipt = has_receipt(&event).then(|| receipts.remove(0));
    }
    assert!(broken(&text(&kept), &[]).contains("at record 3: "));
}

#[test]
fn records_of_another_trail_under_the_same_key_do_not_fit() {
    let mut other = events();
    other.swap(2, 5);
    let other = trail_of(other, &audit_key(), has_receipt);
    for from in 2..9 {
        let spliced: Vec<_> = trail()[..from].iter().chain(&other[from..]).cloned().collect();
        if spliced == trail() {
            continue;
        }
        let result = verify(text(&spliced).as_bytes(), &[9]);
        assert!(matches!(result, Err(Unproved::Broken(_))), "from {from}: {result:?}");
    }
}

#[test]
fn a_trail_of_another_broker_cannot_be_verified() {
    let other: SigningKey<Audit> = SigningKey::from_seed(&[8; 32].into()).unwrap();
    let told = cannot(&text(&trail_of(events(), &other, has_receipt)));
    assert!(told.starts_with("the trail cannot be verified: record 2 is signed with audit key"));
}

#[test]
fn a_field_is_named_without_its_power_over_a_terminal() {
    let export = text(&trail());
    let evil = export.replacen('{', "{\"\\u001b[2J\\n\":1,", 1);
    let told = cannot(&evil);
    assert!(told.contains("the field \"\\u{1b}[2J\\u{a}\" of record 1 (line 1 of"), "{told}");
    let changed = export.replacen("\"approver\":\"alice\"", "\"approver\":\"mallory\"", 1);
    let told = broken(&changed, &[]);
    assert!(told.contains("at record 2: the readable \"approver\" beside it (line 2 of"), "{told}");
}

#[test]
fn codes_are_those_of_the_contract() {
    let ok = || verify(text(&trail()).as_bytes(), &[9]);
    assert_eq!(report(&ok(), false), ExitCode::SUCCESS);
    assert_eq!(report(&Err(Unproved::Broken("x".into())), true), ExitCode::from(1));
    assert_eq!(report(&Err(Unproved::Cannot("x".into())), true), ExitCode::from(2));
}

#[test]
fn keys_and_files_that_cannot_be_read_are_told_apart_from_a_broken_trail() {
    let dir = tempfile::tempdir().unwrap();
    let (export, pubs) = (dir.path().join("audit.jsonl"), dir.path().join("keys.pub"));
    std::fs::write(&export, text(&trail())).unwrap();
    std::fs::write(&pubs, format!("audit {}\n", audit_key().public().hex())).unwrap();
    let heads = dir.path().join("heads.txt");
    std::fs::write(&heads, anchor_line(&trail(), 9)).unwrap();
    let from = AnchorsFrom::File(&heads);
    assert!(of_file(&export, Some(&pubs), from).is_ok());
    let missing = Path::new("/nonexistent/\u{1b}");
    for (export, pubs, from) in [
        (missing, pubs.as_path(), from),
        (&export, missing, from),
        (&export, &pubs, AnchorsFrom::File(missing)),
        (dir.path(), &pubs, from),
    ] {
        match of_file(export, Some(pubs), from) {
            Err(Unproved::Cannot(text)) => {
                assert!(text.chars().all(olb_review::display::is_safe), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What somebody does to the lines of an export.
#[derive(Debug, Clone)]
enum Operation {
    Delete(Index),
    Repeat(Index, Index),
    Swap(Index, Index),
    Cut(Index),
    Unsign(Index),
    Receipt(Index, Index),
    Renumber(Index, u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Operation::Delete),
        (at(), at()).prop_map(|(from, to)| Operation::Repeat(from, to)),
        (at(), at()).prop_map(|(one, other)| Operation::Swap(one, other)),
        at().prop_map(Operation::Cut),
        at().prop_map(Operation::Unsign),
        (at(), at()).prop_map(|(from, to)| Operation::Receipt(from, to)),
        (at(), 0..20_u64).prop_map(|(at, number)| Operation::Renumber(at, number)),
    ]
}

fn operate(trail: &mut Vec<SequencedRecord>, operation: &Operation) {
    let count = trail.len();
    match operation {
        Operation::Delete(at) => drop(trail.remove(at.index(count))),
        Operation::Repeat(from, to) => {
            trail.insert(to.index(count + 1), trail[from.index(count)].clone());
        }
        Operation::Swap(one, other) => trail.swap(one.index(count), other.index(count)),
        Operation::Cut(at) => trail.truncate(at.index(count)),
        Operation::Unsign(at) => trail[at.index(count)].receipt = None,
        Operation::Receipt(from, to) => {
            trail[to.index(count)].receipt = trail[from.index(count)].receipt.clone();
        }
        Operation::Renumber(at, number) => trail[at.index(count)].sequence = *number,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // [T-1]
    #[test]
    fn a_flipped_bit_is_found_unless_the_line_still_says_the_same(bit in any::<Index>()) {
        let export = text(&trail()).into_bytes();
        let mut changed = export.clone();
        let bit = bit.index(export.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        if verify(&changed, &[9]).is_ok() {
            let said = |bytes: &[u8]| -> Vec<Value> {
                let lines = bytes.split_inclusive(|byte| *byte == b'\n');
                lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
            };
            prop_assert_eq!(said(&changed), said(&export));
        }
    }

    #[test]
    fn an_operation_on_lines_is_found(operation in operation()) {
        let mut changed = trail();
        operate(&mut changed, &operation);
        prop_assert_eq!(verify(text(&changed).as_bytes(), &[9]).is_ok(), changed == trail());
    }
}
