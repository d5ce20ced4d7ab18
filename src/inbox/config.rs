use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{ordering::OrderBy, store::SharedStore, vitals::Vitals, worker::RunningDeliveries};
use crate::dedupe::DedupePolicy;

/// The settings of an inbox, shared by its acceptors and workers.
#[derive(Clone)]
pub(super) struct InboxConfig {
    pub(super) store: SharedStore,
    pub(super) policy: DedupePolicy,
    pub(super) retention: Duration,
    pub(super) accept_deadline: Duration,
    pub(super) max_backlog: u64,
    pub(super) max_stored: u64,
    pub(super) order_by: OrderBy,
    pub(super) keep_bodies: Duration,
    pub(super) keep_history: Duration,
    /// `None`: dead letters are kept indefinitely.
    pub(super) keep_dead_letters: Option<Duration>,
    /// Notified when an acceptor has stored a delivery.
    pub(super) wake: Arc<Notify>,
    /// The deliveries that the workers of this inbox are handling.
    pub(super) running: Arc<RunningDeliveries>,
    pub(super) vitals: Arc<Vitals>,
}

impl fmt::Debug for InboxConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxConfig")
            .field("policy", &self.policy)
            .field("retention", &self.retention)
            .field("accept_deadline", &self.accept_deadline)
            .field("max_backlog", &self.max_backlog)
            .field("max_stored", &self.max_stored)
            .field("order_by", &self.order_by)
            .field("keep_bodies", &self.keep_bodies)
            .field("keep_history", &self.keep_history)
            .field("keep_dead_letters", &self.keep_dead_letters)
            .finish_non_exhaustive()
    }
}
