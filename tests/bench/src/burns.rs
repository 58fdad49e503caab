//! Burns a second in a real ledger on a real disk: 64 callers against one.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use olb_e2e_tests::{ExecSock, Issuer, plan_for};
use olb_lease::{SigningKey, VerifiedLease};

use crate::bed::Bed;
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};
use crate::stats::median;

const CALLERS: usize = 64;
/// Burns of each of them, and of the one, in a sample.
const BURNS_EACH: usize = 60;
const BURNS_ALONE: usize = 400;
/// Where temporary files are on a disk and not in memory.
const DISK: &str = "/var/tmp";

/// How long each burn took, and all of them together.
struct Sample {
    each: Vec<Duration>,
    all: Duration,
}

impl Sample {
    fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }

    fn median_us(&self) -> f64 {
        median(self.each.iter().map(|time| time.as_secs_f64() * 1e6))
    }
}

/// One caller and many, in turn. What they burn was issued before.
///
/// # Errors
/// There is no place for a ledger; one that fails ends the benchmark.
pub fn measure(bed: &Bed, size: Size) -> Result<Part, String> {
    let private = Permissions::from_mode(0o700);
    let dir = tempfile::Builder::new().permissions(private).tempdir_in(DISK);
    let dir = dir.map_err(|error| format!("{DISK}: {error}"))?;
    let info = ExecSock::of(&bed.instance).info();
    let plan = plan_for(&bed.instance, &info, bed.uid(), &["/bin/true"]);
    let now = olb_sys::clock::unix_secs();
    let issuer = Issuer::open(dir.path(), key(8), key(9), bed.approver(), plan, now);
    let mut issued = 0;
    let mut lot = |callers: usize, each: usize| {
        let first = issued;
        issued += callers * each;
        issue(&issuer, first, callers, each, now)
    };
    let samples: Vec<[Sample; 2]> = (0..size.samples)
        .map(|_| [(1, BURNS_ALONE), (CALLERS, BURNS_EACH)].map(|(c, each)| lot(c, each)))
        .map(|lots| lots.map(|lot| burn(&issuer, lot, now)))
        .collect();
    let over = |call: fn(&[Sample; 2]) -> f64| median(samples.iter().map(call));
    let ratio = over(|[one, many]| many.per_second() / one.per_second());
    Ok(vec![
        Figure::of("burns a second: 64 callers against 1", Unit::Ratio, ratio)
            .aimed(Aim::at_least(6.0, 12.0)),
        Figure::of("burns a second: 1 caller", Unit::PerSecond, over(|[one, _]| one.per_second())),
        Figure::of("burns a second: 64 callers", Unit::PerSecond, over(|[_, m]| m.per_second())),
        Figure::of("one burn: 1 caller", Unit::Microseconds, over(|[one, _]| one.median_us())),
        Figure::of("one burn: 64 callers", Unit::Microseconds, over(|[_, many]| many.median_us())),
    ]
    .into())
}

fn key<R: olb_lease::Role>(seed: u8) -> SigningKey<R> {
    SigningKey::from_seed(&[seed; 32].into()).expect("a key")
}

/// Leases for so many callers. Many are issued at once, which is faster.
fn issue(
    issuer: &Issuer,
    first: usize,
    callers: usize,
    each: usize,
    now: u64,
) -> Vec<Vec<VerifiedLease>> {
    let total = callers * each;
    let share = total.div_ceil(CALLERS);
    let number = |at: usize| u32::try_from(first + at).expect("not that many");
    let leases: Vec<VerifiedLease> = thread::scope(|scope| {
        let starts = (0..total).step_by(share);
        let threads: Vec<_> = starts
            .map(|start| {
                let range = start..total.min(start + share);
                scope.spawn(move || {
                    range.map(|at| issuer.approve(number(at), now).lease).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("leases")).collect()
    });
    let mut leases = leases.into_iter();
    (0..callers).map(|_| leases.by_ref().take(each).collect()).collect()
}

/// Every caller burns its leases one after the other, all callers at once.
fn burn(issuer: &Issuer, lots: Vec<Vec<VerifiedLease>>, now: u64) -> Sample {
    let ready = Barrier::new(lots.len() + 1);
    let caller = |lot: Vec<VerifiedLease>| {
        ready.wait();
        let one = |lease| {
            let begun = Instant::now();
            issuer.burn(lease, now);
            begun.elapsed()
        };
        lot.into_iter().map(one).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let caller = &caller;
        let threads: Vec<_> =
            lots.into_iter().map(|lot| scope.spawn(move || caller(lot))).collect();
        ready.wait();
        let begun = Instant::now();
        let each = threads.into_iter().flat_map(|thread| thread.join().expect("burns")).collect();
        Sample { each, all: begun.elapsed() }
    })
}
