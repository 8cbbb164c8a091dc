//! The setting `wan_limit` by the clock on the wall: what may pass over the line now, until when, and the loop's part in
//! it.
//!
//! Hours are those that the clock on the wall shows. When it is set forward for the summer, the hour that it leaves out
//! is left out of the schedule as well; when it is set back, the hour that it shows twice counts twice. The clock is
//! looked at when something should change, and every second besides, because somebody may set it.

use crate::{
    run::Loop,
    status::LineView,
    units::{
        Limit, LimitSchedule,
        clock::{Day, TimeOfWeek},
    },
};
use jiff::{Timestamp, Zoned};
use std::time::Duration;
use tracing::info;

/// Changes of the zone's offset that are looked across for the end of a limit: it has two in a year at the most, and a
/// schedule repeats after a week.
const OFFSETS_MAX: usize = 4;

/// What may pass now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Allowed {
    pub limit: Limit,
    /// When something else may pass; `None` if that is always the same.
    pub until: Option<Zoned>,
}

impl Allowed {
    /// What `schedule` allows at this moment.
    pub fn at(schedule: &LimitSchedule, now: &Zoned) -> Self {
        let limit = schedule.at(time_of_week(now));
        Self { limit, until: next_change(schedule, limit, now) }
    }

    /// In words, where there is something to say.
    pub fn words(&self) -> Option<String> {
        let until = self.until.as_ref().map(|until| format!(" until {}", until.strftime("%a %H:%M")));
        let until = until.unwrap_or_default();
        match self.limit {
            Limit::Off => Some(format!("wan_limit keeps the WAN closed{until}")),
            Limit::Rate(rate) if rate.0.is_some() => Some(format!("wan_limit is {rate}{until}")),
            Limit::Rate(_) if self.until.is_some() => Some(format!("wan_limit is no limit{until}")),
            Limit::Rate(_) => None,
        }
    }

    /// For `status`.
    pub fn view(&self) -> LineView {
        LineView {
            closed: self.limit == Limit::Off,
            limit: match self.limit {
                Limit::Off => None,
                Limit::Rate(rate) => rate.0,
            },
            until: self.until.as_ref().map(|until| until.strftime("%FT%T%:z").to_string()),
            words: self.words(),
        }
    }

    /// What is wrong with the clock, in words, where hours depend on it.
    pub fn problem(&self) -> Option<String> {
        let is_unknown = self.until.as_ref().is_some_and(|until| until.time_zone().is_unknown());
        is_unknown.then(|| {
            "the system's time zone is unknown, so that the hours of wan_limit are those of UTC: set the zone \
             (the variable TZ, or /etc/localtime), and start the agent again"
                .into()
        })
    }

    /// How long it holds still.
    pub fn left(&self) -> Option<Duration> {
        let left = self.until.as_ref()?.timestamp().duration_since(Timestamp::now());
        Some(Duration::try_from(left).unwrap_or_default())
    }
}

impl Loop {
    /// Looks at the clock, and lets pass what the schedule allows now.
    pub fn follow_hours(&mut self) {
        let allowed = Allowed::at(&self.shared.settings.wan_limit, &Zoned::now());
        if self.allowed.as_ref() == Some(&allowed) {
            return;
        }
        if self.allowed.as_ref().is_none_or(|before| before.limit != allowed.limit) {
            info!(limit = %allowed.limit, "what may pass over the WAN");
        }
        let now = self.now();
        // The gate before the exchange: what it cancels must not ask for more meanwhile.
        self.shared.line.set(allowed.limit);
        match allowed.limit {
            Limit::Off => self.exchange.set_wan_closed(now, allowed.left().map(|left| now + left)),
            Limit::Rate(_) => self.exchange.set_wan_open(now),
        }
        self.allowed = Some(allowed);
    }

    /// How long the schedule allows the same still, as the clock goes now.
    pub fn hours_left(&self) -> Option<Duration> {
        self.allowed.as_ref()?.left()
    }

    /// Why nothing may pass now, in words; `None` if something may.
    pub fn wan_closed_words(&self) -> Option<String> {
        let allowed = self.allowed.as_ref().filter(|allowed| allowed.limit == Limit::Off)?;
        allowed.words()
    }
}

/// Between two changes of the zone's offset, the clock on the wall runs like any other.
fn next_change(schedule: &LimitSchedule, limit: Limit, now: &Zoned) -> Option<Zoned> {
    let mut at = now.clone();
    for _ in 0..OFFSETS_MAX {
        let step = schedule.next_change(time_of_week(&at))?;
        let by_hours = at.checked_add(step).ok()?;
        let Some(offset) = at.time_zone().following(at.timestamp()).next() else { return Some(by_hours) };
        if by_hours.timestamp() < offset.timestamp() {
            return Some(by_hours);
        }
        at = offset.timestamp().to_zoned(at.time_zone().clone());
        if schedule.at(time_of_week(&at)) != limit {
            return Some(at);
        }
    }
    None
}

fn time_of_week(at: &Zoned) -> TimeOfWeek {
    let day = Day::ALL[usize::from(at.weekday().to_monday_zero_offset().unsigned_abs())];
    let time = at.time();
    let seconds = u64::from(time.hour().unsigned_abs()) * 3600
        + u64::from(time.minute().unsigned_abs()) * 60
        + u64::from(time.second().unsigned_abs());
    TimeOfWeek::new(day, Duration::new(seconds, time.subsec_nanosecond().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;
    use jiff::{civil::DateTime, tz::TimeZone};

    /// The clock goes from 02:00 to 03:00 on the last Sunday of March, and back on the last of October.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn berlin() -> TimeZone {
        TimeZone::posix(BERLIN).unwrap()
    }

    fn at(time: &str) -> Zoned {
        time.parse::<DateTime>().unwrap().to_zoned(berlin()).unwrap()
    }

    fn allowed(schedule: &str, now: &Zoned) -> (Limit, Option<String>) {
        let allowed = Allowed::at(&schedule.parse().unwrap(), now);
        let until = allowed.until.map(|until| until.strftime("%F %H:%M:%S %:z").to_string());
        (allowed.limit, until)
    }

    fn open(until: &str) -> (Limit, Option<String>) {
        (Limit::Rate(Rate(None)), Some(until.into()))
    }

    fn closed(until: &str) -> (Limit, Option<String>) {
        (Limit::Off, Some(until.into()))
    }

    const NIGHTS: &str = "20:00-06:00 0, off";

    #[test]
    fn on_most_days_hours_are_hours() {
        assert_eq!(allowed(NIGHTS, &at("2026-11-20T19:59:59.5")), closed("2026-11-20 20:00:00 +01:00"));
        assert_eq!(allowed(NIGHTS, &at("2026-11-20T20:00")), open("2026-11-21 06:00:00 +01:00"));
        assert_eq!(allowed(NIGHTS, &at("2026-11-22T23:59")), open("2026-11-23 06:00:00 +01:00"));
        assert_eq!(allowed("Sat-Sun off, 0", &at("2026-11-23T08:00")), open("2026-11-28 00:00:00 +01:00"));
        assert_eq!(allowed("0", &at("2026-11-20T20:00")), (Limit::default(), None));
    }

    #[test]
    fn a_night_in_which_the_clock_is_set_ends_when_it_shows_the_end() {
        assert_eq!(allowed(NIGHTS, &at("2026-03-28T22:00")), open("2026-03-29 06:00:00 +02:00"));
        assert_eq!(allowed(NIGHTS, &at("2026-10-24T22:00")), open("2026-10-25 06:00:00 +01:00"));
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_is_left_out() {
        let schedule = "02:30-04:00 0, off";
        assert_eq!(allowed(schedule, &at("2026-03-29T01:59")), closed("2026-03-29 03:00:00 +02:00"));
        assert_eq!(allowed(schedule, &at("2026-03-29T03:00")), open("2026-03-29 04:00:00 +02:00"));
        assert_eq!(
            allowed("02:00-03:00 0, off", &at("2026-03-29T01:59")),
            closed("2026-03-30 02:00:00 +02:00")
        );
        assert_eq!(
            allowed("01:00-02:00 0, off", &at("2026-03-29T01:30")),
            open("2026-03-29 03:00:00 +02:00")
        );
    }

    #[test]
    fn an_hour_that_the_clock_shows_twice_counts_twice() {
        let schedule = "02:00-02:30 0, off";
        let first = at("2026-10-25T02:00");
        let minutes = |minutes: i64| first.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap();
        assert_eq!(allowed(schedule, &minutes(-1)), closed("2026-10-25 02:00:00 +02:00"));
        assert_eq!(allowed(schedule, &first), open("2026-10-25 02:30:00 +02:00"));
        assert_eq!(allowed(schedule, &minutes(30)), closed("2026-10-25 02:00:00 +01:00"));
        assert_eq!(allowed(schedule, &minutes(60)), open("2026-10-25 02:30:00 +01:00"));
        assert_eq!(allowed(schedule, &minutes(90)), closed("2026-10-26 02:00:00 +01:00"));
        // Nothing changes where the hours around the second showing say the same.
        assert_eq!(allowed("02:00-03:00 0, off", &minutes(59)), open("2026-10-25 03:00:00 +01:00"));
    }

    #[test]
    fn what_holds_is_said_with_its_end() {
        let words = |schedule: &str| Allowed::at(&schedule.parse().unwrap(), &at("2026-11-20T19:00")).words();
        assert_eq!(words(NIGHTS).unwrap(), "wan_limit keeps the WAN closed until Fri 20:00");
        assert_eq!(words("off").unwrap(), "wan_limit keeps the WAN closed");
        assert_eq!(words("18:00-20:00 2Mbit/s, 0").unwrap(), "wan_limit is 2 Mbit/s until Fri 20:00");
        assert_eq!(words("18:00-20:00 0, off").unwrap(), "wan_limit is no limit until Fri 20:00");
        assert_eq!(words("0"), None);
    }
}
