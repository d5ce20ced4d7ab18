//! How deliveries can be forgotten and purged wrongly.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::{
    dedupe::{Claim, EventKey},
    inbox::DeliveryState,
};

use super::{Broken, DAY};
use crate::{
    faults::Fault::*,
    state::{Delivery, Row, State},
};

impl Broken {
    pub(super) fn forgotten(&self, state: &mut State, event: &EventKey) -> u64 {
        let (now, rows) = (state.now, state.ledger.clone());
        let is_of_event = |row: &Row| row.claim.event() == event;
        match self.fault {
            ForgettingTakesWhatWaits => {
                let of_event = |d: &&mut Delivery| d.request.claim().event() == event && d.waits();
                state.deliveries.values_mut().filter(of_event).for_each(|d| d.state = DeliveryState::Done);
            }
            ForgettingLeavesTheDead => return state.forget_rows(is_of_event),
            ForgettingLeavesConflicts => return state.forget(|claim, _| claim.key() == event),
            ForgettingTakesAll => return state.forget(|_, _| true),
            ForgettingTakesOtherConflicts => {
                return state.forget(|claim, _| claim.event() == event || claim.is_conflict());
            }
            _ => {}
        }
        let count = state.forget(|claim, _| claim.event() == event);
        match self.fault {
            ForgettingTakesTheRowsOfWhatWaits => drop(state.forget_rows(is_of_event)),
            ForgettingLeavesTheLedger => state.ledger = rows,
            ForgettingCountsTwice => return count.max((rows.len() - state.ledger.len()) as u64 * 2),
            ForgettingCountsLapsedRows => {
                return count + rows.values().filter(|row| is_of_event(row) && row.until <= now).count() as u64;
            }
            _ => {}
        }
        count
    }

    pub(super) fn forgotten_in(&self, state: &mut State, window: &Range<SystemTime>) -> u64 {
        let (now, wall, before) = (state.now, SystemTime::now(), state.clone());
        let is_in = |time: Duration| window.contains(&(wall - (now - time)));
        match self.fault {
            WindowsTakeAll => state.forget(|_, _| true),
            WindowsAreMissed => state.forget_accepted(&(window.start - DAY..window.end - DAY)),
            WindowsTakeWhatWaits => {
                let count = state.forget_accepted(window);
                state.deliveries.retain(|_, d| !is_in(d.accepted));
                count
            }
            WindowsGoByTheRowAlone => {
                let is_by_row = |claim: &Claim, time| before.row(claim.key()).is_none_or(|row| row.claimed == time);
                state.forget(|claim, time| is_in(time) && is_by_row(claim, time))
            }
            WindowsGoByTheDeliveryAlone => state.forget(|claim, time| {
                let accepted = before.id_of(claim.key()).map(|id| before.deliveries[&id].accepted);
                is_in(time) && accepted.is_none_or(|accepted| accepted == time)
            }),
            WindowsGoByLapsedRows => {
                let lapsed = before.ledger.values().filter(|row| row.until <= now && is_in(row.claimed));
                let by_lapsed: u64 = lapsed.map(|row| state.forget(|claim, _| claim.key() == row.claim.key())).sum();
                by_lapsed + state.forget_accepted(window)
            }
            WindowsLeaveOtherRows => {
                let count = state.forget_accepted(window);
                state.ledger.extend(before.ledger.into_iter().filter(|(_, row)| !is_in(row.claimed)));
                count
            }
            _ => state.forget_accepted(window),
        }
    }

    pub(super) fn purged(&self, state: &mut State, limit: u32) -> u64 {
        match self.fault {
            PurgingTakesTooMany => return state.purge_done(u32::MAX),
            PurgingTakesWhatIsNotUp => {
                let before = state.deliveries.len();
                state.deliveries.retain(|_, d| !d.is(DeliveryState::Done));
                return u64::from(limit).min((before - state.deliveries.len()) as u64);
            }
            PurgingTakesTheDead => {
                let now = state.now;
                state.deliveries.retain(|_, d| !(d.is(DeliveryState::Dead) && d.due <= now));
            }
            _ => {}
        }
        let gone = state.purge_done(limit);
        if self.fault == PurgingForgets && gone > 0 {
            state.ledger.clear();
        }
        gone
    }
}
