//! A limit on replays: how many event ids one body may come with.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::ledger::BodyDigest;

/// The number of sets, each of which holds a few bodies. A power of two.
const SETS: usize = 4096;

/// How many bodies a set holds.
const WAYS: usize = 4;

/// The most ids that are remembered of a body, so that the table has a fixed size.
const MAX_IDS: u16 = 1000;

/// How long a body is remembered without a limit.
const UNLIMITED_WINDOW: Duration = Duration::from_secs(60 * 60);

/// Remembers which event ids each body came with, in a table of fixed size.
///
/// A body is looked for in one set of the table. A new one takes the place of the body with the fewest ids there, so that
/// many bodies cannot push out one that is replayed.
pub(crate) struct ReplayLimiter {
    /// `None` for any number: then copies are only marked.
    limit: Option<ReplayLimit>,
    /// Made when the first delivery comes.
    sets: OnceLock<Box<[Mutex<Set>]>>,
    /// Keyed at random, so that peers cannot choose bodies that share a set.
    random: RandomState,
    start: Instant,
    /// The second in which the last warning was given.
    warned: Mutex<Option<u32>>,
}

/// How many event ids one body may come with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplayLimit {
    pub(crate) ids: u16,
    pub(crate) window: Duration,
}

/// Whether a delivery may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The body is new, or came with this id first.
    First,
    /// The body came with another id first.
    Copy,
    /// The body came with too many ids.
    Rejected {
        /// How much is left of the window.
        remaining: Duration,
        /// Whether this is the first rejection in a window's time.
        warn: bool,
    },
}

type Set = [Option<Body>; WAYS];

/// A remembered body. Hashes stand for the body and its ids.
struct Body {
    hash: u64,
    first_id: u32,
    /// The second in which the window began.
    since: u32,
    /// `None` until the body comes with a second id, or is revived.
    copies: Option<Box<Copies>>,
}

/// The copies of a body in its window.
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

    /// Decides about a delivery whose body has this digest, and remembers its id.
    pub(crate) fn admit(&self, scope: &str, digest: &BodyDigest, event_id: &str) -> Admission {
        let id = self.short_hash(event_id);
        self.with_body(scope, digest, id, |body| {
            let is_known = body.copies.as_ref().is_some_and(|copies| copies.ids.contains(&id));
            if body.first_id == id || is_known || self.limit.is_none() {
                return true;
            }
            let is_admitted = self.has_room(body);
            if is_admitted {
                body.copies.get_or_insert_default().ids.push(id);
            }
            is_admitted
        })
    }

    /// Decides whether a delivery may revive a dead letter, and counts that like a further id.
    #[cfg(any(test, feature = "inbox"))]
    pub(crate) fn admit_revival(&self, scope: &str, digest: &BodyDigest, event_id: &str) -> Admission {
        let id = self.short_hash(event_id);
        self.with_body(scope, digest, id, |body| {
            let is_admitted = self.has_room(body);
            if is_admitted {
                let copies = body.copies.get_or_insert_default();
                copies.revivals = copies.revivals.saturating_add(1);
            }
            is_admitted
        })
    }

    /// Asks `is_admitted` about what is remembered of a body, which `id` is the first of if nothing is.
    fn with_body(
        &self,
        scope: &str,
        digest: &BodyDigest,
        id: u32,
        is_admitted: impl FnOnce(&mut Body) -> bool,
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

    /// Finds a body in its set, or puts it there. Returns `None` if the set is full of bodies that reached the limit: those
    /// have to be remembered.
    fn find<'a>(&self, set: &'a mut Set, hash: u64, id: u32, now: u32) -> Option<&'a mut Body> {
        let known = set.iter().position(|body| body.as_ref().is_some_and(|body| body.hash == hash));
        if let Some(known) = known {
            let body = set[known].as_mut()?;
            if self.is_over(body.since, now) {
                body.since = now;
                body.copies = None;
            }
            return Some(body);
        }
        // An empty place first, then a body whose window is over, then one with few ids, and the oldest of several.
        let value = |body: &Option<Body>| match body {
            None => (0, 0, 0),
            Some(body) if self.is_over(body.since, now) => (1, 0, body.since),
            Some(body) => (2, body.count(), body.since),
        };
        let place = set.iter_mut().min_by_key(|body| value(body))?;
        let is_replayed = |body: &Body| !self.is_over(body.since, now) && body.count() > 1 && !self.has_room(body);
        if place.as_ref().is_some_and(is_replayed) {
            return None;
        }
        Some(place.insert(Body { hash, first_id: id, since: now, copies: None }))
    }

    /// Whether a body may come with a further id.
    fn has_room(&self, body: &Body) -> bool {
        self.limit.is_none_or(|limit| body.count() < u32::from(limit.ids))
    }

    /// Whether a window that began in this second is over.
    fn is_over(&self, since: u32, now: u32) -> bool {
        u64::from(now.saturating_sub(since)) >= self.window().as_secs()
    }

    /// Returns the window, of a second at least.
    fn window(&self) -> Duration {
        self.limit.map_or(UNLIMITED_WINDOW, |limit| limit.window.max(Duration::from_secs(1)))
    }

    fn set(&self, hash: u64) -> MutexGuard<'_, Set> {
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let index = usize::try_from(hash % SETS as u64).expect("it is below a usize");
        lock(&sets[index])
    }

    fn short_hash(&self, event_id: &str) -> u32 {
        // The upper half.
        u32::try_from(self.random.hash_one(event_id) >> 32).expect("it has 32 bits")
    }

    /// The current second, counted from the limiter's start.
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

impl Body {
    /// The number of ids in the window, with revivals counted like ids. The first id always counts.
    fn count(&self) -> u32 {
        let copies =
            |copies: &Copies| u32::try_from(copies.ids.len()).unwrap_or(u32::MAX).saturating_add(copies.revivals);
        self.copies.as_deref().map_or(0, copies).saturating_add(1)
    }
}

/// A panic elsewhere leaves the locked value whole: nothing here runs code of others.
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
    async fn body_may_come_with_so_many_ids() {
        let limiter = ReplayLimiter::new(Some(LIMIT));
        assert_eq!(admit(&limiter, 1, 1), Admission::First);
        for id in 2..=4 {
            assert_eq!(admit(&limiter, 1, id), Admission::Copy);
        }
        let rejected = |warn| Admission::Rejected { remaining: LIMIT.window, warn };
        assert_eq!(admit(&limiter, 1, 5), rejected(true));
        assert_eq!(admit(&limiter, 1, 6), rejected(false));
        assert_eq!(admit(&limiter, 1, 1), Admission::First, "klikit's retries are no further ids");
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
        assert_eq!(admit(&limiter, 1, 99), Admission::Copy, "a copy is known as one in later windows too");
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
        // Sets that got more than four bodies have lost some.
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
