//! A rate limit for the log lines that a sender can cause.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The number of lines of one kind that are written at once.
const BURST: u32 = 10;

/// The interval in which one line of a kind is written after the burst.
const INTERVAL: Duration = Duration::from_secs(1);

/// The number of kinds that have a bucket of their own. The crate has fewer; further kinds would share the last bucket.
const KINDS: usize = 24;

/// A rate limit for each kind of log line, which counts the lines that are left out. Clones of a layer share it.
///
/// Without a limit, any sender could cause one line per request, fill the disk, and hide other lines.
pub(crate) struct LogLimits(Mutex<[Option<(&'static str, Bucket)>; KINDS]>);

/// A token bucket. Each line takes one token.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: u32,
    /// When the last token was added.
    filled_at: Instant,
    left_out: u64,
}

/// The number of lines of a kind that were left out since the last written line, or `None` for 0. Written as a field.
pub(super) type LeftOut = Option<u64>;

impl LogLimits {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new([None; KINDS]))
    }

    /// Returns `None` if a line of this kind has to be left out, and otherwise the number of lines left out before it.
    pub(super) fn admit(&self, kind: &'static str) -> Option<LeftOut> {
        self.with_bucket(kind, |bucket| if bucket.take() { Some(bucket.reset()) } else { bucket.leave_out() })
    }

    /// Counts a line of this kind that is always written, because its rate is limited elsewhere. Returns the number of
    /// lines left out before it.
    pub(super) fn admit_always(&self, kind: &'static str) -> LeftOut {
        self.with_bucket(kind, |bucket| {
            bucket.take();
            bucket.reset()
        })
    }

    fn with_bucket<T>(&self, kind: &'static str, run: impl FnOnce(&mut Bucket) -> T) -> T {
        let now = Instant::now();
        // No code under the lock panics, so a poisoned lock holds valid buckets.
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_kind = |bucket: &Option<(&str, Bucket)>| bucket.is_none_or(|(known, _)| known == kind);
        let index = buckets.iter().position(is_of_kind).unwrap_or(KINDS - 1);
        let (_, bucket) = buckets[index].get_or_insert((kind, Bucket { tokens: BURST, filled_at: now, left_out: 0 }));
        bucket.fill(now);
        run(bucket)
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let intervals = now.saturating_duration_since(self.filled_at).as_secs() / INTERVAL.as_secs();
        let missing = BURST - self.tokens;
        match u32::try_from(intervals) {
            Ok(added) if added < missing => {
                self.tokens += added;
                self.filled_at += added * INTERVAL;
            }
            _ => {
                self.tokens = BURST;
                self.filled_at = now;
            }
        }
    }

    fn take(&mut self) -> bool {
        let has_token = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has_token
    }

    fn reset(&mut self) -> LeftOut {
        Some(std::mem::take(&mut self.left_out)).filter(|&lines| lines > 0)
    }

    fn leave_out(&mut self) -> Option<LeftOut> {
        self.left_out = self.left_out.saturating_add(1);
        None
    }
}

impl fmt::Debug for LogLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLimits").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "dedupe"))]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Tries to write a line `times` times. Returns the number of written lines, and the number that they say was left
    /// out.
    fn admitted(limits: &LogLimits, kind: &'static str, times: usize) -> (usize, u64) {
        let written: Vec<LeftOut> = (0..times).filter_map(|_| limits.admit(kind)).collect();
        (written.len(), written.iter().flatten().sum())
    }

    #[tokio::test(start_paused = true)]
    async fn writes_a_burst_and_then_one_line_a_second() {
        let limits = LogLimits::new();
        assert_eq!(admitted(&limits, "a", 1000), (10, 0));
        advance(Duration::from_millis(999)).await;
        assert_eq!(admitted(&limits, "a", 1000), (0, 0));
        advance(Duration::from_millis(1)).await;
        assert_eq!(admitted(&limits, "a", 1000), (1, 1990));
        advance(Duration::from_millis(3500)).await;
        assert_eq!(admitted(&limits, "a", 1000), (3, 999));
        // The last 3.5 seconds added three tokens, and the remaining half second still counts.
        advance(Duration::from_millis(500)).await;
        assert_eq!(admitted(&limits, "a", 1), (1, 997));
        advance(Duration::from_secs(1_000_000)).await;
        assert_eq!(admitted(&limits, "a", 1000), (10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_do_not_hide_each_other() {
        let limits = LogLimits::new();
        assert_eq!(admitted(&limits, "a", 1000), (10, 0));
        assert_eq!(admitted(&limits, "b", 5), (5, 0));
        advance(INTERVAL).await;
        assert_eq!((admitted(&limits, "a", 1), admitted(&limits, "b", 9)), ((1, 990), (6, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_are_always_written_take_tokens() {
        let limits = LogLimits::new();
        assert_eq!((limits.admit_always("a"), admitted(&limits, "a", 12)), (None, (9, 0)));
        assert_eq!((limits.admit_always("a"), limits.admit_always("a")), (Some(3), None));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_kinds_share_a_bucket() {
        const NAMES: [&str; KINDS + 2] = {
            let mut names = [""; KINDS + 2];
            let mut n = 0;
            while n < names.len() {
                names[n] = "abcdefghijklmnopqrstuvwxyz".split_at(n + 1).0;
                n += 1;
            }
            names
        };
        let limits = LogLimits::new();
        let written: usize = NAMES.iter().map(|name| admitted(&limits, name, 11).0).sum();
        assert_eq!(written, KINDS * 10);
    }
}
