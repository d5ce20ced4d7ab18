//! A store in the memory of this process.

#[cfg(feature = "inbox")]
mod inbox;
mod table;

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::table::{LedgerTable, Tick, Timestamp};
use crate::{
    dedupe::{
        Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, StoreError,
    },
    telemetry,
};

/// The number of expired entries that a claim deletes. More than the single entry that it may add.
const PURGED_PER_CLAIM: usize = 2;

/// A ledger and an inbox in the memory of this process, for tests and single processes.
///
/// **A restart loses all entries.** Retries and replays of deliveries that were handled before the restart are handled
/// again, which duplicates orders. Two processes do not share entries. Use another store to avoid both.
///
/// - The store remembers 100,000 entries, which take about 20 MB. [`capacity`](Self::capacity) changes the number.
/// - A full store forgets the entry that was completed longest ago, even if its retention is not over.
///   [`evicted`](Self::evicted) counts these entries, and the first one is logged as a warning. With
///   [`reject_when_full`](Self::reject_when_full), a full store rejects new deliveries instead.
/// - The store never forgets the claim of a running handler. If all entries are such claims, `claim` fails, and klikit
///   sends the delivery again.
/// - The store uses tokio's clock, so a test can pause and advance its time.
/// - The store's futures are ready at once.
///
/// Clones share the entries. Change the settings before cloning.
#[derive(Clone)]
pub struct MemoryStore {
    capacity: usize,
    when_full: WhenFull,
    shared: Arc<SharedState>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        let shared = SharedState {
            start: Instant::now(),
            state: Mutex::default(),
            evicted: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        };
        Self { capacity: 100_000, when_full: WhenFull::EvictOldestDone, shared: Arc::new(shared) }
    }

    /// Sets the number of entries that the store remembers, at about 200 bytes each. Default: 100,000.
    ///
    /// A delivery takes one entry from its claim until its retention is over. Each conflict takes one entry too.
    ///
    /// # Panics
    ///
    /// Panics if `entries` is zero.
    #[must_use]
    #[track_caller]
    pub fn capacity(mut self, entries: usize) -> Self {
        assert!(entries > 0, "the capacity of a memory store must be at least 1");
        self.capacity = entries;
        self
    }

    /// Lets `claim` fail when the store is full, instead of forgetting the entry that was completed longest ago.
    #[must_use]
    pub fn reject_when_full(mut self) -> Self {
        self.when_full = WhenFull::Reject;
        self
    }

    /// Returns the number of entries that were forgotten before their retention was over. A copy of such a delivery is
    /// handled again.
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
        ledger: &mut LedgerTable,
        claim: &Claim,
        now: Timestamp,
        terms: &ClaimTerms,
    ) -> Result<ClaimOutcome, StoreFull> {
        ledger.purge(now.tick(), PURGED_PER_CLAIM);
        if ledger.len() >= self.capacity && !ledger.contains(&claim.key) {
            let evicts = self.when_full == WhenFull::EvictOldestDone;
            if !evicts || !ledger.evict_oldest_done() {
                return Err(StoreFull { capacity: self.capacity });
            }
            self.shared.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ledger.claim(claim, now, terms))
    }

    /// Logs the first eviction. Must not be called under the lock, because a log subscriber may use the store.
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

/// `forget` iterates over all entries.
impl Ledger for MemoryStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let now = self.shared.timestamp();
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

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.shared.state().ledger.forget(selection, self.shared.timestamp()))
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let now = self.shared.now();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.shared.state().ledger.purge(now, limit) as u64)
    }
}

/// `entries` and `count` iterate over all entries.
impl LedgerAdmin for MemoryStore {
    async fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.shared.state().ledger.listed(selection, after, limit, self.shared.timestamp()))
    }

    async fn count(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.shared.state().ledger.keys(selection, self.shared.timestamp()).len() as u64)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    EvictOldestDone,
    Reject,
}

/// The error of a full store that must not forget any of its entries.
#[derive(Debug)]
struct StoreFull {
    capacity: usize,
}

impl fmt::Display for StoreFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the memory store is full: it holds {} entries, and must not forget any of them", self.capacity)
    }
}

impl Error for StoreFull {}

/// The state that clones of a store share.
struct SharedState {
    start: Instant,
    state: Mutex<StoreState>,
    evicted: AtomicU64,
    warned: AtomicBool,
}

/// The entries and the deliveries, under one lock.
#[derive(Default)]
struct StoreState {
    ledger: LedgerTable,
    #[cfg(feature = "inbox")]
    deliveries: inbox::Deliveries,
}

impl SharedState {
    fn now(&self) -> Tick {
        Tick::since(self.start)
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::now(self.start)
    }

    fn state(&self) -> MutexGuard<'_, StoreState> {
        // No code under the lock panics, so a poisoned lock holds a valid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
