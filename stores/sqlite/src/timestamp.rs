//! Conversions between times and whole milliseconds.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

/// The time of a transaction, in milliseconds of the [store's time](super::clock).
///
/// It is rounded down for comparisons with stored times, and up for the computation of deadlines. So nothing is due
/// early or expires early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp {
    down: i64,
    up: i64,
    system: i64,
}

impl Timestamp {
    /// Returns the timestamp of a store whose time is `ahead` milliseconds ahead of the system clock and not before
    /// `latest`.
    pub(super) fn new(system: SystemTime, ahead: i64, latest: i64) -> Self {
        let up = system.checked_add(ALMOST_ONE).map_or(i64::MAX, milliseconds);
        let system = milliseconds(system);
        let time = |system: i64| system.saturating_add(ahead).max(latest);
        Self { down: time(system), up: time(up), system }
    }

    /// Returns the time, rounded down.
    pub(super) fn now(self) -> i64 {
        self.down
    }

    /// Returns the latest stored time of an event that certainly happened at least `age` ago. If `age` is zero, returns
    /// the time itself.
    pub(super) fn before(self, age: Duration) -> i64 {
        if age.is_zero() {
            return self.down;
        }
        // Stored times are rounded down, so the event may have happened up to a millisecond later.
        let age = i64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        self.down.saturating_sub(age).saturating_sub(1)
    }

    /// Returns the time of the system clock, in milliseconds since 1970.
    pub(super) fn system(self) -> i64 {
        self.system
    }

    /// Returns the time of the system clock for a time of the store.
    pub(super) fn system_time(self, stored: i64) -> SystemTime {
        time(self.system.saturating_add(stored.saturating_sub(self.down)))
    }

    /// Returns the deadline that is `delay` from now, rounded up. If `delay` is zero, the deadline has already passed.
    pub(super) fn after(self, delay: Duration) -> i64 {
        if delay.is_zero() {
            return self.down;
        }
        let delay = delay.as_nanos().div_ceil(1_000_000);
        self.up.saturating_add(i64::try_from(delay).unwrap_or(i64::MAX))
    }
}

/// Returns all milliseconds that overlap this window.
pub(super) fn whole(window: &Range<SystemTime>) -> Range<i64> {
    milliseconds(window.start)..window.end.checked_add(ALMOST_ONE).map_or(i64::MAX, milliseconds)
}

/// The largest error of rounding down to a millisecond.
const ALMOST_ONE: Duration = Duration::from_nanos(999_999);

/// Returns the milliseconds since 1970, rounded towards 1970.
pub(super) fn milliseconds(time: SystemTime) -> i64 {
    let saturate = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => saturate(since),
        Err(before) => -saturate(before.duration()),
    }
}

/// Returns the time for this number of [`milliseconds`] since 1970.
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
    fn times_are_never_early() {
        let whole = SystemTime::UNIX_EPOCH + Duration::from_millis(1000);
        let timestamp = Timestamp::new(whole, 0, 0);
        assert_eq!(timestamp.after(Duration::ZERO), 1000);
        assert_eq!(timestamp.after(Duration::from_nanos(1)), 1001);
        assert_eq!(timestamp.after(Duration::MAX), i64::MAX);
        let timestamp = Timestamp::new(whole + Duration::from_micros(900), 0, 0);
        assert_eq!(timestamp.now(), 1000);
        assert_eq!(timestamp.after(Duration::ZERO), 1000);
        // The exact deadline is 1010.9.
        assert_eq!(timestamp.after(Duration::from_millis(10)), 1011);
        assert_eq!(milliseconds(SystemTime::UNIX_EPOCH - Duration::from_millis(5)), -5);
        // An event at 990.9 is stored as 990, and is 10 ms old only at 1000.9.
        assert_eq!(timestamp.before(Duration::from_millis(10)), 989);
        assert_eq!(timestamp.before(Duration::from_nanos(1)), 998);
        assert_eq!(timestamp.before(Duration::ZERO), 1000);
        assert_eq!(timestamp.before(Duration::MAX), 1000 - i64::MAX - 1);
        let timestamp = Timestamp::new(whole, 500, 0);
        assert_eq!((timestamp.now(), timestamp.system()), (1500, 1000));
        assert_eq!(timestamp.system_time(1400), SystemTime::UNIX_EPOCH + Duration::from_millis(900));
        assert_eq!(timestamp.system_time(1700), SystemTime::UNIX_EPOCH + Duration::from_millis(1200));
        assert_eq!(timestamp.system_time(i64::MAX), time(i64::MAX - 500));
        let timestamp = Timestamp::new(whole, 500, 1700);
        assert_eq!((timestamp.now(), timestamp.after(Duration::from_millis(1))), (1700, 1701));
    }

    #[test]
    fn times_survive_a_round_trip() {
        for milliseconds_since in [-5, 0, 1_700_000_000_123] {
            assert_eq!(milliseconds(time(milliseconds_since)), milliseconds_since);
        }
    }
}
