//! Rules for pauses.

use std::time::{Duration, SystemTime};

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryState, InboxAdmin, InboxStore, LeaseRequest, NewDelivery, Pause, Settlement},
};

use super::{
    delivery,
    tested::{AHEAD, HOUR, KEEP, LEASE, MARGIN, REQUEST, TestedInbox, done, reschedule},
};

/// Makes a delivery with this event type.
fn typed(tenant: &str, id: &str, event_type: Option<&str>) -> NewDelivery {
    let new = delivery(tenant, id, "body");
    let (old, replacement) =
        (r#""event_type":"order.created","#, event_type.map(|name| format!(r#""event_type":"{name}","#)));
    let head = new.head().replace(old, &replacement.unwrap_or_default());
    new.with_head(head)
}

fn warung() -> Pause {
    Pause::everything().tenant("warung")
}

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Pauses deliveries, and checks the number of leases that were released.
    async fn pause(&self, pause: &Pause, released: u64, why: &str) {
        let found = self.answer("pause", self.store.pause(pause, "ayu").await);
        self.same("pause", &found, &released, &format!("of {pause}, {why}"));
    }

    async fn resume(&self, pause: &Pause, expected: bool, why: &str) {
        let resumed = self.answer("resume", self.store.resume(pause).await);
        self.same("resume", &resumed, &expected, &format!("of {pause}, {why}"));
    }

    pub(super) async fn pauses_select_by_tenant_and_type(&self) {
        let all = [
            typed("warung", "created", Some("created")),
            typed("warung", "updated", Some("updated")),
            typed("kedai", "created", Some("created")),
            typed("kedai", "none", None),
        ];
        self.accept_all(all.each_ref()).await;
        let [a, b, c, d] = &all;
        let created = || Pause::everything().event_type("created");
        let cases: [(Pause, &[&NewDelivery]); 8] = [
            (Pause::everything(), &[]),
            (warung(), &[c, d]),
            (Pause::everything().tenant("kedai"), &[a, b]),
            (Pause::everything().tenant("other"), &[a, b, c, d]),
            (created(), &[b, d]),
            (created().tenant("kedai"), &[a, b, d]),
            (Pause::everything().event_type("updated").tenant("kedai"), &[a, b, c, d]),
            (Pause::everything().event_type(""), &[a, b, c, d]),
        ];
        for (pause, expected) in cases {
            self.pause(&pause, 0, "nothing is leased").await;
            let leased = self.try_lease(&REQUEST).await.leased;
            let mut found: Vec<_> = leased.iter().map(|leased| leased.head().to_owned()).collect();
            let mut expected: Vec<_> = expected.iter().map(|new| new.head().to_owned()).collect();
            found.sort_unstable();
            expected.sort_unstable();
            self.same("lease", &found, &expected, &format!("{pause} is paused"));
            for leased in &leased {
                self.settle(leased.lease(), Settlement::Release).await;
            }
            self.resume(&pause, true, "the pause is in force").await;
        }
        let leases = self.lease([a, b, c, d], "nothing is paused").await;
        self.same("lease", &leases.map(|lease| lease.attempt()), &[1; 4], "a pause costs no attempt");
    }

    pub(super) async fn paused_delivery_stays_pending(&self) {
        let [first, free] = ["first", "free"].map(|id| typed("warung", id, Some("created")));
        let first = first.with_ordering_keys(&["a"]);
        let second = typed("warung", "second", Some("updated")).with_ordering_keys(&["a"]);
        let pause = Pause::everything().event_type("created");
        self.accept_all([&first, &second]).await;
        self.pause(&pause, 0, "nothing is leased").await;
        self.accept(&free).await;
        self.lease_nothing("the first is paused, and blocks the second").await;
        self.is_known(&typed("warung", "first", Some("created")), &first, "the delivery is pending").await;
        self.counts([3, 0, 0, 0], "paused deliveries are ready").await;
        let backlog = self.answer("backlog", self.store.backlog(10).await);
        self.same("backlog", &backlog, &3, "paused deliveries are pending");
        self.advance(KEEP).await;
        self.lease_nothing("a pause lasts until it is lifted").await;
        self.resume(&pause, true, "the pause is in force").await;
        self.lease([&first, &free], "nothing is paused, and the first blocks the second").await;
    }

    pub(super) async fn paused_delivery_is_not_dead_lettered(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        self.pause(&warung(), 0, "the attempt has started").await;
        self.advance(LEASE + MARGIN).await;
        let last = LeaseRequest { max_attempts: 1, ..REQUEST };
        self.lease_as(&last, [], "the delivery is paused").await;
        self.show(lease.id(), &new, DeliveryState::Leased, 1, "the delivery is paused").await;
        self.lease_nothing("the delivery is paused, although its lease has expired").await;
        self.resume(&warung(), true, "the pause is in force").await;
        let dead_lettered = self.try_lease(&last).await.dead_lettered;
        self.same("lease", &dead_lettered.len(), &1, "the lease expired on the last attempt");
    }

    pub(super) async fn pause_releases_what_has_not_started(&self) {
        let [one, two, running] = ["one", "two", "running"].map(|id| delivery("warung", id, "body"));
        let other = delivery("kedai", "other", "body");
        let running_lease = self.begin(&running).await;
        self.accept_all([&one, &two, &other]).await;
        let [one_lease, two_lease, other_lease] = self.lease_as(&AHEAD, [&one, &two, &other], "all are ready").await;
        self.start(&two_lease).await;
        self.pause(&warung(), 1, "one delivery is leased and has not started").await;
        let why = "the delivery was released by the pause";
        self.show(one_lease.id(), &one, DeliveryState::Ready, 0, why).await;
        self.cannot_start(&one_lease, why).await;
        self.cannot_extend(&one_lease, why).await;
        self.show(two_lease.id(), &two, DeliveryState::Leased, 1, "the attempt has started").await;
        self.show(other_lease.id(), &other, DeliveryState::Leased, 0, "the tenant is not paused").await;
        self.pause(&warung(), 0, "nothing is leased and has not started").await;

        self.start(&two_lease).await;
        self.start(&other_lease).await;
        self.advance(LEASE + MARGIN).await;
        let why = "a running handler continues";
        self.extend(&two_lease, KEEP, why).await;
        self.extend(&running_lease, KEEP, why).await;
        self.settle(&two_lease, done(Duration::ZERO)).await;
        self.show_nothing(two_lease.id(), "the delivery was handled").await;
        self.settle(&running_lease, Settlement::Release).await;
        self.extend(&other_lease, 2 * KEEP, "the lease is current").await;
        self.lease_nothing("the tenant is paused").await;
        self.resume(&warung(), true, "the pause is in force").await;
        let leases = self.lease([&one, &running], "the released deliveries are due").await;
        self.same("lease", &leases.map(|lease| lease.attempt()), &[1; 2], "no attempt was made");
    }

    /// A pause does not wait for the end of an expired lease, and does not touch deliveries that are not leased.
    pub(super) async fn pause_releases_expired_leases(&self) {
        let [ahead, later] = ["ahead", "later"].map(|id| delivery("warung", id, "body"));
        let lease = self.begin(&later).await;
        self.settle(&lease, reschedule(KEEP)).await;
        self.accept(&ahead).await;
        let [ahead_lease] = self.lease_as(&AHEAD, [&ahead], "the delivery is ready").await;
        self.advance(LEASE + MARGIN).await;
        self.pause(&Pause::everything(), 1, "one delivery is leased and has not started").await;
        self.show(ahead_lease.id(), &ahead, DeliveryState::Ready, 0, "the pause has released the delivery").await;
        self.resume(&Pause::everything(), true, "the pause is in force").await;
        self.lease_one(&ahead, "the other delivery is due later").await;
    }

    pub(super) async fn only_the_equal_pause_is_lifted(&self) {
        let [created, updated] = ["created", "updated"].map(|name| typed("warung", name, Some(name)));
        self.accept_all([&created, &updated]).await;
        let both = warung().event_type("created");
        self.resume(&warung(), false, "nothing is paused").await;
        self.pause(&warung(), 0, "nothing is leased").await;
        self.pause(&both, 0, "nothing is leased").await;
        self.resume(&Pause::everything(), false, "there is no such pause").await;
        self.resume(&Pause::everything().event_type("created"), false, "there is no such pause").await;
        self.lease_nothing("the tenant is paused").await;
        self.resume(&warung(), true, "the pause is in force").await;
        self.resume(&warung(), false, "the pause was lifted").await;
        self.lease_one(&updated, "another pause selects the other delivery").await;
        self.resume(&both, true, "the pause is in force").await;
        self.lease_one(&created, "nothing is paused").await;
    }

    pub(super) async fn lists_pauses_in_order(&self) {
        let pauses = async || self.answer("pauses", self.store.pauses().await);
        self.same("pauses", &pauses().await, &Vec::new(), "nothing is paused");
        let created = Pause::everything().event_type("created");
        for pause in [warung().event_type("created"), warung(), created.clone(), Pause::everything()] {
            self.pause(&pause, 0, "nothing is leased").await;
        }
        self.advance(HOUR).await;
        let kedai = Pause::everything().tenant("kedai");
        for pause in [&warung(), &kedai] {
            let released = self.answer("pause", self.store.pause(pause, "budi").await);
            self.same("pause", &released, &0, "nothing is leased");
        }
        let found = pauses().await;
        let listed: Vec<_> = found.iter().map(|active| (active.pause.clone(), &*active.operator)).collect();
        let expected = vec![
            (Pause::everything(), "ayu"),
            (created, "ayu"),
            (kedai, "budi"),
            (warung(), "ayu"),
            (warung().event_type("created"), "ayu"),
        ];
        self.same("pauses", &listed, &expected, "these pauses are in force, each with its first operator");
        for active in &found {
            let ago = SystemTime::now().duration_since(active.since).unwrap_or_default();
            let expected = if active.operator == "ayu" { HOUR } else { Duration::ZERO };
            // The clock of a store may differ by 5 minutes.
            self.holds(ago.abs_diff(expected) < HOUR / 6, &format!("{active:?} began {expected:?} ago, not {ago:?}"));
        }
        self.resume(&warung(), true, "the pause is in force").await;
        let found: Vec<_> = pauses().await.into_iter().map(|active| active.pause).collect();
        let expected: Vec<_> =
            expected.into_iter().map(|(pause, _)| pause).filter(|pause| *pause != warung()).collect();
        self.same("pauses", &found, &expected, "one pause was lifted");
    }

    pub(super) async fn held_lease_of_a_paused_one_is_extended(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.begin(&new).await;
        self.pause(&warung(), 0, "the attempt has started").await;
        self.advance(LEASE + MARGIN).await;
        let request = LeaseRequest { held: &[lease], ..REQUEST };
        self.lease_as(&request, [], "the delivery is paused").await;
        self.resume(&warung(), true, "the pause is in force").await;
        self.advance(LEASE - MARGIN).await;
        self.lease_nothing("the held lease was extended").await;
        self.advance(2 * MARGIN).await;
        self.lease_one(&new, "the lease has expired").await;
    }
}
