//! Tests that the suite and the model find faulty stores, and that the suite names the broken rule.

mod accept;
mod admin;
mod attempts;
mod count_keys;
mod faults;
mod find;
mod forget;
mod lease;
mod ledger;
mod limits;
mod pauses;
mod reference;
mod settle;
mod sharing;
mod start;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};
use tower_klikit::{
    dedupe::{LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, Counts, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease,
        LeaseBatch, LeaseRequest, LedgerRows, NewDelivery, Page, Pause, SettleOutcome, Settlement, ShowBody,
    },
};

use self::{
    faults::{
        InboxFault::{self, *},
        NOT_FOUND_BY_CHANCE, RULES,
    },
    reference::{ReferenceStore, numbers},
};
use crate::{
    inbox::{self, model, state::ReferenceInbox, steps::steps},
    random::{cases, finds},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn suite_names_each_broken_rule() {
    let mut wrong = Vec::new();
    for (fault, rule) in RULES {
        let make = async || FaultyStore::new(*fault);
        let advance = async |store: &FaultyStore, time: Duration| store.advance(time);
        let found = panic::catch_unwind(AssertUnwindSafe(|| runtime().block_on(inbox::check(make, advance))));
        let message = match found {
            Ok(()) => "nothing".into(),
            Err(panic) => *panic.downcast::<String>().unwrap(),
        };
        if !message.contains(&format!("`{rule}`")) {
            wrong.push(format!("{fault:?}: the suite reported {message}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The random calls are the same in each run, so this test always finds the same faults.
#[test]
fn model_finds_most_faults() {
    let (runtime, cases) = (runtime(), cases(2000, &steps(100)));
    let advance = async |store: &ReferenceStore, time: Duration| store.advance(time);
    let is_found = finds(&cases, |steps| runtime.block_on(model::run(&ReferenceStore::default(), &advance, steps)));
    assert!(!is_found, "the reference differs from itself");
    let advance = async |store: &FaultyStore, time: Duration| store.advance(time);
    let is_missed = |fault: &InboxFault| {
        !finds(&cases, |steps| runtime.block_on(model::run(&FaultyStore::new(*fault), &advance, steps)))
    };
    let faults = RULES.iter().map(|(fault, _)| *fault).filter(|fault| !NOT_FOUND_BY_CHANCE.contains(fault));
    let missed: Vec<_> = faults.filter(is_missed).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// A store that follows the reference except for one fault.
#[derive(Debug)]
struct FaultyStore {
    fault: InboxFault,
    state: Mutex<ReferenceInbox>,
}

impl FaultyStore {
    fn new(fault: InboxFault) -> Self {
        Self { fault, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, ReferenceInbox> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, time: Duration) {
        let mut state = self.state();
        state.now += time;
        let now = state.now;
        match self.fault {
            ExpiredLeasesBecomeReady => {
                let expired = state.deliveries.values_mut().filter(|d| d.has_expired(now));
                expired.for_each(|d| d.make_ready(d.due));
            }
            DeadAreDeletedAfterAMonth => {
                state.deliveries.retain(|_, d| !(d.is(DeliveryState::Dead) && now - d.accepted > 30 * DAY));
            }
            _ => {}
        }
    }
}

impl InboxStore for FaultyStore {
    async fn accept(&self, new: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        let new = &self.stored(new);
        if self.fault == AcceptingIsTwoSteps {
            let key = new.claim().key();
            let is_known = self.state().row(key).is_some() || self.state().id_of(key).is_some();
            yield_now().await;
            if !is_known {
                let mut state = self.state();
                state.ledger.0.remove(key);
                state.deliveries.retain(|_, delivery| delivery.key() != *key);
            }
        }
        if self.fault == IdsAreDrawnEarly {
            let drawn = self.state().draw_id();
            // Let calls overtake each other.
            for _ in 0..drawn % 7 {
                yield_now().await;
            }
            let mut state = self.state();
            let found = state.accept(new, retention);
            if found == Acceptance::Accepted
                && let Some((_, accepted)) = state.deliveries.pop_last()
            {
                state.deliveries.insert(drawn, accepted);
            }
            return Ok(found);
        }
        Ok(self.accepted(&mut self.state(), new, retention))
    }

    async fn lease(&self, request: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        if self.fault == LeasingIsTwoSteps {
            self.state().extend_held(request);
            let due = self.state().due();
            yield_now().await;
            let mut state = self.state();
            let there = due.into_iter().filter(|id| state.deliveries.contains_key(id)).collect();
            let (leases, dead_lettered) = state.lease_due(there, request);
            return Ok(state.batch(leases, dead_lettered));
        }
        let mut state = self.state();
        let before = state.clone();
        let mut batch = self.leased(&mut state, request);
        self.lease_after(&before, &mut state, request, &mut batch);
        Ok(batch)
    }

    async fn start(&self, leases: &[Lease], worker: &str) -> Result<Vec<bool>, StoreError> {
        if self.fault == StartingIsTwoSteps {
            return Ok(self.started_in_two_steps(leases, worker).await);
        }
        let mut state = self.state();
        let before = (self.fault == StartsAllOrNone).then(|| state.clone());
        let mut started = Vec::new();
        for (n, lease) in leases.iter().enumerate() {
            let is_skipped = match self.fault {
                StartsOnlyTheFirst => n > 0,
                StartsUntilOneFails => started.contains(&false),
                _ => false,
            };
            started.push(!is_skipped && self.started(&mut state, lease, worker));
        }
        match self.fault {
            StartsAllOrNone if started.contains(&false) => {
                *state = before.expect("it was cloned");
                started.fill(false);
            }
            StartsAreAnsweredBackwards => started.reverse(),
            StartingNothingFails if leases.is_empty() => return Err(StoreError::new("nothing to start")),
            _ => {}
        }
        Ok(started)
    }

    async fn extend(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        let mut state = self.state();
        let before = (self.fault == ExtendsAllOrNone).then(|| state.clone());
        let mut extended = Vec::new();
        for (n, lease) in leases.iter().enumerate() {
            let is_skipped = match self.fault {
                ExtendsOnlyTheFirst => n > 0,
                ExtendsUntilOneFails => extended.contains(&false),
                _ => false,
            };
            extended.push(!is_skipped && self.extended(&mut state, lease, duration));
        }
        match self.fault {
            ExtendsAllOrNone if extended.contains(&false) => {
                *state = before.expect("it was cloned");
                extended.fill(false);
            }
            ExtensionsAreAnsweredBackwards => extended.reverse(),
            ExtendingNothingFails if leases.is_empty() => return Err(StoreError::new("nothing to extend")),
            _ => {}
        }
        Ok(extended)
    }

    async fn settle(&self, settlements: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        if self.fault == SettlingIsTwoSteps || self.fault == LateSettlementIsTwoSteps {
            return Ok(self.settled_in_two_steps(settlements).await);
        }
        let mut state = self.state();
        let before = (self.fault == SettlesAllOrNone).then(|| state.clone());
        let is_not_settled = |outcome: &SettleOutcome| *outcome != SettleOutcome::Settled;
        let mut settled = Vec::new();
        for (n, (lease, settlement)) in settlements.iter().enumerate() {
            let is_skipped = match self.fault {
                SettlesOnlyTheFirst => n > 0,
                SettlesUntilOneFails => settled.iter().any(is_not_settled),
                _ => false,
            };
            settled.push(if is_skipped {
                SettleOutcome::Superseded
            } else {
                self.settled(&mut state, lease, settlement)
            });
        }
        match self.fault {
            SettlesAllOrNone if settled.contains(&SettleOutcome::Settled) && settled.iter().any(is_not_settled) => {
                *state = before.expect("it was cloned");
                settled.fill(SettleOutcome::Superseded);
            }
            SettlementsAreAnsweredBackwards => settled.reverse(),
            SettlingNothingFails if settlements.is_empty() => return Err(StoreError::new("nothing to settle")),
            _ => {}
        }
        Ok(settled)
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(self.backlog_of(&self.state(), limit))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.counted(&self.state()))
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.purged(&mut self.state(), limit))
    }

    async fn stored(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(self.stored_of(&self.state(), limit))
    }

    async fn evict_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.evicted(&mut self.state(), limit))
    }

    async fn purge_dead(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        Ok(self.purged_dead(&mut self.state(), age, limit))
    }
}

impl InboxAdmin for FaultyStore {
    async fn find(&self, filter: &Filter, after: Option<DeliveryId>, limit: u32) -> Result<Page, StoreError> {
        Ok(self.page(&self.state(), filter, after, limit))
    }

    async fn show(&self, id: DeliveryId, body: ShowBody) -> Result<Option<Entry>, StoreError> {
        Ok(self.shown(&self.state(), id.get(), body))
    }

    async fn requeue(&self, ids: &[DeliveryId], states: &[DeliveryState]) -> Result<u64, StoreError> {
        Ok(self.requeued(&mut self.state(), &numbers(ids), states))
    }

    async fn dead_letter(&self, ids: &[DeliveryId], states: &[DeliveryState], reason: &str) -> Result<u64, StoreError> {
        Ok(self.dead_lettered(&mut self.state(), &numbers(ids), states, reason))
    }

    async fn delete(
        &self,
        ids: &[DeliveryId],
        states: &[DeliveryState],
        ledger: LedgerRows,
    ) -> Result<u64, StoreError> {
        Ok(self.deleted(&mut self.state(), &numbers(ids), states, ledger))
    }

    async fn count_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        Ok(self.counted_keys(&mut self.state(), selection))
    }

    async fn forget_keys(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let mut state = self.state();
        Ok(match selection {
            LedgerSelection::Event(event) => self.forgotten(&mut state, event),
            LedgerSelection::Claimed(window) => self.forgotten_in(&mut state, window),
        })
    }

    async fn pause(&self, pause: &Pause, operator: &str) -> Result<u64, StoreError> {
        Ok(self.paused(&mut self.state(), pause, operator))
    }

    async fn resume(&self, pause: &Pause) -> Result<bool, StoreError> {
        Ok(self.resumed(&mut self.state(), pause))
    }

    async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        Ok(self.listed_pauses(&self.state()))
    }
}
