//! The suite finds a store that breaks a rule, and says which.

mod accepting;
mod ending;
mod forgetting;
mod leasing;
mod ledger;
mod operating;

use std::{
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};
use tower_klikit::{
    dedupe::{EventKey, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, DeliveryState, Entry, InboxStore, Lease, Leased, NewDelivery},
    testing::inbox,
};

use self::leasing::lease_of;
use crate::{
    faults::{Fault, Fault::*, NOT_FOUND_BY_CHANCE, RULES},
    model,
    reference::Reference,
    state::{Delivery, State},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn every_fault_is_found() {
    let mut wrong = Vec::new();
    for (fault, rule) in RULES {
        let make = async || Broken::new(*fault);
        let advance = async |store: &Broken, time: Duration| store.pass(time);
        let found = panic::catch_unwind(AssertUnwindSafe(|| runtime().block_on(inbox::check(make, advance))));
        let message = match found {
            Ok(()) => "nothing".into(),
            Err(panic) => *panic.downcast::<String>().unwrap(),
        };
        if !message.contains(&format!("`{rule}`")) {
            wrong.push(format!("{fault:?}: the suite said {message}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The calls are the same each time, and so is what they find.
#[test]
fn random_calls_find_most_faults() {
    const CASES: u32 = 192;
    const MOST: usize = 100;
    let advance = async |store: &Reference, time: Duration| store.pass(time);
    let is_found = model::finds(CASES, MOST, &runtime(), async || Reference::default(), &advance);
    assert!(!is_found, "the reference does not do what the reference does");
    let advance = async |store: &Broken, time: Duration| store.pass(time);
    let is_missed = |fault: &Fault| !model::finds(CASES, MOST, &runtime(), async || Broken::new(*fault), &advance);
    let faults = RULES.iter().map(|(fault, _)| *fault).filter(|fault| !NOT_FOUND_BY_CHANCE.contains(fault));
    let missed: Vec<_> = faults.filter(is_missed).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// The reference with one fault.
#[derive(Debug)]
struct Broken {
    fault: Fault,
    state: Mutex<State>,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self { fault, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.now += time;
        let now = state.now;
        match self.fault {
            LapsedLeasesAreNobodys => {
                let lapsed = |d: &Delivery| d.is(DeliveryState::Leased) && d.due <= now;
                state.deliveries.values_mut().filter(|d| lapsed(d)).for_each(|d| d.make_ready(d.due));
            }
            TheDeadGoInTheEnd => {
                state.deliveries.retain(|_, d| !(d.is(DeliveryState::Dead) && now - d.accepted > 30 * DAY));
            }
            _ => {}
        }
    }
}

impl InboxStore for Broken {
    async fn accept(&self, new: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        let new = &self.seen(new);
        if self.fault == AcceptingIsTwoSteps {
            let key = new.claim().key();
            let is_known = self.state().row(key).is_some() || self.state().id_of(key).is_some();
            yield_now().await;
            if !is_known {
                let mut state = self.state();
                state.ledger.remove(new.claim().key());
                state.deliveries.retain(|_, delivery| delivery.request.claim().key() != new.claim().key());
            }
        }
        if self.fault == IdsAreDrawnEarly {
            let drawn = self.state().draw_id();
            // Some are faster than others.
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

    async fn lease(&self, limit: u32, time: Duration, max_attempts: u32) -> Result<Vec<Leased>, StoreError> {
        if self.fault == LeasingIsTwoSteps {
            let due = self.state().due();
            yield_now().await;
            let mut state = self.state();
            let there = due.into_iter().filter(|id| state.deliveries.contains_key(id)).collect();
            let leases = lease_of(&mut state, there, limit, time, max_attempts);
            return Ok(leases.into_iter().map(|lease| state.leased(lease)).collect());
        }
        let mut state = self.state();
        let leases = self.leased(&mut state, limit, time, max_attempts);
        if self.fault == LapsedAreNotMarked {
            state.deliveries.values_mut().for_each(|delivery| delivery.ran_out = false);
        }
        if self.fault == AllAreMarked {
            state.deliveries.values_mut().for_each(|delivery| delivery.ran_out = true);
        }
        Ok(leases.into_iter().map(|lease| state.leased(lease)).collect())
    }

    async fn extend(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        Ok(self.extended(&mut self.state(), lease, time))
    }

    async fn finish(&self, lease: &Lease, keep: Duration) -> Result<bool, StoreError> {
        if self.fault == EndingIsTwoSteps {
            let held = self.state().held(lease).is_some();
            yield_now().await;
            self.state().finish(lease, keep);
            return Ok(held);
        }
        Ok(self.finished(&mut self.state(), lease, keep))
    }

    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> Result<bool, StoreError> {
        Ok(self.postponed(&mut self.state(), lease, pause, reason))
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        Ok(self.buried(&mut self.state(), lease, reason))
    }

    async fn give_back(&self, lease: &Lease) -> Result<bool, StoreError> {
        Ok(self.given_back(&mut self.state(), lease))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.counted(&self.state()))
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(self.backlog_of(&self.state(), limit))
    }

    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        Ok(self.page(&self.state(), after.map(DeliveryId::get), limit))
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        Ok(self.shown(&self.state(), id.get()))
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        Ok(self.retried(&mut self.state(), id.get()))
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        Ok(self.forgotten(&mut self.state(), event))
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        Ok(self.forgotten_in(&mut self.state(), &window))
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.purged(&mut self.state(), limit))
    }
}
