//! docs/differences.md as the tests read it: tables with one heading each.

use std::fs;
use std::path::Path;

/// The document.
pub struct Listed(String);

/// The rows below one heading.
pub struct Table {
    heading: String,
    rows: Vec<Row>,
}

/// One row; the last cell is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The cells but for the last one, without the marks of code.
    pub cells: Vec<String>,
}

impl Listed {
    /// Of this repository.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the top");
        let path = root.join("docs/differences.md");
        Self(fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")))
    }

    /// The table below `heading`.
    ///
    /// # Panics
    /// There is none, or a row of it gives no reason.
    #[track_caller]
    pub fn table(&self, heading: &str) -> Table {
        let begin = format!("\n## {heading}\n");
        let (_, rest) = self.0.split_once(&begin).unwrap_or_else(|| panic!("no ## {heading}"));
        let section = rest.split("\n## ").next().unwrap_or_default();
        let lines: Vec<&str> = section.lines().filter(|line| line.starts_with('|')).collect();
        let [_, rule, rows @ ..] = lines.as_slice() else { panic!("{heading}: no table") };
        assert!(rule.starts_with("|---"), "{heading}: {rule}");
        Table { heading: heading.into(), rows: rows.iter().map(|line| Row::read(line)).collect() }
    }
}

impl Row {
    /// A row of these cells.
    pub fn of(cells: &[&str]) -> Self {
        Self { cells: cells.iter().map(|cell| (*cell).to_owned()).collect() }
    }

    fn read(line: &str) -> Self {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", cells @ .., reason, ""] = cells.as_slice() else { panic!("no row: {line}") };
        assert!(!reason.is_empty(), "no reason: {line}");
        Self { cells: cells.iter().map(|cell| cell.replace('`', "")).collect() }
    }
}

impl Table {
    /// Fails unless the rows are exactly what was found: everything that was found is listed, and
    /// nothing else.
    #[track_caller]
    pub fn expect(&self, found: &[Row]) {
        let shown = |row: &Row| format!("| `{}` |", row.cells.join("` | `"));
        let twice = self.rows.iter().enumerate().filter(|(at, row)| self.rows[..*at].contains(row));
        let twice: Vec<_> = twice.map(|(_, row)| shown(row)).collect();
        let unlisted = found.iter().filter(|row| !self.rows.contains(row)).map(shown);
        let unlisted: Vec<String> = unlisted.collect();
        let unseen = self.rows.iter().filter(|row| !found.contains(row)).map(shown);
        let unseen: Vec<String> = unseen.collect();
        assert!(
            unlisted.is_empty() && unseen.is_empty() && twice.is_empty(),
            "docs/differences.md, {}:\nnot listed:\n{}\nlisted, and not so:\n{}\ntwice:\n{}",
            self.heading,
            unlisted.join("\n"),
            unseen.join("\n"),
            twice.join("\n")
        );
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const TEXT: &str = "# D\n\n## One\n\nWords.\n\n| A | B | Why |\n|---|---|---|\n\
                        | `x` | one `y` | because it is |\n\n## Two\n\n| A | Why |\n|---|---|\n";

    fn holds(heading: &str, found: &[Row]) -> bool {
        let table = Listed(TEXT.into()).table(heading);
        catch_unwind(|| table.expect(found)).is_ok()
    }

    #[test]
    fn what_is_found_has_to_be_listed_and_what_is_listed_found() {
        let listed = Row::of(&["x", "one y"]);
        assert!(holds("One", std::slice::from_ref(&listed)));
        assert!(!holds("One", &[]), "a row that does not occur");
        assert!(!holds("One", &[listed.clone(), Row::of(&["z", "y"])]), "one that is not listed");
        assert!(!holds("One", &[Row::of(&["x", "two y"])]), "another value");
        assert!(holds("Two", &[]) && !holds("Two", &[listed]), "tables are apart");
    }
}
