//! When a site may use its line: the hours of each day, and what work then lasts until when.

use std::{fmt, str::FromStr, time::Duration};

const DAY_MINUTES: u32 = 24 * 60;
const DAY: Duration = Duration::from_secs(86_400);
/// Days that are looked at for the end of something: ten years.
const DAYS_MAX: u32 = 3660;

/// A time of the day, in minutes: `"22:30"`. `"24:00"` is the end of the day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u32);

/// Hours of each day: `"20:00-06:00"` is past midnight, `"00:00-24:00"` all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    from: TimeOfDay,
    to: TimeOfDay,
}

/// Text that is not a time or a window.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ClockError {
    text: String,
    expected: &'static str,
}

/// When a rollout begins at a site, and when the line may be used for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// From midnight before the first day.
    start: Duration,
    /// Parts of a day in minutes, in order, apart from each other; none means always.
    open: Vec<(u32, u32)>,
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
        let start = DAY * day.saturating_sub(1) + minutes(start.0);
        let mut parts: Vec<(u32, u32)> = windows.iter().flat_map(|window| window.parts()).collect();
        parts.sort_unstable();
        let mut open: Vec<(u32, u32)> = Vec::new();
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
                let from = (DAY * day + minutes(*from)).max(self.start);
                let to = DAY * day + minutes(*to);
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

impl Window {
    /// Its parts on one day.
    fn parts(self) -> impl Iterator<Item = (u32, u32)> {
        let (from, to) = (self.from.0, self.to.0);
        let parts = if from < to { [(from, to), (0, 0)] } else { [(from, DAY_MINUTES), (0, to)] };
        parts.into_iter().filter(|(from, to)| from < to)
    }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(60 * u64::from(minutes))
}

impl FromStr for TimeOfDay {
    type Err = ClockError;

    fn from_str(text: &str) -> Result<Self, ClockError> {
        let fail = || ClockError { text: text.into(), expected: r#"a time of the day such as "20:30""# };
        let (hours, minutes) = text.trim().split_once(':').ok_or_else(fail)?;
        let number = |digits: &str| {
            let is_number =
                (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|_| is_number)
        };
        let (hours, minutes) = number(hours).zip(number(minutes)).ok_or_else(fail)?;
        let total = hours * 60 + minutes;
        if minutes >= 60 || total > DAY_MINUTES {
            return Err(fail());
        }
        Ok(Self(total))
    }
}

impl FromStr for Window {
    type Err = ClockError;

    fn from_str(text: &str) -> Result<Self, ClockError> {
        let fail = || ClockError { text: text.into(), expected: r#"hours of a day such as "20:00-06:00""# };
        let (from, to) = text.split_once('-').ok_or_else(fail)?;
        let (from, to): (TimeOfDay, TimeOfDay) =
            (from.parse().map_err(|_| fail())?, to.parse().map_err(|_| fail())?);
        if from == to || from.0 == DAY_MINUTES {
            return Err(fail());
        }
        Ok(Self { from, to })
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
        let (day, minute) = (minutes / u64::from(DAY_MINUTES), minutes % u64::from(DAY_MINUTES));
        write!(f, "day {} {:02}:{:02}", day + 1, minute / 60, minute % 60)
    }
}

branchmesh_units::deserialize_from_text!(TimeOfDay, Window);

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
    fn other_words_are_no_times() {
        for text in ["", "8", "25:00", "12:60", "24:01", "+1:00", "12:00:00"] {
            assert!(text.parse::<TimeOfDay>().unwrap_err().to_string().contains("20:30"), "{text:?}");
        }
        for text in ["20:00", "20:00-20:00", "24:00-06:00", "20:00-6", "night"] {
            assert!(text.parse::<Window>().unwrap_err().to_string().contains("20:00-06:00"), "{text:?}");
        }
    }

    #[test]
    fn moments_round_up_to_minutes() {
        assert_eq!(Moment(HOUR * 20).to_string(), "day 1 20:00");
        assert_eq!(Moment(HOUR * 44 + Duration::from_secs(1)).to_string(), "day 2 20:01");
    }
}
