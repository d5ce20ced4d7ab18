//! Deliveries remembered by this process alone.

#[cfg(feature = "inbox")]
mod inbox;
mod table;

use std::{
    array,
    collections::hash_map::RandomState,
    error::Error,
    fmt, mem,
    ops::{Deref, DerefMut, Range},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use self::table::{ClaimedAt, Entry, Table, Tick};
use crate::{
    dedupe::{Claim, ClaimOutcome, EventKey, Ledger, StoreError},
    telemetry,
};

/// So that two threads rarely want the same one.
const SHARDS: usize = 16;

/// How many entries whose time is up a claim clears away. More than the one that it may add.
const PURGED_BY_A_CLAIM: usize = 2;

/// A ledger, and an inbox, in the memory of this process.
///
/// **A restart forgets everything.** klikit's retries and replays of what was handled before it are then handled again: orders
/// are doubled. Nor do two processes know of each other. So this store is for tests, and for a single process that can live
/// with doubled orders. The other stores remember.
///
/// - It remembers 100,000 entries, which take about 20 MB, unless [`capacity`](Self::capacity) says otherwise.
/// - When it is full, it forgets what was completed longest ago to make room, even if its retention is not over, and
///   [`evicted`](Self::evicted) counts that. The first time it logs a warning. [`refuse_when_full`](Self::refuse_when_full)
///   has it refuse new deliveries instead.
/// - It never forgets a claim in flight. When there is no room but for those, `claim` fails, and klikit sends the delivery
///   again.
/// - Its clock is tokio's, so a test that pauses and advances that clock moves this store too.
/// - Its futures are ready at once.
///
/// Clones share what is remembered. Change the settings before cloning.
#[derive(Clone)]
pub struct MemoryStore {
    capacity: usize,
    when_full: WhenFull,
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let random = RandomState::new();
        let shared = Shared {
            start: Instant::now(),
            shards: array::from_fn(|_| Shard::new(random.clone())),
            entries: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            #[cfg(feature = "inbox")]
            deliveries: Mutex::default(),
        };
        Self { capacity: 100_000, when_full: WhenFull::EvictOldestDone, shared: Arc::new(shared) }
    }

    /// Remembers at most so many entries, about 200 bytes each. 100,000 by default.
    ///
    /// A delivery takes one entry from the moment it is claimed until its retention is over, and so does each other body that
    /// comes under its id.
    ///
    /// # Panics
    ///
    /// When `entries` is zero.
    #[must_use]
    #[track_caller]
    pub fn capacity(mut self, entries: usize) -> Self {
        assert!(entries > 0, "a store with no room for any entry could handle no delivery");
        self.capacity = entries;
        self
    }

    /// Has `claim` fail when there is no room, rather than forget what was completed longest ago.
    #[must_use]
    pub fn refuse_when_full(mut self) -> Self {
        self.when_full = WhenFull::Refuse;
        self
    }

    /// How many entries were forgotten before their time to make room. A copy of one of those is handled again.
    pub fn evicted(&self) -> u64 {
        self.shared.evicted.load(Ordering::Relaxed)
    }

    /// How many entries there are, with those whose time is up but that were not cleared away yet.
    pub fn len(&self) -> usize {
        self.shared.entries.load(Ordering::Relaxed)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn try_claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, Full> {
        let wall = SystemTime::now();
        let now = self.shared.now();
        let shard = self.shared.shard(&claim.event);
        let mut has_room = false;
        loop {
            let mut table = shard.lock();
            self.shared.give_back(table.purge(now, PURGED_BY_A_CLAIM));
            // Room that was made is used up here, unless somebody else has claimed the entry meanwhile.
            let room = || mem::take(&mut has_room) || self.take_room();
            if let Some(outcome) = table.claim(claim, ClaimedAt::new(wall, now), lease, room) {
                self.shared.give_back(usize::from(has_room));
                return Ok(outcome);
            }
            // Room may have to be made in another shard, and nobody waits for one lock while holding another, or two who do
            // might wait for each other.
            drop(table);
            self.make_room(now)?;
            has_room = true;
        }
    }

    /// Sets one entry's room aside, if there is any.
    fn take_room(&self) -> bool {
        let one_more = |entries: usize| (entries < self.capacity).then_some(entries + 1);
        // Relaxed: the counter guards no other memory.
        self.shared.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Sets one entry's room aside that is taken from another entry.
    fn make_room(&self, now: Tick) -> Result<(), Full> {
        let shards = &self.shared.shards;
        loop {
            if self.take_room() {
                return Ok(());
            }
            if let Some(shard) = shards.iter().find(|shard| shard.soonest_up.load(Ordering::Acquire) <= now.0) {
                if shard.lock().purge(now, 1) == 1 {
                    return Ok(());
                }
                // Somebody else was here first.
                continue;
            }
            if self.when_full == WhenFull::Refuse {
                return Err(Full { capacity: self.capacity });
            }
            let oldest = shards.iter().map(|shard| (shard.oldest_done.load(Ordering::Acquire), shard));
            match oldest.min_by_key(|(turn, _)| *turn) {
                None | Some((u64::MAX, _)) => return Err(Full { capacity: self.capacity }),
                Some((turn, shard)) => {
                    if shard.lock().evict(turn) {
                        self.count_evicted();
                        return Ok(());
                    }
                }
            }
        }
    }

    fn count_evicted(&self) {
        if self.shared.evicted.fetch_add(1, Ordering::Relaxed) == 0 {
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
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        self.try_claim(claim, lease).map_err(StoreError::new)
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let shared = &self.shared;
        let now = shared.now();
        Ok(shared.shard(&claim.event).lock().complete(claim, now, retention, &shared.turns))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let shared = &self.shared;
        let now = shared.now();
        let released = shared.shard(&claim.event).lock().release(claim, now);
        shared.give_back(usize::from(released));
        Ok(())
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        let now = self.shared.now();
        Ok(self.shared.shard(&claim.event).lock().renew(claim, now, lease))
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        let shared = &self.shared;
        let now = shared.now();
        let forgotten = shared.shard(event).lock().forget(now, |entry| entry.event == *event);
        shared.give_back(forgotten.all);
        Ok(forgotten.live)
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let shared = &self.shared;
        let now = shared.now();
        let wall = SystemTime::now();
        let chosen = |entry: &Entry| window.contains(&entry.claimed_at.on_the_wall(now, wall));
        // All locked at once, so that there is one order of calls. Whoever locks several does it in this order.
        let mut tables: Vec<_> = shared.shards.iter().map(Shard::lock).collect();
        let mut live = 0;
        for table in &mut tables {
            let forgotten = table.forget(now, chosen);
            shared.give_back(forgotten.all);
            live += forgotten.live;
        }
        Ok(live)
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let now = self.shared.now();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut gone = 0;
        for shard in &self.shared.shards {
            let here = shard.lock().purge(now, limit - gone);
            self.shared.give_back(here);
            gone += here;
        }
        Ok(gone as u64)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    EvictOldestDone,
    Refuse,
}

/// There is no room.
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
    /// An entry lies in the shard of its event, so that an event's entries lie together.
    shards: [Shard; SHARDS],
    /// How many there are, and those that room is set aside for.
    entries: AtomicUsize,
    evicted: AtomicU64,
    /// Of completions: where two fall on one tick of the clock, their order still tells which is older.
    turns: AtomicU64,
    #[cfg(feature = "inbox")]
    deliveries: Mutex<inbox::Deliveries>,
}

impl Shared {
    fn now(&self) -> Tick {
        Tick::since(self.start)
    }

    fn shard(&self, event: &EventKey) -> &Shard {
        &self.shards[usize::from(event.as_bytes()[0]) % SHARDS]
    }

    fn give_back(&self, entries: usize) {
        if entries > 0 {
            self.entries.fetch_sub(entries, Ordering::Relaxed);
        }
    }
}

/// Kept apart, so that one shard's lock does not slow its neighbours down.
#[repr(align(128))]
struct Shard {
    table: Mutex<Table>,
    /// When the first entry's time is up: a hint, readable without the lock.
    soonest_up: AtomicU64,
    /// The turn of what was completed longest ago, likewise.
    oldest_done: AtomicU64,
}

impl Shard {
    fn new(random: RandomState) -> Self {
        let never = || AtomicU64::new(u64::MAX);
        Self { table: Mutex::new(Table::new(random)), soonest_up: never(), oldest_done: never() }
    }

    fn lock(&self) -> Locked<'_> {
        // No code that could panic runs under this lock.
        Locked { shard: self, table: self.table.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// A shard's table. The hints are brought up to date when it is dropped.
struct Locked<'a> {
    shard: &'a Shard,
    table: MutexGuard<'a, Table>,
}

impl Deref for Locked<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.shard.soonest_up.store(self.table.soonest_up().0, Ordering::Release);
        self.shard.oldest_done.store(self.table.oldest_done(), Ordering::Release);
    }
}
