//! Time, in whole milliseconds.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

/// The time of a transaction.
///
/// Rounded down for what is compared with it, and up for what comes after it: so nothing is due, or over, early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp {
    down: i64,
    up: i64,
}

impl Timestamp {
    pub(super) fn new(time: SystemTime) -> Self {
        Self { down: milliseconds(time), up: time.checked_add(ALMOST_ONE).map_or(i64::MAX, milliseconds) }
    }

    /// Since 1970.
    pub(super) fn now(self) -> i64 {
        self.down
    }

    /// When so much time has passed. No time has passed already.
    pub(super) fn after(self, time: Duration) -> i64 {
        if time.is_zero() {
            return self.down;
        }
        let time = time.as_nanos().div_ceil(1_000_000);
        self.up.saturating_add(i64::try_from(time).unwrap_or(i64::MAX))
    }
}

/// The milliseconds that have some of this in them: whoever asks for a time is given the whole of its last millisecond.
pub(super) fn whole(window: &Range<SystemTime>) -> Range<i64> {
    milliseconds(window.start)..window.end.checked_add(ALMOST_ONE).map_or(i64::MAX, milliseconds)
}

/// What of a millisecond is lost by rounding it down.
const ALMOST_ONE: Duration = Duration::from_nanos(999_999);

/// Since 1970, rounded down; before it, up.
pub(super) fn milliseconds(time: SystemTime) -> i64 {
    let saturate = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => saturate(since),
        Err(before) => -saturate(before.duration()),
    }
}

/// The time that [`milliseconds`] gave this for.
pub(super) fn time(milliseconds: i64) -> SystemTime {
    let distance = Duration::from_millis(milliseconds.unsigned_abs());
    let time = match milliseconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_range_and_never_early() {
        let whole = SystemTime::UNIX_EPOCH + Duration::from_millis(1000);
        let timestamp = Timestamp::new(whole);
        assert_eq!(timestamp.after(Duration::ZERO), 1000);
        assert_eq!(timestamp.after(Duration::from_nanos(1)), 1001);
        assert_eq!(timestamp.after(Duration::MAX), i64::MAX);
        let timestamp = Timestamp::new(whole + Duration::from_micros(900));
        assert_eq!(timestamp.now(), 1000);
        assert_eq!(timestamp.after(Duration::ZERO), 1000);
        // At 1010.0 there would be 0.9 to go.
        assert_eq!(timestamp.after(Duration::from_millis(10)), 1011);
        assert_eq!(milliseconds(SystemTime::UNIX_EPOCH - Duration::from_millis(5)), -5);
    }

    #[test]
    fn a_time_reads_back_as_itself() {
        for milliseconds_since in [-5, 0, 1_700_000_000_123] {
            assert_eq!(milliseconds(time(milliseconds_since)), milliseconds_since);
        }
    }
}
