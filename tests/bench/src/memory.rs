//! Resident memory: when nothing happens, after a crowd, and under a command whose output nobody
//! reads.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use olb_e2e_tests::{Instance, resident_kib};

use crate::bed::Bed;
use crate::client::{exec_words, start};
use crate::crowd;
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};

/// How long a client does not read.
const UNREAD: Duration = Duration::from_secs(60);
const UNREAD_QUICK: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// So many looks in a row have to agree before memory counts as that of a broker at rest, and after so
/// long the last one counts anyway.
const SAME_LOOKS: u32 = 10;
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

fn megabytes(kib: u64) -> f64 {
    (kib * 1024) as f64 / 1e6
}

/// Of the root half and of the front.
fn halves(instance: &Instance) -> [u64; 2] {
    [instance.execd_pid(), instance.brokerd_pid()].map(resident_kib)
}

fn both(instance: &Instance) -> u64 {
    halves(instance).iter().sum()
}

/// The halves once a crowd has left: when their memory has stayed the same for half a second.
fn settled(instance: &Instance) -> [u64; 2] {
    let begun = Instant::now();
    let (mut last, mut same) = (halves(instance), 0);
    while same < SAME_LOOKS && begun.elapsed() < SETTLED_WITHIN {
        thread::sleep(LOOK_EVERY);
        let now = halves(instance);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Both halves together: of an instance that has answered one question, and of the measured one
/// after a crowd.
///
/// # Errors
/// A command could not be started.
pub fn resident(bed: &Bed, _: Size) -> Result<Part, String> {
    let fresh = {
        let instance = Instance::start();
        instance.olb(instance.requester(0), &["status"]).expect(0);
        halves(&instance)
    };
    crowd::present_many(bed)?;
    let after = format!("after {} leases at once", crowd::AT_ONCE);
    let mut figures = Vec::new();
    for (when, halves) in [("fresh", fresh), (after.as_str(), settled(&bed.instance))] {
        let figure = |whose: &str, kib| {
            let row = format!("resident memory of {whose}, {when}");
            Figure::of(row, Unit::Megabytes, megabytes(kib))
        };
        let [root, front] = halves;
        figures.push(figure("both halves", root + front).aimed(Aim::at_most(20.0, 10.0)));
        figures.push(figure("the root half", root));
        figures.push(figure("the front", front));
    }
    Ok(figures.into())
}

/// By how much both halves grow, and how large the client gets, while a command writes all it can
/// and nobody reads it.
///
/// # Errors
/// The client could not be started, or ended.
pub fn unread(bed: &Bed, size: Size) -> Result<Part, String> {
    let time = if size.quick { UNREAD_QUICK } else { UNREAD };
    let words = exec_words(bed, &["/usr/bin/cat", "/dev/zero"]);
    let before = both(&bed.instance);
    let mut child = start(bed, &words, Stdio::piped())?;
    let (mut halves, mut client) = (before, 0);
    let begun = Instant::now();
    while begun.elapsed() < time {
        thread::sleep(LOOK_EVERY);
        halves = halves.max(both(&bed.instance));
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("a client that is not read ended with {status}"));
        }
        client = client.max(resident_kib(child.id()));
    }
    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
    let aim = Aim::at_most(16.0, 4.0);
    let seconds = time.as_secs();
    let figure = |what: &str, kib| {
        let row = format!("{seconds} s of output that nobody reads: {what}");
        Figure::of(row, Unit::Megabytes, megabytes(kib)).aimed(aim)
    };
    Ok(vec![figure("growth of both halves", halves - before), figure("all of the client", client)]
        .into())
}
