//! The clock on the wall: times of the day, days of the week, and the hours between.
//!
//! Nobody asks a clock here: who does, says what it shows as a [`TimeOfWeek`].

use crate::UnitError;
use std::{str::FromStr, time::Duration};

const DAY_MINUTES: u32 = 24 * 60;
/// From midnight to midnight, as the clock shows it.
pub const DAY: Duration = Duration::from_secs(86_400);
/// From Monday to Monday.
pub const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A time of the day, in minutes: `"22:30"`. `"24:00"` is the end of the day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u32);

/// Hours of each day: `"20:00-06:00"` is past midnight, `"00:00-24:00"` all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    from: TimeOfDay,
    to: TimeOfDay,
}

/// A day of the week: `"Mon"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Day {
    /// The first one.
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The last one.
    Sunday,
}

/// A day of the week, or days in a row: `"Sat"`, `"Mon-Fri"`, `"Fri-Mon"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    first: Day,
    last: Day,
}

/// What the clock on the wall shows: since Monday 00:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfWeek(Duration);

impl TimeOfDay {
    /// Since midnight, as the clock shows it.
    #[must_use]
    pub fn since_midnight(self) -> Duration {
        Duration::from_secs(60 * u64::from(self.0))
    }
}

impl Window {
    /// When it begins.
    #[must_use]
    pub fn from(self) -> TimeOfDay {
        self.from
    }

    /// How long it lasts.
    #[must_use]
    pub fn length(self) -> Duration {
        let to = if self.from < self.to { self.to.0 } else { self.to.0 + DAY_MINUTES };
        TimeOfDay(to - self.from.0).since_midnight()
    }

    /// Its parts on one day, from midnight: two if it is past midnight.
    pub fn parts(self) -> impl Iterator<Item = (Duration, Duration)> {
        let (from, to) = (self.from.since_midnight(), self.to.since_midnight());
        let parts = if from < to { [(from, to), (from, from)] } else { [(from, DAY), (Duration::ZERO, to)] };
        parts.into_iter().filter(|(from, to)| from < to)
    }
}

impl Day {
    /// The days in their order.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    fn midnight(self) -> Duration {
        DAY * self as u32
    }
}

impl Days {
    /// Whether `day` is one of them.
    #[must_use]
    pub fn contains(self, day: Day) -> bool {
        let (after_first, before_last) = (self.first <= day, day <= self.last);
        if self.first <= self.last { after_first && before_last } else { after_first || before_last }
    }
}

impl TimeOfWeek {
    /// A moment so long after the midnight with which `day` begins.
    #[must_use]
    pub fn new(day: Day, since_midnight: Duration) -> Self {
        Self(within_week(day.midnight() + since_midnight))
    }

    /// What the clock shows so much later, as long as nobody sets it.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(within_week(self.0 + later))
    }

    /// Until the clock shows `then`: nothing if it does now, always less than a week.
    #[must_use]
    pub fn until(self, then: Self) -> Duration {
        within_week(then.0 + WEEK - self.0)
    }
}

fn within_week(span: Duration) -> Duration {
    Duration::new(span.as_secs() % WEEK.as_secs(), span.subsec_nanos())
}

impl FromStr for TimeOfDay {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail = || UnitError { text: text.into(), expected: r#"a time of the day such as "20:30""# };
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
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail = || UnitError { text: text.into(), expected: r#"hours of a day such as "20:00-06:00""# };
        let (from, to) = text.split_once('-').ok_or_else(fail)?;
        let (from, to): (TimeOfDay, TimeOfDay) =
            (from.parse().map_err(|_| fail())?, to.parse().map_err(|_| fail())?);
        if from == to || from.0 == DAY_MINUTES {
            return Err(fail());
        }
        Ok(Self { from, to })
    }
}

impl FromStr for Day {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "Mon" => Ok(Self::Monday),
            "Tue" => Ok(Self::Tuesday),
            "Wed" => Ok(Self::Wednesday),
            "Thu" => Ok(Self::Thursday),
            "Fri" => Ok(Self::Friday),
            "Sat" => Ok(Self::Saturday),
            "Sun" => Ok(Self::Sunday),
            _ => Err(UnitError {
                text: text.into(),
                expected: "a day of the week (Mon, Tue, Wed, Thu, Fri, Sat, Sun)",
            }),
        }
    }
}

impl FromStr for Days {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Ok(Self { first: first.parse()?, last: last.parse()? })
    }
}

crate::deserialize_from_text!(TimeOfDay, Window);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_window_past_midnight_has_two_parts_on_a_day_and_one_length() {
        let hours = |window: &str| {
            let window: Window = window.parse().unwrap();
            let parts = window.parts().map(|(from, to)| (from.as_secs() / 3600, to.as_secs() / 3600));
            (parts.collect::<Vec<_>>(), window.length().as_secs() / 3600)
        };
        assert_eq!(hours("20:00-06:00"), (vec![(20, 24), (0, 6)], 10));
        assert_eq!(hours("08:00-18:00"), (vec![(8, 18)], 10));
        assert_eq!(hours("20:00-24:00"), (vec![(20, 24)], 4));
        assert_eq!(hours("20:00-00:00"), (vec![(20, 24)], 4));
        assert_eq!(hours("00:00-24:00"), (vec![(0, 24)], 24));
    }

    #[test]
    fn days_in_a_row_may_pass_the_end_of_the_week() {
        let days = |text: &str| {
            let days: Days = text.parse().unwrap();
            Day::ALL.into_iter().filter(|day| days.contains(*day)).collect::<Vec<_>>()
        };
        assert_eq!(days("Sat"), [Day::Saturday]);
        assert_eq!(days("Mon-Wed"), [Day::Monday, Day::Tuesday, Day::Wednesday]);
        assert_eq!(days("Sat-Mon"), [Day::Monday, Day::Saturday, Day::Sunday]);
        assert_eq!(days("Mon-Sun"), Day::ALL);
    }

    #[test]
    fn the_week_goes_round() {
        let late = TimeOfWeek::new(Day::Sunday, HOUR * 23);
        let early = TimeOfWeek::new(Day::Monday, HOUR);
        assert_eq!(late.until(early), HOUR * 2);
        assert_eq!(early.until(late), WEEK - HOUR * 2);
        assert_eq!(late.until(late), Duration::ZERO);
        assert_eq!(late.plus(HOUR * 2), early);
        assert_eq!(TimeOfWeek::new(Day::Sunday, HOUR * 25), early);
    }

    #[test]
    fn other_words_are_no_times() {
        for text in ["", "8", "25:00", "12:60", "24:01", "+1:00", "12:00:00"] {
            assert!(text.parse::<TimeOfDay>().unwrap_err().to_string().contains("20:30"), "{text:?}");
        }
        for text in ["20:00", "20:00-20:00", "24:00-06:00", "20:00-6", "night"] {
            assert!(text.parse::<Window>().unwrap_err().to_string().contains("20:00-06:00"), "{text:?}");
        }
        for text in ["", "mon", "Monday", "Mon-", "Mon-Fri-Sun", "Mon,Tue"] {
            assert!(text.parse::<Days>().unwrap_err().to_string().contains("Mon, Tue"), "{text:?}");
        }
    }
}
