//! Deliveries remembered by this process alone.

#[cfg(feature = "inbox")]
mod inbox;
mod table;

use std::{
    error::Error,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use self::table::{Entry, Moment, Table, Tick};
use crate::{
    dedupe::{Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, StoreError},
    telemetry,
};

/// How many expired entries a claim deletes. More than the one that it may add.
const PURGED_BY_A_CLAIM: usize = 2;

/// A ledger and an inbox in the memory of this process, for tests and single processes.
///
/// **A restart forgets everything.** klikit's retries and replays of deliveries that were handled before it are then
/// handled again: orders are doubled. Nor do two processes know of each other. The other stores remember.
///
/// - It remembers 100,000 entries, which take about 20 MB, unless [`capacity`](Self::capacity) says otherwise.
/// - When it is full, it forgets the entry that was completed longest ago, even if its retention is not over.
///   [`evicted`](Self::evicted) counts these entries, and the first one is logged as a warning. With
///   [`reject_when_full`](Self::reject_when_full) it rejects new deliveries instead.
/// - It never forgets a claim in flight. If all entries are claims in flight, `claim` fails, and klikit sends the
///   delivery again.
/// - Its clock is tokio's, so a test that pauses and advances that clock moves this store too.
/// - Its futures are ready at once.
///
/// Clones share the entries. Change the settings before cloning.
#[derive(Clone)]
pub struct MemoryStore {
    capacity: usize,
    when_full: WhenFull,
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        let shared = Shared {
            start: Instant::now(),
            state: Mutex::default(),
            evicted: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        };
        Self { capacity: 100_000, when_full: WhenFull::EvictOldestDone, shared: Arc::new(shared) }
    }

    /// Sets how many entries the store remembers, at about 200 bytes each. Default: 100,000.
    ///
    /// A delivery takes one entry from its claim until its retention is over, and so does each other body that comes
    /// under its id.
    ///
    /// # Panics
    ///
    /// Panics if `entries` is zero.
    #[must_use]
    #[track_caller]
    pub fn capacity(mut self, entries: usize) -> Self {
        assert!(entries > 0, "a store with no room for any entry could handle no delivery");
        self.capacity = entries;
        self
    }

    /// Makes `claim` fail when the store is full, instead of forgetting the entry that was completed longest ago.
    #[must_use]
    pub fn reject_when_full(mut self) -> Self {
        self.when_full = WhenFull::Reject;
        self
    }

    /// Returns how many entries were forgotten before their time. A copy of such a delivery is handled again.
    pub fn evicted(&self) -> u64 {
        self.shared.evicted.load(Ordering::Relaxed)
    }

    /// Returns the number of entries, including expired ones that are not deleted yet.
    pub fn len(&self) -> usize {
        self.shared.state().ledger.len()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn claim_in(
        &self,
        ledger: &mut Table,
        claim: &Claim,
        now: Moment,
        terms: &ClaimTerms,
    ) -> Result<ClaimOutcome, Full> {
        ledger.purge(now.tick(), PURGED_BY_A_CLAIM);
        if ledger.len() >= self.capacity && !ledger.contains(&claim.key) {
            let evicts = self.when_full == WhenFull::EvictOldestDone;
            if !evicts || !ledger.evict_oldest_done() {
                return Err(Full { capacity: self.capacity });
            }
            self.shared.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ledger.claim(claim, now, terms))
    }

    /// Logs the first eviction. Not under the lock: a subscriber may look at the store.
    fn warn_if_full(&self) {
        if self.evicted() > 0 && !self.shared.warned.swap(true, Ordering::Relaxed) {
            telemetry::memory_store_full(self.capacity);
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("capacity", &self.capacity)
            .field("when_full", &self.when_full)
            .field("entries", &self.len())
            .field("evicted", &self.evicted())
            .finish()
    }
}

impl Ledger for MemoryStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let now = self.shared.moment();
        let claimed = self.claim_in(&mut self.shared.state().ledger, claim, now, terms);
        self.warn_if_full();
        claimed.map_err(StoreError::new)
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let now = self.shared.now();
        Ok(self.shared.state().ledger.complete(claim, now, retention))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let now = self.shared.now();
        self.shared.state().ledger.release(claim, now);
        Ok(())
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        let mut state = self.shared.state();
        let now = self.shared.now();
        Ok(claims.iter().map(|claim| state.ledger.renew(claim, now, terms)).collect())
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        let now = self.shared.now();
        Ok(self.shared.state().ledger.forget(now, |entry| entry.event == *event))
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let now = self.shared.moment();
        let is_within = |entry: &Entry| window.contains(&entry.claimed_at.time_of_day(now));
        Ok(self.shared.state().ledger.forget(now.tick(), is_within))
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let now = self.shared.now();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.shared.state().ledger.purge(now, limit) as u64)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    EvictOldestDone,
    Reject,
}

/// All entries are claims in flight, or none may be forgotten.
#[derive(Debug)]
struct Full {
    capacity: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the memory store is full: it has room for {} entries, and may forget none of them", self.capacity)
    }
}

impl Error for Full {}

struct Shared {
    start: Instant,
    state: Mutex<State>,
    evicted: AtomicU64,
    warned: AtomicBool,
}

#[derive(Default)]
struct State {
    ledger: Table,
    #[cfg(feature = "inbox")]
    deliveries: inbox::Deliveries,
}

impl Shared {
    fn now(&self) -> Tick {
        Tick::since(self.start)
    }

    fn moment(&self) -> Moment {
        Moment::now(self.start)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
