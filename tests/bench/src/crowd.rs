//! Many at once: different leases, and one lease again and again.

use olb_e2e_tests::{append, lines};

use crate::bed::Bed;
use crate::client::{burst, exec_words, owned, text};
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};
use crate::runner::Burst;

/// Processes that are started at the same moment.
pub const AT_ONCE: usize = 200;
const AUDIT: &str = "floor + burn + audit";

/// 200 leases at once, as many commands by sudo and by the floors, and one lease 200 times.
///
/// # Errors
/// A command could not be started, or one of those that it is compared with failed.
pub fn measure(bed: &Bed, _: Size) -> Result<Part, String> {
    let olb = present_many(bed)?;
    let ran = Figure::of("200 leases at once: how many ran", Unit::Count, olb.ran as f64);
    let mut figures = vec![
        ran.aimed(Aim::exactly(AT_ONCE as f64)),
        Figure::of("200 leases at once: olb exec", Unit::PerSecond, olb.per_second()),
    ];
    let client = bed.floor_client();
    let sudo = bed.sudo.is_some().then(|| ("sudo -n", owned(&["/usr/bin/sudo", "-n"])));
    let floors =
        bed.floors.iter().map(|floor| (floor.row, owned(&[&client, &text(&floor.socket)])));
    for (row, words) in sudo.into_iter().chain(floors) {
        let one = |at| [words.as_slice(), &owned(&no_op(at).each_ref().map(|w| &**w))].concat();
        let others = burst(bed, (0..AT_ONCE).map(one).collect())?;
        if others.ran != AT_ONCE {
            return Err(format!("{row}: only {} of {AT_ONCE} at once ended well", others.ran));
        }
        let ratio = olb.per_second() / others.per_second();
        let figure =
            Figure::of(format!("200 leases at once: rate against {row}"), Unit::Ratio, ratio);
        figures.push(match row {
            "sudo -n" => figure.aimed(Aim::at_least(2.0, 2.0).without_stretch()),
            AUDIT => figure.aimed(Aim::at_least(1.0, 1.0).only_stretch()),
            _ => figure,
        });
    }
    figures.extend(present_one(bed)?);
    Ok(figures.into())
}

fn no_op(at: usize) -> [String; 3] {
    ["/bin/true".into(), "at-once".into(), at.to_string()]
}

/// Different leases that are presented at the same moment.
///
/// # Errors
/// A command could not be started.
pub fn present_many(bed: &Bed) -> Result<Burst, String> {
    let one = |at| exec_words(bed, &no_op(at).each_ref().map(String::as_str));
    burst(bed, (0..AT_ONCE).map(one).collect())
}

/// One lease that is presented so often at the same moment: its command leaves a line each time it
/// runs.
fn present_one(bed: &Bed) -> Result<[Figure; 3], String> {
    let file = bed.instance.work().join("ran");
    let before = lines(&file);
    let words = exec_words(bed, &append(&file).each_ref().map(String::as_str));
    let told = burst(bed, vec![words; AT_ONCE])?;
    let figure = |what: &str, unit, value| {
        Figure::of(format!("one lease 200 times at once: {what}"), unit, value)
    };
    Ok([
        figure("how often it ran", Unit::Count, (lines(&file) - before) as f64)
            .aimed(Aim::exactly(1.0)),
        figure("how many were told so", Unit::Count, told.ran as f64).aimed(Aim::exactly(1.0)),
        figure("until all had an answer", Unit::Milliseconds, told.seconds * 1000.0),
    ])
}
