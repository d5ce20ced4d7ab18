//! The state of this process's workers, and the last count of deliveries, for health probes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::entry::Counts;

/// The age of a count after which a new one is made.
const STALE: Duration = Duration::from_secs(10);

/// The state of an inbox in this process. Clones of the inbox share it.
#[derive(Default)]
pub(super) struct Vitals {
    workers: Mutex<WorkerCounts>,
    counted: Mutex<Option<Counted>>,
    is_counting: AtomicBool,
}

/// The numbers of workers in this process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WorkerCounts {
    pub(super) running: usize,
    pub(super) draining: usize,
    /// Workers that have panicked, or whose future was dropped.
    pub(super) failed: usize,
}

#[derive(Clone, Copy)]
struct Counted {
    counts: Counts,
    at: Instant,
}

impl Vitals {
    pub(super) fn workers(&self) -> WorkerCounts {
        *self.lock()
    }

    /// Registers a worker that starts. It has failed if the guard is dropped before the worker
    /// [ends](WorkerGuard::end).
    pub(super) fn starts(self: &Arc<Self>) -> WorkerGuard {
        self.lock().running += 1;
        WorkerGuard { vitals: Arc::clone(self), state: GuardState::Running }
    }

    /// Returns the last count, if there is one.
    pub(super) fn counts(&self) -> Option<Counts> {
        self.counted().map(|Counted { counts, at }| {
            let oldest = counts.oldest.map(|age| age.saturating_add(at.elapsed()));
            Counts { oldest, ..counts }
        })
    }

    /// Returns whether the caller must make a new count and [record](Self::record) it.
    pub(super) fn begin_count(&self) -> bool {
        let is_stale = self.counted().is_none_or(|counted| counted.at.elapsed() >= STALE);
        is_stale && !self.is_counting.swap(true, Ordering::AcqRel)
    }

    /// Records a count, or `None` if it failed.
    pub(super) fn record(&self, counts: Option<Counts>) {
        if let Some(counts) = counts {
            *self.counted() = Some(Counted { counts, at: Instant::now() });
        }
        self.is_counting.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, WorkerCounts> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self) -> MutexGuard<'_, Option<Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registration of a worker.
pub(super) struct WorkerGuard {
    vitals: Arc<Vitals>,
    state: GuardState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GuardState {
    Running,
    Draining,
    Ended,
}

impl WorkerGuard {
    /// Records that the worker was told to stop.
    pub(super) fn drains(&mut self) {
        let mut workers = self.vitals.lock();
        workers.running -= 1;
        workers.draining += 1;
        self.state = GuardState::Draining;
    }

    /// Records that the worker has stopped as it should.
    pub(super) fn end(mut self) {
        self.vitals.lock().draining -= 1;
        self.state = GuardState::Ended;
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        let mut workers = self.vitals.lock();
        match self.state {
            GuardState::Running => workers.running -= 1,
            GuardState::Draining => workers.draining -= 1,
            GuardState::Ended => return,
        }
        workers.failed += 1;
    }
}
