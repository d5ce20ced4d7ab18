//! Limits on the age of deliveries.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use crate::inbox::{DeliveryId, head::StoredHead};

/// A delivery that a worker has dead-lettered because it was [too old](super::Worker::expire_after) to be handled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Expired {
    /// The delivery.
    pub id: DeliveryId,
    /// The event id, if the delivery has one.
    pub event_id: Option<String>,
    /// The event type.
    pub event_type: String,
    /// The name of the keyring that verified the delivery.
    pub tenant: String,
    /// The time since the delivery was accepted, by the store's clock.
    pub age: Duration,
}

/// The greatest age of each event type, and the function to call with expired deliveries.
#[derive(Clone, Default)]
pub(super) struct Expiries {
    limits: HashMap<String, Duration>,
    hook: Option<Arc<Hook>>,
}

type Hook = dyn Fn(&Expired) + Send + Sync;

impl Expiries {
    pub(super) fn add(&mut self, event_type: String, age: Duration) {
        self.limits.insert(event_type, age);
    }

    pub(super) fn set_hook(&mut self, hook: impl Fn(&Expired) + Send + Sync + 'static) {
        self.hook = Some(Arc::new(hook));
    }

    /// Returns the greatest age of a delivery with this event type.
    pub(super) fn limit(&self, event_type: Option<&str>) -> Option<Duration> {
        self.limits.get(event_type?).copied()
    }

    /// Calls the function with an expired delivery.
    pub(super) fn report(&self, expired: &Expired) {
        if let Some(hook) = &self.hook {
            hook(expired);
        }
    }
}

impl Expired {
    pub(super) fn new(id: DeliveryId, head: &StoredHead, age: Duration) -> Self {
        Self {
            id,
            event_id: head.event_id.clone(),
            event_type: head.event_type.clone().unwrap_or_default(),
            tenant: head.tenant.clone(),
            age,
        }
    }
}

impl fmt::Debug for Expiries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.limits).finish()
    }
}
