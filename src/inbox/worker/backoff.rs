//! The pause before the next attempt.

use std::time::Duration;

/// An exponential backoff with full jitter: a random time between zero and a ceiling that doubles with each attempt.
///
/// The jitter keeps deliveries that failed together from being retried together. ("Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) last: Duration,
}

impl Backoff {
    /// Returns the pause after `attempts` attempts. `random` is a uniformly distributed random number.
    pub(super) fn pause(&self, attempts: u32, random: u64) -> Duration {
        let ceiling = self.ceiling(attempts);
        let share = f64::from(u32::try_from(random >> 32).expect("32 bits are left")) / f64::from(u32::MAX);
        ceiling.mul_f64(share)
    }

    fn ceiling(&self, attempts: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(6 * 60 * 60) };

    #[test]
    fn ceiling_doubles_up_to_the_maximum() {
        for (attempts, seconds) in
            [(1, 1), (2, 2), (3, 4), (15, 16_384), (16, 21_600), (33, 21_600), (u32::MAX, 21_600)]
        {
            assert_eq!(BACKOFF.ceiling(attempts), Duration::from_secs(seconds), "{attempts}");
        }
        let forever = Backoff { first: Duration::MAX, last: Duration::MAX };
        assert_eq!(forever.ceiling(40), Duration::MAX);
    }

    #[test]
    fn pause_is_between_zero_and_the_ceiling() {
        assert_eq!(BACKOFF.pause(3, 0), Duration::ZERO);
        assert_eq!(BACKOFF.pause(3, u64::MAX), Duration::from_secs(4));
        let half = BACKOFF.pause(3, u64::MAX / 2);
        assert!(half.abs_diff(Duration::from_secs(2)) < Duration::from_millis(1), "{half:?}");
    }
}
