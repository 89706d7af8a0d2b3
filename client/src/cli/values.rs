//! Values on the command line: spans of time, dates, and what says yes or no.

use std::{str::FromStr, time::Duration};

use jiff::{
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// A span of time: a number with `s`, `m`, `h`, `d` or `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A moment in the past: a [`Span`] ago, or a date in the person's own time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then, by the clock on the wall.
    Date(DateTime),
}

/// When letters go away after they were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// They stay.
    Off,
    /// After so many seconds.
    After(u32),
}

/// The text means no such value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// No span.
    #[error("expected a number with s, m, h, d or w behind it, like 30s, 12h or 7d")]
    Span,
    /// No moment.
    #[error("expected how long ago, like 2d, or a date, like 2026-11-27 or \"2026-11-27 18:30\"")]
    Since,
    /// No timer.
    #[error("expected off, or a number with s, m, h, d or w behind it, like 1h or 7d")]
    Timer,
}

impl FromStr for Span {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(BadValue::Span)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            "w" => 7 * 24 * 3600,
            _ => return Err(BadValue::Span),
        };
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()); // no sign
        let number = is_number.then(|| number.parse::<u32>().ok()).flatten().ok_or(BadValue::Span)?;
        Ok(Self(Duration::from_secs(u64::from(number) * seconds)))
    }
}

impl FromStr for Since {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Ok(Span(ago)) = text.parse() {
            return Ok(Self::Ago(ago));
        }
        let midnight = || text.parse().map(|date: Date| date.at(0, 0, 0, 0));
        let date = if text.contains([' ', 'T']) { text.parse() } else { midnight() };
        date.map(Self::Date).map_err(|_| BadValue::Since)
    }
}

impl Since {
    /// In seconds since the Unix epoch.
    pub fn unix(self, now: u64, zone: &TimeZone) -> u64 {
        match self {
            Self::Ago(ago) => now.saturating_sub(ago.as_secs()),
            Self::Date(date) => {
                let then = zone.to_timestamp(date).map_or(0, |then| then.as_second());
                u64::try_from(then).unwrap_or(0)
            }
        }
    }
}

impl FromStr for Timer {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let Span(after) = text.parse().map_err(|_| BadValue::Timer)?;
        match u32::try_from(after.as_secs()) {
            Ok(seconds) if seconds > 0 => Ok(Self::After(seconds)),
            _ => Err(BadValue::Timer),
        }
    }
}

impl Timer {
    /// 0 for never.
    pub fn seconds(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::After(seconds) => seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_number_and_a_unit_and_nothing_else() {
        let span = |text: &str| text.parse::<Span>().map(|Span(span)| span.as_secs());
        assert_eq!(span("30s"), Ok(30));
        assert_eq!(span("5m"), Ok(300));
        assert_eq!(span("12h"), Ok(43_200));
        assert_eq!(span("7d"), Ok(604_800));
        assert_eq!(span("2w"), Ok(1_209_600));
        for text in ["", "s", "30", "-1s", "+1s", "1.5h", "3 d", "3D", "9999999999s", "1ä", "ä"] {
            assert_eq!(span(text), Err(BadValue::Span), "{text:?}");
        }
    }

    #[test]
    fn a_moment_is_so_long_ago_or_a_date_by_the_clock_on_the_wall() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let unix = |text: &str| text.parse::<Since>().map(|since| since.unix(1_800_000_000, &zone));
        assert_eq!(unix("2d"), Ok(1_800_000_000 - 172_800));
        assert_eq!(unix("2026-11-27"), Ok(1_795_730_400));
        assert_eq!(unix("2026-11-27 18:30"), Ok(1_795_730_400 + 66_600));
        assert_eq!(unix("2026-11-27T18:30"), Ok(1_795_730_400 + 66_600));
        assert_eq!(unix("1950-01-01"), Ok(0), "before there were letters");
        for text in ["", "yesterday", "2026-13-01", "2026-11-27 25:00", "27.11.2026"] {
            assert_eq!(unix(text), Err(BadValue::Since), "{text:?}");
        }
    }

    #[test]
    fn a_timer_is_off_or_longer_than_nothing() {
        assert_eq!("off".parse(), Ok(Timer::Off));
        assert_eq!("1h".parse(), Ok(Timer::After(3600)));
        for text in ["0s", "on", "10000w"] {
            assert_eq!(text.parse::<Timer>(), Err(BadValue::Timer), "{text:?}");
        }
        assert_eq!((Timer::Off.seconds(), Timer::After(7).seconds()), (0, 7));
    }
}
