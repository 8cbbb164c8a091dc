//! A claim with its figures: what was promised, what was measured, and whether it holds.
//!
//! All claims of a test are collected and shown together, so that a person who reads a failure sees at once
//! which one broke and how the others stand.

use crate::skip;
use std::{
    fmt,
    io::{self, Write},
};

/// The claims of one test.
#[derive(Debug)]
pub struct Claims {
    test: String,
    lines: Vec<String>,
    broken: usize,
}

impl Claims {
    /// None yet.
    #[must_use]
    pub fn of(test: &str) -> Self {
        Self { test: test.into(), lines: Vec::new(), broken: 0 }
    }

    /// `measured` must not be above `limit`.
    pub fn at_most(&mut self, what: &str, measured: Figure, limit: Figure) {
        let share = if limit.value > 0.0 { measured.value / limit.value * 100.0 } else { 0.0 };
        self.add(what, measured.value <= limit.value, &format!("{measured}, at most {limit} ({share:.1} %)"));
    }

    /// `measured` must not be below `limit`.
    pub fn at_least(&mut self, what: &str, measured: Figure, limit: Figure) {
        self.add(what, measured.value >= limit.value, &format!("{measured}, at least {limit}"));
    }

    /// Something that is so or not.
    pub fn holds(&mut self, what: &str, so: bool, details: &str) {
        self.add(what, so, details);
    }

    /// A figure that nothing depends on.
    pub fn note(&mut self, what: &str, measured: Figure) {
        self.say(what, &measured.to_string());
    }

    /// Something to know that nothing depends on.
    pub fn say(&mut self, what: &str, words: &str) {
        self.lines.push(format!("        {what}: {words}"));
    }

    /// Shows all of them.
    ///
    /// # Panics
    /// If one is broken.
    pub fn settle(self) {
        let list = self.lines.join("\n");
        assert!(self.broken == 0, "{}: {} broken\n{list}\n", self.test, self.broken);
        let words = format!("{}: all hold\n{list}\n", self.test);
        if skip::in_ci() {
            // The test runner keeps to itself what passing tests print with macros.
            let _ = io::stderr().write_all(words.as_bytes());
        } else {
            eprint!("{words}");
        }
    }

    fn add(&mut self, what: &str, so: bool, details: &str) {
        let sign = if so { "ok    " } else { "BROKEN" };
        self.broken += usize::from(!so);
        self.lines.push(format!("{sign}  {what}: {details}"));
    }
}

/// A measured or promised value with its unit.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    value: f64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Bytes,
    Seconds,
    Count,
    Ratio,
}

impl Figure {
    /// Bytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
    pub fn bytes(bytes: u64) -> Self {
        Self { value: bytes as f64, unit: Unit::Bytes }
    }

    /// A time.
    #[must_use]
    pub fn seconds(seconds: f64) -> Self {
        Self { value: seconds, unit: Unit::Seconds }
    }

    /// A number without a unit.
    #[must_use]
    pub fn ratio(ratio: f64) -> Self {
        Self { value: ratio, unit: Unit::Ratio }
    }

    /// A number of things.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 things")]
    pub fn count(count: usize) -> Self {
        Self { value: count as f64, unit: Unit::Count }
    }

    /// So many times as much.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, unit: self.unit }
    }

    /// So much more.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self { value: self.value + more.value, unit: self.unit }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Bytes => write!(f, "{:.0} bytes ({:.2} MB)", self.value, self.value / 1e6),
            Unit::Seconds => write!(f, "{:.2} s", self.value),
            Unit::Ratio => write!(f, "{:.3}", self.value),
            Unit::Count => write!(f, "{:.0}", self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "BROKEN  bytes over the WAN: 106 bytes (0.00 MB), at most 105 bytes")]
    fn a_broken_claim_fails_with_its_figures() {
        let mut claims = Claims::of("a test");
        claims.at_most("clients", Figure::count(8), Figure::count(8));
        claims.at_most("bytes over the WAN", Figure::bytes(106), Figure::bytes(100).times(1.05));
        claims.settle();
    }
}
