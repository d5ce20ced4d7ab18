//! The deliveries that this process is handling or has prefetched.

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

/// A duration that no process outlives, short enough to be added to any `Instant`.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A list of the deliveries that the workers of one inbox hold.
///
/// A lease may expire while its handler is still running, because the handler blocks its thread or the store is
/// unreachable. The store would then lease the delivery again. The list keeps this process from handling such a
/// delivery a second time, and from handling a delivery that shares an ordering key with it.
#[derive(Default)]
pub(in crate::inbox) struct RunningDeliveries {
    deliveries: Mutex<HashMap<DeliveryId, RunningDelivery>>,
    serials: AtomicU64,
    /// Held by the worker that leases, until it has registered the leased deliveries. Otherwise another worker of this
    /// process could lease a delivery whose lease expires before the delivery is registered.
    leasing: AsyncMutex<()>,
    /// Notified when a delivery is removed from the list.
    ended: Notify,
}

/// A delivery in the list.
struct RunningDelivery {
    /// A number that distinguishes this entry from earlier entries of the same delivery.
    serial: u64,
    /// The latest lease on the delivery.
    lease: Lease,
    /// The time of the call that made the lease or extended it last.
    held_since: Instant,
    /// Whether the store has counted this attempt.
    is_counted: bool,
    /// The time after which the lease is no longer extended, or `None` before the handler starts. Needed because a
    /// handler that blocks its thread cannot be dropped at its deadline.
    extend_until: Option<Instant>,
    worker: WorkerId,
    ordering_keys: Vec<OrderingKey>,
    /// Whether another node has leased or dead-lettered the delivery.
    lost: bool,
}

/// The leases of a worker that must be extended, and the deliveries whose handlers are stuck.
#[derive(Default)]
pub(super) struct WorkerLeases {
    pub(super) to_extend: Vec<Lease>,
    /// The deliveries whose handlers have not returned long after their deadline.
    pub(super) stuck: Vec<DeliveryId>,
}

/// The id of a worker, unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerId(u64);

/// The running deliveries that block a newly registered one, because they share an ordering key with it.
///
/// The store does not lease such deliveries at the same time. But a delivery whose lease is lost may still be running
/// here.
pub(super) struct Blockers {
    earlier: Vec<(DeliveryId, u64)>,
}

/// A guard for an entry in the list. Dropping the guard removes the entry.
pub(super) struct DeliveryRegistration {
    running: Arc<RunningDeliveries>,
    id: DeliveryId,
}

impl WorkerId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl RunningDeliveries {
    /// Waits until no other worker of this inbox is leasing.
    pub(super) async fn leasing(&self) -> AsyncMutexGuard<'_, ()> {
        self.leasing.lock().await
    }

    /// Returns the leases of all deliveries in the list, lost or not.
    pub(super) fn held(&self) -> Vec<Lease> {
        self.deliveries().values().map(|handling| handling.lease).collect()
    }

    /// Returns the leases that this worker has to extend, and the deliveries whose handlers are stuck. A stuck handler
    /// is returned once. Its lease counts as lost from then on, so that other nodes can handle the delivery.
    pub(super) fn leases_of(&self, worker: WorkerId) -> WorkerLeases {
        let (now, mut leases) = (Instant::now(), WorkerLeases::default());
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

    /// Records that a call at `asked` has extended this lease.
    pub(super) fn extended(&self, lease: &Lease, asked: Instant) {
        if let Some(handling) = self.deliveries().get_mut(&lease.id())
            && handling.lease.token() == lease.token()
        {
            handling.held_since = asked;
        }
    }

    /// Registers a delivery. Returns the deliveries that block it, or `None` if the delivery is registered already:
    /// then its running handler takes over the new lease.
    pub(super) fn register(
        self: &Arc<Self>,
        leased: &Leased,
        worker: WorkerId,
        asked: Instant,
    ) -> Option<(DeliveryRegistration, Blockers)> {
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
        let shares = |other: &RunningDelivery| other.ordering_keys.iter().any(|key| keys.contains(key));
        let earlier = deliveries.iter().filter(|(_, other)| shares(other)).map(|(id, other)| (*id, other.serial));
        let earlier = earlier.collect();
        let handling = RunningDelivery {
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
        Some((DeliveryRegistration { running: Arc::clone(self), id }, Blockers { earlier }))
    }

    /// Records that the store no longer accepts this lease. Returns whether the list did not know that yet.
    pub(super) fn lost(&self, lease: &Lease) -> bool {
        let mut deliveries = self.deliveries();
        let Some(handling) = deliveries.get_mut(&lease.id()) else { return false };
        let is_news = handling.lease.token() == lease.token() && !handling.lost;
        handling.lost |= is_news;
        is_news
    }

    fn deliveries(&self) -> MutexGuard<'_, HashMap<DeliveryId, RunningDelivery>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeliveryRegistration {
    /// Returns the latest lease on the delivery.
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

    /// Records that a call at `asked` has extended the lease.
    pub(super) fn extended(&self, asked: Instant) {
        self.running.extended(&self.lease(), asked);
    }

    /// Returns whether the store has counted this attempt.
    pub(super) fn is_counted(&self) -> bool {
        self.running.deliveries().get(&self.id).is_some_and(|handling| handling.is_counted)
    }

    /// Records that the store has counted this attempt.
    pub(super) fn counted(&self) {
        if let Some(handling) = self.running.deliveries().get_mut(&self.id) {
            handling.is_counted = true;
        }
    }

    /// Records that the handler starts. Its lease is extended for `extend_for` from now.
    pub(super) fn started(&self, extend_for: Duration) {
        let now = Instant::now();
        if let Some(handling) = self.running.deliveries().get_mut(&self.id) {
            handling.extend_until = Some(now.checked_add(extend_for).unwrap_or_else(|| now + FAR));
        }
    }

    /// Waits until the deliveries that block this one have ended.
    pub(super) async fn wait_for(&self, blocked: Blockers) {
        let is_blocked = || {
            let deliveries = self.running.deliveries();
            let is_running =
                |id, serial| deliveries.get(id).is_some_and(|other: &RunningDelivery| other.serial == serial);
            blocked.earlier.iter().any(|(id, serial)| is_running(id, *serial))
        };
        loop {
            let mut ended = pin!(self.running.ended.notified());
            // Enable before checking, so that no notification is missed.
            ended.as_mut().enable();
            if !is_blocked() {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for DeliveryRegistration {
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
        running: &Arc<RunningDeliveries>,
        worker: WorkerId,
        id: i64,
        token: i64,
        keys: &[u8],
    ) -> Option<(DeliveryRegistration, Blockers)> {
        let lease = Lease::new(DeliveryId::new(id), token, 1);
        let keys = keys.iter().map(|key| OrderingKey::from_text(&key.to_string())).collect();
        running.register(&Leased::new(lease, "", "").with_ordering_keys(keys), worker, Instant::now())
    }

    #[test]
    fn running_delivery_takes_over_a_newer_lease() {
        let (running, worker) = (Arc::new(RunningDeliveries::default()), WorkerId::next());
        let (registration, _) = register(&running, worker, 1, 1, &[]).expect("not running yet");
        assert!(running.lost(&registration.lease()));
        assert!(running.leases_of(worker).to_extend.is_empty());
        assert!(register(&running, worker, 1, 3, &[]).is_none());
        assert_eq!(registration.lease().token(), 3);
        assert_eq!(running.leases_of(worker).to_extend.len(), 1);
        // A late response of the store has an older token.
        assert!(register(&running, worker, 1, 2, &[]).is_none());
        assert_eq!(registration.lease().token(), 3);
        drop(registration);
        assert!(running.held().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn stuck_handler_is_reported_once() {
        let (running, worker) = (Arc::new(RunningDeliveries::default()), WorkerId::next());
        let (registration, _) = register(&running, worker, 1, 1, &[]).expect("not running yet");
        // The handler has not started, so it cannot be stuck.
        tokio::time::advance(HOUR).await;
        assert_eq!(running.leases_of(worker).to_extend.len(), 1);
        registration.started(HOUR);
        assert!(running.leases_of(worker).stuck.is_empty());
        tokio::time::advance(HOUR).await;
        let leases = running.leases_of(worker);
        assert_eq!((leases.to_extend.len(), leases.stuck.len()), (0, 1));
        assert!(running.leases_of(worker).stuck.is_empty());
        // This process does not start the delivery again while its handler is running.
        assert!(register(&running, worker, 1, 2, &[]).is_none());
        drop(registration);
    }

    #[tokio::test(start_paused = true)]
    async fn old_lease_may_be_lost() {
        let (running, worker) = (Arc::new(RunningDeliveries::default()), WorkerId::next());
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
    fn later_run_of_a_delivery_does_not_block() {
        let (running, worker) = (Arc::new(RunningDeliveries::default()), WorkerId::next());
        let (first, _) = register(&running, worker, 1, 1, &[1]).expect("not running yet");
        let (second, blocked) = register(&running, worker, 2, 1, &[1]).expect("not running yet");
        drop(first);
        let (_again, blocked_again) = register(&running, worker, 1, 2, &[1]).expect("no longer running");
        assert_eq!(second.wait_for(blocked).now_or_never(), Some(()));
        assert_eq!(blocked_again.earlier.len(), 1);
    }

    /// The new lease has the number of counted attempts, because the store does not know whether this attempt was
    /// counted.
    #[test]
    fn new_lease_keeps_the_attempt() {
        let (running, worker) = (Arc::new(RunningDeliveries::default()), WorkerId::next());
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
    fn lost_lease_is_reported_once() {
        let running = Arc::new(RunningDeliveries::default());
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
    fn waits_for_deliveries_that_share_a_key() {
        let (running, worker) = (Arc::new(RunningDeliveries::default()), WorkerId::next());
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
