//! When a site may use its line: the hours of each day, and what work then lasts until when.

use branchmesh_units::clock::{DAY, TimeOfDay, Window};
use std::{fmt, time::Duration};

/// Minutes of a day.
const DAY_MINUTES: u64 = 24 * 60;
/// Days that are looked at for the end of something: ten years.
const DAYS_MAX: u32 = 3660;

/// When a rollout begins at a site, and when the line may be used for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// From midnight before the first day.
    start: Duration,
    /// Parts of a day, in order, apart from each other; none means always.
    open: Vec<(Duration, Duration)>,
}

/// A time in which the line is used, from midnight before the first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its beginning.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

impl Schedule {
    /// From `start` on day `day`, the first one being 1, in all of `windows`; without windows, always.
    #[must_use]
    pub fn new(day: u32, start: TimeOfDay, windows: &[Window]) -> Self {
        let start = DAY * day.saturating_sub(1) + start.since_midnight();
        let mut parts: Vec<(Duration, Duration)> = windows.iter().flat_map(|window| window.parts()).collect();
        parts.sort_unstable();
        let mut open: Vec<(Duration, Duration)> = Vec::new();
        for (from, to) in parts {
            match open.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                Some(_) | None => open.push((from, to)),
            }
        }
        Self { start, open }
    }

    /// When it begins, from midnight before the first day.
    #[must_use]
    pub fn start(&self) -> Duration {
        self.start
    }

    /// When the line is used, if it is needed for `work`; `None` if that lasts longer than ten years.
    #[must_use]
    pub fn stretches(&self, work: Duration) -> Option<Vec<Stretch>> {
        let latest = self.start + DAY * DAYS_MAX;
        if self.open.is_empty() {
            let to = self.start.checked_add(work).filter(|to| *to <= latest)?;
            return Some(vec![Stretch { from: self.start, to }]);
        }
        let mut left = work;
        let mut used: Vec<Stretch> = Vec::new();
        let first_day = u32::try_from(self.start.as_secs() / DAY.as_secs()).ok()?;
        for day in first_day..=first_day + DAYS_MAX {
            for (from, to) in &self.open {
                let from = (DAY * day + *from).max(self.start);
                let to = DAY * day + *to;
                if to <= from {
                    continue;
                }
                let to = to.min(from + left);
                left -= to - from;
                match used.last_mut() {
                    Some(before) if before.to == from => before.to = to,
                    Some(_) | None => used.push(Stretch { from, to }),
                }
                if left.is_zero() {
                    return Some(used);
                }
            }
        }
        None
    }
}

/// A moment of a plan: `day 1 20:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Duration);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is not over in a minute is over in the next one.
        let minutes = self.0.as_secs_f64() / 60.0;
        let minutes = minutes.ceil() as u64;
        let (day, minute) = (minutes / DAY_MINUTES, minutes % DAY_MINUTES);
        write!(f, "day {} {:02}:{:02}", day + 1, minute / 60, minute % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn schedule(day: u32, start: &str, windows: &[&str]) -> Schedule {
        let windows: Vec<Window> = windows.iter().map(|window| window.parse().unwrap()).collect();
        Schedule::new(day, start.parse().unwrap(), &windows)
    }

    /// In hours.
    fn used(schedule: &Schedule, hours: u32) -> Vec<(u64, u64)> {
        let stretches = schedule.stretches(HOUR * hours).unwrap();
        stretches.iter().map(|one| (one.from.as_secs() / 3600, one.to.as_secs() / 3600)).collect()
    }

    #[test]
    fn without_windows_work_begins_at_the_start_and_lasts_as_long_as_it_takes() {
        assert_eq!(used(&schedule(1, "08:00", &[]), 30), [(8, 38)]);
        assert_eq!(used(&schedule(3, "08:00", &[]), 1), [(56, 57)]);
    }

    #[test]
    fn a_window_over_midnight_is_one_stretch_and_the_rest_waits_for_the_next_night() {
        let nights = schedule(1, "18:00", &["20:00-06:00"]);
        assert_eq!(used(&nights, 10), [(20, 30)]);
        assert_eq!(used(&nights, 11), [(20, 30), (44, 45)]);
        assert_eq!(used(&schedule(1, "02:00", &["20:00-06:00"]), 5), [(2, 6), (20, 21)]);
        assert_eq!(used(&schedule(1, "23:00", &["20:00-06:00"]), 2), [(23, 25)]);
    }

    #[test]
    fn windows_that_overlap_or_touch_count_once() {
        let day = schedule(1, "00:00", &["12:00-13:00", "08:00-10:00", "09:00-12:00"]);
        assert_eq!(used(&day, 6), [(8, 13), (32, 33)]);
        assert_eq!(used(&schedule(1, "00:00", &["00:00-24:00"]), 48), [(0, 48)]);
    }

    #[test]
    fn what_never_ends_has_no_end() {
        assert_eq!(schedule(1, "00:00", &["00:00-00:01"]).stretches(HOUR * 24 * 366), None);
        assert_eq!(schedule(1, "00:00", &[]).stretches(Duration::MAX), None);
    }

    #[test]
    fn moments_round_up_to_minutes() {
        assert_eq!(Moment(HOUR * 20).to_string(), "day 1 20:00");
        assert_eq!(Moment(HOUR * 44 + Duration::from_secs(1)).to_string(), "day 2 20:01");
    }
}
