//! The parked buffers of incomplete bodies, which can be evicted.

use std::{
    hash::{BuildHasher, RandomState},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    blocks::Blocks,
    charge::{Exhausted, Released},
};

/// The number of parked buffers that are compared to choose one for eviction.
const DRAWS: usize = 8;

/// The least size that a buffer counts for, in bytes. It is the size of an order, which would otherwise be the heaviest
/// among tiny bodies.
const MIN_SIZE: usize = 32 * 1024;

/// Added to the time for which a buffer has not grown. Genuine bodies arrive in pieces at such intervals, so for
/// shorter times the size decides.
const GAP: Duration = Duration::from_millis(100);

/// Growth counts only if it is at least the buffer's size divided by this. Otherwise one byte now and then would be
/// enough.
const GROWTH_DIVISOR: usize = 8;

/// The parked buffers of a layer.
///
/// The buffer to evict is the heaviest of a few drawn at random. The weight of a buffer is its size times the time for
/// which it has hardly grown. Genuine deliveries are small and grow steadily, so an attacker who fills the budget
/// mostly evicts its own bodies: a few large bodies are the heaviest, and many small ones make up most of a draw.
/// Bodies that are held for long get heavier, and replacing them takes bandwidth.
pub(super) struct Parking {
    entries: Mutex<Entries>,
    /// Keyed at random, so that peers cannot foresee the draws.
    random: RandomState,
}

#[derive(Default)]
struct Entries {
    entries: Vec<ParkedEntry>,
    draws: u64,
}

/// An entry for a slot. The slot may be empty again if its body is being polled.
struct ParkedEntry {
    slot: Arc<Slot>,
    bytes: usize,
    /// The time when the buffer last grew.
    since: Instant,
}

/// The place where a body leaves its buffer between polls.
#[derive(Default)]
struct Slot {
    kept: Mutex<Kept>,
    /// The index of the slot's entry plus 1, or 0 if there is no entry. Guarded by the lock of the entries.
    place: AtomicUsize,
}

/// The content of a slot.
#[derive(Default)]
enum Kept {
    /// The body is being polled, or has no bytes.
    #[default]
    Nothing,
    Parked(Blocks, Waker),
    Evicted,
}

/// An evicted buffer. Drop it without holding a lock, because its waker runs foreign code.
pub(super) struct Evicted {
    freed: (Vec<Vec<u8>>, Released),
    waker: Waker,
}

impl Parking {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::default(), random: RandomState::new() }
    }

    /// Evicts a buffer, unless `enough` returns `true`. `enough` runs under the lock, so no other eviction runs at the
    /// same time. Returns `None` if `enough` returned `true`.
    ///
    /// # Errors
    ///
    /// If no buffer is parked.
    pub(super) fn evict_unless(&self, enough: impl FnOnce() -> bool) -> Result<Option<Evicted>, Exhausted> {
        let mut entries = lock(&self.entries);
        if enough() {
            return Ok(None);
        }
        let now = Instant::now();
        while let Some(heaviest) = self.draw(&mut entries, now) {
            // An empty slot belongs to a body that is being polled. It gets a new entry when it parks again.
            if let Some(evicted) = entries.remove(heaviest).evict() {
                return Ok(Some(evicted));
            }
        }
        Err(Exhausted)
    }

    /// Returns the index of the heaviest of a few entries.
    fn draw(&self, Entries { entries, draws }: &mut Entries, now: Instant) -> Option<usize> {
        let weight = |index: &usize| entries[*index].weight(now);
        let length = entries.len();
        if length <= DRAWS {
            return (0..length).max_by_key(weight);
        }
        let random_index = |_| {
            *draws += 1;
            usize::try_from(self.random.hash_one(*draws) % length as u64).expect("the index is below a usize")
        };
        (0..DRAWS).map(random_index).max_by_key(weight)
    }
}

impl Entries {
    /// Adds or updates the entry of a slot.
    fn put(&mut self, entry: ParkedEntry) {
        match entry.slot.place.load(Ordering::Relaxed) {
            0 => {
                entry.slot.place.store(self.entries.len() + 1, Ordering::Relaxed);
                self.entries.push(entry);
            }
            place => self.entries[place - 1] = entry,
        }
    }

    fn remove(&mut self, index: usize) -> Arc<Slot> {
        let removed = self.entries.swap_remove(index);
        removed.slot.place.store(0, Ordering::Relaxed);
        if let Some(moved) = self.entries.get(index) {
            moved.slot.place.store(index + 1, Ordering::Relaxed);
        }
        removed.slot
    }
}

impl ParkedEntry {
    fn weight(&self, now: Instant) -> u128 {
        self.bytes.max(MIN_SIZE) as u128 * (now.saturating_duration_since(self.since) + GAP).as_micros()
    }
}

impl Slot {
    fn evict(&self) -> Option<Evicted> {
        let mut kept = lock(&self.kept);
        match mem::take(&mut *kept) {
            Kept::Parked(blocks, waker) => {
                *kept = Kept::Evicted;
                Some(Evicted { freed: blocks.evict(), waker })
            }
            other => {
                *kept = other;
                None
            }
        }
    }
}

impl Evicted {
    /// Frees the memory and wakes the body's task.
    pub(super) fn drop_and_wake(self) {
        let Self { freed, waker } = self;
        drop(freed);
        waker.wake();
    }
}

/// A body's slot in a [`Parking`]. Dropping the ticket removes the slot.
pub(super) struct Ticket {
    parking: Arc<Parking>,
    slot: Arc<Slot>,
    /// The length of the buffer when it last grew, and the time of that.
    grown: Option<(usize, Instant)>,
}

impl Ticket {
    pub(super) fn new(parking: &Arc<Parking>) -> Self {
        Self { parking: Arc::clone(parking), slot: Arc::default(), grown: None }
    }

    /// Parks a buffer, which can then be evicted. Eviction wakes `waker`.
    pub(super) fn park(&mut self, blocks: Blocks, waker: Waker) {
        let length = blocks.len();
        let (_, since) = *match &mut self.grown {
            Some(grown) if length < grown.0 + (grown.0 / GROWTH_DIVISOR).max(1) => grown,
            grown => grown.insert((length, Instant::now())),
        };
        let bytes = blocks.charge().bytes();
        *lock(&self.slot.kept) = Kept::Parked(blocks, waker);
        lock(&self.parking.entries).put(ParkedEntry { slot: Arc::clone(&self.slot), bytes, since });
    }

    /// Takes the parked buffer, if there is one.
    ///
    /// # Errors
    ///
    /// If the buffer was evicted. The next call returns `None`.
    pub(super) fn unpark(&self) -> Result<Option<Blocks>, Exhausted> {
        match mem::take(&mut *lock(&self.slot.kept)) {
            Kept::Parked(blocks, _) => Ok(Some(blocks)),
            Kept::Nothing => Ok(None),
            Kept::Evicted => Err(Exhausted),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut entries = lock(&self.parking.entries);
        if let Some(index) = self.slot.place.load(Ordering::Relaxed).checked_sub(1) {
            entries.remove(index);
        }
    }
}

/// Locks a mutex, and ignores poisoning: each change is one statement or cannot panic, so the value is always
/// consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{
        super::charge::{Charge, Meter},
        *,
    };

    fn park(parking: &Arc<Parking>, bytes: usize) -> Ticket {
        let meter = Arc::new(Meter::new(bytes));
        assert!(meter.take(bytes));
        let mut ticket = Ticket::new(parking);
        ticket.park(Blocks::new(1000, Charge::new(&meter, bytes)), Waker::noop().clone());
        ticket
    }

    fn evict(parking: &Parking) {
        parking.evict_unless(|| false).unwrap().unwrap().drop_and_wake();
    }

    /// Evicts a buffer and returns its index.
    fn evicted(parking: &Parking, tickets: &[Ticket]) -> usize {
        evict(parking);
        let evicted = |&n: &usize| matches!(*lock(&tickets[n].slot.kept), Kept::Evicted);
        (0..tickets.len()).find(evicted).expect("a buffer was evicted")
    }

    /// Evicts buffers and replaces each with an equal one. Returns how many evictions hit one of the first ten.
    fn evicted_of_ten(sizes: &[usize], evictions: usize, parking: &Arc<Parking>, tickets: &mut [Ticket]) -> usize {
        let mut of_ten = 0;
        for _ in 0..evictions {
            let index = evicted(parking, tickets);
            tickets[index] = park(parking, sizes[index]);
            of_ten += usize::from(index < 10);
        }
        of_ten
    }

    #[tokio::test(start_paused = true)]
    async fn few_large_buffers_lose_the_draws() {
        let parking = Arc::new(Parking::new());
        let sizes: Vec<_> = (0..74).map(|index| if index < 10 { 20_000 } else { 1 << 20 }).collect();
        let mut tickets: Vec<_> = sizes.iter().map(|&size| park(&parking, size)).collect();
        assert_eq!(evicted_of_ten(&sizes, 300, &parking, &mut tickets), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_buffers_lose_the_draws() {
        let parking = Arc::new(Parking::new());
        let sizes: Vec<_> = (0..1000).map(|index| if index < 10 { 20_000 } else { 1024 }).collect();
        let mut tickets: Vec<_> = sizes.iter().map(|&size| park(&parking, size)).collect();
        advance(Duration::from_secs(1)).await;
        // The ten orders have just arrived.
        for ticket in &mut tickets[..10] {
            *ticket = park(&parking, 20_000);
        }
        // Each buffer is drawn about four times by 500 evictions of eight draws.
        assert!(evicted_of_ten(&sizes, 500, &parking, &mut tickets) < 10);
    }

    #[tokio::test(start_paused = true)]
    async fn heaviest_of_a_few_is_evicted() {
        const KIB: usize = 1024;
        for (sizes, heaviest) in [(&[100, 300, 200][..], 1), (&[5], 0), (&[40, 40, 40, 40, 40, 40, 40, 41], 7)] {
            let parking = Arc::new(Parking::new());
            let tickets: Vec<_> = sizes.iter().map(|&size| park(&parking, size * KIB)).collect();
            assert_eq!(evicted(&parking, &tickets), heaviest, "{sizes:?}");
        }
    }

    fn grow(ticket: &mut Ticket, bytes: usize) {
        let mut blocks = ticket.unpark().unwrap().unwrap();
        blocks.fill(&vec![b' '; bytes]);
        ticket.park(blocks, Waker::noop().clone());
    }

    #[tokio::test(start_paused = true)]
    async fn growth_makes_a_buffer_lighter() {
        let parking = Arc::new(Parking::new());
        let mut tickets = vec![park(&parking, 200_000), park(&parking, 100_000)];
        advance(Duration::from_secs(1)).await;
        grow(&mut tickets[0], 1);
        grow(&mut tickets[1], 0);
        assert_eq!(evicted(&parking, &tickets), 1, "a poll without a new byte counts as growth");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_growth_makes_no_buffer_lighter() {
        let parking = Arc::new(Parking::new());
        let mut tickets = vec![park(&parking, 1000), park(&parking, 1000)];
        tickets.iter_mut().for_each(|ticket| grow(ticket, 400));
        for _ in 0..10 {
            advance(Duration::from_millis(100)).await;
            grow(&mut tickets[0], 60);
            grow(&mut tickets[1], 1);
        }
        assert_eq!(evicted(&parking, &tickets), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_tickets_leave_no_entry() {
        let parking = Arc::new(Parking::new());
        let mut tickets: Vec<_> = (1..10).map(|n| park(&parking, n)).collect();
        for n in [4, 7, 0, 2] {
            tickets.swap_remove(n);
            let entries = lock(&parking.entries);
            let places = entries.entries.iter().map(|entry| entry.slot.place.load(Ordering::Relaxed));
            assert!(places.eq(1..=tickets.len()));
        }
        drop(tickets);
        assert!(matches!(parking.evict_unless(|| false), Err(Exhausted)));
    }
}
