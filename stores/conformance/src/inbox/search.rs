//! Rules for the parts of a filter by which operators search.

use std::time::Duration;

use tower_klikit::{
    dedupe::Ledger,
    inbox::{DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Settlement, ShowBody},
};

use super::{
    delivery,
    tested::{ALL, HOUR, KEEP, TestedInbox, dead_letter, reschedule, roughly},
};

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Accepts and leases a delivery with these search terms.
    async fn begin_with_terms(&self, tenant: &str, id: &str, terms: &[&str]) -> DeliveryId {
        let lease = self.begin(&delivery(tenant, id, "body").with_terms(terms)).await;
        self.extend(&lease, KEEP, "the lease is current").await;
        lease.id()
    }

    /// Accepts and dead-letters a delivery for this reason.
    async fn make_dead_because(&self, id: &str, reason: &str) -> DeliveryId {
        let lease = self.begin(&delivery("warung", id, "body")).await;
        self.settle(&lease, Settlement::DeadLetter { reason: reason.into(), status: None }).await;
        lease.id()
    }

    pub(super) async fn finds_by_id(&self) {
        let mut ids = Vec::new();
        for id in ["one", "two", "three"] {
            ids.push(self.make_dead(&delivery("warung", id, "body")).await.id());
        }
        for id in &ids {
            self.finds(&Filter::new().id(*id), &[*id], "the delivery has this id").await;
        }
        self.finds(&Filter::new().id(i64::MAX), &[], "no delivery has this id").await;
        let second = Filter::new().id(ids[1]);
        self.finds(&second.clone().states([DeliveryState::Ready]), &[], "the delivery is dead").await;
        self.finds(&second.clone().tenant("kedai"), &[], "the delivery is another tenant's").await;
        for (after, expected) in [(ids[0], &ids[1..2]), (ids[1], &[]), (ids[2], &[])] {
            let found: Vec<_> = self.select(&second, Some(after), ALL).await.iter().map(|entry| entry.id).collect();
            self.same("find", &found, &expected.to_vec(), &format!("of {second:?} after {after}"));
        }
    }

    pub(super) async fn finds_by_order_and_branch(&self) {
        let one = self.begin_with_terms("warung", "one", &["branch:7", "order:42"]).await;
        let batch = self.begin_with_terms("warung", "batch", &["branch:7", "order:4", "order:42", "order:43"]).await;
        let other = self.begin_with_terms("kedai", "other", &["branch:8", "order:42"]).await;
        let none = self.begin_with_terms("kedai", "none", &[]).await;
        let odd = self.begin_with_terms("kedai", "odd", &["branch:42", "order:%25_'\"\\"]).await;
        let filter = Filter::new;
        self.finds(&filter().order(42), &[one, batch, other], "three deliveries contain the order").await;
        self.finds(&filter().order("43"), &[batch], "one delivery contains the order").await;
        self.finds(&filter().order(4), &[batch], "one delivery contains the order").await;
        self.finds(&filter().order(7), &[], "only branches have this id").await;
        self.finds(&filter().branch(7), &[one, batch], "two deliveries are of the branch").await;
        self.finds(&filter().branch(42), &[odd], "one delivery is of the branch").await;
        self.finds(&filter().order("%_'\"\\"), &[odd], "the id is text").await;
        self.finds(&filter().order(42).branch(7), &[one, batch], "two deliveries have both").await;
        self.finds(&filter().order(43).branch(8), &[], "no delivery has both").await;
        self.finds(&filter().order(42).tenant("kedai"), &[other], "one delivery has both").await;
        self.finds(&filter().branch(7).event_id("batch"), &[batch], "one delivery has both").await;
        self.finds(&filter().order(42).states([DeliveryState::Dead]), &[], "all are leased").await;
        self.finds(&filter().order(42).id(other), &[other], "the delivery contains the order").await;
        self.finds(&filter().order(42).id(none), &[], "the delivery has no terms").await;
    }

    pub(super) async fn revived_delivery_has_new_terms(&self) {
        let old = delivery("warung", "evt", "body").with_terms(&["branch:7", "order:42"]);
        let lease = self.make_dead(&old).await;
        self.finds(&Filter::new().order(42), &[lease.id()], "the delivery contains the order").await;
        let new = delivery("warung", "evt", "other body").with_any_body().with_terms(&["branch:7", "order:43"]);
        self.revive(&new).await;
        self.finds(&Filter::new().order(42), &[], "the new request contains another order").await;
        self.finds(&Filter::new().order(43), &[lease.id()], "the new request contains this order").await;
        self.finds(&Filter::new().branch(7), &[lease.id()], "both requests are of this branch").await;
        let entry = self.find(lease.id()).await;
        let orders: Vec<_> = entry.iter().flat_map(Entry::orders).collect();
        self.same("show (terms)", &orders, &vec!["43"], "the new request contains this order");
    }

    pub(super) async fn finds_by_event_type(&self) {
        let mut ids = Vec::new();
        for (id, event_type) in [("one", "a"), ("two", "b"), ("three", "a")] {
            let new = delivery("warung", id, "body");
            let head = new.head().replace("order.created", event_type);
            ids.push(self.make_dead(&new.with_head(head)).await.id());
        }
        let new = delivery("warung", "four", "body");
        let head = new.head().replace(r#""event_type":"order.created","#, "");
        ids.push(self.make_dead(&new.with_head(head)).await.id());
        self.finds(&Filter::new().event_type("a"), &[ids[0], ids[2]], "two deliveries have this type").await;
        self.finds(&Filter::new().event_type("b"), &ids[1..2], "one delivery has this type").await;
        self.finds(&Filter::new().event_type(""), &[], "no delivery has this type").await;
        self.finds(&Filter::new().event_type("a").event_id("three"), &ids[2..3], "one delivery has both").await;
    }

    pub(super) async fn finds_by_reason(&self) {
        let busy = self.make_dead_because("busy", "status 503: Busy").await;
        let odd = self.make_dead_because("odd", r"100% of '_' and \ in küche").await;
        let other = self.make_dead_because("other", "status 404").await;
        let lease = self.begin(&delivery("warung", "none", "body")).await;
        let filter = Filter::new;
        self.finds(&filter().reason("status"), &[busy, other], "two reasons contain the text").await;
        self.finds(&filter().reason("status 503: Busy"), &[busy], "this is a whole reason").await;
        self.finds(&filter().reason("503"), &[busy], "one reason contains the text").await;
        self.finds(&filter().reason("busy"), &[], "upper and lower case differ").await;
        for part in ["%", "_", r"\", "'", "küche", r"\ in"] {
            self.finds(&filter().reason(part), &[odd], "one reason contains the text").await;
        }
        self.finds(&filter().reason(""), &[busy, odd, other], "every reason contains the empty text").await;
        self.finds(&filter().reason("status").event_id("other"), &[other], "one delivery has both").await;
        self.finds(&filter().reason("status").states([DeliveryState::Leased]), &[], "the deliveries are dead").await;
        self.finds(&filter().states([DeliveryState::Leased]), &[lease.id()], "one is leased").await;
    }

    pub(super) async fn finds_by_attempts(&self) {
        let mut ids = Vec::new();
        for attempts in 1..4 {
            let new = delivery("warung", &attempts.to_string(), "body");
            self.accept(&new).await;
            let mut lease = self.lease_one(&new, "the delivery was accepted").await;
            for _ in 1..attempts {
                self.settle(&lease, reschedule(Duration::ZERO)).await;
                lease = self.lease_one(&new, "the attempt failed").await;
            }
            self.extend(&lease, KEEP, "the lease is current").await;
            ids.push(lease.id());
        }
        let filter = Filter::new;
        self.finds(&filter().attempts(1..=1), &ids[..1], "one delivery had one attempt").await;
        self.finds(&filter().attempts(2..=3), &ids[1..], "two deliveries had 2 or 3 attempts").await;
        self.finds(&filter().attempts(0..=2), &ids[..2], "two deliveries had up to 2 attempts").await;
        self.finds(&filter().attempts(0..=u32::MAX), &ids, "all had so many attempts").await;
        self.finds(&filter().attempts(4..=u32::MAX), &[], "no delivery had more than 3 attempts").await;
        let (start, end) = (3, 1);
        let none = filter().attempts(start..=end);
        self.finds(&none, &[], "the range is empty").await;
        self.finds(&filter().attempts(2..=3).event_id("3"), &ids[2..], "one delivery has both").await;
    }

    pub(super) async fn finds_by_age(&self) {
        let mut ids = Vec::new();
        for id in ["old", "middle", "young"] {
            ids.push(self.make_dead(&delivery("warung", id, "body")).await.id());
            self.advance(2 * HOUR).await;
        }
        let filter = Filter::new;
        self.finds(&filter().older_than(5 * HOUR), &ids[..1], "one was accepted 6 hours ago").await;
        self.finds(&filter().older_than(3 * HOUR), &ids[..2], "two were accepted 6 and 4 hours ago").await;
        self.finds(&filter().younger_than(3 * HOUR), &ids[2..], "one was accepted 2 hours ago").await;
        self.finds(&filter().younger_than(5 * HOUR), &ids[1..], "two were accepted 4 and 2 hours ago").await;
        let between = filter().older_than(3 * HOUR).younger_than(5 * HOUR);
        self.finds(&between, &ids[1..2], "one was accepted 4 hours ago").await;
        self.finds(&filter().older_than(Duration::ZERO).younger_than(Duration::MAX), &ids, "all ages are selected")
            .await;
        self.finds(&filter().older_than(Duration::MAX), &[], "nothing is so old").await;
        self.finds(&filter().younger_than(Duration::ZERO), &[], "nothing is so young").await;
        self.finds(&between.event_id("old"), &[], "no delivery has both").await;
    }

    pub(super) async fn entries_describe_the_delivery(&self) {
        let new = delivery("warung", "evt", "body").with_terms(&["branch:7", "order:42", "order:43"]);
        let lease = self.make_dead(&new).await;
        self.advance(HOUR).await;
        let found = self.select(&Filter::new(), None, ALL).await;
        let shown = self.find(lease.id()).await;
        for entry in found.iter().chain(&shown) {
            self.holds(roughly(entry.age, HOUR), &format!("the age is {:?}, not an hour", entry.age));
            self.same("find and show (has_body)", &entry.has_body, &true, "the body is stored");
            self.same("find and show (terms)", &&*entry.terms, &new.terms(), "the delivery has these terms");
            self.same("find and show", &entry.branch(), &Some("7"), "the delivery is of this branch");
        }
        self.same("find", &found.len(), &1, "one delivery is stored");
    }

    pub(super) async fn shows_the_body_only_if_asked(&self) {
        let new = delivery("warung", "evt", "body");
        let lease = self.make_dead(&new).await;
        for (body, expected) in [(ShowBody::Omit, None), (ShowBody::Include, Some(new.body()))] {
            let Some(entry) = self.answer("show", self.store.show(lease.id(), body).await) else {
                self.broken("show returned nothing for a delivery that is stored");
            };
            self.same("show", &entry.body.as_ref(), &expected, &format!("{body:?}"));
            self.same("show (has_body)", &entry.has_body, &true, "the body is stored");
            self.same("show (history)", &entry.history.len(), &1, "one attempt was made");
        }
    }

    pub(super) async fn finds_each_part_in_pages(&self) {
        let mut ids = Vec::new();
        for n in 0..9 {
            let id = n.to_string();
            let new = delivery("warung", &id, "body").with_terms(&["branch:7", "order:42", &format!("order:{n}")]);
            ids.push(self.handle(&new, KEEP).await.id());
            let other = delivery("kedai", &id, "other body").with_terms(&["branch:8"]);
            let head = other.head().replace("order.created", "b");
            let other = other.with_head(head);
            let lease = self.begin(&other).await;
            self.settle(&lease, dead_letter()).await;
        }
        let filters = [
            Filter::new().order(42),
            Filter::new().branch(7),
            Filter::new().order(42).branch(7),
            Filter::new().tenant("warung"),
            Filter::new().event_type("order.created"),
            Filter::new().states([DeliveryState::Done]),
            Filter::new().body("body"),
        ];
        for filter in filters {
            for size in [1, 2, 3, 9, 20] {
                self.finds_in_pages(&filter, size, &ids).await;
            }
            let page: Vec<_> = self.select(&filter, Some(ids[2]), 4).await.iter().map(|entry| entry.id).collect();
            self.same("find", &page, &ids[3..7].to_vec(), &format!("4 after the third, for {filter:?}"));
        }
        let dead = Filter::new().states([DeliveryState::Dead]).reason("dead-lettered").attempts(1..=1);
        let expected: Vec<_> = self.select(&Filter::new().tenant("kedai"), None, ALL).await;
        let expected: Vec<_> = expected.iter().map(|entry| entry.id).collect();
        self.same("find", &expected.len(), &9, "the tenant has nine deliveries");
        for size in [1, 2, 4, 20] {
            self.finds_in_pages(&dead, size, &expected).await;
        }
    }
}
