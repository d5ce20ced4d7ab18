//! Rules for finding deliveries, and for dead-lettering and forgetting them by hand.

use std::time::{Duration, SystemTime};

use tower_klikit::{
    dedupe::{BodyDigest, Ledger},
    inbox::{DeliveryId, DeliveryState, Filter, InboxAdmin, InboxStore, Lease, SettleOutcome, Settlement},
};

use super::{
    delivery,
    tested::{AHEAD, ALL, HOUR, KEEP, LEASE, MARGIN, TestedInbox, dead_letter, done, reschedule},
};

pub(super) const READY: DeliveryState = DeliveryState::Ready;
pub(super) const LEASED: DeliveryState = DeliveryState::Leased;
pub(super) const DEAD: DeliveryState = DeliveryState::Dead;
pub(super) const DONE: DeliveryState = DeliveryState::Done;
pub(super) const EVERY_STATE: [DeliveryState; 4] = [READY, LEASED, DEAD, DONE];

impl<S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Makes a delivery in each state, in the order of [`EVERY_STATE`], and returns their leases.
    pub(super) async fn one_in_each_state(&self) -> [Lease; 4] {
        let [ready, leased, dead, kept] = ["ready", "leased", "dead", "done"].map(|id| delivery("warung", id, id));
        let ready_lease = self.begin(&ready).await;
        self.settle(&ready_lease, reschedule(KEEP)).await;
        let leased_lease = self.begin(&leased).await;
        self.extend(&leased_lease, KEEP, "the lease is current").await;
        let dead_lease = self.make_dead(&dead).await;
        let kept_lease = self.handle(&kept, 2 * KEEP).await;
        [ready_lease, leased_lease, dead_lease, kept_lease]
    }

    pub(super) async fn finds(&self, filter: &Filter, expected: &[DeliveryId], why: &str) {
        let found: Vec<_> = self.select(filter, None, ALL).await.iter().map(|entry| entry.id).collect();
        self.same("find", &found, &expected.to_vec(), &format!("{filter:?}: {why}"));
    }

    pub(super) async fn finds_deliveries_by_state(&self) {
        self.finds(&Filter::new(), &[], "nothing was accepted").await;
        let ids = self.one_in_each_state().await.map(|lease| lease.id());
        self.finds(&Filter::new(), &ids, "no state is named").await;
        self.finds(&Filter::new().states([]), &[], "no state is selected").await;
        for (n, state) in EVERY_STATE.into_iter().enumerate() {
            let why = format!("the delivery with id {} is {state}", ids[n]);
            self.finds(&Filter::new().states([state]), &ids[n..=n], &why).await;
            let others: Vec<_> = ids.into_iter().filter(|id| *id != ids[n]).collect();
            let other_states = EVERY_STATE.into_iter().filter(|other| *other != state);
            self.finds(&Filter::new().states(other_states), &others, &why).await;
        }
        // A delivery with an expired lease still counts as leased.
        self.advance(KEEP + MARGIN).await;
        self.finds(&Filter::new().states([LEASED]), &ids[1..2], "its lease has expired").await;
        for entry in self.select(&Filter::new(), None, ALL).await {
            let state = EVERY_STATE[ids.iter().position(|id| *id == entry.id).unwrap_or_default()];
            self.same("find", &(entry.state, entry.attempts), &(state, 1), "each was leased once");
            self.same("find", &entry.event_id(), &Some(state.as_str()), "the head says so");
            let digest = BodyDigest::of(state.as_str().as_bytes());
            self.same("find", &entry.digest, &Some(digest), "the entry has the digest of the body");
        }
    }

    pub(super) async fn finds_deliveries_by_each_filter(&self) {
        let mut ids = Vec::new();
        let made = [("warung", "one", "a"), ("warung", "two", "b"), ("kedai", "one", "a"), ("kedai", "three", "a")];
        for (tenant, id, body) in made {
            let lease = self.begin(&delivery(tenant, id, body)).await;
            self.extend(&lease, KEEP, "the lease is current").await;
            ids.push(lease.id());
            self.advance(HOUR).await;
        }
        let [one, two, three, four] = ids[..] else { self.broken("four were accepted") };
        let filter = Filter::new;
        self.finds(&filter().tenant("warung"), &[one, two], "this tenant has two deliveries").await;
        self.finds(&filter().tenant("kedai"), &[three, four], "this tenant has two deliveries").await;
        self.finds(&filter().tenant("warun"), &[], "no tenant has this name").await;
        self.finds(&filter().event_id("one"), &[one, three], "both tenants have this event").await;
        self.finds(&filter().event_id("four"), &[], "no event has this id").await;
        self.finds(&filter().body("a"), &[one, three, four], "three deliveries have this body").await;
        self.finds(&filter().body("c"), &[], "no delivery has this body").await;
        self.finds(&filter().tenant("kedai").event_id("one"), &[three], "one delivery has both").await;
        self.finds(&filter().tenant("kedai").body("b"), &[], "no delivery has both").await;
        let all = filter().states([LEASED]).tenant("kedai").event_id("three").body("a");
        self.finds(&all, &[four], "one delivery matches everything").await;
        self.finds(&all.clone().states([READY, DEAD]), &[], "the delivery is leased").await;

        // The deliveries were accepted four, three, two hours and one hour ago.
        let hours_ago = |hours: u32| SystemTime::now() - HOUR * hours - HOUR / 2;
        self.finds(&filter().accepted(hours_ago(4)..hours_ago(2)), &[one, two], "two were accepted in this window")
            .await;
        self.finds(&filter().accepted(hours_ago(2)..hours_ago(0)), &[three, four], "two were accepted in this window")
            .await;
        self.finds(&filter().accepted(hours_ago(3)..hours_ago(1)), &[two, three], "two were accepted in this window")
            .await;
        self.finds(&filter().accepted(hours_ago(9)..hours_ago(5)), &[], "nothing was accepted in this window").await;
        self.finds(&filter().accepted(hours_ago(1)..hours_ago(3)), &[], "the window is empty").await;
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let always = SystemTime::UNIX_EPOCH - century..SystemTime::UNIX_EPOCH + 10 * century;
        self.finds(&filter().accepted(always), &ids, "all were accepted in this window").await;
        let recent = filter().accepted(hours_ago(3)..hours_ago(0)).tenant("warung");
        self.finds(&recent, &[two], "one has both").await;
    }

    /// Reads pages of this size, each from the position that the previous page returned.
    pub(super) async fn finds_in_pages(&self, filter: &Filter, size: usize, expected: &[DeliveryId]) {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.answer("find", self.store.find(filter, after, u32::try_from(size).unwrap_or(ALL)).await);
            found.extend(page.entries.iter().map(|entry| entry.id));
            if page.next.is_none() || page.next <= after {
                break;
            }
            after = page.next;
        }
        self.same("find", &found, &expected.to_vec(), &format!("all pages of {size}, for {filter:?}"));
    }

    pub(super) async fn finds_deliveries_in_pages(&self) {
        let mut ids = Vec::new();
        for n in 0..7 {
            let new = delivery(if n % 2 == 0 { "warung" } else { "kedai" }, &n.to_string(), "body");
            ids.push(self.begin(&new).await.id());
        }
        let page = async |filter: &Filter, after: Option<DeliveryId>, limit: u32, expected: &[DeliveryId]| {
            let found: Vec<_> = self.select(filter, after, limit).await.iter().map(|entry| entry.id).collect();
            let why = format!("the limit is {limit}, of {ids:?} after {after:?}, for {filter:?}");
            self.same("find", &found, &expected.to_vec(), &why);
        };
        let all = Filter::new();
        for limit in 1..=8 {
            let mut after = None;
            for chunk in ids.chunks(limit) {
                page(&all, after, u32::try_from(limit).unwrap_or(ALL), chunk).await;
                after = chunk.last().copied();
            }
            page(&all, after, ALL, &[]).await;
            self.finds_in_pages(&all, limit, &ids).await;
        }
        let every_other: Vec<_> = ids.iter().step_by(2).copied().collect();
        let warung = Filter::new().tenant("warung");
        page(&warung, None, 2, &every_other[..2]).await;
        page(&warung, Some(ids[1]), 2, &every_other[1..3]).await;
        page(&warung, Some(ids[5]), 2, &every_other[3..]).await;
        self.finds_in_pages(&warung, 1, &every_other).await;
        self.finds_in_pages(&warung, 2, &every_other).await;
        page(&all, Some(DeliveryId::new(i64::MIN)), u32::MAX, &ids).await;
        page(&all, Some(DeliveryId::new(i64::MAX)), ALL, &[]).await;
    }

    pub(super) async fn dead_letters_only_the_states_named(&self) {
        let leases = self.one_in_each_state().await;
        let ids = leases.map(|lease| lease.id());
        self.dead_letter(&ids, &[], 0, "no state is named").await;
        self.dead_letter(&[], &EVERY_STATE, 0, "no delivery is named").await;
        self.dead_letter(&ids, &[DEAD, DONE], 0, "dead and done deliveries are not pending").await;
        self.dead_letter(&[DeliveryId::new(i64::MAX)], &EVERY_STATE, 0, "no delivery has this id").await;
        self.counts([1, 1, 1, 1], "nothing was dead-lettered").await;
        self.dead_letter(&ids, &[READY], 1, "one is ready").await;
        self.counts([0, 1, 2, 1], "one was dead-lettered").await;
        self.dead_letter(&ids, &[READY, DEAD, DONE], 0, "one is leased").await;
        self.dead_letter(&ids[2..], &EVERY_STATE, 0, "these are dead and done").await;
        self.dead_letter(&ids, &EVERY_STATE, 1, "one is leased").await;
        self.counts([0, 0, 3, 1], "one more was dead-lettered").await;
        let reasons: Vec<_> = self.dead(None, ALL).await.into_iter().map(|entry| entry.reason).collect();
        let expected = ["by hand", "by hand", "dead-lettered"].map(|reason| Some(reason.to_owned()));
        self.same("find", &reasons, &expected.to_vec(), "the last delivery was dead before");

        let [one, two] = ["one", "two"].map(|id| delivery("warung", id, "body"));
        self.accept_all([&one, &two]).await;
        let ready: Vec<_> = self.select(&Filter::new().states([READY]), None, ALL).await;
        let ready: Vec<_> = ready.iter().map(|entry| entry.id).collect();
        self.dead_letter(&ready, &[READY], 2, "both are ready").await;
        self.lease_nothing("both were dead-lettered").await;
        self.show(ready[0], &one, DEAD, 0, "the delivery was dead-lettered before an attempt").await;
    }

    pub(super) async fn dead_letter_by_hand_is_an_ordinary_one(&self) {
        let [first, second] = ["first", "second"].map(|id| delivery("warung", id, "body").with_ordering_keys(&["a"]));
        let first_lease = self.begin(&first).await;
        self.settle(&first_lease, reschedule(KEEP)).await;
        self.accept(&second).await;
        self.lease_nothing("the first blocks the second").await;
        self.dead_letter(&[first_lease.id()], &[READY], 1, "the first is ready").await;
        let second_lease = self.lease_one(&second, "the first is dead, so it does not block").await;
        self.is_known(&delivery("warung", "first", "other body"), &first, "the ledger row stays").await;
        self.settle(&second_lease, done(Duration::ZERO)).await;
        self.retry(first_lease.id()).await;
        let lease = self.lease_one(&first, "the first was retried").await;
        self.dead_letter(&[lease.id()], &[LEASED], 1, "the first is leased").await;
        self.cannot_extend(&lease, "the first is dead").await;
        self.revive(&delivery("warung", "first", "body")).await;
    }

    pub(super) async fn success_replaces_a_dead_letter_by_hand(&self) {
        let [handled, failed] = ["handled", "failed"].map(|id| delivery("warung", id, "body"));
        let [handled_lease, failed_lease] = [self.begin(&handled).await, self.begin(&failed).await];
        self.dead_letter(&[handled_lease.id(), failed_lease.id()], &[LEASED], 2, "both are leased").await;
        self.settle(&handled_lease, done(Duration::ZERO)).await;
        self.settle(&failed_lease, reschedule(HOUR)).await;
        self.show_nothing(handled_lease.id(), "its handler succeeded").await;
        let why = "its handler failed, and the operator has decided";
        self.show(failed_lease.id(), &failed, DEAD, 1, why).await;
        self.settle(&failed_lease, Settlement::Release).await;
        let entry = self.show(failed_lease.id(), &failed, DEAD, 1, why).await;
        self.same("show", &entry.reason.as_deref(), &Some("by hand"), why);
        self.lease_nothing("one is handled, and one is dead").await;
        self.is_known(&delivery("warung", "handled", "body"), &handled, "the delivery is handled").await;
        self.settle(&failed_lease, dead_letter()).await;
        let entry = self.show(failed_lease.id(), &failed, DEAD, 1, "it is dead").await;
        self.same("show", &entry.reason.as_deref(), &Some("dead-lettered"), "the handler has said why");
    }

    /// A worker that stops releases deliveries that it has leased ahead of need.
    pub(super) async fn release_leaves_a_dead_letter_by_hand(&self) {
        let new = delivery("warung", "evt", "body");
        self.accept(&new).await;
        let [lease] = self.lease_as(&AHEAD, [&new], "the delivery is ready").await;
        self.dead_letter(&[lease.id()], &[LEASED], 1, "it is leased").await;
        self.settle(&lease, Settlement::Release).await;
        self.show(lease.id(), &new, DEAD, 0, "an operator has dead-lettered the delivery").await;
        self.retry(lease.id()).await;
        self.lease_one(&new, "the delivery was retried").await;
    }

    pub(super) async fn forgets_only_the_states_named(&self) {
        let leases = self.one_in_each_state().await;
        let ids = leases.map(|lease| lease.id());
        self.forget_these(&ids, &[], 0, "no state is named").await;
        self.forget_these(&[], &EVERY_STATE, 0, "no delivery is named").await;
        self.forget_these(&[DeliveryId::new(i64::MAX)], &EVERY_STATE, 0, "no delivery has this id").await;
        self.counts([1, 1, 1, 1], "nothing was forgotten").await;
        for (n, state) in EVERY_STATE.into_iter().enumerate() {
            let others: Vec<_> = EVERY_STATE.into_iter().filter(|other| *other != state).collect();
            self.forget_these(&ids[n..=n], &others, 0, &format!("the delivery is {state}")).await;
        }
        self.counts([1, 1, 1, 1], "nothing was forgotten").await;
        self.forget_these(&ids, &[DEAD, DONE], 2, "one is dead, and one done").await;
        self.counts([1, 1, 0, 0], "the others were forgotten").await;
        self.forget_these(&ids, &EVERY_STATE, 2, "the others were forgotten before").await;
        self.counts([0, 0, 0, 0], "all were forgotten").await;
        for id in EVERY_STATE.map(DeliveryState::as_str) {
            self.accept_again(&delivery("warung", id, id), "the delivery was forgotten").await;
        }
    }

    pub(super) async fn forgotten_pending_delivery_is_deleted(&self) {
        let [first, second, other] =
            ["first", "second", "other"].map(|id| delivery("warung", id, "body").with_ordering_keys(&["a"]));
        self.accept_all([&first, &second, &other]).await;
        let lease = self.lease_one(&first, "the first blocks the others").await;
        self.forget_these(&[lease.id()], &[LEASED], 1, "it is leased").await;
        self.show_nothing(lease.id(), "the delivery was forgotten").await;
        self.cannot_extend(&lease, "the delivery was forgotten").await;
        self.cannot_start(&lease, "the delivery was forgotten").await;
        self.settles(&lease, done(KEEP), SettleOutcome::Gone, "the delivery was forgotten").await;
        let second_lease = self.lease_one(&second, "the first was deleted, so it does not block").await;
        self.accept_again(&delivery("warung", "first", "body").with_ordering_keys(&["a"]), "it was forgotten").await;
        let ready: Vec<_> = self.select(&Filter::new().states([READY]), None, ALL).await;
        let ready: Vec<_> = ready.iter().map(|entry| entry.id).collect();
        self.forget_these(&ready, &[READY], 2, "two deliveries are ready").await;
        self.settle(&second_lease, done(Duration::ZERO)).await;
        self.advance(LEASE + MARGIN).await;
        self.lease_nothing("all others were forgotten").await;
        self.is_known(&delivery("warung", "second", "body"), &second, "the delivery was handled, not forgotten").await;
        self.counts([0, 0, 0, 0], "all were handled or forgotten").await;
    }
}
