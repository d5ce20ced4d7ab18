//! Faults of forgetting and purging.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::{
    dedupe::{Claim, EventKey},
    inbox::DeliveryState,
};

use super::{DAY, FaultyStore};
use crate::{
    inbox::{
        faulty::faults::InboxFault::*,
        state::{Delivery, ReferenceInbox},
    },
    ledger::reference::Entry,
};

impl FaultyStore {
    pub(super) fn forgotten(&self, state: &mut ReferenceInbox, event: &EventKey) -> u64 {
        let (now, rows) = (state.now, state.ledger.0.clone());
        let is_of_event = |row: &Entry| row.is_of(event);
        match self.fault {
            ForgettingTakesPendingOnes => {
                let of_event = |d: &&mut Delivery| d.request.claim().event() == event && d.is_pending();
                state.deliveries.values_mut().filter(of_event).for_each(|d| d.state = DeliveryState::Done);
            }
            ForgettingLeavesTheDead => return state.ledger.forget(now, is_of_event),
            ForgettingLeavesConflicts => return state.forget(|claim, _| claim.key() == event),
            ForgettingTakesAll => return state.forget(|_, _| true),
            ForgettingTakesOtherConflicts => {
                return state.forget(|claim, _| claim.event() == event || claim.is_conflict());
            }
            _ => {}
        }
        let count = state.forget(|claim, _| claim.event() == event);
        match self.fault {
            ForgettingTakesPendingRows => drop(state.ledger.forget(now, is_of_event)),
            ForgettingLeavesTheLedger => state.ledger.0 = rows,
            ForgettingCountsTwice => return count.max((rows.len() - state.ledger.0.len()) as u64 * 2),
            ForgettingCountsRowsThatAreOver => {
                return count + rows.values().filter(|row| is_of_event(row) && row.kept_until <= now).count() as u64;
            }
            ForgettingDoesNotCountExpiredClaims => {
                let is_spared = |row: &&Entry| is_of_event(row) && row.has_expired(now) && row.kept_until > now;
                return count - (rows.values().filter(is_spared).count() as u64).min(count);
            }
            _ => {}
        }
        count
    }

    pub(super) fn forgotten_in(&self, state: &mut ReferenceInbox, window: &Range<SystemTime>) -> u64 {
        let (now, wall, before) = (state.now, SystemTime::now(), state.clone());
        let is_in = |time: Duration| window.contains(&(wall - (now - time)));
        match self.fault {
            WindowTakesAll => state.forget(|_, _| true),
            WindowIsMissed => state.forget_keys(&(window.start - DAY..window.end - DAY).into()),
            WindowTakesPendingOnes => {
                let count = state.forget_keys(&window.clone().into());
                state.deliveries.retain(|_, d| !is_in(d.accepted));
                count
            }
            WindowGoesByTheRowAlone => {
                let is_by_row =
                    |claim: &Claim, time| before.ledger.kept(claim.key(), now).is_none_or(|row| row.claimed_at == time);
                state.forget(|claim, time| is_in(time) && is_by_row(claim, time))
            }
            WindowGoesByTheDeliveryAlone => state.forget(|claim, time| {
                let accepted = before.id_of(claim.key()).map(|id| before.deliveries[&id].accepted);
                is_in(time) && accepted.is_none_or(|accepted| accepted == time)
            }),
            WindowGoesByRowsThatAreOver => {
                let over = before.ledger.0.values().filter(|row| row.kept_until <= now && is_in(row.claimed_at));
                let by_over: u64 = over.map(|row| state.forget(|claim, _| claim.key() == row.claim.key())).sum();
                by_over + state.forget_keys(&window.clone().into())
            }
            WindowLeavesOtherRows => {
                let count = state.forget_keys(&window.clone().into());
                state.ledger.0.extend(before.ledger.0.into_iter().filter(|(_, row)| !is_in(row.claimed_at)));
                count
            }
            WindowIgnoresExpiredClaims => {
                state.ledger.0.retain(|_, row| !row.has_expired(now));
                state.forget_keys(&window.clone().into())
            }
            _ => state.forget_keys(&window.clone().into()),
        }
    }

    pub(super) fn purged(&self, state: &mut ReferenceInbox, limit: u32) -> u64 {
        match self.fault {
            PurgeIgnoresItsLimit => return state.purge_done(u32::MAX),
            PurgeTakesAllDone => {
                let before = state.deliveries.len();
                state.deliveries.retain(|_, d| !d.is(DeliveryState::Done));
                return u64::from(limit).min((before - state.deliveries.len()) as u64);
            }
            PurgeTakesTheDead => {
                let now = state.now;
                state.deliveries.retain(|_, d| !(d.is(DeliveryState::Dead) && d.due <= now));
            }
            _ => {}
        }
        let before = state.clone();
        let purged = state.purge_done(limit);
        let purged_body = |id: &i64, d: &Delivery| !d.has_body && before.deliveries[id].has_body;
        match self.fault {
            PurgeTakesTheHistory => state.deliveries.retain(|id, d| !purged_body(id, d)),
            PurgeLeavesTheBody => {
                state.deliveries.iter_mut().for_each(|(id, d)| d.has_body = d.has_body || purged_body(id, d));
            }
            PurgedBodiesAreNotCounted => return (before.deliveries.len() - state.deliveries.len()) as u64,
            PurgedBodiesCountAgain => {
                let without_body = |d: &&Delivery| d.is(DeliveryState::Done) && !d.has_body;
                return purged.max(before.deliveries.values().filter(without_body).count() as u64);
            }
            OverdueHistoryStays => {
                let gone = before.deliveries.iter().filter(|(id, d)| d.has_body && !state.deliveries.contains_key(id));
                let gone: Vec<_> = gone.map(|(id, d)| (*id, d.clone())).collect();
                for (id, mut delivery) in gone.into_iter().filter(|(_, d)| d.history_until > d.due) {
                    delivery.remove_body();
                    state.deliveries.insert(id, delivery);
                }
            }
            _ => {}
        }
        if self.fault == PurgeClearsTheLedger && purged > 0 {
            state.ledger.0.clear();
        }
        purged
    }
}
