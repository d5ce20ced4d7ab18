//! How deliveries can be leased wrongly.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryState, Lease};

use super::{Broken, DAY, accepting::REVIVED};
use crate::{
    faults::Fault::*,
    state::{Delivery, State},
};

impl Broken {
    pub(super) fn leased(&self, state: &mut State, limit: u32, time: Duration, max_attempts: u32) -> Vec<Lease> {
        let now = state.now;
        match self.fault {
            LeasesNeverEnd => {
                let time = time.max(DAY);
                return state.lease(limit, time, max_attempts);
            }
            TheLastAcceptedGoesFirst => {
                let mut due = state.due();
                due.reverse();
                due.truncate(limit as usize);
                return state.lease_these(&due, time);
            }
            TheFirstAcceptedGoesFirst => {
                let mut due = state.due();
                due.sort_unstable();
                return lease_of(state, due, limit, time, max_attempts);
            }
            TheLimitIsIgnored => return state.lease(u32::MAX, time, max_attempts),
            NobodyIsBuried => return state.lease(limit, time, u32::MAX),
            WhatIsReadyIsBuried => {
                let spent: Vec<i64> =
                    state.due().into_iter().filter(|id| state.deliveries[id].attempts >= max_attempts).collect();
                state.bury_those_who_died(&spent);
            }
            OneAttemptMore => return state.lease(limit, time, max_attempts.saturating_add(1)),
            LiveLeasesAreBuried => {
                let all: Vec<i64> = state.deliveries.keys().copied().collect();
                let spent: Vec<i64> = all.into_iter().filter(|id| state.is_to_be_buried(*id, max_attempts)).collect();
                state.bury_those_who_died(&spent);
            }
            _ => {
                if let Some(due) = self.due(state) {
                    return lease_of(state, due, limit, time, max_attempts);
                }
            }
        }
        let leases = state.lease(limit, time, max_attempts);
        for lease in &leases {
            let delivery = state.deliveries.get_mut(&lease.id().get()).expect("it was leased");
            match self.fault {
                AttemptsAreNotCounted => delivery.attempts = 1,
                LaterLeasesAreShort if lease.attempt() > 1 => delivery.due = now + time / 2,
                _ => {}
            }
        }
        let tell = |lease: Lease| match self.fault {
            AttemptsAreNotCounted => Lease::new(lease.id(), lease.token(), 1),
            _ => lease,
        };
        leases.into_iter().map(tell).collect()
    }

    /// Those that may be leased, where others hold their keys than should.
    fn due(&self, state: &State) -> Option<Vec<i64>> {
        let now = state.now;
        let is_up = |d: &Delivery| d.due <= now;
        let is_held = |d: &Delivery| d.is(DeliveryState::Leased) && !is_up(d);
        let fault = self.fault;
        // The one that waits, whether the other is before it, and the other.
        let holds: &dyn Fn(&Delivery, bool, &Delivery) -> bool = match fault {
            LeasedHeadsHoldNobody => &|_, before, d| before && d.is(DeliveryState::Ready),
            PostponedHeadsHoldNobody => {
                &|_, before, d| before && d.waits() && (d.is(DeliveryState::Leased) || is_up(d))
            }
            LapsedHeadsHoldNobody => &|_, before, d| before && d.waits() && (d.is(DeliveryState::Ready) || !is_up(d)),
            TheDeadHoldTheirKey => &|_, before, d| before && !d.is(DeliveryState::Done),
            LaterLeasedHoldNobody => &|_, before, d| before && d.waits(),
            LaterLeasedHoldForEver => &|_, before, d| if before { d.waits() } else { d.is(DeliveryState::Leased) },
            RevivedWaitsForNobodyBehindIt => &|waiting, before, d| match before {
                true => d.waits(),
                false => is_held(d) && waiting.reason.as_deref() != Some(REVIVED),
            },
            _ => return None,
        };
        let is_free = |id: &i64, waiting: &Delivery| {
            let rivals = state.deliveries.iter().filter(|(other, d)| *other != id && d.shares_a_key_with(waiting));
            !rivals.into_iter().any(|(other, d)| holds(waiting, other < id, d))
        };
        let due = state.deliveries.iter().filter(|(id, d)| d.waits() && is_up(d) && is_free(id, d));
        let mut due: Vec<i64> = due.map(|(id, _)| *id).collect();
        due.sort_by_key(|id| state.deliveries[id].due);
        Some(due)
    }
}

/// Leases these, or buries them.
pub(super) fn lease_of(state: &mut State, due: Vec<i64>, limit: u32, time: Duration, max_attempts: u32) -> Vec<Lease> {
    let (died, mut due): (Vec<_>, Vec<_>) = due.into_iter().partition(|id| state.is_to_be_buried(*id, max_attempts));
    state.bury_those_who_died(&died);
    due.truncate(limit as usize);
    state.lease_these(&due, time)
}
