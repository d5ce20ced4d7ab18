//! The calls of the inbox that run together if they arrive together.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tower_klikit::inbox::{Lease, NewDelivery, SettleOutcome, Settlement};

use crate::{
    batch::{Batches, Limits},
    connection::SharedFailure,
};

/// The bytes of the bodies that are stored together, and how many bytes a body counts as at least: at most 64 bodies are
/// stored together.
const ARRIVING: usize = 4 << 20;
const SMALLEST: usize = ARRIVING / 64;

/// How many attempts are counted together, and how many settlements are recorded together.
const MANY: usize = 500;

/// The batches of one store.
pub(crate) struct Together {
    /// Deliveries to store.
    pub(super) arrivals: Arc<Batches<Arrival, Added>>,
    /// Deliveries that are stored one by one, since the server has rejected their batch: only so many at a time, since each
    /// may wait for a lock and keep its connection.
    pub(super) alone: Semaphore,
    /// Attempts to count.
    pub(super) starts: Arc<Batches<Lease, InBatch<bool>>>,
    /// Settlements to record.
    pub(super) endings: Arc<Batches<(Lease, Settlement), InBatch<SettleOutcome>>>,
}

/// The outcome of a call in a batch. `None` if the call has to run by itself.
pub(super) type InBatch<T> = Result<Option<T>, SharedFailure>;

/// A delivery, and how long to remember it.
pub(super) struct Arrival {
    pub(super) new: NewDelivery,
    pub(super) retention: Duration,
}

/// The outcome of storing a delivery.
#[derive(Clone)]
pub(super) enum Added {
    New,
    NotNew,
    /// The server has rejected the batch. The delivery has to be stored by itself.
    Rejected,
    Failed(SharedFailure),
}

impl Together {
    pub(crate) fn new() -> Self {
        // While one transaction waits for the disk, another one can use the server. With more of them, batches would be
        // smaller, and planning a statement costs as much for each.
        let arrivals = Limits {
            running: 2,
            weight: ARRIVING,
            weight_of: |arrival: &Arrival| arrival.new.body().len().max(SMALLEST),
        };
        Self {
            arrivals: Arc::new(Batches::new(arrivals)),
            alone: Semaphore::new(3),
            // Handlers that end together start together. Two transactions would each have half of them.
            starts: Arc::new(Batches::new(Limits { running: 1, weight: MANY, weight_of: |_| 1 })),
            endings: Arc::new(Batches::new(Limits { running: 1, weight: MANY, weight_of: |_| 1 })),
        }
    }
}
