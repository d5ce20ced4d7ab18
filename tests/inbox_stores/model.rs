//! Random calls on a store, and on the reference.

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
    dedupe::{ClaimOutcome, EventKey, Ledger},
    inbox::{Acceptance, DeliveryId, DeliveryState, InboxStore, Lease, Leased},
};

use crate::{
    state::State,
    steps::{STEP, Step, claim, made, steps},
};

/// Runs so many cases of at most so many random calls.
pub(crate) fn holds<S: InboxStore + Ledger>(
    cases: u32,
    most: usize,
    runtime: &Runtime,
    make: impl AsyncFn() -> S,
    advance: &impl AsyncFn(&S, Duration),
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(most), |steps| runtime.block_on(async { Model::new(&make().await, advance).run(&steps).await }))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// A store beside the reference, and what the reference does not decide.
struct Model<'a, S, A> {
    store: &'a S,
    advance: &'a A,
    state: State,
    /// The store's ids, by the reference's. A store tells one when it first leases the delivery.
    ids: BTreeMap<i64, DeliveryId>,
    /// The last token of each.
    tokens: BTreeMap<i64, i64>,
    /// All ever, of the reference and of the store.
    leases: Vec<(Lease, Lease)>,
    /// The times by which a window may go.
    times: BTreeMap<EventKey, Vec<Duration>>,
    /// Those whose reason is told: the last call on them gave one.
    reasons: BTreeSet<i64>,
    accepted: usize,
}

type Checked = Result<(), TestCaseError>;

impl<'a, S: InboxStore + Ledger, A: AsyncFn(&S, Duration)> Model<'a, S, A> {
    fn new(store: &'a S, advance: &'a A) -> Self {
        Self {
            store,
            advance,
            state: State::default(),
            ids: BTreeMap::new(),
            tokens: BTreeMap::new(),
            leases: Vec::new(),
            times: BTreeMap::new(),
            reasons: BTreeSet::new(),
            accepted: 0,
        }
    }

    async fn run(mut self, steps: &[Step]) -> Checked {
        for (n, step) in steps.iter().enumerate() {
            let at = |error| TestCaseError::fail(format!("after step {n}, {step:?}: {error}"));
            self.take(step).await.map_err(at)?;
            self.compare().await.map_err(at)?;
        }
        for (id, there) in &self.ids {
            let found = self.store.show(*there).await.unwrap();
            prop_assert_eq!(found.is_some(), self.state.deliveries.contains_key(id), "in the end, {}", there);
        }
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Checked {
        match *step {
            Step::Accept { key, body, any_body, ordering, retention } => {
                self.accepted += 1;
                let new = made(key, body, any_body, ordering, self.accepted);
                let key = *new.claim().key();
                let (now, had_row) = (self.state.now, self.state.row(&key).is_some());
                let found = self.store.accept(&new, retention).await.unwrap();
                let expected = self.state.accept(&new, retention);
                same_acceptance(&found, &expected)?;
                match expected {
                    Acceptance::Accepted => drop(self.times.insert(key, vec![now])),
                    Acceptance::Revived => {
                        self.times.entry(key).or_default().push(now);
                        let id = self.state.id_of(&key).expect("it was revived");
                        self.reasons.remove(&id);
                    }
                    _ if !had_row && self.state.row(&key).is_some() => self.times.entry(key).or_default().push(now),
                    _ => {}
                }
            }
            Step::Lease { limit, time, max_attempts } => {
                let leased = self.store.lease(limit, time, max_attempts).await.unwrap();
                self.leased(&leased, limit, time, max_attempts).await?;
            }
            Step::Extend { which, time } => {
                let Some((here, there)) = self.lease(which) else { return Ok(()) };
                prop_assert_eq!(self.store.extend(&there, time).await.unwrap(), self.state.extend(&here, time));
            }
            Step::Finish { which, keep } => {
                let Some((here, there)) = self.lease(which) else { return Ok(()) };
                prop_assert_eq!(self.store.finish(&there, keep).await.unwrap(), self.state.finish(&here, keep));
            }
            Step::Postpone { which, pause } => {
                let Some((here, there)) = self.lease(which) else { return Ok(()) };
                let reason = format!("postponed by {which}");
                let expected = self.state.postpone(&here, pause, &reason);
                prop_assert_eq!(self.store.postpone(&there, pause, &reason).await.unwrap(), expected);
                if expected {
                    self.reasons.insert(here.id().get());
                }
            }
            Step::Bury { which } => {
                let Some((here, there)) = self.lease(which) else { return Ok(()) };
                let reason = format!("buried by {which}");
                let expected = self.state.bury(&here, &reason);
                prop_assert_eq!(self.store.bury(&there, &reason).await.unwrap(), expected);
                if expected {
                    self.reasons.insert(here.id().get());
                }
            }
            Step::GiveBack { which } => {
                let Some((here, there)) = self.lease(which) else { return Ok(()) };
                let expected = self.state.give_back(&here);
                prop_assert_eq!(self.store.give_back(&there).await.unwrap(), expected);
            }
            Step::Retry { which } => {
                let Some((here, there)) = self.lease(which) else { return Ok(()) };
                let expected = self.state.retry(here.id().get());
                prop_assert_eq!(self.store.retry(there.id()).await.unwrap(), expected);
                if expected {
                    self.reasons.remove(&here.id().get());
                }
            }
            Step::Dead { after, limit } => {
                let after = after.and_then(|which| self.lease(which));
                let there = after.map(|(_, there)| there.id());
                let found = self.store.dead(there, limit).await.unwrap();
                prop_assert!(found.iter().all(|entry| entry.body.is_none() && entry.state == DeliveryState::Dead));
                let found: Vec<_> = found.iter().map(|entry| entry.id).collect();
                let expected = self.state.dead(after.map(|(here, _)| here.id().get()), limit);
                let expected: Vec<_> = expected.iter().map(|id| self.ids[id]).collect();
                prop_assert_eq!(found, expected);
            }
            Step::Backlog { limit } => {
                let [ready, leased, ..] = self.state.counts();
                prop_assert_eq!(self.store.backlog(limit).await.unwrap(), limit.min(ready + leased));
            }
            Step::ForgetEvent { key } => {
                let event = *claim(key, 0).event();
                let expected = self.state.forget(|claim, _| *claim.event() == event);
                prop_assert_eq!(self.store.forget_event(&event).await.unwrap(), expected);
            }
            Step::ForgetAccepted { start, end } => self.forget_accepted(start, end).await?,
            Step::Claim { key, token, lease } => {
                let claim = claim(key, token);
                let was_there = self.state.row(claim.key()).is_some() || self.state.id_of(claim.key()).is_some();
                let found = self.store.claim(&claim, lease).await.unwrap();
                let expected = self.state.claim(&claim, lease);
                same_outcome(&found, &expected)?;
                if expected == ClaimOutcome::Claimed {
                    let times = self.times.entry(*claim.key()).or_default();
                    if !was_there {
                        times.clear();
                    }
                    times.push(self.state.now);
                }
            }
            Step::Complete { key, token, retention } => {
                let claim = claim(key, token);
                let expected = self.state.complete(&claim, retention);
                prop_assert_eq!(self.store.complete(&claim, retention).await.unwrap(), expected);
            }
            Step::Release { key, token } => {
                self.store.release(&claim(key, token)).await.unwrap();
                self.state.release(&claim(key, token));
            }
            Step::ForgetInLedger { key } => {
                let event = *claim(key, 0).event();
                let expected = self.state.forget_rows(|row| *row.claim.event() == event);
                prop_assert_eq!(self.store.forget(&event).await.unwrap(), expected);
            }
            Step::Pass { time, limit } => {
                (self.advance)(self.store, time).await;
                self.state.now += time;
                loop {
                    let expected = self.state.purge_done(limit);
                    prop_assert_eq!(self.store.purge_done(limit).await.unwrap(), expected);
                    if expected == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// From the last one back.
    fn lease(&self, which: usize) -> Option<(Lease, Lease)> {
        self.leases.iter().rev().nth(which).copied()
    }

    /// What one clock tells apart, and what the contract leaves open, may come in any order, or be left for the next call:
    ///
    /// - whether a burial uses up what was asked for, and whether what it frees is leased by the same call;
    /// - whether one that has its old place again is leased while one behind it is.
    async fn leased(&mut self, leased: &[Leased], limit: u32, time: Duration, max_attempts: u32) -> Checked {
        let state = &mut self.state;
        let mut ids = Vec::new();
        for leased in leased {
            let is_this = |(_, delivery): &(&i64, &crate::state::Delivery)| {
                delivery.request.head() == leased.head() && delivery.request.body() == leased.body()
            };
            let Some((id, _)) = state.deliveries.iter().find(is_this) else {
                return Err(TestCaseError::fail(format!("{leased:?} was not accepted, or is gone")));
            };
            ids.push(*id);
        }
        let is_behind = |id: i64| {
            let delivery = &state.deliveries[&id];
            let behind = state.deliveries.range(id + 1..);
            behind.map(|(_, behind)| behind).any(|b| b.is(DeliveryState::Leased) && b.shares_a_key_with(delivery))
        };
        let due = state.due();
        let (to_bury, to_lease): (Vec<i64>, Vec<i64>) =
            due.iter().partition(|id| state.is_to_be_buried(**id, max_attempts));
        let must_lease: Vec<i64> = to_lease.into_iter().filter(|id| !is_behind(*id)).collect();
        let must_bury: Vec<i64> = to_bury.into_iter().filter(|id| !is_behind(*id)).collect();
        let may_bury = state
            .deliveries
            .keys()
            .copied()
            .filter(|id| state.is_to_be_buried(*id, max_attempts) && state.deliveries[id].due <= state.now);
        let mut buried = Vec::new();
        for id in may_bury.collect::<Vec<_>>() {
            let entry = self.store.show(self.ids[&id]).await.unwrap();
            if entry.is_some_and(|entry| entry.state == DeliveryState::Dead) {
                buried.push(id);
                self.reasons.remove(&id);
            }
        }
        let skipped: Vec<i64> = must_lease.iter().copied().filter(|id| !ids.contains(id)).collect();
        let dues = |ids: &[i64]| ids.iter().map(|id| state.deliveries[id].due).collect::<Vec<_>>();
        let (leased_dues, skipped_dues) = (dues(&ids), dues(&skipped));
        state.bury_those_who_died(&buried);
        let may_lease = state.due();
        let all = ids.iter().all(|id| may_lease.contains(id));
        prop_assert!(all, "{:?} were leased, of which only {:?} can be", ids, may_lease);
        prop_assert!(ids.len() <= limit as usize, "{} were leased, and {} asked for", ids.len(), limit);
        prop_assert!(leased_dues.is_sorted(), "those leased are due at {:?}", leased_dues);
        if ids.len() + buried.len() < limit as usize {
            prop_assert!(skipped.is_empty(), "{:?} were not leased", skipped);
            prop_assert!(
                must_bury.iter().all(|id| buried.contains(id)),
                "of {:?} only {:?} are dead",
                must_bury,
                buried
            );
        }
        if let (Some(last), Some(skipped)) = (leased_dues.last(), skipped_dues.first()) {
            prop_assert!(last <= skipped, "one due at {:?} was leased before one due at {:?}", last, skipped);
        }

        for (here, leased) in state.lease_these(&ids, time).into_iter().zip(leased) {
            let (id, there) = (here.id().get(), *leased.lease());
            self.reasons.remove(&id);
            prop_assert_eq!(there.attempt(), here.attempt());
            let known = *self.ids.entry(id).or_insert(there.id());
            prop_assert_eq!(known, there.id(), "it has another id");
            let last = self.tokens.insert(id, there.token());
            prop_assert!(last.is_none_or(|last| last < there.token()), "{:?} came after token {:?}", there, last);
            self.leases.push((here, there));
        }
        let ids: Vec<_> = self.ids.values().collect();
        prop_assert!(ids.is_sorted_by(|one, next| one < next), "{:?} were accepted in this order", self.ids);
        Ok(())
    }

    /// Nothing is asked when the contract leaves open by which time a key's window goes.
    async fn forget_accepted(&mut self, start: Duration, end: Duration) -> Checked {
        let now = self.state.now;
        let is_in = |time: &Duration| now - *time <= start && now - *time > end;
        for times in self.times.values() {
            if times.iter().any(is_in) && !times.iter().all(is_in) {
                return Ok(());
            }
        }
        let expected = self.state.forget(|_, time| is_in(&time));
        let wall = SystemTime::now();
        prop_assert_eq!(self.store.forget_accepted(wall - start..wall - end).await.unwrap(), expected);
        Ok(())
    }

    /// What can be looked at without changing it.
    async fn compare(&self) -> Checked {
        let counts = self.store.counts().await.unwrap();
        prop_assert_eq!([counts.ready, counts.leased, counts.dead, counts.done], self.state.counts());
        let is_open = |key: &EventKey| self.times.get(key).is_some_and(|times| times.len() > 1);
        if !self.state.deliveries.values().any(|delivery| is_open(delivery.request.claim().key())) {
            let (found, expected) = (counts.oldest, self.state.oldest());
            prop_assert_eq!(found.is_some(), expected.is_some(), "the oldest");
            let off = found.unwrap_or_default().abs_diff(expected.unwrap_or_default());
            prop_assert!(off < Duration::from_secs(STEP / 2), "the oldest: {:?}, not {:?}", found, expected);
        }
        for (id, delivery) in &self.state.deliveries {
            let Some(there) = self.ids.get(id) else { continue };
            let Some(entry) = self.store.show(*there).await.unwrap() else {
                return Err(TestCaseError::fail(format!("{delivery:?} is gone")));
            };
            prop_assert_eq!((entry.state, entry.attempts), (delivery.state, delivery.attempts), "{:?}", delivery);
            prop_assert_eq!(entry.body.as_ref(), Some(delivery.request.body()));
            if self.reasons.contains(id) {
                prop_assert_eq!(&entry.reason, &delivery.reason);
            }
        }
        Ok(())
    }
}

fn same_acceptance(found: &Acceptance, expected: &Acceptance) -> Checked {
    match (found, expected) {
        (
            Acceptance::InFlight { digest, remaining },
            Acceptance::InFlight { digest: digest_expected, remaining: remaining_expected },
        ) => {
            prop_assert_eq!(digest, digest_expected);
            nearly(*remaining, *remaining_expected)
        }
        _ => {
            prop_assert_eq!(found, expected);
            Ok(())
        }
    }
}

fn same_outcome(found: &ClaimOutcome, expected: &ClaimOutcome) -> Checked {
    match (found, expected) {
        (
            ClaimOutcome::InFlight { digest, remaining },
            ClaimOutcome::InFlight { digest: digest_expected, remaining: remaining_expected },
        ) => {
            prop_assert_eq!(digest, digest_expected);
            nearly(*remaining, *remaining_expected)
        }
        _ => {
            prop_assert_eq!(found, expected);
            Ok(())
        }
    }
}

/// Time passes by itself as well.
fn nearly(found: Duration, expected: Duration) -> Checked {
    let off = found.abs_diff(expected);
    prop_assert!(off < Duration::from_secs(STEP / 2), "{:?} remain, not {:?}", found, expected);
    Ok(())
}
