//! How much of each link was used, second by second: it shows who was idle when.

use crate::ports::Traffic;
use std::{fmt, time::Duration};

/// Between two points of a course.
pub const COURSE_EVERY: Duration = Duration::from_secs(1);

/// The counters of all ports, each [`COURSE_EVERY`] since the start of the clients; the holder's port comes first.
#[derive(Debug)]
pub struct Course {
    looks: Vec<Vec<Traffic>>,
    mbit: u32,
}

impl Course {
    /// Of looks at the same ports, whose links carry `mbit` Mbit/s in each direction.
    #[must_use]
    pub fn new(looks: Vec<Vec<Traffic>>, mbit: u32) -> Self {
        Self { looks, mbit }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
    fn percents(&self, port: usize, of: impl Fn(Traffic) -> u64) -> Vec<u64> {
        let full = f64::from(self.mbit) * 1e6 / 8.0 * COURSE_EVERY.as_secs_f64();
        let steps = self.looks.windows(2).map(|pair| of(pair[1][port]) - of(pair[0][port]));
        steps.map(|bytes| (bytes as f64 / full * 100.0).round() as u64).collect()
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for port in 0..self.looks.first().map_or(0, Vec::len) {
            let host = if port == 0 { "holder".into() } else { format!("client {port}") };
            let sent = self.percents(port, |traffic| traffic.sent);
            let received = self.percents(port, |traffic| traffic.received);
            write!(f, "\n{host:>18} sends    {sent:?}\n{host:>18} receives {received:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_shows_how_much_of_each_link_was_used() {
        let at = |sent, received| vec![Traffic { sent, received: 0 }, Traffic { sent: 0, received }];
        let course = Course::new(vec![at(0, 0), at(12_500_000, 6_250_000)], 100);
        let shown = course.to_string();
        assert!(
            shown.contains("holder sends    [100]") && shown.contains("client 1 receives [50]"),
            "{shown}"
        );
    }
}
