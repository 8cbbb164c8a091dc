//! Numbers and tables as people read them.

use crate::failure::Failure;
use jiff::Timestamp;
use serde::Serialize;
use std::{fmt::Write, time::Duration};

/// Bytes with a binary unit and three digits at most: `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 100.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A rate: `12.3 MiB/s`.
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// A span of time: `4.2 s`, `3 min 5 s`, `2 h 10 min`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A share in percent, never 100 before it is whole.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 || part >= whole {
        return "100 %".into();
    }
    format!("{} %", part * 100 / whole)
}

/// A number of things: `1 file`, `2 files`.
pub fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A moment in Unix seconds as ISO 8601 writes it, in UTC: `2026-11-20T12:45:00Z`.
pub fn time(unix_seconds: u64) -> String {
    let time = i64::try_from(unix_seconds).ok().and_then(|time| Timestamp::from_second(time).ok());
    time.map_or("-".into(), |time| time.to_string())
}

/// An answer of the local agent as a line of JSON.
pub fn json(answer: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(answer)
        .map_err(|error| Failure::failed("the answer cannot be written as JSON", &error))
}

/// Reads NAME@V from the command line.
pub fn release_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('@') {
        Some((image, release)) if !image.is_empty() && !release.is_empty() => {
            Ok((image.into(), release.into()))
        }
        Some(_) | None => Err("write NAME@V".into()),
    }
}

/// Rows with aligned columns, two spaces apart. Columns whose heading ends in a space are aligned to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].trim_end().chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut row = String::new();
        for (column, cell) in cells.enumerate() {
            let space = widths[column];
            let written = if headings[column].ends_with(' ') {
                write!(row, "{cell:>space$}  ")
            } else {
                write!(row, "{cell:<space$}  ")
            };
            written.expect("writing to a string does not fail");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(&mut headings.iter().map(|heading| heading.trim_end()));
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_round_up_to_done() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 KiB");
        assert_eq!(bytes(671_088_640), "640 MiB");
        assert_eq!(bytes(u64::MAX), "16777216 TiB");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(percent(999, 1000), "99 %");
        assert_eq!(percent(0, 0), "100 %");
        assert_eq!(span(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(time(u64::MAX), "-");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["pc-1".into(), "9 B".into()], vec!["printer".into(), "123 B".into()]];
        assert_eq!(table(&["node", "size "], &rows), "node      size\npc-1       9 B\nprinter  123 B\n");
    }
}
