//! Faults of starting.

use tokio::task::yield_now;
use tower_klikit::inbox::{DeliveryState, Lease};

use super::FaultyStore;
use crate::inbox::{
    faulty::faults::InboxFault::*,
    state::{Delivery, ReferenceInbox},
};

impl FaultyStore {
    pub(super) fn started(&self, state: &mut ReferenceInbox, lease: &Lease, worker: &str) -> bool {
        let now = state.now;
        if self.rejects_paused(state, lease, PausedIsNotStarted) {
            return false;
        }
        let Some(delivery) = state.deliveries.get_mut(&lease.id().get()) else {
            return self.fault == MissingAreStarted;
        };
        let (is_own, is_leased) = (delivery.token == lease.token(), delivery.is(DeliveryState::Leased));
        let count = |delivery: &mut Delivery| delivery.attempts = delivery.attempts.max(lease.attempt());
        let is_started = match self.fault {
            StartsIgnoreTheToken => is_leased,
            StartsTakeSmallerTokens => is_leased && lease.token() <= delivery.token,
            DeadAreStarted => is_own && (is_leased || delivery.is(DeliveryState::Dead)),
            ReadyAreStarted => is_own && (is_leased || delivery.is(DeliveryState::Ready)),
            DoneAreStarted => is_own && (is_leased || delivery.is(DeliveryState::Done)),
            ExpiredAreNotStarted => is_own && is_leased && delivery.due > now,
            UnleasedAreCounted if is_own => {
                count(delivery);
                is_leased
            }
            _ => is_own && is_leased,
        };
        if !is_started {
            return false;
        }
        match self.fault {
            StartingDoesNothing => {}
            StartingCountsAgain => delivery.attempts += 1,
            StartingLowersTheCount => delivery.attempts = lease.attempt(),
            StartingExtends => {
                count(delivery);
                delivery.due = delivery.due.max(now + super::DAY);
            }
            _ => count(delivery),
        }
        match self.fault {
            StartingOpensNothing => {}
            StartingReopens => {
                delivery.open = None;
                delivery.open(worker, now);
            }
            StartsNameNoWorker => delivery.open("", now),
            _ => delivery.open(worker, now),
        }
        true
    }

    /// Reads the delivery first and writes it later, without a lock in between.
    pub(super) async fn started_in_two_steps(&self, leases: &[Lease], worker: &str) -> Vec<bool> {
        let mut started = Vec::new();
        for lease in leases {
            let id = lease.id().get();
            let found = self.state().own(lease).map(|own| own.clone());
            yield_now().await;
            let mut state = self.state();
            started.push(found.is_some());
            state.deliveries.extend(found.map(|found| (id, found)));
            state.start(lease, worker);
        }
        started
    }
}
