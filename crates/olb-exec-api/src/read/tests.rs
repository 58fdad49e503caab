use olb_lease::{Audit, ChainHead, ReceiptClaims, SigningKey};

use super::*;

//
#[test]
fn queries_round_trip_and_nothing_else_is_one() {
    for query in [
        Query::Info,
        Query::Records { from: u64::MAX },
        Query::Request { plan: PlanDigest([9; 32]) },
    ] {
        let bytes = query.encode();
        assert_eq!(Query::decode(&bytes), Some(query));
        assert_eq!(Query::decode(&bytes[..40]), None);
        assert_eq!(Query::decode(&[&bytes[..], &[0]].concat()), None);
    }
    assert_eq!(Query::decode(&[]), None);
    for kind in (0..=u8::MAX).filter(|kind| !(1..=3).contains(kind)) {
        let mut unknown = Query::Info.encode();
        unknown[0] = kind;
        assert_eq!(Query::decode(&unknown), None, "{kind}");
    }
}

//
#[test]
fn a_field_that_a_query_does_not_use_is_zero() {
    let (number, plan) = (1..9, 9..41);
    let unused = [
        (Query::Info, number.clone().chain(plan.clone())),
        (Query::Records { from: 7 }, plan.chain(0..0)),
        (Query::Request { plan: PlanDigest([9; 32]) }, number.chain(0..0)),
    ];
    for (query, unused) in unused {
        for at in unused {
            let mut stray = query.encode();
            stray[at] = 1;
            assert_eq!(Query::decode(&stray), None, "{query:?}, byte {at}");
        }
    }
}

/// Nothing but `bytes` themselves decodes: no cut of them, and nothing with a byte behind.
fn only_whole<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>) {
    assert!(decode(bytes).is_some());
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_none(), "cut to {length}");
    }
    assert!(decode(&[bytes, &[0]].concat()).is_none(), "a byte behind");
    // The outer array is not the first byte of any other shape.
    assert!(decode(&[&[0xa0], &bytes[1..]].concat()).is_none(), "a map");
}

//
#[test]
fn bodies_of_another_shape_are_refused() {
    let recorded = Recorded { receipt: vec![4], stdout_tail: vec![5], stderr_tail: vec![6] };
    let decided = Decided { receipt: vec![1], lease: Some(vec![2]), expires_at: 7 };
    let page = vec![SequencedRecord { sequence: 1, record: vec![1], receipt: None }];
    let state = RequestState {
        decided: Some(decided.clone()),
        burned: true,
        recorded: Some(recorded.clone()),
    };
    only_whole(&recorded.encode(), |bytes| Recorded::decode(bytes).ok());
    only_whole(&decided.encode(), |bytes| Decided::decode(bytes).ok());
    only_whole(&state.encode(), |bytes| RequestState::decode(bytes).ok());
    only_whole(&RecordPage { records: page }.encode(), |bytes| RecordPage::decode(bytes).ok());
    only_whole(&encode_info(&info()), |bytes| decode_info(bytes).ok());
}

fn info() -> Info {
    Info {
        host: "web-1".into(),
        audience: Audience([1; 32]),
        epoch: Epoch([2; 16]),
        lease_key: [3; 32],
        audit_key: [4; 32],
        sequence: 77,
        boundary: true,
        requesters: vec![1001, 70000],
        enrolments: vec![Enrolment {
            name: "alice".into(),
            uid: 1000,
            key: [5; 32],
            kid: Kid([6; 8]),
            lease_lifetime_secs: 900,
        }],
        limits: vec![Limit { name: "executions".into(), value: 64 }],
        staging: b"/var/lib/olb-pin".to_vec(),
    }
}

#[test]
fn info_round_trips() {
    assert_eq!(decode_info(&encode_info(&info())), Ok(info()));
}

#[test]
fn pages_and_states_round_trip() {
    let claims = ReceiptClaims { sequence: 2, previous: ChainHead([0; 32]), record: vec![2] };
    let key = SigningKey::<Audit>::from_seed(&[7; 32].into()).unwrap();
    let signed = Some(claims.sign(&key));
    let page = RecordPage {
        records: vec![
            SequencedRecord { sequence: 1, record: vec![1], receipt: None },
            SequencedRecord { sequence: 2, record: vec![2], receipt: signed },
        ],
    };
    assert_eq!(RecordPage::decode(&page.encode()), Ok(page));
    let decided = Decided { receipt: vec![1], lease: Some(vec![2]), expires_at: 7 };
    let recorded = Recorded { receipt: vec![4], stdout_tail: vec![5], stderr_tail: Vec::new() };
    for state in [
        RequestState::default(),
        RequestState { decided: Some(decided), burned: true, recorded: Some(recorded) },
    ] {
        assert_eq!(RequestState::decode(&state.encode()), Ok(state));
    }
}
