//! Values on the command line, and times and durations in the output.

use std::{
    ops::{Range, RangeInclusive},
    time::{Duration, SystemTime},
};

use jiff::{Span, SpanRelativeTo, Timestamp};
use tower_klikit::inbox::{DeliveryId, DeliveryState};

/// The states in the order of a delivery's life.
pub(crate) const STATES: [DeliveryState; 4] =
    [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done];

/// Reads the id of a delivery.
pub(crate) fn id(text: &str) -> Result<DeliveryId, String> {
    text.parse().map_err(|_| "an id is a number, as `klikit inbox list` shows it".into())
}

/// Reads the name of a state.
pub(crate) fn state(text: &str) -> Result<DeliveryState, String> {
    let found = STATES.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| "the states are ready, leased, dead and done".into())
}

/// Reads a duration, such as `2h`, `90s` or `1d 12h`. A day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| "a duration looks like 90s, 30m, 2h or 7d")?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let duration = duration.map_err(|_| "a duration has no months and no years")?;
    duration.try_into().map_err(|_| "a duration is not negative".into())
}

/// Reads a range of numbers that includes both ends: `2..5`, `2..`, `..5` or `2`.
pub(crate) fn attempts(text: &str) -> Result<RangeInclusive<u32>, String> {
    let number = |text: &str, missing| if text.is_empty() { Some(missing) } else { text.parse().ok() };
    let range = match text.split_once("..") {
        Some((from, to)) => number(from, 0).zip(number(to, u32::MAX)),
        None => text.parse().ok().map(|number| (number, number)),
    };
    match range {
        Some((from, to)) if from <= to => Ok(from..=to),
        _ => Err("a number of attempts looks like 3, 2..5, 2.. or ..5".into()),
    }
}

/// Reads a window between two times of RFC 3339. Either can be left out.
pub(crate) fn window(text: &str) -> Result<Range<SystemTime>, String> {
    let time = |text: &str, missing| {
        let time = if text.is_empty() { Ok(missing) } else { text.parse::<Timestamp>() };
        let time = time.and_then(SystemTime::try_from);
        time.map_err(|_| format!("{text} is not a time such as 2026-11-26T18:00:00+07:00"))
    };
    let (from, to) = text.split_once("..").ok_or("a window looks like 2026-11-26T18:00:00Z..2026-11-26T19:30:00Z")?;
    let (from, to) = (time(from, Timestamp::UNIX_EPOCH)?, time(to, Timestamp::MAX)?);
    if from < to { Ok(from..to) } else { Err("the window ends before it starts".into()) }
}

/// Returns a time in RFC 3339, in UTC, with milliseconds.
pub(crate) fn time(time: SystemTime) -> String {
    // A clock may be set to a time that has no date.
    Timestamp::try_from(time).map_or_else(|error| error.to_string(), |time| format!("{time:.3}"))
}

/// Returns a duration in its two largest units, such as `2h 3m`. Rounds down.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        86_400.. => format!("{days}d {}h", hours % 24),
        3600.. => format!("{hours}h {}m", minutes % 60),
        60.. => format!("{minutes}m {}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

/// Returns a number of deliveries in words.
pub(crate) fn deliveries(number: u64) -> String {
    if number == 1 { "1 delivery".into() } else { format!("{number} deliveries") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("2h", 7200), ("30m", 1800), ("90s", 90), ("7d", 604_800), ("1h 30m", 5400), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "2", "two hours", "-1h", "1 month", "2h ago"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn attempts_include_both_ends() {
        assert_eq!(attempts("3"), Ok(3..=3));
        assert_eq!(attempts("2..5"), Ok(2..=5));
        assert_eq!(attempts("2.."), Ok(2..=u32::MAX));
        assert_eq!(attempts("..5"), Ok(0..=5));
        for text in ["", "a", "5..2", "1..2..3", "-1", "4294967296"] {
            assert!(attempts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn windows_have_offsets_and_open_ends() {
        let hour = |hours: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600);
        assert_eq!(window("1970-01-01T08:00:00+07:00..1970-01-01T02:00:00Z"), Ok(hour(1)..hour(2)));
        assert_eq!(window("..1970-01-01T02:00:00Z"), Ok(hour(0)..hour(2)));
        assert!(window("1970-01-01T02:00:00Z..").unwrap().end > SystemTime::now());
        for text in
            ["", "yesterday..", "1970-01-01..", "1970-01-01T02:00:00Z", "1970-01-01T02:00:00Z..1970-01-01T01:00:00Z"]
        {
            assert!(window(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_and_ages_are_short() {
        assert_eq!(time(SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_567)), "1970-01-01T00:00:01.234Z");
        for (millis, shown) in [
            (0, "0s"),
            (59_900, "59s"),
            (60_000, "1m 0s"),
            (7_384_900, "2h 3m"),
            (86_399_999, "23h 59m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(age(Duration::from_millis(millis)), shown);
        }
    }
}
