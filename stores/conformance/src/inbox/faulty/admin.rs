//! Faults of counting, showing and retrying.

use tower_klikit::inbox::{Counts, DeliveryState, Entry};

use super::{FaultyStore, HOUR, settle::RELEASED};
use crate::inbox::{faulty::faults::InboxFault::*, state::ReferenceInbox};

impl FaultyStore {
    pub(super) fn counted(&self, state: &ReferenceInbox) -> Counts {
        let mut counts = Counts::default();
        [counts.ready, counts.leased, counts.dead, counts.done] = state.counts();
        counts.oldest = state.oldest();
        match self.fault {
            ExpiredCountAsReady => {
                let expired = state.deliveries.values().filter(|d| d.has_expired(state.now)).count() as u64;
                counts.leased -= expired;
                counts.ready += expired;
            }
            CountsHaveALimit => counts.ready = counts.ready.min(4),
            OldestIsDead => counts.oldest = state.deliveries.values().map(|d| state.now - d.accepted).max(),
            OldestIsTheNewest => {
                let pending = state.deliveries.values().filter(|d| d.is_pending());
                counts.oldest = pending.map(|d| state.now - d.accepted).min();
            }
            _ => {}
        }
        counts
    }

    pub(super) fn backlog_of(&self, state: &ReferenceInbox, limit: u64) -> u64 {
        let [ready, leased, dead, _] = state.counts();
        match self.fault {
            BacklogHasNoLimit => ready + leased,
            BacklogLeavesOutTheLeased => limit.min(ready),
            BacklogCountsTheDead => limit.min(ready + leased + dead),
            _ => limit.min(ready + leased),
        }
    }

    pub(super) fn shown(&self, state: &ReferenceInbox, id: i64) -> Option<Entry> {
        let mut entry = state.entry(id)?;
        match self.fault {
            NoBodyIsShown => entry.body = None,
            OnlyTheDeadAreShown if entry.state != DeliveryState::Dead => return None,
            ReleasedIsShownAsAnAttempt
                if entry.state == DeliveryState::Ready && entry.reason.as_deref() == Some(RELEASED) =>
            {
                entry.attempts = entry.attempts.max(1);
            }
            ShownTimesAreOff => entry.accepted_at -= HOUR,
            ClaimTimeIsShown => {
                let delivery = &state.deliveries[&id];
                if let Some(row) = state.ledger.0.get(&delivery.key()) {
                    entry.accepted_at += row.claimed_at - delivery.accepted;
                }
            }
            _ => {}
        }
        Some(entry)
    }

    pub(super) fn retried(&self, state: &mut ReferenceInbox, id: i64) -> bool {
        let now = state.now;
        let Some(delivery) = state.deliveries.get_mut(&id) else { return false };
        let is_dead = delivery.is(DeliveryState::Dead);
        match self.fault {
            EverythingIsRetried => delivery.state = DeliveryState::Dead,
            KeptAreRetried if delivery.is(DeliveryState::Done) => delivery.state = DeliveryState::Dead,
            RetriedGoesLast if is_dead => {
                let moved = state.deliveries.remove(&id).expect("the delivery was found");
                let last = state.draw_id();
                state.deliveries.insert(last, moved);
                return state.retry(last);
            }
            RetriedHasAttempts if is_dead => {
                delivery.make_ready(now);
                return true;
            }
            RetriedHaveNoKeys if is_dead => {
                delivery.request = delivery.request.clone().with_ordering_keys(&[]);
            }
            _ => {}
        }
        state.retry(id)
    }
}
