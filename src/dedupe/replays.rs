//! A limit on replays: the number of event ids that one body may come with.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::key::BodyDigest;

/// The number of sets, each of which holds a few bodies. A power of two.
const SETS: usize = 4096;

/// The number of bodies in a set.
const WAYS: usize = 4;

/// The maximum number of ids that are remembered of a body, so that the memory is bounded.
const MAX_IDS: u16 = 1000;

/// The time for which a body is remembered if there is no limit.
const UNLIMITED_WINDOW: Duration = Duration::from_secs(60 * 60);

/// A table of fixed size that remembers which event ids each body came with.
///
/// Each body belongs to one set of the table. In a full set, a new body replaces the body with the fewest ids, so that
/// many new bodies cannot push out a body that is being replayed.
pub(crate) struct ReplayLimiter {
    /// `None` if the number of ids is unlimited. Copies are marked all the same.
    limit: Option<ReplayLimit>,
    /// Allocated when the first delivery arrives.
    sets: OnceLock<Box<[Mutex<BodySet>]>>,
    /// A random hash key, so that senders cannot choose bodies that share a set.
    random: RandomState,
    start: Instant,
    /// The second of the last warning.
    warned: Mutex<Option<u32>>,
}

/// The number of event ids that one body may come with in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplayLimit {
    pub(crate) ids: u16,
    pub(crate) window: Duration,
}

/// The decision about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The delivery is handled: its body is new, or came with this id first.
    First,
    /// The delivery is handled as a copy: its body came with another id first.
    Copy,
    /// The delivery is rejected: its body came with too many ids.
    Rejected {
        /// The rest of the window.
        remaining: Duration,
        /// Whether to log a warning, which is done once per window.
        warn: bool,
    },
}

type BodySet = [Option<KnownBody>; WAYS];

/// A remembered body. The body and its ids are stored as hashes.
struct KnownBody {
    hash: u64,
    first_id: u32,
    /// The second in which the window began.
    since: u32,
    /// `None` until the body comes with a second id, or revives a dead letter.
    copies: Option<Box<Copies>>,
}

/// The further ids and the revivals of a body in its window.
#[derive(Default)]
struct Copies {
    ids: Vec<u32>,
    revivals: u32,
}

impl ReplayLimiter {
    pub(crate) fn new(limit: Option<ReplayLimit>) -> Self {
        Self {
            limit: limit.map(|ReplayLimit { ids, window }| ReplayLimit { ids: ids.min(MAX_IDS), window }),
            sets: OnceLock::new(),
            random: RandomState::new(),
            start: Instant::now(),
            warned: Mutex::default(),
        }
    }

    pub(crate) fn limit(&self) -> Option<ReplayLimit> {
        self.limit
    }

    /// Decides about a delivery with this body and id, and remembers the id.
    pub(crate) fn admit(&self, scope: &str, digest: &BodyDigest, event_id: &str) -> Admission {
        let id = self.short_hash(event_id);
        self.with_body(scope, digest, id, |body| {
            let is_known = body.copies.as_ref().is_some_and(|copies| copies.ids.contains(&id));
            if body.first_id == id || is_known || self.limit.is_none() {
                return true;
            }
            let is_admitted = self.is_below_limit(body);
            if is_admitted {
                body.copies.get_or_insert_default().ids.push(id);
            }
            is_admitted
        })
    }

    /// Decides whether a delivery may revive a dead letter, and counts the revival like a further id.
    #[cfg(any(test, feature = "inbox"))]
    pub(crate) fn admit_revival(&self, scope: &str, digest: &BodyDigest, event_id: &str) -> Admission {
        let id = self.short_hash(event_id);
        self.with_body(scope, digest, id, |body| {
            let is_admitted = self.is_below_limit(body);
            if is_admitted {
                let copies = body.copies.get_or_insert_default();
                copies.revivals = copies.revivals.saturating_add(1);
            }
            is_admitted
        })
    }

    /// Finds or adds the entry of a body and lets `is_admitted` decide. A new entry has `id` as its first id.
    fn with_body(
        &self,
        scope: &str,
        digest: &BodyDigest,
        id: u32,
        is_admitted: impl FnOnce(&mut KnownBody) -> bool,
    ) -> Admission {
        let hash = self.random.hash_one((scope, digest.as_bytes()));
        let now = self.now();
        let mut set = self.set(hash);
        let Some(body) = self.find(&mut set, hash, id, now) else { return Admission::First };
        if is_admitted(body) {
            return if body.first_id == id { Admission::First } else { Admission::Copy };
        }
        let over = Duration::from_secs(u64::from(now.saturating_sub(body.since)));
        drop(set);
        Admission::Rejected { remaining: self.window().saturating_sub(over), warn: self.is_to_warn(now) }
    }

    /// Finds a body in its set, or adds it. Returns `None` if the set is full of bodies that have reached the limit,
    /// which must not be forgotten.
    fn find<'a>(&self, set: &'a mut BodySet, hash: u64, id: u32, now: u32) -> Option<&'a mut KnownBody> {
        let known = set.iter().position(|body| body.as_ref().is_some_and(|body| body.hash == hash));
        if let Some(known) = known {
            let body = set[known].as_mut()?;
            if self.is_over(body.since, now) {
                body.since = now;
                body.copies = None;
            }
            return Some(body);
        }
        // Replace an empty place first, then a body whose window is over, then the body with the fewest ids. Among
        // equals, replace the oldest.
        let value = |body: &Option<KnownBody>| match body {
            None => (0, 0, 0),
            Some(body) if self.is_over(body.since, now) => (1, 0, body.since),
            Some(body) => (2, body.count(), body.since),
        };
        let place = set.iter_mut().min_by_key(|body| value(body))?;
        let is_replayed =
            |body: &KnownBody| !self.is_over(body.since, now) && body.count() > 1 && !self.is_below_limit(body);
        if place.as_ref().is_some_and(is_replayed) {
            return None;
        }
        Some(place.insert(KnownBody { hash, first_id: id, since: now, copies: None }))
    }

    /// Returns whether a body may come with a further id.
    fn is_below_limit(&self, body: &KnownBody) -> bool {
        self.limit.is_none_or(|limit| body.count() < u32::from(limit.ids))
    }

    /// Returns whether a window that began in the second `since` is over.
    fn is_over(&self, since: u32, now: u32) -> bool {
        u64::from(now.saturating_sub(since)) >= self.window().as_secs()
    }

    /// Returns the window, which is at least a second.
    fn window(&self) -> Duration {
        self.limit.map_or(UNLIMITED_WINDOW, |limit| limit.window.max(Duration::from_secs(1)))
    }

    fn set(&self, hash: u64) -> MutexGuard<'_, BodySet> {
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let index = usize::try_from(hash % SETS as u64).expect("it is below a usize");
        lock(&sets[index])
    }

    fn short_hash(&self, event_id: &str) -> u32 {
        u32::try_from(self.random.hash_one(event_id) >> 32).expect("the upper half has 32 bits")
    }

    /// Returns the current second, counted from the limiter's start.
    fn now(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn is_to_warn(&self, now: u32) -> bool {
        let mut warned = lock(&self.warned);
        let is_due = warned.is_none_or(|warned| self.is_over(warned, now));
        if is_due {
            *warned = Some(now);
        }
        is_due
    }
}

impl KnownBody {
    /// Returns the number of ids and revivals in the window. The first id always counts.
    fn count(&self) -> u32 {
        let copies =
            |copies: &Copies| u32::try_from(copies.ids.len()).unwrap_or(u32::MAX).saturating_add(copies.revivals);
        self.copies.as_deref().map_or(0, copies).saturating_add(1)
    }
}

/// Locks a mutex. Ignores poisoning, because no code that could panic half-way runs under the locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LIMIT: ReplayLimit = ReplayLimit { ids: 4, window: Duration::from_secs(60) };

    fn digest(n: u32) -> BodyDigest {
        BodyDigest::of(&n.to_be_bytes())
    }

    fn admit(limiter: &ReplayLimiter, body: u32, id: u32) -> Admission {
        limiter.admit("warung", &digest(body), &id.to_string())
    }

    fn is_rejected(admission: Admission) -> bool {
        matches!(admission, Admission::Rejected { .. })
    }

    #[tokio::test(start_paused = true)]
    async fn limits_ids_of_a_body() {
        let limiter = ReplayLimiter::new(Some(LIMIT));
        assert_eq!(admit(&limiter, 1, 1), Admission::First);
        for id in 2..=4 {
            assert_eq!(admit(&limiter, 1, id), Admission::Copy);
        }
        let rejected = |warn| Admission::Rejected { remaining: LIMIT.window, warn };
        assert_eq!(admit(&limiter, 1, 5), rejected(true));
        assert_eq!(admit(&limiter, 1, 6), rejected(false));
        assert_eq!(admit(&limiter, 1, 1), Admission::First, "a retry with the same id does not count");
        assert_eq!(admit(&limiter, 1, 3), Admission::Copy);
        assert_eq!(admit(&limiter, 2, 5), Admission::First);
        assert_eq!(limiter.admit("kedai", &digest(1), "5"), Admission::First);
    }

    #[tokio::test(start_paused = true)]
    async fn next_window_admits_as_many_again() {
        let limiter = ReplayLimiter::new(Some(LIMIT));
        for window in 0..3 {
            let ids = |n: u32| 10 * window + n;
            let admitted = (0..9).filter(|&n| !is_rejected(admit(&limiter, 1, ids(n)))).count();
            assert_eq!(admitted, if window == 0 { 4 } else { 3 });
            assert!(matches!(admit(&limiter, 2, 1), Admission::First));
            advance(LIMIT.window).await;
        }
        assert_eq!(admit(&limiter, 1, 0), Admission::First);
        assert_eq!(admit(&limiter, 1, 99), Admission::Copy, "a copy is recognised in later windows too");
    }

    #[tokio::test(start_paused = true)]
    async fn warning_comes_once_in_a_window() {
        let limiter = ReplayLimiter::new(Some(LIMIT));
        let warnings = |bodies: std::ops::Range<u32>| {
            let admissions = bodies.flat_map(|body| (0..9).map(move |id| (body, id)));
            let warns = |(body, id)| matches!(admit(&limiter, body, id), Admission::Rejected { warn: true, .. });
            admissions.filter(|&pair| warns(pair)).count()
        };
        assert_eq!(warnings(0..9), 1);
        advance(LIMIT.window).await;
        assert_eq!(warnings(9..18), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_bodies_do_not_push_out_a_replayed_one() {
        let limiter = ReplayLimiter::new(Some(LIMIT));
        assert!((0..9).any(|id| is_rejected(admit(&limiter, 0, id))));
        for body in 1..200_000 {
            assert_eq!(admit(&limiter, body, body), Admission::First);
        }
        assert!(is_rejected(admit(&limiter, 0, 10)));
    }

    #[tokio::test(start_paused = true)]
    async fn full_set_lets_new_bodies_through() {
        let limiter = ReplayLimiter::new(Some(ReplayLimit { ids: 2, ..LIMIT }));
        for body in 0..100_000 {
            assert_eq!(admit(&limiter, body, 1), Admission::First);
            assert!(matches!(admit(&limiter, body, 2), Admission::First | Admission::Copy));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn revivals_count_like_ids() {
        let limiter = ReplayLimiter::new(Some(LIMIT));
        let revive = |id: u32| limiter.admit_revival("warung", &digest(1), &id.to_string());
        assert_eq!(admit(&limiter, 1, 1), Admission::First);
        assert_eq!(admit(&limiter, 1, 2), Admission::Copy);
        assert_eq!((revive(1), revive(2)), (Admission::First, Admission::Copy));
        assert!(is_rejected(revive(1)) && is_rejected(admit(&limiter, 1, 3)));
        assert_eq!(admit(&limiter, 1, 2), Admission::Copy);
        advance(LIMIT.window).await;
        assert_eq!(revive(2), Admission::Copy);
    }

    #[tokio::test(start_paused = true)]
    async fn limit_of_one_admits_the_first_id_alone() {
        let limiter = ReplayLimiter::new(Some(ReplayLimit { ids: 1, ..LIMIT }));
        for body in 0..30_000 {
            assert_eq!(admit(&limiter, body, 1), Admission::First);
        }
        assert!(is_rejected(admit(&limiter, 29_999, 2)));
    }

    #[tokio::test(start_paused = true)]
    async fn old_bodies_are_remembered_while_there_is_space() {
        let limiter = ReplayLimiter::new(Some(LIMIT));
        for body in 0..4000 {
            assert_eq!(admit(&limiter, body, 1), Admission::First);
            advance(Duration::from_secs(1)).await;
        }
        let known = (0..4000).filter(|&body| admit(&limiter, body, 2) == Admission::Copy).count();
        // Sets with more than four bodies have lost some.
        assert!(known > 3500, "{known} of 4,000 bodies were remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn copies_are_marked_without_a_limit() {
        let limiter = ReplayLimiter::new(None);
        assert_eq!(admit(&limiter, 1, 0), Admission::First);
        assert!((1..100_000).all(|id| admit(&limiter, 1, id) == Admission::Copy));
        assert_eq!(admit(&limiter, 1, 0), Admission::First);
    }
}
