//! Times as a table of ratios, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::runner::Times;
use crate::stats::{median, milliseconds, paired_ratio};

/// What every row is compared with, and the heading of that column.
const BASES: [(&str, &str); 4] = [
    ("/bin/true", "/true"),
    ("floor + burn", "/burn"),
    ("floor + burn + audit", "/audit"),
    ("sudo -n", "/sudo"),
];

/// One row.
pub struct Row {
    name: String,
    median_ms: f64,
    min_ms: f64,
    /// In the order of [`BASES`]; none where the base was not measured.
    ratios: [Option<Ratio>; BASES.len()],
}

#[derive(Clone, Copy)]
struct Ratio {
    /// Median of the ratios pair by pair.
    paired: f64,
    /// Ratio of the smallest times.
    minima: f64,
}

/// The rows, the fastest first.
pub fn rows(times: &Times) -> Vec<Row> {
    let min = |values: &[u64]| values.iter().min().copied().unwrap_or(0) as f64;
    let mut rows: Vec<Row> = times
        .iter()
        .map(|(name, values)| Row {
            name: name.clone(),
            median_ms: milliseconds(median(values.iter().map(|value| *value as f64))),
            min_ms: milliseconds(min(values)),
            ratios: BASES.map(|(base, _)| {
                let bases = times.get(base)?;
                let minima = min(values) / min(bases);
                Some(Ratio { paired: paired_ratio(values, bases), minima })
            }),
        })
        .collect();
    rows.sort_by(|one, other| one.median_ms.total_cmp(&other.median_ms));
    rows
}

/// For people.
pub fn text(rows: &[Row], rounds: usize) -> String {
    let mut text = format!(
        "One privileged no-op, whole process, n = {rounds}. Ratios: median of pairs (of minima).\n\
         {:<28}{:>10}{:>9}",
        "", "median ms", "min ms"
    );
    for (_, heading) in BASES {
        write!(text, "{heading:>15}").expect("a string takes everything");
    }
    text.push('\n');
    for row in rows {
        write!(text, "{:<28}{:>10.2}{:>9.2}", row.name, row.median_ms, row.min_ms)
            .expect("a string takes everything");
        for ratio in &row.ratios {
            let shown = ratio.map_or("-".into(), |Ratio { paired, minima }| {
                format!("{paired:.2} ({minima:.2})")
            });
            write!(text, "{shown:>15}").expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

/// For programs.
pub fn json(rows: &[Row]) -> Value {
    let one = |row: &Row| {
        let ratios: serde_json::Map<String, Value> = BASES
            .iter()
            .zip(&row.ratios)
            .filter_map(|((base, _), ratio)| {
                let ratio = (*ratio)?;
                let value = json!({ "median_of_pairs": ratio.paired, "of_minima": ratio.minima });
                Some(((*base).to_owned(), value))
            })
            .collect();
        json!({
            "row": row.name, "median_ms": row.median_ms, "min_ms": row.min_ms, "ratio_to": ratios,
        })
    };
    Value::Array(rows.iter().map(one).collect())
}
