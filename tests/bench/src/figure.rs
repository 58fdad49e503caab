//! A figure, the aim that it is held against, and whether that was met.

use serde_json::{Value, json};

use crate::stats::median;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// How many times something else it is.
    Ratio,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Millions of bytes.
    Megabytes,
    /// Millions of bytes per second.
    MegabytesPerSecond,
    /// Whole things.
    Count,
    /// Whole things per second.
    PerSecond,
}

/// On which side of an aim a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
    Exactly,
}

/// What the project wants of a figure: what it must be, and what would be better still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aim {
    side: Side,
    must: Option<f64>,
    stretch: Option<f64>,
}

impl Aim {
    /// No more than that.
    pub fn at_most(must: f64, stretch: f64) -> Self {
        Self { side: Side::AtMost, must: Some(must), stretch: Some(stretch) }
    }

    /// No less than that.
    pub fn at_least(must: f64, stretch: f64) -> Self {
        Self { side: Side::AtLeast, must: Some(must), stretch: Some(stretch) }
    }

    /// That and nothing else.
    pub fn exactly(must: f64) -> Self {
        Self { side: Side::Exactly, must: Some(must), stretch: None }
    }

    /// Only what must be.
    pub fn without_stretch(self) -> Self {
        Self { stretch: None, ..self }
    }

    /// Only what would be better still.
    pub fn only_stretch(self) -> Self {
        Self { must: None, ..self }
    }

    fn is_met(self, bound: f64, value: f64) -> bool {
        match self.side {
            Side::AtMost => value <= bound,
            Side::AtLeast => value >= bound,
            Side::Exactly => value == bound,
        }
    }

    fn sign(self) -> &'static str {
        match self.side {
            Side::AtMost => "<=",
            Side::AtLeast => ">=",
            Side::Exactly => "=",
        }
    }
}

/// One measured value.
#[derive(Debug, Clone)]
pub struct Figure {
    row: String,
    value: f64,
    unit: Unit,
    aim: Option<Aim>,
}

impl Figure {
    /// Without an aim: there to judge the others by.
    pub fn of(row: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { row: row.into(), value, unit, aim: None }
    }

    /// The same with an aim.
    pub fn aimed(self, aim: Aim) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

/// The values of one figure, one from each repetition.
#[derive(Debug, Clone)]
pub struct Series {
    row: String,
    unit: Unit,
    aim: Option<Aim>,
    values: Vec<f64>,
}

/// The figures of all repetitions of a part, each of which gives the same ones in the same order.
pub fn series(repetitions: Vec<Vec<Figure>>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for figure in repetitions.into_iter().flatten() {
        match all.iter_mut().find(|series| series.row == figure.row) {
            Some(series) => series.values.push(figure.value),
            None => {
                let Figure { row, value, unit, aim } = figure;
                all.push(Series { row, unit, aim, values: vec![value] });
            }
        }
    }
    all
}

impl Series {
    fn median(&self) -> f64 {
        median(self.values.iter().copied())
    }

    fn least(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Whether the median meets its aim, and in how many repetitions the value did not. What has to
    /// be exact has to be so in each of them.
    fn verdict(&self) -> String {
        let Some(aim) = self.aim else { return String::new() };
        let is_met = |bound| match aim.side {
            Side::Exactly => self.values.iter().all(|value| aim.is_met(bound, *value)),
            Side::AtMost | Side::AtLeast => aim.is_met(bound, self.median()),
        };
        let word = match (aim.must.map(is_met), aim.stretch.map(is_met)) {
            (Some(false), _) => "missed",
            (_, Some(true)) => "met, stretch too",
            (Some(true), _) => "met",
            (None, _) => "stretch missed",
        };
        let bound = aim.must.or(aim.stretch).unwrap_or(f64::NAN);
        let missed = self.values.iter().filter(|value| !aim.is_met(bound, **value)).count();
        match missed {
            0 => word.to_owned(),
            _ if missed == self.values.len() => word.to_owned(),
            _ => format!("{word} (missed {missed} of {})", self.values.len()),
        }
    }

    /// Its cells: row, must, stretch, measured, verdict.
    fn cells(&self) -> [String; 5] {
        let bound = |bound: Option<f64>| match (self.aim, bound) {
            (Some(aim), Some(bound)) => format!("{} {bound}", aim.sign()),
            _ => String::new(),
        };
        let shown = |value| show(self.unit, value);
        let mut measured = shown(self.median());
        if self.values.len() > 1 {
            measured.push_str(&format!(" [{}..{}]", shown(self.least()), shown(self.most())));
        }
        measured.push_str(suffix(self.unit));
        let (must, stretch) = (self.aim.and_then(|aim| aim.must), self.aim.and_then(|a| a.stretch));
        [self.row.clone(), bound(must), bound(stretch), measured, self.verdict()]
    }

    /// For programs.
    pub fn json(&self, part: &str) -> Value {
        json!({
            "part": part, "row": self.row, "unit": suffix(self.unit).trim(),
            "median": self.median(), "min": self.least(), "max": self.most(),
            "values": self.values,
            "aim": self.aim.map(|aim| json!({
                "sign": aim.sign(), "must": aim.must, "stretch": aim.stretch,
            })),
            "verdict": self.aim.map(|_| self.verdict()),
        })
    }
}

fn show(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Ratio | Unit::Milliseconds | Unit::Megabytes => format!("{value:.2}"),
        Unit::Microseconds => format!("{value:.1}"),
        Unit::Count | Unit::PerSecond | Unit::MegabytesPerSecond => format!("{value:.0}"),
    }
}

fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::Ratio | Unit::Count => "",
        Unit::Milliseconds => " ms",
        Unit::Microseconds => " us",
        Unit::Megabytes => " MB",
        Unit::MegabytesPerSecond => " MB/s",
        Unit::PerSecond => " /s",
    }
}

/// All figures as one table for people.
pub fn text(all: &[Series]) -> String {
    let heading = ["what", "must", "stretch", "measured", "verdict"].map(str::to_owned);
    let rows: Vec<[String; 5]> =
        std::iter::once(heading).chain(all.iter().map(Series::cells)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |[what, must, stretch, measured, verdict]: &[String; 5]| {
        let [a, b, c, d] = widths;
        let line = format!("{what:<a$}  {must:>b$}  {stretch:>c$}  {measured:>d$}  {verdict}");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(aim: Aim, values: &[f64]) -> String {
        let figure = |value: &f64| vec![Figure::of("row", Unit::Ratio, *value).aimed(aim)];
        let all = series(values.iter().map(figure).collect());
        assert_eq!(all.len(), 1);
        all[0].verdict()
    }

    #[test]
    fn the_median_decides_and_repetitions_that_say_otherwise_are_counted() {
        let aim = Aim::at_most(1.2, 1.0);
        assert_eq!(verdict(aim, &[0.9]), "met, stretch too");
        assert_eq!(verdict(aim, &[1.2]), "met");
        assert_eq!(verdict(aim, &[1.3, 1.4]), "missed");
        assert_eq!(verdict(aim, &[1.1, 1.1, 1.3]), "met (missed 1 of 3)");
        assert_eq!(verdict(aim, &[1.1, 1.3, 1.3]), "missed (missed 2 of 3)");
        assert_eq!(verdict(Aim::at_least(6.0, 12.0), &[5.9]), "missed");
        assert_eq!(verdict(Aim::at_least(1.0, 1.0).only_stretch(), &[0.9]), "stretch missed");
    }

    #[test]
    fn what_has_to_be_exact_has_to_be_so_every_time() {
        assert_eq!(verdict(Aim::exactly(1.0), &[1.0, 1.0]), "met");
        assert_eq!(verdict(Aim::exactly(1.0), &[1.0, 1.0, 2.0]), "missed (missed 1 of 3)");
    }

    #[test]
    fn what_could_not_be_measured_is_not_met() {
        assert_eq!(verdict(Aim::at_most(1.0, 1.0), &[f64::NAN]), "missed");
    }
}
