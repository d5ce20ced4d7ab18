//! How deliveries can be leased wrongly.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryState, Lease};

use super::{Broken, DAY};
use crate::{faults::Fault::*, state::State};

impl Broken {
    /// Has a lease be held by its delivery alone, or the like.
    pub(super) fn loosened(&self, state: &State, lease: &Lease) -> Lease {
        let token = state.deliveries.get(&lease.id().get()).map_or(0, |delivery| delivery.token);
        let same = match self.fault {
            TokensAreIgnored => true,
            TokensAreAttempts => state.deliveries.get(&lease.id().get()).is_some_and(|d| d.attempts == lease.attempt()),
            _ => false,
        };
        if same { Lease::new(lease.id(), token, lease.attempt()) } else { *lease }
    }

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
            PostponedHeadsHoldNobody | LapsedHeadsHoldNobody => {
                let wanted =
                    if self.fault == LapsedHeadsHoldNobody { DeliveryState::Leased } else { DeliveryState::Ready };
                let hidden: Vec<i64> = state
                    .deliveries
                    .iter()
                    .filter(|(_, d)| d.is(wanted) && (d.due > now) == (wanted == DeliveryState::Ready))
                    .map(|(id, _)| *id)
                    .collect();
                let mut due = state.due();
                let kept: Vec<_> = hidden.iter().filter_map(|id| Some((*id, state.deliveries.remove(id)?))).collect();
                due.extend(state.due());
                state.deliveries.extend(kept);
                due.sort_by_key(|id| (state.deliveries[id].due, *id));
                due.dedup();
                return lease_of(state, due, limit, time, max_attempts);
            }
            TheDeadHoldTheirKey => {
                let due = state.due();
                let free = due.into_iter().filter(|id| {
                    let before = state.deliveries.range(..id).map(|(_, d)| d);
                    let mut dead = before.filter(|d| d.is(DeliveryState::Dead));
                    !dead.any(|d| d.shares_a_key_with(&state.deliveries[id]))
                });
                let free = free.collect();
                return lease_of(state, free, limit, time, max_attempts);
            }
            LeasedHeadsHoldNobody => {
                let mut due = Vec::new();
                for (id, delivery) in &state.deliveries {
                    let held = state
                        .deliveries
                        .range(..id)
                        .any(|(_, before)| before.is(DeliveryState::Ready) && before.shares_a_key_with(delivery));
                    if delivery.waits() && delivery.due <= now && !held {
                        due.push(*id);
                    }
                }
                due.sort_by_key(|id| state.deliveries[id].due);
                return lease_of(state, due, limit, time, max_attempts);
            }
            _ => {}
        }
        let leases = state.lease(limit, time, max_attempts);
        for lease in &leases {
            let delivery = state.deliveries.get_mut(&lease.id().get()).expect("it was leased");
            match self.fault {
                AttemptsAreNotCounted => delivery.attempts = 1,
                _ => continue,
            }
        }
        let tell = |lease: Lease| match self.fault {
            AttemptsAreNotCounted => Lease::new(lease.id(), lease.token(), 1),
            _ => lease,
        };
        leases.into_iter().map(tell).collect()
    }
}

/// Leases these, or buries them.
pub(super) fn lease_of(state: &mut State, due: Vec<i64>, limit: u32, time: Duration, max_attempts: u32) -> Vec<Lease> {
    let (died, mut due): (Vec<_>, Vec<_>) = due.into_iter().partition(|id| state.is_to_be_buried(*id, max_attempts));
    state.bury_those_who_died(&died);
    due.truncate(limit as usize);
    state.lease_these(&due, time)
}
