use proptest::prelude::*;

use super::*;

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..8_usize;
    let kind = prop_oneof![
        4 => Just(VerdictKind::Approve),
        1 => Just(VerdictKind::Deny),
        1 => Just(VerdictKind::Revoke),
    ];
    let outcome = prop_oneof![
        any::<u8>().prop_map(Outcome::Exited),
        (1..32_u8).prop_map(Outcome::Killed),
        Just(Outcome::SpawnFailed(2)),
    ];
    let secs = prop_oneof![0..60_u64, Just(900), Just(1800)];
    prop_oneof![
        4 => (1..3_u32, 0..3_usize).prop_map(|(uid, command)| Step::Submit { uid, command }),
        4 => (at(), kind).prop_map(|(request, kind)| Step::Decide { request, kind }),
        4 => at().prop_map(|request| Step::Present { request }),
        6 => at().prop_map(|operation| Step::Act { operation }),
        6 => at().prop_map(|operation| Step::Answer { operation }),
        1 => at().prop_map(|operation| Step::Lose { operation }),
        2 => (at(), outcome).prop_map(|(operation, outcome)| Step::End { operation, outcome }),
        1 => at().prop_map(|request| Step::Cancel { request }),
        2 => secs.prop_map(|secs| Step::Wait { secs }),
        2 => Just(Step::Ask),
        3 => Just(Step::Reconcile),
        1 => Just(Step::RestartFront),
        1 => Just(Step::CrashInNext),
        1 => any::<bool>().prop_map(|reboot| Step::RestartExecd { reboot }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_answers_crashes_and_reboots_breaks_a_promise(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check();
        }
    }

    #[test]
    fn a_restart_from_what_is_stored_ends_where_going_on_ends(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            if world.crashing {
                continue;
            }
            let mut restarted = world.clone();
            restarted.restart_front();
            prop_assert_eq!(world.clone().settled(), restarted.settled());
        }
    }
}

#[test]
fn bytes_reach_a_run_and_its_end() {
    let asked_and_approved = [[0, 0, 0], [1, 0, 0], [3, 0, 0], [4, 0, 0]];
    let ran = [[2, 0, 0], [3, 0, 0], [4, 0, 0], [6, 0, 3], [4, 0, 0]];
    let mut world = World::new();
    let bytes = [&asked_and_approved[..], &ran[..]].concat().concat();
    steps(&bytes).iter().for_each(|step| world.run(step));
    let ended: Vec<_> = world.stored.values().map(|one| (one.state, one.outcome)).collect();
    assert_eq!(ended, [(olb_core::State::Exited, Some(Outcome::Exited(3)))]);
}
