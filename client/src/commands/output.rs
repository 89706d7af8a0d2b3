//! Output: how a command shows what it learned, to people or to programs.
//!
//! Specification: docs/control.md, "What the commands print". Programs get one line of JSON for each answer, with
//! `"version"` in it.

use std::io::{self, Write};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use trefoil_relay::status_socket::Form;

use super::words::escaped;
use crate::control::{Answer, VERSION};

/// See the file's head.
pub struct Output<'a> {
    out: &'a mut (dyn Write + Send),
    form: Form,
    /// Whether a person watches it.
    pub is_terminal: bool,
    /// Where the person's clock is.
    pub zone: TimeZone,
}

/// What programs get: the version, and whatever it is.
#[derive(Serialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    what: T,
}

impl<'a> Output<'a> {
    /// To whoever reads `out`.
    pub fn new(out: &'a mut (dyn Write + Send), form: Form, is_terminal: bool) -> Self {
        Self { out, form, is_terminal, zone: TimeZone::system() }
    }

    /// Whether programs read it.
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Shows an answer: to programs as it is, to people in these words.
    pub(super) fn answer(&mut self, answer: &Answer, words: impl FnOnce(&TimeZone) -> String) -> io::Result<()> {
        match self.form {
            Form::Json => self.json(answer),
            Form::Words => {
                let words = words(&self.zone);
                self.print(&words)
            }
        }
    }

    /// A line of JSON, with the version in it.
    pub(super) fn json(&mut self, what: &impl Serialize) -> io::Result<()> {
        self.print(&line(what)?)
    }

    /// Lines for people; an empty text is no line.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        if !text.is_empty() {
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }
}

/// What programs get, with the version in it, on one line.
pub(super) fn line(what: &impl Serialize) -> io::Result<String> {
    let line = serde_json::to_string(&Versioned { version: VERSION, what })?;
    Ok(escaped(&line))
}

/// A time as the person's clock shows it.
pub(super) fn local(at: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_second(at).ok());
    match time {
        Some(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string(),
        None => "an unknown time".to_owned(),
    }
}

/// Rows with their columns below each other; the last is as long as it is.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_one_line_with_a_version_and_people_get_words() {
        let shown = |form| {
            let mut bytes = Vec::new();
            let mut out = Output::new(&mut bytes, form, false);
            out.answer(&Answer::Phrase("one two".to_owned()), |_| "1. one\n2. two".to_owned()).unwrap();
            out.answer(&Answer::Nothing {}, |_| String::new()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(shown(Form::Json), "{\"version\":1,\"phrase\":\"one two\"}\n{\"version\":1,\"nothing\":{}}\n");
        assert_eq!(shown(Form::Words), "1. one\n2. two\n");
    }

    #[test]
    fn a_time_is_the_persons_own() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(local(1_800_000_000, &zone), "2027-01-15 10:00");
        assert_eq!(local(u64::MAX, &zone), "an unknown time");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["a".to_owned(), "bcd".to_owned()], ["Ännä".to_owned(), "e".to_owned()]];
        assert_eq!(table(&rows), "a     bcd\nÄnnä  e");
        assert_eq!(table::<2>(&[]), "");
    }
}
