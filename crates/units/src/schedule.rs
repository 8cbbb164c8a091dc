//! A limit that depends on the hour: `"Mon-Fri 08:00-18:00 2Mbit/s, 20:00-06:00 50Mbit/s, off"`.
//!
//! Parts are separated by commas, and the first one that fits counts. A part is days, hours, both or neither, and then
//! what may pass. Hours past midnight belong to the day on which they begin. The last part is the one without days and
//! hours: it says what holds the rest of the time, so that no hour is left to guessing.

use crate::{
    Rate, UnitError,
    clock::{DAY, Day, Days, TimeOfWeek, Window},
};
use std::{fmt, str::FromStr, time::Duration};

/// Parts of a schedule: one for each hour of each day; protects who evaluates it.
pub const PARTS_MAX: usize = 7 * 24;

/// What may pass at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing: `"off"`.
    Off,
    /// So much.
    Rate(Rate),
}

/// What may pass, by the clock on the wall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSchedule {
    parts: Vec<Part>,
    rest: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    days: Option<Days>,
    hours: Option<Window>,
    limit: Limit,
}

/// Text that is not a schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A part has something in it that is not understood.
    #[error("the part {part:?} is wrong: {problem}")]
    Part {
        /// Which.
        part: String,
        /// What is wrong with it.
        problem: UnitError,
    },
    /// Nothing is said of the rest of the time.
    #[error(
        "{text:?} does not say what holds the rest of the time: add a part without days and hours, such as \
         \"{text}, off\" or \"{text}, 5Mbit/s\" (\"0\" is no limit)"
    )]
    NoRest {
        /// The schedule.
        text: String,
    },
    /// Something comes after the part for the rest of the time.
    #[error("{rest:?} has no days and no hours, so that nothing after it would count: put it last")]
    AfterRest {
        /// The part for the rest of the time.
        rest: String,
    },
    /// Too long.
    #[error("a schedule has at most {PARTS_MAX} parts")]
    TooManyParts,
}

impl LimitSchedule {
    /// What may pass when the clock on the wall shows `now`.
    #[must_use]
    pub fn at(&self, now: TimeOfWeek) -> Limit {
        let part = self.parts.iter().find(|part| part.fits(now));
        part.map_or(self.rest, |part| part.limit)
    }

    /// How long the clock must run until something else may pass; `None` if that is always the same.
    #[must_use]
    pub fn next_change(&self, now: TimeOfWeek) -> Option<Duration> {
        let limit = self.at(now);
        let edges = self.parts.iter().flat_map(Part::spans).flat_map(|(from, length)| {
            let until = now.until(from);
            [until, now.until(from.plus(length))]
        });
        let mut edges: Vec<Duration> = edges.filter(|until| !until.is_zero()).collect();
        edges.sort_unstable();
        edges.dedup();
        edges.into_iter().find(|until| self.at(now.plus(*until)) != limit)
    }
}

impl Part {
    fn fits(&self, now: TimeOfWeek) -> bool {
        self.spans().any(|(from, length)| from.until(now) < length)
    }

    /// Its hours in a week: when each begins, and how long it lasts.
    fn spans(&self) -> impl Iterator<Item = (TimeOfWeek, Duration)> {
        let (from, length) =
            self.hours.map_or((Duration::ZERO, DAY), |hours| (hours.from().since_midnight(), hours.length()));
        let days = Day::ALL.into_iter().filter(|day| self.days.is_none_or(|days| days.contains(*day)));
        days.map(move |day| (TimeOfWeek::new(day, from), length))
    }
}

impl Limit {
    /// One of `shares` equal parts of it.
    #[must_use]
    pub fn share(self, shares: u32) -> Self {
        match self {
            Self::Rate(Rate(Some(rate))) => Self::Rate(Rate(Some((rate / u64::from(shares.max(1))).max(1)))),
            Self::Rate(Rate(None)) | Self::Off => self,
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self::Rate(Rate::default())
    }
}

impl From<Rate> for Limit {
    fn from(rate: Rate) -> Self {
        Self::Rate(rate)
    }
}

impl From<Limit> for LimitSchedule {
    fn from(rest: Limit) -> Self {
        Self { parts: Vec::new(), rest }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}

impl FromStr for Limit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.trim() == "off" {
            return Ok(Self::Off);
        }
        let expected = r#"a rate such as "20Mbit/s" or "2MB/s", "0" for no limit, or "off""#;
        text.parse().map(Self::Rate).map_err(|_| UnitError { text: text.into(), expected })
    }
}

impl FromStr for Part {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (mut days, mut hours) = (None, None);
        let mut rest = text.trim();
        // A rate may have a space before its unit: what is not days or hours is all of it.
        if let Some((word, after)) = rest.split_once(char::is_whitespace)
            && word.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            days = Some(word.parse()?);
            rest = after.trim_start();
        }
        if let Some((word, after)) = rest.split_once(char::is_whitespace)
            && word.contains(':')
        {
            hours = Some(word.parse()?);
            rest = after.trim_start();
        }
        Ok(Self { days, hours, limit: rest.parse()? })
    }
}

impl FromStr for LimitSchedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let mut parts = Vec::new();
        let mut texts = text.split(',').map(str::trim);
        while let Some(part) = texts.next() {
            let fail = |problem| ScheduleError::Part { part: part.into(), problem };
            let read: Part = part.parse().map_err(fail)?;
            if read.days.is_some() || read.hours.is_some() {
                parts.push(read);
            } else if texts.next().is_some() {
                return Err(ScheduleError::AfterRest { rest: part.into() });
            } else {
                return Ok(Self { parts, rest: read.limit });
            }
            if parts.len() > PARTS_MAX {
                return Err(ScheduleError::TooManyParts);
            }
        }
        Err(ScheduleError::NoRest { text: text.trim().into() })
    }
}

crate::deserialize_from_text!(LimitSchedule);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{TimeOfDay, WEEK};

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn schedule(text: &str) -> LimitSchedule {
        text.parse().unwrap()
    }

    fn at(day: Day, time: &str) -> TimeOfWeek {
        TimeOfWeek::new(day, time.parse::<TimeOfDay>().unwrap().since_midnight())
    }

    fn mbit(rate: u64) -> Limit {
        Limit::Rate(Rate(Some(rate * 125_000)))
    }

    #[test]
    fn a_rate_alone_holds_always() {
        for (text, limit) in
            [("0", Limit::default()), ("20 Mbit/s", mbit(20)), (" 1Mbit/s ", mbit(1)), ("off", Limit::Off)]
        {
            let schedule = schedule(text);
            assert_eq!(schedule, LimitSchedule::from(limit));
            assert_eq!(schedule.at(at(Day::Sunday, "23:59")), limit);
            assert_eq!(schedule.next_change(at(Day::Monday, "00:00")), None);
        }
    }

    #[test]
    fn hours_past_midnight_hold_on_both_sides_of_it() {
        let nights = schedule("20:00-06:00 50Mbit/s, off");
        for (day, time, limit) in [
            (Day::Monday, "19:59", Limit::Off),
            (Day::Monday, "20:00", mbit(50)),
            (Day::Monday, "24:00", mbit(50)),
            (Day::Sunday, "23:59", mbit(50)),
            (Day::Monday, "05:59", mbit(50)),
            (Day::Monday, "06:00", Limit::Off),
        ] {
            assert_eq!(nights.at(at(day, time)), limit, "{day:?} {time}");
        }
        assert_eq!(nights.next_change(at(Day::Sunday, "19:00")), Some(HOUR));
        assert_eq!(nights.next_change(at(Day::Sunday, "20:00")), Some(HOUR * 10));
        assert_eq!(nights.next_change(at(Day::Monday, "05:59")), Some(MINUTE));
    }

    #[test]
    fn the_first_part_that_fits_counts() {
        let day = schedule("12:00-13:00 5Mbit/s, 08:00-18:00 2Mbit/s, 20Mbit/s");
        for (time, limit) in [("11:59", 2), ("12:00", 5), ("12:59", 5), ("13:00", 2), ("18:00", 20)] {
            assert_eq!(day.at(at(Day::Friday, time)), mbit(limit), "{time}");
        }
        let hidden = schedule("08:00-18:00 2Mbit/s, 12:00-13:00 5Mbit/s, 20Mbit/s");
        assert_eq!(hidden.at(at(Day::Friday, "12:30")), mbit(2));
        assert_eq!(hidden.next_change(at(Day::Friday, "12:30")), Some(HOUR * 11 / 2));
    }

    #[test]
    fn parts_that_touch_and_say_the_same_are_one_time() {
        let touching = schedule("08:00-12:00 2Mbit/s, 12:00-18:00 2Mbit/s, 18:00-19:00 4Mbit/s, off");
        assert_eq!(touching.next_change(at(Day::Monday, "08:00")), Some(HOUR * 10));
        assert_eq!(touching.next_change(at(Day::Monday, "18:00")), Some(HOUR));
        assert_eq!(touching.next_change(at(Day::Monday, "19:00")), Some(HOUR * 13));
        let whole_day = schedule("00:00-24:00 2Mbit/s, off");
        assert_eq!(whole_day.next_change(at(Day::Monday, "08:00")), None);
        assert_eq!(whole_day.at(at(Day::Monday, "24:00")), mbit(2));
    }

    #[test]
    fn days_are_those_on_which_the_hours_begin() {
        let week = schedule("Mon-Fri 08:00-18:00 2Mbit/s, Fri 22:00-04:00 off, Sat-Sun 50Mbit/s, 20 Mbit/s");
        for (day, time, limit) in [
            (Day::Monday, "08:00", mbit(2)),
            (Day::Saturday, "08:00", mbit(50)),
            (Day::Friday, "21:59", mbit(20)),
            (Day::Friday, "22:00", Limit::Off),
            (Day::Saturday, "03:59", Limit::Off),
            (Day::Saturday, "04:00", mbit(50)),
            (Day::Sunday, "03:00", mbit(50)),
            (Day::Monday, "00:00", mbit(20)),
        ] {
            assert_eq!(week.at(at(day, time)), limit, "{day:?} {time}");
        }
        assert_eq!(week.next_change(at(Day::Saturday, "04:00")), Some(HOUR * 44));
        let once = schedule("Wed 03:00-04:00 0, off");
        assert_eq!(once.next_change(at(Day::Wednesday, "04:00")), Some(WEEK - HOUR));
    }

    #[test]
    fn the_next_change_is_where_the_minutes_say_it_is() {
        let week = schedule("Mon-Fri 08:00-18:00 2Mbit/s, 07:30-12:15 off, Sat 23:00-22:00 5Mbit/s, 0");
        let limits: Vec<Limit> =
            (0..7 * 24 * 60).map(|minute| week.at(TimeOfWeek::new(Day::Monday, MINUTE * minute))).collect();
        for start in (0..limits.len()).step_by(7) {
            let later = (1..).find(|later| limits[(start + later) % limits.len()] != limits[start]);
            let now = TimeOfWeek::new(Day::Monday, MINUTE * u32::try_from(start).unwrap());
            let next = later.map(|later| MINUTE * u32::try_from(later).unwrap());
            assert_eq!(week.next_change(now), next, "after {start} minutes");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_says_what_to_write() {
        for (text, hint) in [
            ("20:00-06:00 50Mbit/s", "20:00-06:00 50Mbit/s, off"),
            ("Sat-Sun off", "Sat-Sun off, 5Mbit/s"),
            ("1Mbit/s, 20:00-06:00 50Mbit/s", "put it last"),
            ("", "20Mbit/s"),
            ("20 bananas", "20Mbit/s"),
            ("20:00-06:00, off", "20Mbit/s"),
            ("20:00-06:00 closed, off", "\"off\""),
            ("20:00-6 off, 0", "\"20:00-6\" is not hours of a day such as \"20:00-06:00\""),
            ("20:00 - 06:00 off, 0", "20:00-06:00"),
            ("Monday 08:00-18:00 off, 0", "Mon, Tue"),
            ("Sat,Sun 50Mbit/s, off", "\"Sat\" is not a rate"),
            ("08:00-18:00 2Mbit/s, , off", "20Mbit/s"),
            ("08:00-18:00 Mon 2Mbit/s, off", "20Mbit/s"),
        ] {
            let error = text.parse::<LimitSchedule>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text:?}: {error}");
        }
        let long = "20:00-06:00 off, ".repeat(PARTS_MAX + 1) + "0";
        assert!(matches!(long.parse::<LimitSchedule>(), Err(ScheduleError::TooManyParts)));
    }

    #[test]
    fn shares_are_never_more_than_the_whole_and_never_nothing() {
        assert_eq!(mbit(20).share(3), Limit::Rate(Rate(Some(833_333))));
        assert_eq!(Limit::Rate(Rate(Some(1))).share(16), Limit::Rate(Rate(Some(1))));
        assert_eq!(Limit::Off.share(2), Limit::Off);
        assert_eq!(Limit::default().share(2), Limit::default());
    }
}
