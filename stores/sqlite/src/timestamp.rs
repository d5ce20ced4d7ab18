//! Times in whole milliseconds.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

/// The time of a transaction, in milliseconds of the [store's time](super::clock).
///
/// It is rounded down where stored times are compared with it, and up where it is stored with something added: so
/// nothing is due or over early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp {
    down: i64,
    up: i64,
    system: i64,
}

impl Timestamp {
    /// The time of a store that is so many milliseconds `ahead` of the system clock, and has reached the time `latest`.
    pub(super) fn new(system: SystemTime, ahead: i64, latest: i64) -> Self {
        let up = system.checked_add(ALMOST_ONE).map_or(i64::MAX, milliseconds);
        let system = milliseconds(system);
        let time = |system: i64| system.saturating_add(ahead).max(latest);
        Self { down: time(system), up: time(up), system }
    }

    pub(super) fn now(self) -> i64 {
        self.down
    }

    /// Returns the latest stored time of what happened at least `age` ago. No time has passed since any stored time if
    /// that is zero.
    pub(super) fn before(self, age: Duration) -> i64 {
        if age.is_zero() {
            return self.down;
        }
        // Stored times are rounded down, so a millisecond more may be missing.
        let age = i64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        self.down.saturating_sub(age).saturating_sub(1)
    }

    /// Returns the system clock's time since 1970.
    pub(super) fn system(self) -> i64 {
        self.system
    }

    /// Returns the time when so much time has passed. No time has passed already.
    pub(super) fn after(self, time: Duration) -> i64 {
        if time.is_zero() {
            return self.down;
        }
        let time = time.as_nanos().div_ceil(1_000_000);
        self.up.saturating_add(i64::try_from(time).unwrap_or(i64::MAX))
    }
}

/// Returns the milliseconds that overlap with this window: the last one counts whole.
pub(super) fn whole(window: &Range<SystemTime>) -> Range<i64> {
    milliseconds(window.start)..window.end.checked_add(ALMOST_ONE).map_or(i64::MAX, milliseconds)
}

/// The most that is lost by rounding down to a millisecond.
const ALMOST_ONE: Duration = Duration::from_nanos(999_999);

/// Returns the milliseconds since 1970, rounded towards it.
pub(super) fn milliseconds(time: SystemTime) -> i64 {
    let saturate = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => saturate(since),
        Err(before) => -saturate(before.duration()),
    }
}

/// Returns the time that is so many [`milliseconds`] since 1970.
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
        // At 1010.0 there would be 0.9 to go.
        assert_eq!(timestamp.after(Duration::from_millis(10)), 1011);
        assert_eq!(milliseconds(SystemTime::UNIX_EPOCH - Duration::from_millis(5)), -5);
        // An event at 990.9 is stored as 990, and is 10.0 old at 1000.9.
        assert_eq!(timestamp.before(Duration::from_millis(10)), 989);
        assert_eq!(timestamp.before(Duration::from_nanos(1)), 998);
        assert_eq!(timestamp.before(Duration::ZERO), 1000);
        assert_eq!(timestamp.before(Duration::MAX), 1000 - i64::MAX - 1);
        let timestamp = Timestamp::new(whole, 500, 0);
        assert_eq!((timestamp.now(), timestamp.system()), (1500, 1000));
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
