//! Tables: what an experiment prints, in the form that docs/benchmarks.md keeps.

use std::fmt;

/// A titled table. Its first column is words, the others are numbers.
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self { title: title.into(), columns: columns.iter().map(ToString::to_string).collect(), rows: vec![] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it does not have the table's number of columns.
    pub fn row(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.columns.len(), "a row of {:?}", self.title);
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| writeln!(f, "| {} |", cells.join(" | "));
        writeln!(f, "{}\n", self.title)?;
        line(f, &self.columns)?;
        writeln!(f, "|---|{}", "---:|".repeat(self.columns.len() - 1))?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

/// A share as per cent, with as many digits as tell it from 0 and 1.
pub fn percent(share: f64) -> String {
    let near = share.min(1.0 - share).abs();
    let digits = if near == 0.0 || near >= 0.01 { 1 } else { 3 };
    format!("{:.digits$} %", 100.0 * share)
}

/// A duration in the unit that suits it.
pub fn duration(millis: u64) -> String {
    let seconds = millis as f64 / 1000.0;
    if seconds < 120.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}

/// Bytes in the unit that suits them; powers of ten.
pub fn bytes(count: f64) -> String {
    match count {
        0.0..1e4 => format!("{count:.0} B"),
        1e4..1e7 => format!("{:.1} kB", count / 1e3),
        _ => format!("{:.2} MB", count / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new("Title", &["what", "a", "b"]);
        table.row(vec!["row".to_owned(), percent(0.5), percent(0.9999)]);
        assert_eq!(table.to_string(), "Title\n\n| what | a | b |\n|---|---:|---:|\n| row | 50.0 % | 99.990 % |\n");
    }

    #[test]
    fn figures_have_units_that_suit_them() {
        assert_eq!([duration(1500), duration(180_000)], ["1.5 s", "3.0 min"]);
        assert_eq!([bytes(999.0), bytes(12_345.0), bytes(12e6)], ["999 B", "12.3 kB", "12.00 MB"]);
    }
}
