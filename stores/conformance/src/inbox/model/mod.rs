//! Random calls on a store and on the reference, with a comparison of their results.

mod leased;
mod order;
mod same;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;
use tower_klikit::{
    dedupe::{Claim, Ledger, LedgerSelection},
    inbox::{
        Acceptance, DeliveryId, DeliveryState, Filter, InboxAdmin, InboxStore, Lease, LeaseRequest, SettleOutcome,
        Settlement, ShowBody,
    },
};

use self::same::{nearly, same_acceptance, same_history, same_outcome};
use super::{
    state::{Delivery, ReferenceInbox},
    steps::{InboxStep, WORKERS, Which, claim, made, steps},
};
use crate::random::Comparison;

/// Makes random calls on the store and on a reference, and compares the results. There are `cases` cases, each of which makes up to
/// `most` calls on an empty store.
///
/// `make` and `advance` are as for [`check`](super::check).
///
/// # Panics
///
/// If a result of the store differs. The message contains the shortest series of calls that shows the difference.
pub fn compare<S: InboxStore + InboxAdmin + Ledger>(
    cases: u32,
    most: usize,
    runtime: &Runtime,
    make: impl AsyncFn() -> S,
    advance: &impl AsyncFn(&S, Duration),
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(most), |steps| runtime.block_on(async { run(&make().await, advance, &steps).await }))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

pub(super) async fn run<S: InboxStore + InboxAdmin + Ledger>(
    store: &S,
    advance: &impl AsyncFn(&S, Duration),
    steps: &[InboxStep],
) -> Comparison {
    Model::new(store, advance).run(steps).await
}

/// A store, the reference, and the values that the store may choose freely.
struct Model<'a, S, A> {
    store: &'a S,
    advance: &'a A,
    reference: ReferenceInbox,
    /// The store's id of each delivery, by the reference's id. The store's id is unknown until the store first leases or lists
    /// the delivery.
    ids: BTreeMap<i64, DeliveryId>,
    /// The token of the store's last lease of each delivery, by the reference's id.
    tokens: BTreeMap<i64, i64>,
    /// All leases so far.
    leases: Vec<LeasePair>,
    /// The reference's ids of deliveries whose reason the contract determines, because the last call on them set it.
    reasons: BTreeSet<i64>,
    /// The number of calls that accept a delivery so far.
    accepted: usize,
}

/// The reference's lease of a delivery, and the store's lease of the same delivery.
#[derive(Clone, Copy)]
struct LeasePair {
    reference: Lease,
    store: Lease,
}

impl<'a, S: InboxStore + InboxAdmin + Ledger, A: AsyncFn(&S, Duration)> Model<'a, S, A> {
    fn new(store: &'a S, advance: &'a A) -> Self {
        Self {
            store,
            advance,
            reference: ReferenceInbox::default(),
            ids: BTreeMap::new(),
            tokens: BTreeMap::new(),
            leases: Vec::new(),
            reasons: BTreeSet::new(),
            accepted: 0,
        }
    }

    async fn run(mut self, steps: &[InboxStep]) -> Comparison {
        for (n, step) in steps.iter().enumerate() {
            let at = |error| TestCaseError::fail(format!("after step {n}, {step:?}: {error}"));
            self.take(step).await.map_err(at)?;
            self.compare().await.map_err(at)?;
        }
        for (id, store_id) in &self.ids {
            let found = self.store.show(*store_id, ShowBody::Include).await.unwrap();
            let is_expected = self.reference.deliveries.contains_key(id);
            prop_assert_eq!(found.is_some(), is_expected, "after the last step, {}", store_id);
        }
        Ok(())
    }

    async fn take(&mut self, step: &InboxStep) -> Comparison {
        match step {
            InboxStep::Accept { key, body, same, ordering, revives, retention } => {
                self.accepted += 1;
                let new = made(*key, *body, *same, *ordering, self.accepted);
                let new = if *revives { new } else { new.without_reviving() };
                let found = self.store.accept(&new, *retention).await.unwrap();
                let expected = self.reference.accept(&new, *retention);
                same_acceptance(&found, &expected)?;
                if expected == Acceptance::Revived {
                    let id = self.reference.id_of(new.claim().key()).expect("the delivery was revived");
                    self.reasons.remove(&id);
                }
            }
            InboxStep::Lease { limit, free_handlers, duration, max_attempts, held, worker } => {
                let [limit, free_handlers, max_attempts] = [*limit, *free_handlers, *max_attempts];
                let (held, held_by_store) = self.leases_of(held);
                let (duration, worker) = (*duration, WORKERS[*worker]);
                let request = LeaseRequest { limit, free_handlers, duration, max_attempts, held: &held, worker };
                self.lease(&request, &held_by_store).await?;
            }
            InboxStep::Start { which, worker } => {
                let (leases, store_leases) = self.leases_of(which);
                let worker = WORKERS[*worker];
                let expected: Vec<bool> = leases.iter().map(|lease| self.reference.start(lease, worker)).collect();
                prop_assert_eq!(self.store.start(&store_leases, worker).await.unwrap(), expected);
            }
            InboxStep::Extend { which, duration } => {
                let (leases, store_leases) = self.leases_of(which);
                let expected: Vec<bool> = leases.iter().map(|lease| self.reference.extend(lease, *duration)).collect();
                prop_assert_eq!(self.store.extend(&store_leases, *duration).await.unwrap(), expected);
            }
            InboxStep::Settle { settlements } => self.settle(settlements).await?,
            InboxStep::Requeue { which, states } => {
                let (ids, store_ids) = self.deliveries_of(which);
                let expected = self.reference.requeue(&ids, states);
                prop_assert_eq!(self.store.requeue(&store_ids, states).await.unwrap(), expected);
            }
            InboxStep::Find { filter, after, size } => {
                let after = after.and_then(|which| self.lease_of(which));
                self.find(filter, after, *size).await?;
            }
            InboxStep::DeadLetter { which, states } => {
                let (ids, store_ids) = self.deliveries_of(which);
                let is_chosen = |id: &i64| {
                    let delivery = self.reference.deliveries.get(id);
                    delivery.is_some_and(|delivery| delivery.is_pending() && states.contains(&delivery.state))
                };
                self.reasons.extend(ids.iter().copied().filter(is_chosen));
                let expected = self.reference.dead_letter(&ids, states, "by hand");
                prop_assert_eq!(self.store.dead_letter(&store_ids, states, "by hand").await.unwrap(), expected);
            }
            InboxStep::Delete { which, states, ledger } => {
                let (ids, store_ids) = self.deliveries_of(which);
                let expected = self.reference.delete(&ids, states, *ledger);
                prop_assert_eq!(self.store.delete(&store_ids, states, *ledger).await.unwrap(), expected);
            }
            InboxStep::Pause { pause, worker } => {
                let expected = self.reference.pause(pause, WORKERS[*worker]);
                prop_assert_eq!(self.store.pause(pause, WORKERS[*worker]).await.unwrap(), expected);
            }
            InboxStep::Resume { pause } => {
                let expected = self.reference.resume(pause);
                prop_assert_eq!(self.store.resume(pause).await.unwrap(), expected);
            }
            InboxStep::Backlog { limit } => {
                let [ready, leased, ..] = self.reference.counts();
                prop_assert_eq!(self.store.backlog(*limit).await.unwrap(), (ready + leased).min(*limit));
            }
            InboxStep::Stored { limit } => {
                let expected = (self.reference.deliveries.len() as u64).min(*limit);
                prop_assert_eq!(self.store.stored(*limit).await.unwrap(), expected);
            }
            InboxStep::EvictDone { limit } => self.evict_done(*limit).await?,
            InboxStep::PurgeDead { age, limit } => {
                let expected = self.reference.purge_dead(*age, *limit);
                prop_assert_eq!(self.store.purge_dead(*age, *limit).await.unwrap(), expected);
            }
            InboxStep::ForgetEvent { key } => {
                let event = *claim(*key, 0).event();
                let is_selected = |claim: &Claim, _| *claim.event() == event;
                self.forget_keys(&event.into(), is_selected).await?;
            }
            InboxStep::ForgetAccepted { start, end } => {
                let (now, wall) = (self.reference.now, SystemTime::now());
                let is_in_window = |time: Duration| now - time <= *start && now - time > *end;
                self.forget_keys(&(wall - *start..wall - *end).into(), |_, time| is_in_window(time)).await?;
            }
            InboxStep::Advance { time, limit } => {
                (self.advance)(self.store, *time).await;
                self.reference.now += *time;
                loop {
                    let expected = self.reference.purge_done(*limit);
                    prop_assert_eq!(self.store.purge_done(*limit).await.unwrap(), expected);
                    if expected == 0 {
                        break;
                    }
                }
            }
            _ => self.take_in_ledger(step).await?,
        }
        Ok(())
    }

    /// Counts the keys, and forgets them.
    async fn forget_keys(
        &mut self,
        selection: &LedgerSelection,
        is_selected: impl Fn(&Claim, Duration) -> bool,
    ) -> Comparison {
        let counted = self.store.count_keys(selection).await.unwrap();
        prop_assert_eq!(counted, self.reference.forgettable(&is_selected).len() as u64);
        let forgotten = self.store.forget_keys(selection).await.unwrap();
        prop_assert_eq!(forgotten, self.reference.forget(is_selected));
        Ok(())
    }

    async fn take_in_ledger(&mut self, step: &InboxStep) -> Comparison {
        let ReferenceInbox { now, ledger, .. } = &mut self.reference;
        let now = *now;
        match step {
            InboxStep::ForgetClaimed { start, end } => {
                let wall = SystemTime::now();
                let is_in_window = |time: Duration| now - time <= *start && now - time > *end;
                let expected = ledger.forget(now, |row| is_in_window(row.claimed_at));
                prop_assert_eq!(self.store.forget(&(wall - *start..wall - *end).into()).await.unwrap(), expected);
            }
            InboxStep::Claim { key, token, terms } => {
                let claim = claim(*key, *token);
                let found = self.store.claim(&claim, terms).await.unwrap();
                same_outcome(&found, &ledger.claim(&claim, terms, now))?;
            }
            InboxStep::Complete { key, token, retention } => {
                let claim = claim(*key, *token);
                let expected = ledger.complete(&claim, *retention, now);
                prop_assert_eq!(self.store.complete(&claim, *retention).await.unwrap(), expected);
            }
            InboxStep::Release { key, token } => {
                self.store.release(&claim(*key, *token)).await.unwrap();
                ledger.release(&claim(*key, *token), now);
            }
            InboxStep::ForgetInLedger { key } => {
                let event = *claim(*key, 0).event();
                let expected = ledger.forget(now, |row| row.is_of(&event));
                prop_assert_eq!(self.store.forget(&event.into()).await.unwrap(), expected);
            }
            _ => unreachable!("`take` handles the steps of the inbox"),
        }
        Ok(())
    }

    async fn settle(&mut self, settlements: &[(Which, Settlement)]) -> Comparison {
        let mut chosen: Vec<(Lease, Settlement)> = Vec::new();
        let mut sent: Vec<(Lease, Settlement)> = Vec::new();
        for (which, settlement) in settlements {
            // The contract allows each lease once in a call.
            if let Some(LeasePair { reference, store }) = self.lease_of(*which)
                && chosen.iter().all(|(lease, _)| *lease != reference)
            {
                chosen.push((reference, settlement.clone()));
                sent.push((store, settlement.clone()));
            }
        }
        let mut expected = Vec::new();
        for (lease, settlement) in &chosen {
            let id = lease.id().get();
            let was_done = self.reference.deliveries.get(&id).is_some_and(|delivery| delivery.is(DeliveryState::Done));
            expected.push(self.reference.settle(lease, settlement));
            let sets_a_reason = !matches!(settlement, Settlement::Release) && !was_done;
            if expected.last() == Some(&SettleOutcome::Settled) && sets_a_reason {
                self.reasons.insert(id);
            }
        }
        prop_assert_eq!(self.store.settle(&sent).await.unwrap(), expected);
        Ok(())
    }

    /// Lists all deliveries that the filter selects after the delivery of `after`, in pages of this size.
    async fn find(&mut self, filter: &Filter, after: Option<LeasePair>, size: u32) -> Comparison {
        let Filter { states, tenant, order, .. } = filter;
        let is_selected = |(id, delivery): &(&i64, &Delivery)| {
            states.as_ref().is_none_or(|states| states.contains(&delivery.state))
                && tenant.as_ref().is_none_or(|tenant| delivery.request.tenant() == tenant)
                && order.as_ref().is_none_or(|order| delivery.request.terms().contains(order))
                && after.is_none_or(|after| **id > after.reference.id().get())
        };
        let expected: Vec<i64> = self.reference.deliveries.iter().filter(is_selected).map(|(id, _)| *id).collect();
        let mut found = Vec::new();
        let mut last = after.map(|after| after.store.id());
        loop {
            let page = self.store.find(filter, last, size).await.unwrap();
            prop_assert!(page.entries.len() <= size as usize, "{:?}", page);
            found.extend(page.entries);
            prop_assert!(page.next.is_none_or(|next| Some(next) > last), "{:?} after {:?}", page.next, last);
            last = page.next;
            if last.is_none() {
                break;
            }
        }
        prop_assert_eq!(found.len(), expected.len(), "{:?}, not {:?}", found, expected);
        for (id, entry) in expected.iter().zip(found) {
            prop_assert_eq!(*self.ids.entry(*id).or_insert(entry.id), entry.id);
            let delivery = &self.reference.deliveries[id];
            prop_assert_eq!((entry.state, entry.digest), (delivery.state, Some(delivery.digest())));
            prop_assert_eq!((&*entry.terms, entry.has_body), (delivery.request.terms(), delivery.has_body));
            nearly(entry.age, self.reference.now - delivery.accepted)?;
            prop_assert!(entry.body.is_none() && entry.history.is_empty(), "{:?}", entry);
        }
        Ok(())
    }

    /// Evicts kept deliveries. If the time of two is over at the same moment, the store may evict either first.
    async fn evict_done(&mut self, limit: u32) -> Comparison {
        let kept = self.reference.kept();
        let expected = kept.len().min(limit as usize);
        prop_assert_eq!(self.store.evict_done(limit).await.unwrap(), expected as u64);
        let mut gone = Vec::new();
        for id in &kept {
            if self.store.show(self.ids[id], ShowBody::Omit).await.unwrap().is_none() {
                gone.push(*id);
            }
        }
        prop_assert_eq!(gone.len(), expected, "{:?} of {:?} are gone", gone, kept);
        let end_times = |ids: &[i64]| ids.iter().map(|id| self.reference.deliveries[id].due).collect::<Vec<_>>();
        prop_assert_eq!(end_times(&gone), end_times(&kept[..expected]), "{:?} of {:?} are gone", gone, kept);
        self.reference.remove(&gone);
        Ok(())
    }

    /// Returns a lease, counted back from the last one.
    fn lease_of(&self, which: Which) -> Option<LeasePair> {
        self.leases.iter().rev().nth(which).copied()
    }

    /// Returns the reference's and the store's ids of the deliveries of these leases, each once.
    fn deliveries_of(&self, which: &[Which]) -> (Vec<i64>, Vec<DeliveryId>) {
        let leases = which.iter().filter_map(|which| self.lease_of(*which));
        let ids: BTreeMap<_, _> = leases.map(|pair| (pair.reference.id().get(), pair.store.id())).collect();
        ids.into_iter().unzip()
    }

    /// Returns the reference's leases and the store's leases.
    fn leases_of(&self, which: &[Which]) -> (Vec<Lease>, Vec<Lease>) {
        which.iter().filter_map(|which| self.lease_of(*which)).map(|pair| (pair.reference, pair.store)).unzip()
    }

    async fn compare_pauses(&self) -> Comparison {
        let found = self.store.pauses().await.unwrap();
        let wall = SystemTime::now();
        let pauses = found.iter().map(|active| (&active.pause, &active.operator));
        let expected = self.reference.pauses.iter().map(|(pause, (operator, _))| (pause, operator));
        prop_assert!(pauses.eq(expected), "{:?}, not {:?}", found, self.reference.pauses);
        for (active, (_, since)) in found.iter().zip(self.reference.pauses.values()) {
            nearly(wall.duration_since(active.since).unwrap_or_default(), self.reference.now - *since)?;
        }
        Ok(())
    }

    /// Compares the counts, and all deliveries whose store ids are known.
    async fn compare(&self) -> Comparison {
        let counts = self.store.counts().await.unwrap();
        prop_assert_eq!([counts.ready, counts.leased, counts.dead, counts.done], self.reference.counts());
        let (found, expected) = (counts.oldest, self.reference.oldest());
        prop_assert_eq!(found.is_some(), expected.is_some(), "counts.oldest");
        nearly(found.unwrap_or_default(), expected.unwrap_or_default())?;
        self.compare_pauses().await?;
        let wall = SystemTime::now();
        for (id, delivery) in &self.reference.deliveries {
            let Some(store_id) = self.ids.get(id) else { continue };
            let Some(entry) = self.store.show(*store_id, ShowBody::Include).await.unwrap() else {
                return Err(TestCaseError::fail(format!("{delivery:?} is gone")));
            };
            prop_assert_eq!((entry.state, entry.attempts), (delivery.state, delivery.attempts), "{:?}", delivery);
            prop_assert_eq!((entry.body.as_ref(), entry.has_body), (delivery.body(), delivery.has_body));
            let since = |time: SystemTime| wall.duration_since(time).unwrap_or_default();
            let age = self.reference.now - delivery.accepted;
            nearly(since(entry.accepted_at), age)?;
            nearly(entry.age, age)?;
            prop_assert_eq!(&*entry.terms, delivery.request.terms());
            same_history(&entry.history, &delivery.records(), |time| self.reference.now - time)?;
            if self.reasons.contains(id) {
                prop_assert_eq!(&entry.reason, &delivery.reason);
            }
        }
        Ok(())
    }
}
