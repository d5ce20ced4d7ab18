//! What all unverified bodies of a layer hold together.
//!
//! A body is charged for what it keeps while it waits: the capacity of its buffer, and its first frame once the rest of the
//! body is not there yet. What it keeps while it waits lies in a slot that the budget can empty, so that a refusal frees
//! memory at that moment and not when the refused task is next polled.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use super::buffer::Buffer;

/// How long a body may wait before it can be refused to make room for another.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    tickets: AtomicU64,
    /// The bodies that wait and hold something, longest first.
    waiting: Mutex<BTreeMap<Place, Arc<Slot>>>,
}

/// Since when a body waits, and a number that tells it from others of that instant.
type Place = (Instant, u64);

/// The budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), tickets: AtomicU64::new(0), waiting: Mutex::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Sets `bytes` aside, by refusing those that have waited longest if need be.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Exhausted> {
        self.take(bytes)?;
        Ok(Charge { budget: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let fit = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.limit);
        // Relaxed: the counter guards no other memory.
        while self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fit).is_err() {
            self.evict_longest_waiting()?;
        }
        Ok(())
    }

    /// Empties one slot.
    fn evict_longest_waiting(&self) -> Result<(), Exhausted> {
        let mut waiting = lock(&self.waiting);
        while let Some(first) = waiting.first_entry() {
            let (since, _) = *first.key();
            if since.elapsed() < GRACE {
                break;
            }
            // A slot whose body is being polled at this moment is empty: that body is no longer one that waits.
            if let Some(waker) = first.remove().evict() {
                drop(waiting);
                waker.wake();
                return Ok(());
            }
        }
        Err(Exhausted)
    }

    /// Opens a slot for a body that waits since `since`.
    pub(super) fn slot(self: &Arc<Self>, since: Instant) -> Ticket {
        // Only uniqueness matters.
        let place = (since, self.tickets.fetch_add(1, Ordering::Relaxed));
        Ticket { budget: Arc::clone(self), place, slot: Arc::default() }
    }
}

/// Bytes set aside. Given back when dropped.
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Sets further bytes aside, so that there are `bytes` in all.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.budget.take(bytes.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where a waiting body keeps what it has.
#[derive(Default)]
struct Slot(Mutex<Kept>);

#[derive(Default)]
enum Kept {
    /// Nothing lies here: the body is being polled.
    #[default]
    Nothing,
    Waiting {
        buffer: Buffer,
        waker: Waker,
    },
    Evicted,
}

impl Slot {
    fn evict(&self) -> Option<Waker> {
        let mut kept = lock(&self.0);
        match mem::take(&mut *kept) {
            Kept::Waiting { waker, .. } => {
                *kept = Kept::Evicted;
                Some(waker)
            }
            other => {
                *kept = other;
                None
            }
        }
    }
}

/// A waiting body's place in the budget's order. Given up when dropped.
pub(super) struct Ticket {
    budget: Arc<Budget>,
    place: Place,
    slot: Arc<Slot>,
}

impl Ticket {
    /// Leaves `buffer` where it can be evicted; `waker` is woken if it is.
    pub(super) fn park(&self, buffer: Buffer, waker: Waker) {
        *lock(&self.slot.0) = Kept::Waiting { buffer, waker };
        // Put in anew each time: whoever looked for something to evict while this body was polled has taken it out.
        lock(&self.budget.waiting).insert(self.place, Arc::clone(&self.slot));
    }

    /// Takes the buffer back, unless it was evicted.
    pub(super) fn unpark(&self) -> Result<Buffer, Exhausted> {
        match mem::take(&mut *lock(&self.slot.0)) {
            Kept::Waiting { buffer, .. } => Ok(buffer),
            Kept::Nothing => Ok(Buffer::default()),
            Kept::Evicted => Err(Exhausted),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.budget.waiting).remove(&self.place);
    }
}

/// No code that could panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
