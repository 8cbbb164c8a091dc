//! Values as administrators write them: rates, sizes, spans of time, shares of a disk, hours of the day. An agent's
//! settings and a planner's file are read by the same rules.
//!
//! [`clock`] has times and hours, [`schedule`] a limit that depends on them.

pub mod clock;
pub mod schedule;

pub use schedule::{Limit, LimitSchedule, ScheduleError};

use std::{fmt, str::FromStr, time::Duration};

/// Text that is not a value of the expected kind.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

/// Most bytes that one second's worth of a rate may be: far above any network, far below overflow.
const RATE_MAX: f64 = 1e12;

/// A limit in bytes per second; `None` for no limit (`"0"`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

/// A span of time: `"60s"`, `"5min"`, `"2h"`, `"1d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// An amount of data: `"12 GiB"`, `"500MB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size(pub u64);

/// Space on a disk: a share of it (`"10%"`) or an amount (`"10GB"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// So many percent, 0 to 100.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = r#"a rate such as "20Mbit/s", "2MB/s" or "0" for no limit"#;
        let fail = || UnitError { text: text.into(), expected };
        if text.trim() == "0" {
            return Ok(Self(None));
        }
        let (number, unit) = split_number(text).ok_or_else(fail)?;
        let per_unit = match unit {
            "bit/s" => 0.125,
            "kbit/s" | "Kbit/s" => 125.0,
            "Mbit/s" => 125e3,
            "Gbit/s" => 125e6,
            "B/s" => 1.0,
            "kB/s" | "KB/s" => 1e3,
            "MB/s" => 1e6,
            "GB/s" => 1e9,
            _ => return Err(fail()),
        };
        let bytes = number * per_unit;
        if !(1.0..=RATE_MAX).contains(&bytes) {
            return Err(fail());
        }
        Ok(Self(Some(bytes as u64)))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("no limit"),
            Some(bytes) => write!(f, "{} Mbit/s", bytes as f64 / 125e3),
        }
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail =
            || UnitError { text: text.into(), expected: r#"a span of time such as "60s", "5min" or "2h""# };
        let (number, unit) = split_number(text).ok_or_else(fail)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(fail()),
        };
        let total = number * seconds;
        if !(0.001..=366.0 * 86_400.0).contains(&total) {
            return Err(fail());
        }
        Ok(Self(Duration::from_secs_f64(total)))
    }
}

impl FromStr for Space {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail = || UnitError { text: text.into(), expected: r#"space such as "10%", "10GB" or "500MB""# };
        let (number, unit) = split_number(text).ok_or_else(fail)?;
        if unit == "%" && number <= 100.0 {
            return Ok(Self::Percent(number as u8));
        }
        amount(number, unit).map(Self::Bytes).ok_or_else(fail)
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail = || UnitError { text: text.into(), expected: r#"a size such as "12GiB" or "500MB""# };
        let (number, unit) = split_number(text).ok_or_else(fail)?;
        amount(number, unit).map(Self).ok_or_else(fail)
    }
}

/// Bytes of so many units; none for a unit that is not one of an amount.
fn amount(number: f64, unit: &str) -> Option<u64> {
    let per_unit = match unit {
        "B" | "" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => return None,
    };
    Some((number * per_unit) as u64)
}

/// Splits `"20 Mbit/s"` into its finite, non-negative number and its unit.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|number: &f64| number.is_finite())?;
    Some((number, text[end..].trim()))
}

/// Lets settings be read by serde as people write them: the types are what their `FromStr` makes of a text. The crate that
/// uses it needs `serde`.
#[macro_export]
macro_rules! deserialize_from_text {
    ($($type:ty),*) => {$(
        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> ::core::result::Result<Self, D::Error> {
                let text = <::std::string::String as ::serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }
    )*};
}
deserialize_from_text!(Rate, Size, Span, Space);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!("0".parse::<Rate>().unwrap(), Rate(None));
        assert_eq!("20Mbit/s".parse::<Rate>().unwrap(), Rate(Some(2_500_000)));
        assert_eq!("1.5 MB/s".parse::<Rate>().unwrap(), Rate(Some(1_500_000)));
        assert_eq!("60s".parse::<Span>().unwrap(), Span(Duration::from_secs(60)));
        assert_eq!("5 min".parse::<Span>().unwrap(), Span(Duration::from_secs(300)));
        assert_eq!("10%".parse::<Space>().unwrap(), Space::Percent(10));
        assert_eq!("2GiB".parse::<Space>().unwrap(), Space::Bytes(2 << 30));
        assert_eq!("12 GiB".parse::<Size>().unwrap(), Size(12 << 30));
        assert_eq!("1.5 TiB".parse::<Size>().unwrap(), Size(3 << 39));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in
            ["", "fast", "20", "-1Mbit/s", "20bananas", "1e400Mbit/s", "0.0001bit/s", "99999999Gbit/s"]
        {
            assert!(text.parse::<Rate>().unwrap_err().to_string().contains("20Mbit/s"), "{text:?}");
        }
        assert!("60".parse::<Span>().is_err());
        assert!("0s".parse::<Span>().is_err());
        assert!("101%".parse::<Space>().is_err());
        for text in ["", "10%", "large", "12 bananas"] {
            assert!(text.parse::<Size>().unwrap_err().to_string().contains("12GiB"), "{text:?}");
        }
    }
}
