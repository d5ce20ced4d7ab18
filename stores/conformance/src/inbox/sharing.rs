//! Rules for sharing the leases between tenants.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{InboxAdmin, InboxStore, LeaseRequest, NewDelivery, Settlement},
};

use super::{
    delivery,
    tested::{AHEAD, LEASE, REQUEST, SECOND, TestedInbox, done, reschedule},
};

/// The number of calls after which a tenant has had its turn. It has none by chance once in 2^60 cases.
const TURNS: u32 = 60;

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Accepts this many deliveries of `warung`.
    async fn accept_backlog(&self, deliveries: u32) -> Vec<NewDelivery> {
        let mut all = Vec::new();
        for n in 0..deliveries {
            let new = delivery("warung", &n.to_string(), "body");
            self.accept(&new).await;
            all.push(new);
        }
        self.advance(SECOND).await;
        all
    }

    /// Makes this request, and returns whether it leased this delivery. Then releases what it leased.
    async fn leases(&self, request: &LeaseRequest<'_>, expected: &NewDelivery) -> bool {
        let leased = self.try_lease(request).await.leased;
        let limit = request.limit as usize;
        self.same("lease", &leased.len(), &limit, "more deliveries are due");
        for leased in &leased {
            self.settle(leased.lease(), Settlement::Release).await;
        }
        leased.iter().any(|leased| leased.head() == expected.head())
    }

    pub(super) async fn tenants_share_the_leases(&self) {
        self.accept_backlog(50).await;
        let other = delivery("kedai", "evt", "body");
        self.accept(&other).await;
        for _ in 0..8 {
            let request = LeaseRequest { limit: 2, ..REQUEST };
            let is_leased = self.leases(&request, &other).await;
            self.holds(is_leased, "lease returned two deliveries of one tenant, although another tenant has one");
        }
    }

    pub(super) async fn prefetching_shares_the_leases(&self) {
        self.accept_backlog(20).await;
        let other = delivery("kedai", "evt", "body");
        self.accept(&other).await;
        for _ in 0..8 {
            let is_leased = self.leases(&LeaseRequest { limit: 2, ..AHEAD }, &other).await;
            self.holds(is_leased, "lease prefetched two deliveries of one tenant, although another tenant has one");
            let request = LeaseRequest { limit: 2, free_handlers: 1, ..REQUEST };
            let is_leased = self.leases(&request, &other).await;
            self.holds(is_leased, "lease returned two deliveries of one tenant, although another tenant has one");
        }
    }

    pub(super) async fn every_tenant_gets_its_turn(&self) {
        self.accept_backlog(TURNS + 1).await;
        let other = delivery("kedai", "evt", "body");
        self.accept(&other).await;
        for _ in 0..TURNS {
            let leased = self.try_lease(&LeaseRequest { limit: 1, ..REQUEST }).await.leased;
            self.same("lease", &leased.len(), &1, "deliveries are due");
            self.settle(leased[0].lease(), done(Duration::ZERO)).await;
            if leased[0].head() == other.head() {
                return;
            }
        }
        self.broken(&format!("lease returned {TURNS} deliveries of one tenant, and none of the other"));
    }

    pub(super) async fn held_deliveries_count_in_the_rank(&self) {
        let backlog = self.accept_backlog(20).await;
        let leased = self.try_lease(&LeaseRequest { limit: 16, duration: 100 * LEASE, ..REQUEST }).await.leased;
        let held: Vec<_> = leased.iter().map(|leased| *leased.lease()).collect();
        self.same("lease", &held.len(), &16, "20 deliveries are due");
        let other = delivery("kedai", "evt", "body");
        self.accept(&other).await;
        for _ in 0..8 {
            let request = LeaseRequest { limit: 1, held: &held, ..REQUEST };
            let is_leased = self.leases(&request, &other).await;
            self.holds(is_leased, "lease returned a delivery of the tenant of which the process runs 16");
        }
        let others = ["b", "c", "d", "e"].map(|id| delivery("kedai", id, "body"));
        self.accept_all(others.each_ref()).await;
        let request = LeaseRequest { limit: 6, held: &held[..3], ..REQUEST };
        let leased = self.try_lease(&request).await.leased;
        let is_backlog = |head: &str| backlog.iter().any(|new| new.head() == head);
        let of_backlog = leased.iter().filter(|leased| is_backlog(leased.head())).count();
        let why = "the process runs 3 deliveries of one tenant, so the other tenant gets at least 4 of 6";
        self.holds(leased.len() == 6 && of_backlog <= 2, &format!("lease returned {of_backlog} of one tenant: {why}"));
    }

    pub(super) async fn tenant_is_served_longest_due_first(&self) {
        let all: [NewDelivery; 6] =
            std::array::from_fn(|n| delivery(if n % 2 == 0 { "warung" } else { "kedai" }, &n.to_string(), "body"));
        self.accept_all(all.each_ref()).await;
        let leases = self.lease(all.each_ref(), "the deliveries of each tenant are leased longest due first").await;
        // Makes the first of each tenant due last.
        for (n, lease) in [2, 3, 4, 5, 0, 1].map(|n| (n, leases[n])) {
            self.settle(&lease, reschedule(Duration::ZERO)).await;
            if n % 2 == 1 {
                self.advance(SECOND).await;
            }
        }
        let [a, b, c, d, e, f] = all.each_ref();
        self.lease([c, d, e, f, a, b], "the first of each tenant are due last").await;
    }
}
