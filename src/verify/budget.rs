//! The memory budget of a layer's unverified bodies.
//!
//! A body is charged for the memory that it keeps while it waits: the capacity of its buffer, or its first frame once it
//! waits for the rest. A waiting body can be evicted at any moment, so that its memory is free at once, and not when its
//! task is next polled.

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

use bytes::Bytes;
use tokio::time::Instant;

use crate::telemetry;

/// How long a body may wait before it can be evicted.
pub(super) const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    next_place: AtomicU64,
    /// The bodies that wait and hold something, longest first.
    waiting: Mutex<BTreeMap<Place, Arc<dyn Evict>>>,
}

/// Since when a body waits, and a number that tells it from others of that instant.
pub(super) type Place = (Instant, u64);

/// A waiting body, which can be dropped to make room.
pub(super) trait Evict: Send + Sync {
    /// Takes the body's memory and releases its charge. Returns `None` if the body is being polled at this
    /// moment: then it no longer waits.
    fn evict(&self) -> Option<Evicted>;
}

/// Memory to drop and a task to wake, once no lock is held.
pub(super) struct Evicted {
    pub(super) freed: (Bytes, Option<Released>),
    pub(super) waker: Waker,
}

/// The budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), next_place: AtomicU64::new(0), waiting: Mutex::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Charges `bytes` to a body that waits since `asker`, or does not wait yet. Evicts bodies that have waited longer if
    /// the budget is used up.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize, asker: Option<Instant>) -> Result<Charge, Exhausted> {
        self.take(0, bytes, asker)?;
        let charge = Charge { budget: Arc::clone(self), bytes };
        telemetry::buffered(bytes);
        Ok(charge)
    }

    /// Charges the difference between `bytes` and the `held` bytes that are charged already.
    fn take(&self, held: usize, bytes: usize, asker: Option<Instant>) -> Result<(), Exhausted> {
        if bytes > self.limit {
            // Evicting others could not make this fit.
            return Err(Exhausted);
        }
        let missing = bytes.saturating_sub(held);
        while !self.fits(missing) {
            let mut waiting = lock(&self.waiting);
            // Another body's eviction may have made room enough for this one too.
            if self.fits(missing) {
                break;
            }
            // The charge is released under the lock, so that concurrent calls evict no more than they need. Memory, waker
            // and counters run code of others, so they come after it.
            let Evicted { freed, waker } = evict_longest(&mut waiting, asker)?;
            drop(waiting);
            drop(freed);
            waker.wake();
        }
        Ok(())
    }

    /// Takes `bytes` if they are there.
    fn fits(&self, bytes: usize) -> bool {
        let fit = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.limit);
        // Relaxed: the counter guards no other memory.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fit).is_ok()
    }

    /// Returns a place in the order for a body that waits since `since`.
    pub(super) fn place(&self, since: Instant) -> Place {
        // Only uniqueness matters.
        (since, self.next_place.fetch_add(1, Ordering::Relaxed))
    }

    /// Lists a body that holds something and waits. A body is listed each time it waits anew: it was taken out if it was
    /// being polled when something had to be evicted.
    pub(super) fn list(&self, place: Place, body: Arc<dyn Evict>) {
        lock(&self.waiting).insert(place, body);
    }

    pub(super) fn unlist(&self, place: Place) {
        lock(&self.waiting).remove(&place);
    }
}

fn evict_longest(waiting: &mut BTreeMap<Place, Arc<dyn Evict>>, asker: Option<Instant>) -> Result<Evicted, Exhausted> {
    while let Some(first) = waiting.first_entry() {
        let (since, _) = *first.key();
        // The body that asks may itself have waited longest.
        if since.elapsed() < GRACE || asker.is_some_and(|asker| asker < since) {
            break;
        }
        if let Some(evicted) = first.remove().evict() {
            return Ok(evicted);
        }
    }
    Err(Exhausted)
}

/// Charged bytes, which are released when this is dropped.
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Charges further bytes, so that there are `bytes` in all. `asker` is as for [`Budget::charge`].
    pub(super) fn grow_to(&mut self, bytes: usize, asker: Option<Instant>) -> Result<(), Exhausted> {
        self.budget.take(self.bytes, bytes, asker)?;
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        telemetry::buffered(more);
        Ok(())
    }

    /// Releases the bytes now. They are no longer counted in the metrics once the returned value is dropped.
    pub(super) fn release(mut self) -> Released {
        self.take_back()
    }

    fn take_back(&mut self) -> Released {
        let bytes = mem::take(&mut self.bytes);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        Released(bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Released bytes, which are no longer counted in the metrics once this is dropped.
pub(super) struct Released(usize);

impl Drop for Released {
    fn drop(&mut self) {
        if self.0 > 0 {
            telemetry::released(self.0);
        }
    }
}

/// A panic elsewhere leaves the locked value whole: each change is one statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
