//! Times of whole processes as a table of ratios, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::runner::Times;
use crate::stats::{median, milliseconds, paired_ratio};

/// What rows are compared with where it was measured too, and the heading of that column.
const BASES: [(&str, &str); 4] = [
    ("/bin/true", "to /bin/true"),
    ("floor + burn", "to + burn"),
    ("floor + burn + audit", "to + audit"),
    ("sudo -n", "to sudo -n"),
];
const NAME_WIDTH: usize = 28;
/// Of a ratio, and of one that has a range.
const CELL_WIDTH: usize = 17;
const WIDE_CELL_WIDTH: usize = 29;

/// One row. Every list has a value from each repetition.
struct Row<'a> {
    name: &'a str,
    median_ms: Vec<f64>,
    min_ms: Vec<f64>,
    ratios: Vec<Ratio>,
}

struct Ratio {
    base: &'static str,
    /// Medians of the ratios pair by pair.
    paired: Vec<f64>,
    /// Ratios of the smallest times.
    minima: Vec<f64>,
}

fn min(values: &[u64]) -> f64 {
    values.iter().min().map_or(f64::NAN, |least| *least as f64)
}

/// The rows of all repetitions, the fastest first.
fn rows(all: &[Times]) -> Vec<Row<'_>> {
    let Some(first) = all.first() else { return Vec::new() };
    let mut rows: Vec<Row<'_>> = first
        .keys()
        .map(|name| {
            let middle = |times: &Times| median(times[name].iter().map(|value| *value as f64));
            let bases = BASES.iter().filter(|(base, _)| first.contains_key(*base));
            let ratios = bases.map(|(base, _)| Ratio {
                base,
                paired: all.iter().map(|times| paired_ratio(&times[name], &times[*base])).collect(),
                minima: all.iter().map(|times| min(&times[name]) / min(&times[*base])).collect(),
            });
            Row {
                name,
                median_ms: all.iter().map(|times| milliseconds(middle(times))).collect(),
                min_ms: all.iter().map(|times| milliseconds(min(&times[name]))).collect(),
                ratios: ratios.collect(),
            }
        })
        .collect();
    let middle = |row: &Row<'_>| median(row.median_ms.iter().copied());
    rows.sort_by(|one, other| middle(one).total_cmp(&middle(other)));
    rows
}

/// For people.
pub fn text(part: &str, all: &[Times], rounds: usize) -> String {
    let rows = rows(all);
    let width = if all.len() > 1 { WIDE_CELL_WIDTH } else { CELL_WIDTH };
    let mut text = format!(
        "{part}: whole processes, n = {rounds}. Ratios: the median of pairs [over {} \
         repetitions] (of the minima).\n{:<NAME_WIDTH$}{:>10}{:>9}",
        all.len(),
        "",
        "median ms",
        "min ms"
    );
    let bases = rows.first().map_or(&[][..], |row| row.ratios.as_slice());
    for ratio in bases {
        let heading =
            BASES.iter().find(|(base, _)| *base == ratio.base).map_or("", |found| found.1);
        write!(text, "{heading:>width$}").expect("a string takes everything");
    }
    text.push('\n');
    for row in &rows {
        let middle = |values: &[f64]| median(values.iter().copied());
        let (median_ms, min_ms) = (middle(&row.median_ms), middle(&row.min_ms));
        write!(text, "{:<NAME_WIDTH$}{median_ms:>10.2}{min_ms:>9.2}", row.name)
            .expect("a string takes everything");
        for ratio in &row.ratios {
            let cell = format!("{} ({:.2})", spread(&ratio.paired), middle(&ratio.minima));
            write!(text, "{cell:>width$}").expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

/// The median, with the range where there is more than one value.
fn spread(values: &[f64]) -> String {
    let middle = median(values.iter().copied());
    if values.len() < 2 {
        return format!("{middle:.2}");
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{middle:.2} [{least:.2}..{most:.2}]")
}

/// For programs.
pub fn json(all: &[Times]) -> Value {
    let one = |row: Row<'_>| {
        let ratios: serde_json::Map<String, Value> = row
            .ratios
            .into_iter()
            .map(|Ratio { base, paired, minima }| {
                let value = json!({ "medians_of_pairs": paired, "of_minima": minima });
                (base.to_owned(), value)
            })
            .collect();
        json!({
            "row": row.name, "median_ms": row.median_ms, "min_ms": row.min_ms, "ratio_to": ratios,
        })
    };
    Value::Array(rows(all).into_iter().map(one).collect())
}
