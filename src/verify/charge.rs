//! Accounting of the bytes that the unverified bodies of a layer hold.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::rejection_kind::RejectionKind;
use crate::telemetry;

/// A counter of charged bytes, with a limit.
pub(super) struct Meter {
    limit: usize,
    used: AtomicUsize,
}

impl Meter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes `bytes` for a [`Charge`]. Returns `false` and takes nothing if that would exceed the limit.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let fit = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.limit);
        // Relaxed: the counter guards no other memory.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fit).is_ok()
    }
}

/// The error that the buffer budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

impl From<Exhausted> for RejectionKind {
    fn from(_: Exhausted) -> Self {
        Self::Overloaded
    }
}

/// Charged bytes, which are released on drop.
pub(super) struct Charge {
    meter: Arc<Meter>,
    bytes: usize,
}

impl Charge {
    /// Creates a charge for bytes that were [taken](Meter::take) from the meter.
    pub(super) fn new(meter: &Arc<Meter>, taken: usize) -> Self {
        telemetry::buffered(taken);
        Self { meter: Arc::clone(meter), bytes: taken }
    }

    /// Adds further bytes that were [taken](Meter::take) from the meter.
    pub(super) fn add(&mut self, taken: usize) {
        telemetry::buffered(taken);
        self.bytes += taken;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Releases the bytes to the meter. The metrics count them until the returned value is dropped.
    pub(super) fn release(mut self) -> Released {
        self.release_now()
    }

    fn release_now(&mut self) -> Released {
        let bytes = mem::take(&mut self.bytes);
        self.meter.used.fetch_sub(bytes, Ordering::Relaxed);
        Released(bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release_now();
    }
}

/// Released bytes that the metrics count until this is dropped.
pub(super) struct Released(usize);

impl Drop for Released {
    fn drop(&mut self) {
        if self.0 > 0 {
            telemetry::released(self.0);
        }
    }
}
