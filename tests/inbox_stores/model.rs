//! Random calls on a store, and on the reference.

mod leased;
mod same;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tokio::runtime::Runtime;
use tower_klikit::{
    dedupe::Ledger,
    inbox::{Acceptance, DeliveryId, DeliveryState, InboxStore, Lease},
};

use self::same::{nearly, same_acceptance, same_outcome};
use crate::{
    state::State,
    steps::{Step, claim, made, steps},
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

/// The same, of calls that are the same each time. Whether a store does not do what the reference does.
pub(crate) fn finds<S: InboxStore + Ledger>(
    cases: u32,
    most: usize,
    runtime: &Runtime,
    make: impl AsyncFn() -> S,
    advance: &impl AsyncFn(&S, Duration),
) -> bool {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
        .run(&steps(most), |steps| runtime.block_on(async { Model::new(&make().await, advance).run(&steps).await }))
        .is_err()
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
                let found = self.store.accept(&new, retention).await.unwrap();
                let expected = self.state.accept(&new, retention);
                same_acceptance(&found, &expected)?;
                if expected == Acceptance::Revived {
                    let id = self.state.id_of(new.claim().key()).expect("it was revived");
                    self.reasons.remove(&id);
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
            Step::ForgetAccepted { start, end } => {
                let (now, wall) = (self.state.now, SystemTime::now());
                let is_in = |time: Duration| now - time <= start && now - time > end;
                let expected = self.state.forget(|_, time| is_in(time));
                prop_assert_eq!(self.store.forget_accepted(wall - start..wall - end).await.unwrap(), expected);
            }
            Step::ForgetClaimed { start, end } => {
                let (now, wall) = (self.state.now, SystemTime::now());
                let expected = self.state.forget_rows(|row| now - row.claimed <= start && now - row.claimed > end);
                prop_assert_eq!(self.store.forget_claimed(wall - start..wall - end).await.unwrap(), expected);
            }
            Step::Claim { key, token, lease } => {
                let claim = claim(key, token);
                let found = self.store.claim(&claim, lease).await.unwrap();
                same_outcome(&found, &self.state.claim(&claim, lease))?;
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

    /// What can be looked at without changing it.
    async fn compare(&self) -> Checked {
        let counts = self.store.counts().await.unwrap();
        prop_assert_eq!([counts.ready, counts.leased, counts.dead, counts.done], self.state.counts());
        let (found, expected) = (counts.oldest, self.state.oldest());
        prop_assert_eq!(found.is_some(), expected.is_some(), "the oldest");
        nearly(found.unwrap_or_default(), expected.unwrap_or_default())?;
        let wall = SystemTime::now();
        for (id, delivery) in &self.state.deliveries {
            let Some(there) = self.ids.get(id) else { continue };
            let Some(entry) = self.store.show(*there).await.unwrap() else {
                return Err(TestCaseError::fail(format!("{delivery:?} is gone")));
            };
            prop_assert_eq!((entry.state, entry.attempts), (delivery.state, delivery.attempts), "{:?}", delivery);
            prop_assert_eq!(entry.body.as_ref(), Some(delivery.request.body()));
            nearly(wall.duration_since(entry.accepted_at).unwrap_or_default(), self.state.now - delivery.accepted)?;
            if self.reasons.contains(id) {
                prop_assert_eq!(&entry.reason, &delivery.reason);
            }
        }
        Ok(())
    }
}
