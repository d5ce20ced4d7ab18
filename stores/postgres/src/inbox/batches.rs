//! The batches of the inbox's calls.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tower_klikit::inbox::{Lease, NewDelivery, SettleOutcome, Settlement};

use crate::{
    batch::{Batches, Limits},
    connection::SharedFailure,
};

/// The largest total size of the bodies in a batch, in bytes.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// The least weight of a body, in bytes. It limits a batch to 64 deliveries.
const MIN_BODY_WEIGHT: usize = MAX_BATCH_BYTES / 64;

/// The largest number of attempts or settlements in a batch.
const MAX_BATCH_CALLS: usize = 500;

/// The batches of one store.
pub(crate) struct InboxBatches {
    /// Deliveries to store.
    pub(super) arrivals: Arc<Batches<Arrival, Added>>,
    /// Permits for storing deliveries by themselves. Each may wait for a lock and occupy a connection meanwhile, so their
    /// number is limited.
    pub(super) alone: Semaphore,
    /// Attempts to count.
    pub(super) starts: Arc<Batches<Start, InBatch<bool>>>,
    /// Settlements to record.
    pub(super) settlements: Arc<Batches<(Lease, Settlement), InBatch<SettleOutcome>>>,
}

/// The outcome of a call in a batch, or `None` if the call must run by itself.
pub(super) type InBatch<T> = Result<Option<T>, SharedFailure>;

/// A delivery to store, and its retention.
pub(super) struct Arrival {
    pub(super) new: NewDelivery,
    pub(super) retention: Duration,
}

/// An attempt to count, and the name of its worker.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) lease: Lease,
    pub(super) worker: Arc<str>,
}

/// The outcome of storing a delivery.
#[derive(Clone)]
pub(super) enum Added {
    New,
    NotNew,
    /// The delivery must be stored by itself: the server has rejected the batch, or the batch contains another copy.
    MustRunAlone,
    Failed(SharedFailure),
}

impl InboxBatches {
    pub(crate) fn new() -> Self {
        // While one transaction waits for the disk, a second one can use the server. With more transactions, batches would be
        // smaller, and the server plans the statement for each batch.
        let arrivals = Limits {
            running: 2,
            weight: MAX_BATCH_BYTES,
            weight_of: |arrival: &Arrival| arrival.new.body().len().max(MIN_BODY_WEIGHT),
        };
        Self {
            arrivals: Arc::new(Batches::new(arrivals)),
            alone: Semaphore::new(3),
            // Handlers that end at the same time start the next attempts at the same time. A second transaction would only
            // split them.
            starts: Arc::new(Batches::new(Limits { running: 1, weight: MAX_BATCH_CALLS, weight_of: |_| 1 })),
            settlements: Arc::new(Batches::new(Limits { running: 1, weight: MAX_BATCH_CALLS, weight_of: |_| 1 })),
        }
    }
}
