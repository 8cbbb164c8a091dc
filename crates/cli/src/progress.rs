//! How far commands are that read many bytes: a bar in a terminal, now and then a line in a log.

use crate::text;
use branchmesh_repo::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two lines where there is no terminal: what takes an hour fills a page of a log.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A bar over bytes with rate and time left, on stderr.
pub struct Bar {
    /// Hidden where stderr is no terminal; it counts all the same.
    bar: ProgressBar,
    begun: Instant,
    last_line: Mutex<Instant>,
}

impl Bar {
    /// An empty bar.
    pub fn new() -> Self {
        let template = "{bar:30} {percent} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template).expect("a literal template");
        let begun = Instant::now();
        Self { bar: ProgressBar::new(0).with_style(style), begun, last_line: Mutex::new(begun) }
    }

    /// Takes it off the screen.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn total(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        if !self.bar.is_hidden() {
            return;
        }
        let mut last_line = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last_line.elapsed() >= LINE_EVERY {
            *last_line = Instant::now();
            let total = self.bar.length().unwrap_or(0);
            eprintln!("{}", line(self.bar.position(), total, self.begun.elapsed()));
        }
    }
}

/// How far it is: `36 % of 60.0 GiB, 480 MiB/s, 1 min 22 s left`.
fn line(done: u64, total: u64, took: Duration) -> String {
    let so_far = format!("{} of {}", text::percent(done, total), text::bytes(total));
    let rate = (done as f64 / took.as_secs_f64().max(0.001)) as u64;
    if rate == 0 {
        return so_far;
    }
    let left = Duration::from_secs(total.saturating_sub(done) / rate);
    format!("{so_far}, {}, {} left", text::rate(rate), text::span(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long_still() {
        let gib = 1 << 30;
        assert_eq!(
            line(15 * gib, 60 * gib, Duration::from_secs(32)),
            "25 % of 60.0 GiB, 480 MiB/s, 1 min 36 s left"
        );
        assert_eq!(line(0, gib, Duration::ZERO), "0 % of 1.0 GiB");
        assert_eq!(line(5, 5, Duration::from_secs(1)), "100 % of 5 B, 5 B/s, 0.0 s left");
    }
}
