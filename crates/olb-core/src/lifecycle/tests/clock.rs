//! A wall clock that was years ahead for a while.

use super::*;

const YEARS: u64 = 15 * 365 * 86_400;
const AHEAD: u64 = NOW + YEARS;

/// What is stored, after these effects.
fn stored(effects: &[Effect]) -> Vec<Request> {
    let saved = effects.iter().filter_map(|effect| match effect {
        Effect::Persist(request) => Some(Request::clone(request)),
        Effect::Changed(_) | Effect::ForgetInput(_) => None,
    });
    saved.collect()
}

#[test]
fn a_clock_that_comes_back_leaves_nothing_waiting_for_years() {
    let mut bench = Bench::new();
    let pending = bench.submit(AHEAD, AGENT, NGINX).unwrap().request;
    let approved = bench.submit(AHEAD, AGENT, &["id"]).unwrap().request;
    bench.decide(AHEAD, &approved, VerdictKind::Approve);
    let effects = bench.core.tick(NOW);
    let saved = stored(&effects);
    assert_eq!(saved.len(), 2);
    for request in [&pending, &approved] {
        let now = Arc::clone(bench.core.by_plan(&request.digest).unwrap());
        assert_eq!((now.created_at, now.expires_at), (NOW, NOW + 1800));
        assert!(saved.contains(&now) && effects.contains(&Effect::Changed(now)));
    }
    assert_eq!(bench.core.next_wakeup(), Some(NOW + 900));
    bench.core.tick(NOW + 1800);
    assert_eq!(bench.reason(&approved), Some(LEASE_UNUSED));
    assert_eq!(bench.reason(&pending), Some(UNANSWERED));
}

#[test]
fn denials_of_the_future_hold_as_long_as_denials_of_now() {
    let mut bench = Bench::new();
    for word in ["a", "b", "c"] {
        let request = bench.submit(AHEAD, AGENT, &["rm", word]).unwrap().request;
        bench.decide(AHEAD, &request, VerdictKind::Deny);
    }
    // Whether or not the clock was looked at since.
    let held = Err(Reject::Held { retry_after_secs: 600 });
    assert_eq!(bench.submit(NOW, AGENT, &["ls"]), held);
    let saved = stored(&bench.core.tick(NOW));
    assert!(saved.iter().all(|one| one.decided_at == Some(NOW) && one.finished_at == Some(NOW)));
    assert_eq!(saved.len(), 3);
    assert_eq!(bench.submit(NOW + 599, AGENT, &["ls"]), Err(Reject::Held { retry_after_secs: 1 }));
    let again = bench.submit(NOW + 1, AGENT, &["rm", "a"]).unwrap();
    assert_eq!(again.how, SubmittedAs::DeniedBefore { retry_after_secs: 599, same: true });
    assert_eq!(bench.submit(NOW + 600, AGENT, &["rm", "a"]).unwrap().how, SubmittedAs::New);
}

#[test]
fn what_a_front_remembers_of_the_future_counts_as_of_its_start() {
    let mut bench = Bench::new();
    let pending = bench.submit(AHEAD, AGENT, NGINX).unwrap().request;
    let denied = bench.submit(AHEAD, AGENT, &["rm", "a"]).unwrap().request;
    bench.decide(AHEAD, &denied, VerdictKind::Deny);
    let requests = bench.core.list(Viewer::Approver, false);
    let memory = Memory {
        requests: requests.iter().map(|one| Request::clone(one)).collect(),
        codes: requests.iter().map(|one| (one.created_at, one.code)).collect(),
    };
    let mut core = Lifecycle::restore(Limits::default(), memory);
    assert_eq!(stored(&core.tick(NOW)).len(), 2);
    assert_eq!(core.by_plan(&pending.digest).unwrap().expires_at, NOW + 1800);
    let denied = Arc::clone(core.by_plan(&denied.digest).unwrap());
    assert_eq!(core.retry_after(&denied, NOW + 100), Some(500));
    assert_eq!(core.tick(NOW), []);
}

#[test]
fn a_rate_never_counts_what_is_ahead() {
    let mut bench = Bench::with(Limits { submits_per_uid_per_minute: 1, ..Limits::default() });
    assert!(bench.core.admit(AHEAD, AGENT).is_ok());
    assert!(bench.core.admit(AHEAD, AGENT).is_err());
    assert!(bench.core.admit(NOW, AGENT).is_ok());
    // The wall clock has no say in it.
    bench.core.tick(AHEAD);
    assert!(bench.core.admit(NOW + 59, AGENT).is_err());
}

/// Numbers that look random, the same in every run.
fn numbers(seed: u32) -> impl Iterator<Item = u64> {
    let block = move |at: u32| olb_lease::sha256(&[seed, at].map(u32::to_be_bytes).concat());
    (0..).flat_map(block).map(u64::from)
}

#[test]
fn wherever_the_clock_was_an_hour_after_it_stays_nobody_waits_or_is_held() {
    const JUMPS: [u64; 6] = [0, 1, 599, 90_000, YEARS, 2 * YEARS];
    for seed in 0..300 {
        let mut numbers = numbers(seed);
        let mut next = |below: usize| usize::try_from(numbers.next().unwrap()).unwrap() % below;
        let mut bench = Bench::new();
        for _ in 0..40 {
            let now = NOW + JUMPS[next(JUMPS.len())];
            if next(3) > 0 {
                bench.core.tick(now);
            }
            let word = ["a", "b", "c", "d"][next(4)];
            let asked = bench.submit(now, AGENT, &["rm", word]);
            let open = asked.ok().filter(|one| one.request.state == State::Pending);
            let kinds = [VerdictKind::Approve, VerdictKind::Deny, VerdictKind::Revoke];
            if let Some(kind) = kinds.get(next(5))
                && let Some(asked) = open
            {
                bench.decide(now, &asked.request, *kind);
            }
        }
        bench.core.tick(NOW);
        let saved = bench.core.clone();
        bench.core.tick(NOW + 3600);
        assert_eq!(bench.core.list(Viewer::Approver, true), [], "seed {seed}");
        for word in ["a", "b", "c", "d"] {
            let asked = bench.submit(NOW + 3600, AGENT, &["rm", word]).unwrap();
            assert_eq!(asked.how, SubmittedAs::New, "seed {seed}");
        }
        for request in saved.list(Viewer::Approver, false) {
            assert!(!request.is_ahead_of(NOW), "seed {seed}");
        }
    }
}
