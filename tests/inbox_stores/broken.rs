//! The suite finds a store that breaks a rule, and says which.

mod accepting;
mod leasing;

use std::{
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::{runtime::Builder, task::yield_now};
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, EventKey, Ledger, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, DeliveryState, Entry, InboxStore, Lease, Leased, NewDelivery},
    testing::inbox,
};

use self::leasing::lease_of;
use crate::{
    faults::{Fault, Fault::*, RULES},
    state::State,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn every_fault_is_found() {
    let mut wrong = Vec::new();
    for (fault, rule) in RULES {
        let make = async || Broken { fault: *fault, state: Mutex::default() };
        let advance = async |store: &Broken, time: Duration| store.pass(time);
        let runtime = Builder::new_current_thread().build().unwrap();
        let found = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(inbox::check(make, advance))));
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

/// The reference with one fault.
#[derive(Debug)]
struct Broken {
    fault: Fault,
    state: Mutex<State>,
}

impl Broken {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.now += time;
        if self.fault == LapsedLeasesAreNobodys {
            let now = state.now;
            let lapsed = |d: &crate::state::Delivery| d.is(DeliveryState::Leased) && d.due <= now;
            state.deliveries.values_mut().filter(|d| lapsed(d)).for_each(|d| d.make_ready(d.due));
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
        let mut state = self.state();
        let before = state.id_of(new.claim().key());
        if let Some(found) = self.accept_before(&mut state, new, retention) {
            return Ok(found);
        }
        if self.fault == IdsAreUsedAgain {
            state.last_id = state.deliveries.keys().last().copied().unwrap_or_default();
        }
        let found = state.accept(new, retention);
        if let Some(id) = state.id_of(new.claim().key()) {
            self.accept_after(&mut state, id, &found);
        }
        if self.fault == TheOldHeadStays && found == Acceptance::Revived {
            let head = new.head().replace("/webhooks/other", "/webhooks/klikit");
            let delivery = state.deliveries.get_mut(&before.expect("it was dead")).expect("it was dead");
            delivery.request = delivery.request.clone().with_head(head);
        }
        Ok(found)
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
        Ok(leases.into_iter().map(|lease| state.leased(lease)).collect())
    }

    async fn extend(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        let mut state = self.state();
        let lease = &self.loosened(&state, lease);
        let now = state.now;
        match (self.fault, state.held(lease)) {
            (ExtendingDoesNothing, held) => Ok(held.is_some()),
            (ExtendingAdds, Some(held)) => {
                held.due += time;
                Ok(true)
            }
            (ExtendingNeverShortens, Some(held)) => {
                held.due = held.due.max(now + time);
                Ok(true)
            }
            (LapsedLeasesAreLost, Some(held)) if held.due <= now => Ok(false),
            _ => Ok(state.extend(lease, time)),
        }
    }

    async fn finish(&self, lease: &Lease, keep: Duration) -> Result<bool, StoreError> {
        if self.fault == EndingIsTwoSteps {
            let held = self.state().held(lease).is_some();
            yield_now().await;
            self.state().finish(lease, keep);
            return Ok(held);
        }
        let mut state = self.state();
        let lease = &self.loosened(&state, lease);
        let id = lease.id().get();
        match self.fault {
            FinishedTwiceIsTrue if state.last_id >= id && !state.deliveries.contains_key(&id) => return Ok(true),
            NothingIsKept => return Ok(state.finish(lease, Duration::ZERO)),
            BodiesAreNotKept if state.held(lease).is_some() => {
                let kept = state.held(lease).expect("it is held");
                kept.request = NewDelivery::new(kept.request.claim().clone(), kept.request.head(), Bytes::new());
            }
            FinishingForgets => {
                let key = state.deliveries.get(&id).map(|delivery| *delivery.request.claim().key());
                let finished = state.finish(lease, keep);
                if let Some(key) = key.filter(|_| finished) {
                    state.ledger.remove(&key);
                }
                return Ok(finished);
            }
            _ => {}
        }
        Ok(state.finish(lease, keep))
    }

    async fn postpone(&self, lease: &Lease, pause: Duration, reason: &str) -> Result<bool, StoreError> {
        let mut state = self.state();
        let lease = &self.loosened(&state, lease);
        match self.fault {
            PausesAreIgnored => Ok(state.postpone(lease, Duration::ZERO, reason)),
            ReasonsAreAscii => Ok(state.postpone(lease, pause, &reason.replace(|c: char| !c.is_ascii(), "?"))),
            _ => Ok(state.postpone(lease, pause, reason)),
        }
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        let mut state = self.state();
        let lease = &self.loosened(&state, lease);
        if self.fault == ReasonsOfTheDeadAreLost {
            let buried = state.bury(lease, reason);
            if buried && let Some(dead) = state.deliveries.get_mut(&lease.id().get()) {
                dead.reason = None;
            }
            return Ok(buried);
        }
        Ok(state.bury(lease, reason))
    }

    async fn give_back(&self, lease: &Lease) -> Result<bool, StoreError> {
        let mut state = self.state();
        let lease = &self.loosened(&state, lease);
        match self.fault {
            GivingBackIsAnAttempt => Ok(state.postpone(lease, Duration::ZERO, "given back")),
            GivenBackTokensComeAgain => {
                let given_back = state.give_back(lease);
                if given_back && let Some(delivery) = state.deliveries.get_mut(&lease.id().get()) {
                    delivery.token -= 1;
                }
                Ok(given_back)
            }
            _ => Ok(state.give_back(lease)),
        }
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let state = self.state();
        let mut counts = Counts::default();
        [counts.ready, counts.leased, counts.dead, counts.done] = state.counts();
        counts.oldest = state.oldest();
        match self.fault {
            LapsedCountAsReady => {
                let lapsed = state.deliveries.values().filter(|d| d.is(DeliveryState::Leased) && d.due <= state.now);
                let lapsed = lapsed.count() as u64;
                counts.leased -= lapsed;
                counts.ready += lapsed;
            }
            TheOldestIsDead => counts.oldest = state.deliveries.values().map(|d| state.now - d.accepted).max(),
            TheOldestIsTheNewest => {
                let waiting = state.deliveries.values().filter(|d| d.waits());
                counts.oldest = waiting.map(|d| state.now - d.accepted).min();
            }
            _ => {}
        }
        Ok(counts)
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        let [ready, leased, dead, _] = self.state().counts();
        Ok(match self.fault {
            TheBacklogHasNoLimit => ready + leased,
            TheBacklogLeavesOutTheLeased => limit.min(ready),
            TheBacklogCountsTheDead => limit.min(ready + leased + dead),
            _ => limit.min(ready + leased),
        })
    }

    async fn dead(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let state = self.state();
        let after = after.map(DeliveryId::get);
        let after = if self.fault == PagesOverlap { after.map(|after| after.saturating_sub(1)) } else { after };
        let mut ids = state.dead(after, if self.fault == PagesHaveNoEnd { u32::MAX } else { limit });
        if self.fault == TheNewestDeadComeFirst {
            ids = state.dead(after, u32::MAX);
            ids.reverse();
            ids.truncate(limit as usize);
        }
        let mut entries: Vec<Entry> = ids.into_iter().filter_map(|id| state.entry(id)).collect();
        if self.fault != PagesHaveBodies {
            entries.iter_mut().for_each(|entry| entry.body = None);
        }
        Ok(entries)
    }

    async fn show(&self, id: DeliveryId) -> Result<Option<Entry>, StoreError> {
        let entry = self.state().entry(id.get());
        match self.fault {
            NoBodyIsShown => Ok(entry.map(|mut entry| {
                entry.body = None;
                entry
            })),
            OnlyTheDeadAreShown => Ok(entry.filter(|entry| entry.state == DeliveryState::Dead)),
            _ => Ok(entry),
        }
    }

    async fn retry(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let mut state = self.state();
        let now = state.now;
        match (self.fault, state.deliveries.get_mut(&id.get())) {
            (EverythingIsRetried, Some(delivery)) => {
                delivery.make_ready(now);
                delivery.attempts = 0;
                Ok(true)
            }
            (RetriedGoesLast, Some(delivery)) if delivery.is(DeliveryState::Dead) => {
                let mut moved = delivery.clone();
                (moved.attempts, moved.state, moved.due) = (0, DeliveryState::Ready, now);
                state.deliveries.remove(&id.get());
                state.last_id += 1;
                let last = state.last_id;
                state.deliveries.insert(last, moved);
                Ok(true)
            }
            (RetriedHasAttempts, Some(delivery)) if delivery.is(DeliveryState::Dead) => {
                delivery.make_ready(now);
                Ok(true)
            }
            _ => Ok(state.retry(id.get())),
        }
    }

    async fn forget_event(&self, event: &EventKey) -> Result<u64, StoreError> {
        let mut state = self.state();
        match self.fault {
            ForgettingTakesWhatWaits => {
                state.deliveries.values_mut().for_each(|d| {
                    if d.request.claim().event() == event && d.waits() {
                        d.state = DeliveryState::Done;
                    }
                });
            }
            ForgettingTakesTheRowsOfWhatWaits => {
                let count = state.forget(|claim, _| claim.event() == event);
                state.forget_rows(|row| row.claim.event() == event);
                return Ok(count);
            }
            ForgettingLeavesTheDead => return Ok(state.forget_rows(|row| row.claim.event() == event)),
            ForgettingLeavesTheLedger => {
                let rows = state.ledger.clone();
                let count = state.forget(|claim, _| claim.event() == event);
                state.ledger = rows;
                return Ok(count);
            }
            ForgettingLeavesConflicts => return Ok(state.forget(|claim, _| claim.key() == event)),
            ForgettingTakesAll => return Ok(state.forget(|_, _| true)),
            ForgettingCountsTwice => {
                let rows = state.ledger.len();
                let count = state.forget(|claim, _| claim.event() == event);
                return Ok(count.max((rows - state.ledger.len()) as u64 * 2));
            }
            _ => {}
        }
        Ok(state.forget(|claim, _| claim.event() == event))
    }

    async fn forget_accepted(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let mut state = self.state();
        match self.fault {
            WindowsTakeAll => Ok(state.forget(|_, _| true)),
            WindowsAreMissed => Ok(state.forget_accepted(&(window.start - DAY..window.end - DAY))),
            WindowsTakeWhatWaits => {
                let count = state.forget_accepted(&window);
                let (now, wall) = (state.now, SystemTime::now());
                state.deliveries.retain(|_, d| !window.contains(&(wall - (now - d.accepted))));
                Ok(count)
            }
            _ => Ok(state.forget_accepted(&window)),
        }
    }

    async fn purge_done(&self, limit: u32) -> Result<u64, StoreError> {
        let mut state = self.state();
        match self.fault {
            PurgingTakesTooMany => Ok(state.purge_done(u32::MAX)),
            PurgingTakesWhatIsNotUp => {
                let before = state.deliveries.len();
                state.deliveries.retain(|_, d| !d.is(DeliveryState::Done));
                Ok(u64::from(limit).min((before - state.deliveries.len()) as u64))
            }
            PurgingTakesTheDead => {
                let now = state.now;
                state.deliveries.retain(|_, d| !(d.is(DeliveryState::Dead) && d.due <= now));
                Ok(state.purge_done(limit))
            }
            PurgingForgets => {
                let gone = state.purge_done(limit);
                if gone > 0 {
                    state.ledger.clear();
                }
                Ok(gone)
            }
            _ => Ok(state.purge_done(limit)),
        }
    }
}

impl Ledger for Broken {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        let mut state = self.state();
        if self.fault == LedgersAreApart && state.id_of(claim.key()).is_some() {
            return Ok(ClaimOutcome::Claimed);
        }
        if self.fault == DigestsAreLost && state.id_of(claim.key()).is_some() {
            return Ok(ClaimOutcome::Done { digest: BodyDigest::of(b"") });
        }
        Ok(state.claim(claim, lease))
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        Ok(self.state().complete(claim, retention))
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.state().release(claim);
        Ok(())
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        Ok(self.state().renew(claim, lease))
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        Ok(self.state().forget_rows(|row| row.claim.event() == event))
    }

    async fn forget_claimed(&self, _: Range<SystemTime>) -> Result<u64, StoreError> {
        Err(StoreError::new("the suite does not ask for this"))
    }

    async fn purge(&self, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
}
