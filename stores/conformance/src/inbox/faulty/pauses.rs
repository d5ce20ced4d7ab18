//! Faults of pauses.

use std::time::SystemTime;

use tower_klikit::inbox::{ActivePause, DeliveryState, Lease, Pause};

use super::{DAY, FaultyStore};
use crate::inbox::{
    faulty::faults::InboxFault::*,
    state::{Delivery, ReferenceInbox},
};

impl FaultyStore {
    /// Returns whether the store leaves the delivery out because of a pause.
    pub(super) fn leaves_out(&self, state: &ReferenceInbox, delivery: &Delivery) -> bool {
        let (tenant, event_type) = (delivery.request.tenant(), delivery.request.event_type());
        let is_paused = |pause: &Pause| match self.fault {
            NothingIsPaused => false,
            PausesIgnoreTheTenant => Pause { tenant: None, ..pause.clone() }.matches(tenant, event_type),
            PausesIgnoreTheType => Pause { event_type: None, ..pause.clone() }.matches(tenant, event_type),
            PausesSelectOneOfTwo => {
                let has_tenant = pause.tenant.as_deref() == Some(tenant);
                let has_type = pause.event_type.is_some() && pause.event_type.as_deref() == event_type;
                has_tenant || has_type || *pause == Pause::everything()
            }
            TypelessIsPausedByType => pause.matches(tenant, event_type.or(pause.event_type.as_deref())),
            TypelessIsNeverPaused => event_type.is_some() && pause.matches(tenant, event_type),
            PausesEndAfterADay => pause.matches(tenant, event_type) && state.now - state.pauses[pause].1 < DAY,
            _ => pause.matches(tenant, event_type),
        };
        state.pauses.keys().any(is_paused)
    }

    pub(super) fn paused(&self, state: &mut ReferenceInbox, pause: &Pause, operator: &str) -> u64 {
        let before = state.clone();
        match self.fault {
            PausesReplaceEachOther => state.pauses.clear(),
            SecondPauseReplacesTheFirst => drop(state.pauses.remove(pause)),
            _ => {}
        }
        let released = state.pause(pause, operator);
        let is_leased = |delivery: &&mut Delivery| delivery.is(DeliveryState::Leased);
        let now = state.now;
        match self.fault {
            PausesNameNoOperator => state.pauses.values_mut().for_each(|(name, _)| name.clear()),
            PauseReleasesNothing => {
                state.deliveries = before.deliveries;
                return 0;
            }
            PauseReportsNoReleases => return 0,
            PauseReleasesRunningOnes => {
                let running = state.deliveries.values_mut().filter(is_leased).filter(|d| d.is_selected_by(pause));
                return released + running.map(|delivery| delivery.make_ready(now)).count() as u64;
            }
            PauseReleasesOtherOnes => {
                let others = state.deliveries.values_mut().filter(is_leased).filter(|d| d.open.is_none());
                return released + others.map(|delivery| delivery.make_ready(now)).count() as u64;
            }
            PauseReleasesForADay | PauseSparesExpiredLeases => {
                for (id, delivery) in &mut state.deliveries {
                    let old = &before.deliveries[id];
                    let is_released = old.is(DeliveryState::Leased) && delivery.is(DeliveryState::Ready);
                    if self.fault == PauseReleasesForADay && is_released {
                        delivery.due = now + DAY;
                    }
                    if self.fault == PauseSparesExpiredLeases && is_released && old.due <= now {
                        *delivery = old.clone();
                        return released - 1;
                    }
                }
            }
            PauseMakesEverythingDue => {
                let ready = state.deliveries.values_mut().filter(|d| d.is(DeliveryState::Ready));
                ready.filter(|d| d.is_selected_by(pause)).for_each(|delivery| delivery.due = delivery.due.min(now));
            }
            PauseLeavesTheTokenLeased => {
                // The released lease can still be started.
                for (id, delivery) in &mut state.deliveries {
                    let old = &before.deliveries[id];
                    if old.is(DeliveryState::Leased) && delivery.is(DeliveryState::Ready) {
                        delivery.state = DeliveryState::Leased;
                    }
                }
            }
            _ => {}
        }
        released
    }

    pub(super) fn resumed(&self, state: &mut ReferenceInbox, pause: &Pause) -> bool {
        match self.fault {
            ResumeLiftsEverything => {
                let is_lifted = state.pauses.contains_key(pause);
                if is_lifted {
                    state.pauses.clear();
                }
                is_lifted
            }
            ResumeLiftsNarrowerPauses => {
                let is_narrower = |other: &Pause| {
                    pause.tenant.as_ref().is_none_or(|tenant| other.tenant.as_ref() == Some(tenant))
                        && pause.event_type.as_ref().is_none_or(|name| other.event_type.as_ref() == Some(name))
                };
                let before = state.pauses.len();
                state.pauses.retain(|other, _| !is_narrower(other));
                state.pauses.len() < before
            }
            ResumeIsAlwaysTrue => {
                state.resume(pause);
                true
            }
            ResumeLiftsNothing => state.pauses.contains_key(pause),
            _ => state.resume(pause),
        }
    }

    pub(super) fn listed_pauses(&self, state: &ReferenceInbox) -> Vec<ActivePause> {
        let mut pauses = state.active_pauses();
        match self.fault {
            PausesAreListedBackwards => pauses.reverse(),
            PausesBeginNow => pauses.iter_mut().for_each(|active| active.since = SystemTime::now()),
            OnePauseIsListed => pauses.truncate(1),
            _ => {}
        }
        pauses
    }

    /// Returns whether the store rejects a call for the lease because its delivery is paused.
    pub(super) fn rejects_paused(&self, state: &ReferenceInbox, lease: &Lease, rejecting: super::InboxFault) -> bool {
        self.fault == rejecting && state.deliveries.get(&lease.id().get()).is_some_and(|d| state.is_paused(d))
    }
}
