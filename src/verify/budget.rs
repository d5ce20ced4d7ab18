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

use bytes::Bytes;
use tokio::time::Instant;

use crate::telemetry;

/// How long a body may wait before it can be refused to make room for another.
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
    /// Takes what the body holds and gives back what it was charged. Returns `None` if the body is being polled at this
    /// moment: then it no longer waits.
    fn evict(&self) -> Option<Evicted>;
}

/// Memory to drop and a task to wake, once no lock is held.
pub(super) struct Evicted {
    pub(super) freed: (Bytes, Option<GivenBack>),
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

    /// Sets `bytes` aside for a body that waits since `asker`, or does not wait yet, by refusing those that have waited longer
    /// if need be.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize, asker: Option<Instant>) -> Result<Charge, Exhausted> {
        self.take(0, bytes, asker)?;
        let charge = Charge { budget: Arc::clone(self), bytes };
        telemetry::buffered(bytes);
        Ok(charge)
    }

    /// Sets aside what is missing to `bytes` when `held` are set aside already.
    fn take(&self, held: usize, bytes: usize, asker: Option<Instant>) -> Result<(), Exhausted> {
        if bytes > self.limit {
            // Refusing others could not make this fit.
            return Err(Exhausted);
        }
        let missing = bytes.saturating_sub(held);
        while !self.fits(missing) {
            let mut waiting = lock(&self.waiting);
            // Another body's eviction may have made room enough for this one too.
            if self.fits(missing) {
                break;
            }
            // The charge is given back under the lock, so that nobody evicts one more than it takes. Memory, waker and
            // counters are others' code.
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
        // Whoever asks may itself be the one that has waited longest.
        if since.elapsed() < GRACE || asker.is_some_and(|asker| asker < since) {
            break;
        }
        if let Some(evicted) = first.remove().evict() {
            return Ok(evicted);
        }
    }
    Err(Exhausted)
}

/// Bytes set aside. Given back when dropped.
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Sets further bytes aside, so that there are `bytes` in all. `asker` is as for [`Budget::charge`].
    pub(super) fn grow_to(&mut self, bytes: usize, asker: Option<Instant>) -> Result<(), Exhausted> {
        self.budget.take(self.bytes, bytes, asker)?;
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        telemetry::buffered(more);
        Ok(())
    }

    /// Gives them back now, and has it counted when the answer is dropped.
    pub(super) fn give_back(mut self) -> GivenBack {
        self.take_back()
    }

    fn take_back(&mut self) -> GivenBack {
        let bytes = mem::take(&mut self.bytes);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        GivenBack(bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Bytes that were given back, and are no longer counted once this is dropped.
pub(super) struct GivenBack(usize);

impl Drop for GivenBack {
    fn drop(&mut self) {
        if self.0 > 0 {
            telemetry::released(self.0);
        }
    }
}

/// What is locked is whole between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
