//! The deliveries that this process is handling, or has leased ahead of need.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify},
    time::Instant,
};

use crate::inbox::{DeliveryId, Lease, Leased, OrderingKey};

/// Longer than any process runs, and short enough to be added to any time.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The deliveries that the workers of one inbox are handling.
///
/// A store only knows leases, and a lease may expire while its handler goes on: the handler blocks its thread, or the
/// store is out of reach. This list keeps the process from handling such a delivery a second time, and from handling
/// one that shares an ordering key with it.
#[derive(Default)]
pub(in crate::inbox) struct Running {
    deliveries: Mutex<HashMap<DeliveryId, Handling>>,
    serials: AtomicU64,
    /// Held by the one worker that is leasing, until it has entered here what it was given. Otherwise a lease that
    /// expires on its way could be given to another worker of this process.
    leasing: AsyncMutex<()>,
    /// Notified when a delivery has ended.
    ended: Notify,
}

struct Handling {
    /// Tells this entry from earlier ones of the same delivery.
    serial: u64,
    /// The latest lease on the delivery.
    lease: Lease,
    /// When the store was asked for the lease, or for its last extension.
    held_since: Instant,
    /// Whether the store has counted this attempt.
    is_counted: bool,
    /// Until when the lease is extended, once the handler has started. A handler that blocks its thread cannot be
    /// dropped at its deadline.
    extend_until: Option<Instant>,
    worker: WorkerId,
    ordering_keys: Vec<OrderingKey>,
    /// Whether another node has leased or dead-lettered the delivery.
    lost: bool,
}

/// The leases of a worker, as its keeper has to treat them.
#[derive(Default)]
pub(super) struct Leases {
    pub(super) to_extend: Vec<Lease>,
    /// Those whose handlers have not returned long after their deadline.
    pub(super) stuck: Vec<DeliveryId>,
}

/// Tells the workers of one inbox apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerId(u64);

/// The deliveries that were running already when one that shares an ordering key with them was entered.
///
/// The store keeps such deliveries apart by their leases. One whose lease is lost may still be running here.
pub(super) struct Blocked {
    earlier: Vec<(DeliveryId, u64)>,
}

/// An entry in the list, until it is dropped.
pub(super) struct Registration {
    running: Arc<Running>,
    id: DeliveryId,
}

impl WorkerId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Running {
    /// Waits until no other worker of this inbox is leasing.
    pub(super) async fn leasing(&self) -> AsyncMutexGuard<'_, ()> {
        self.leasing.lock().await
    }

    /// The leases of all running handlers, lost or not.
    pub(super) fn held(&self) -> Vec<Lease> {
        self.deliveries().values().map(|handling| handling.lease).collect()
    }

    /// The leases that this worker has to extend. A handler that is stuck is reported once: other nodes may have its
    /// delivery then.
    pub(super) fn leases_of(&self, worker: WorkerId) -> Leases {
        let (now, mut leases) = (Instant::now(), Leases::default());
        let mut deliveries = self.deliveries();
        for (id, handling) in deliveries.iter_mut().filter(|(_, handling)| handling.worker == worker && !handling.lost)
        {
            if handling.extend_until.is_none_or(|end| now < end) {
                leases.to_extend.push(handling.lease);
            } else {
                handling.lost = true;
                leases.stuck.push(*id);
            }
        }
        leases
    }

    /// Notes that the store was asked at `asked` to extend this lease, and did.
    pub(super) fn extended(&self, lease: &Lease, asked: Instant) {
        if let Some(handling) = self.deliveries().get_mut(&lease.id())
            && handling.lease.token() == lease.token()
        {
            handling.held_since = asked;
        }
    }

    /// Enters a delivery, and returns what it has to wait for. Returns `None` if its handler is still running: then
    /// that handler goes on with the new lease.
    pub(super) fn register(
        self: &Arc<Self>,
        leased: &Leased,
        worker: WorkerId,
        asked: Instant,
    ) -> Option<(Registration, Blocked)> {
        let (id, lease) = (leased.lease().id(), *leased.lease());
        let mut deliveries = self.deliveries();
        if let Some(handling) = deliveries.get_mut(&id) {
            if lease.token() > handling.lease.token() {
                let attempt = lease.attempt() + u32::from(!handling.is_counted);
                handling.lease = Lease::new(id, lease.token(), attempt);
                (handling.held_since, handling.lost) = (asked, false);
            }
            return None;
        }
        let keys = leased.ordering_keys();
        let shares = |other: &Handling| other.ordering_keys.iter().any(|key| keys.contains(key));
        let earlier = deliveries.iter().filter(|(_, other)| shares(other)).map(|(id, other)| (*id, other.serial));
        let earlier = earlier.collect();
        let handling = Handling {
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
            lease,
            held_since: asked,
            is_counted: leased.is_attempt_counted(),
            extend_until: None,
            worker,
            ordering_keys: keys.to_vec(),
            lost: false,
        };
        deliveries.insert(id, handling);
        Some((Registration { running: Arc::clone(self), id }, Blocked { earlier }))
    }

    /// Notes that the store does not know this lease any more. Returns whether that is news.
    pub(super) fn lost(&self, lease: &Lease) -> bool {
        let mut deliveries = self.deliveries();
        let Some(handling) = deliveries.get_mut(&lease.id()) else { return false };
        let is_news = handling.lease.token() == lease.token() && !handling.lost;
        handling.lost |= is_news;
        is_news
    }

    fn deliveries(&self) -> MutexGuard<'_, HashMap<DeliveryId, Handling>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// The latest lease on the delivery.
    pub(super) fn lease(&self) -> Lease {
        self.running.deliveries().get(&self.id).expect("a registration keeps its entry").lease
    }

    /// Returns whether another node has leased or dead-lettered the delivery.
    pub(super) fn is_lost(&self) -> bool {
        self.running.deliveries().get(&self.id).is_none_or(|handling| handling.lost)
    }

    /// Returns whether the lease has expired, as far as this process can tell, or is lost.
    pub(super) fn may_be_lost(&self, lease: Duration) -> bool {
        let deliveries = self.running.deliveries();
        deliveries.get(&self.id).is_none_or(|handling| handling.lost || handling.held_since.elapsed() >= lease)
    }

    /// Notes that the store was asked at `asked` to extend the lease, and did.
    pub(super) fn extended(&self, asked: Instant) {
        self.running.extended(&self.lease(), asked);
    }

    /// Returns whether the store has counted this attempt.
    pub(super) fn is_counted(&self) -> bool {
        self.running.deliveries().get(&self.id).is_some_and(|handling| handling.is_counted)
    }

    /// Notes that the store has counted this attempt.
    pub(super) fn counted(&self) {
        if let Some(handling) = self.running.deliveries().get_mut(&self.id) {
            handling.is_counted = true;
        }
    }

    /// Notes that the handler starts, and that its lease is extended for this long.
    pub(super) fn started(&self, extend_for: Duration) {
        let now = Instant::now();
        if let Some(handling) = self.running.deliveries().get_mut(&self.id) {
            handling.extend_until = Some(now.checked_add(extend_for).unwrap_or_else(|| now + FAR));
        }
    }

    /// Waits until the deliveries that block this one have ended.
    pub(super) async fn wait_for(&self, blocked: Blocked) {
        let is_blocked = || {
            let deliveries = self.running.deliveries();
            let is_running = |id, serial| deliveries.get(id).is_some_and(|other: &Handling| other.serial == serial);
            blocked.earlier.iter().any(|(id, serial)| is_running(id, *serial))
        };
        loop {
            let mut ended = pin!(self.running.ended.notified());
            // From here on no notification is missed.
            ended.as_mut().enable();
            if !is_blocked() {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.running.deliveries().remove(&self.id);
        self.running.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn register(
        running: &Arc<Running>,
        worker: WorkerId,
        id: i64,
        token: i64,
        keys: &[u8],
    ) -> Option<(Registration, Blocked)> {
        let lease = Lease::new(DeliveryId::new(id), token, 1);
        let keys = keys.iter().map(|key| OrderingKey::from_text(&key.to_string())).collect();
        running.register(&Leased::new(lease, "", "").with_ordering_keys(keys), worker, Instant::now())
    }

    #[test]
    fn running_delivery_takes_over_a_newer_lease() {
        let (running, worker) = (Arc::new(Running::default()), WorkerId::next());
        let (registration, _) = register(&running, worker, 1, 1, &[]).expect("not running yet");
        assert!(running.lost(&registration.lease()));
        assert!(running.leases_of(worker).to_extend.is_empty());
        assert!(register(&running, worker, 1, 3, &[]).is_none());
        assert_eq!(registration.lease().token(), 3);
        assert_eq!(running.leases_of(worker).to_extend.len(), 1);
        // An answer that comes late has an older token.
        assert!(register(&running, worker, 1, 2, &[]).is_none());
        assert_eq!(registration.lease().token(), 3);
        drop(registration);
        assert!(running.held().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn stuck_handler_is_reported_once() {
        let (running, worker) = (Arc::new(Running::default()), WorkerId::next());
        let (registration, _) = register(&running, worker, 1, 1, &[]).expect("not running yet");
        // It waits for its turn, and its handler cannot be stuck.
        tokio::time::advance(HOUR).await;
        assert_eq!(running.leases_of(worker).to_extend.len(), 1);
        registration.started(HOUR);
        assert!(running.leases_of(worker).stuck.is_empty());
        tokio::time::advance(HOUR).await;
        let leases = running.leases_of(worker);
        assert_eq!((leases.to_extend.len(), leases.stuck.len()), (0, 1));
        assert!(running.leases_of(worker).stuck.is_empty());
        // This process still does not run the delivery again.
        assert!(register(&running, worker, 1, 2, &[]).is_none());
        drop(registration);
    }

    #[tokio::test(start_paused = true)]
    async fn old_lease_may_be_lost() {
        let (running, worker) = (Arc::new(Running::default()), WorkerId::next());
        let (registration, _) = register(&running, worker, 1, 1, &[]).expect("not running yet");
        assert!(!registration.may_be_lost(HOUR));
        tokio::time::advance(HOUR).await;
        assert!(registration.may_be_lost(HOUR));
        registration.extended(Instant::now());
        assert!(!registration.may_be_lost(HOUR));
        running.lost(&registration.lease());
        assert!(registration.may_be_lost(HOUR) && registration.is_lost());
    }

    #[test]
    fn does_not_wait_for_a_later_run_of_the_same_delivery() {
        let (running, worker) = (Arc::new(Running::default()), WorkerId::next());
        let (first, _) = register(&running, worker, 1, 1, &[1]).expect("not running yet");
        let (second, blocked) = register(&running, worker, 2, 1, &[1]).expect("not running yet");
        drop(first);
        let (_again, blocked_again) = register(&running, worker, 1, 2, &[1]).expect("not running any more");
        assert_eq!(second.wait_for(blocked).now_or_never(), Some(()));
        assert_eq!(blocked_again.earlier.len(), 1);
    }

    /// The store says how many attempts there were, since it does not know whether this one is among them.
    #[test]
    fn new_lease_keeps_the_attempt() {
        let (running, worker) = (Arc::new(Running::default()), WorkerId::next());
        let (registration, _) = register(&running, worker, 1, 1, &[]).expect("not running yet");
        let leased = |token, attempts| Leased::new(Lease::new(DeliveryId::new(1), token, attempts), "", "");
        assert!(running.register(&leased(2, 0), worker, Instant::now()).is_none());
        assert_eq!(registration.lease().attempt(), 1);
        registration.counted();
        assert!(registration.is_counted());
        assert!(running.register(&leased(3, 1), worker, Instant::now()).is_none());
        assert_eq!(registration.lease().attempt(), 1);
    }

    #[test]
    fn loss_is_news_once() {
        let running = Arc::new(Running::default());
        let (registration, _) = register(&running, WorkerId::next(), 1, 1, &[]).expect("not running yet");
        let lease = registration.lease();
        assert!(running.lost(&lease));
        assert!(!running.lost(&lease));
        assert!(!running.lost(&Lease::new(DeliveryId::new(1), 2, 1)));
        assert!(!running.lost(&Lease::new(DeliveryId::new(2), 1, 1)));
        // A lost delivery is still running.
        assert_eq!(running.held(), [lease]);
    }

    #[test]
    fn waits_for_those_that_share_a_key() {
        let (running, worker) = (Arc::new(Running::default()), WorkerId::next());
        let (first, _) = register(&running, worker, 1, 1, &[1, 2]).expect("not running yet");
        let (other, blocked) = register(&running, worker, 2, 1, &[3]).expect("not running yet");
        assert_eq!(other.wait_for(blocked).now_or_never(), Some(()));
        let (second, blocked) = register(&running, worker, 3, 1, &[2]).expect("not running yet");
        let mut waiting = pin!(second.wait_for(blocked));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(other);
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(first);
        assert_eq!(waiting.as_mut().now_or_never(), Some(()));
    }
}
