//! Calls that lease deliveries, start attempts and extend leases.

use std::{slice, time::Duration};

use tower_klikit::inbox::{InboxStore, Lease, LeaseBatch, LeaseRequest, Leased, NewDelivery};

use super::{LEASE, REQUEST, TestedInbox, WORKER};

impl<S: InboxStore, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    pub(crate) async fn try_lease(&self, request: &LeaseRequest<'_>) -> LeaseBatch {
        let batch = self.answer("lease", self.store.lease(request).await);
        self.holds(batch.unreadable.is_empty(), &format!("lease could not read deliveries: {:?}", batch.unreadable));
        batch
    }

    /// Makes this request, and checks that these deliveries are leased, those of each tenant in this order, and none is dead-lettered.
    pub(crate) async fn lease_as<const N: usize>(
        &self,
        request: &LeaseRequest<'_>,
        expected: [&NewDelivery; N],
        why: &str,
    ) -> [Lease; N] {
        let batch = self.try_lease(request).await;
        let dead = &batch.dead_lettered;
        self.holds(
            dead.is_empty(),
            &format!("lease must not dead-letter deliveries, but dead-lettered {dead:?}: {why}"),
        );
        self.are(&batch.leased, expected, why)
    }

    /// Leases every delivery that can be leased, and starts the attempts that the lease did not count. Checks that these deliveries
    /// are leased, those of each tenant in this order.
    pub(crate) async fn lease<const N: usize>(&self, expected: [&NewDelivery; N], why: &str) -> [Lease; N] {
        let LeaseBatch { leased, dead_lettered: dead, .. } = self.try_lease(&REQUEST).await;
        self.holds(
            dead.is_empty(),
            &format!("lease must not dead-letter deliveries, but dead-lettered {dead:?}: {why}"),
        );
        for leased in leased.iter().filter(|leased| !leased.is_attempt_counted()) {
            self.start(leased.lease()).await;
        }
        self.are(&leased, expected, why)
    }

    pub(crate) async fn lease_one(&self, expected: &NewDelivery, why: &str) -> Lease {
        let [lease] = self.lease([expected], why).await;
        lease
    }

    pub(crate) async fn lease_nothing(&self, why: &str) {
        self.lease([], why).await;
    }

    /// Checks that these deliveries were leased, those of each tenant in this order. Returns the leases in this order.
    pub(crate) fn are<const N: usize>(&self, leased: &[Leased], expected: [&NewDelivery; N], why: &str) -> [Lease; N] {
        let is = |leased: &Leased, expected: &NewDelivery| {
            leased.head() == expected.head() && leased.body() == expected.body()
        };
        let mut positions = Vec::new();
        for expected in expected {
            let mut left = (0..leased.len()).filter(|n| !positions.contains(n));
            positions.extend(left.find(|n| is(&leased[*n], expected)));
        }
        let is_in_order =
            |(n, m): (usize, usize)| expected[n].tenant() != expected[m].tenant() || positions[n] < positions[m];
        let same = leased.len() == N
            && positions.len() == N
            && (0..N).flat_map(|m| (0..m).map(move |n| (n, m))).all(is_in_order);
        self.holds(same, &format!("lease returned {leased:?}, not {expected:?}: {why}"));
        std::array::from_fn(|n| *leased[positions[n]].lease())
    }

    /// Starts the attempt of a current lease.
    pub(crate) async fn start(&self, lease: &Lease) {
        self.starts(slice::from_ref(lease), &[true], "the lease is current").await;
    }

    pub(crate) async fn cannot_start(&self, lease: &Lease, why: &str) {
        self.starts(slice::from_ref(lease), &[false], why).await;
    }

    pub(crate) async fn starts(&self, leases: &[Lease], expected: &[bool], why: &str) {
        let started = self.answer("start", self.store.start(leases, WORKER).await);
        self.same("start", &started, &expected.to_vec(), why);
    }

    pub(crate) async fn extend(&self, lease: &Lease, duration: Duration, why: &str) {
        self.extend_all(slice::from_ref(lease), duration, &[true], why).await;
    }

    pub(crate) async fn cannot_extend(&self, lease: &Lease, why: &str) {
        self.extend_all(slice::from_ref(lease), 2 * LEASE, &[false], why).await;
    }

    pub(crate) async fn extend_all(&self, leases: &[Lease], duration: Duration, expected: &[bool], why: &str) {
        let extended = self.answer("extend", self.store.extend(leases, duration).await);
        self.same("extend", &extended, &expected.to_vec(), why);
    }
}
