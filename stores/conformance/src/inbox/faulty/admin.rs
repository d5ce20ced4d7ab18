//! Faults of counting, showing and retrying.

use tower_klikit::inbox::{AttemptRecord, Counts, DeliveryState, Entry, ShowBody};

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
            PausedIsNotPending => {
                let pending = state.deliveries.values().filter(|d| d.is_pending() && !state.is_paused(d));
                limit.min(pending.count() as u64)
            }
            BacklogHasNoLimit => ready + leased,
            BacklogLeavesOutTheLeased => limit.min(ready),
            BacklogCountsTheDead => limit.min(ready + leased + dead),
            _ => limit.min(ready + leased),
        }
    }

    pub(super) fn shown(&self, state: &ReferenceInbox, id: i64, body: ShowBody) -> Option<Entry> {
        let mut entry = state.shown(id, body)?;
        match self.fault {
            ShowIgnoresTheBody => entry.body = state.deliveries[&id].body().cloned(),
            OpenAttemptIsNotShown => {
                entry.history.retain(|record| record.ended_at.is_some() || record.reason.is_some());
            }
            OpenAttemptHasAnEnd => {
                for record in &mut entry.history {
                    record.ended_at = record
                        .ended_at
                        .or(Some(record.started_at))
                        .filter(|_| record.ended_at.is_some() || record.reason.is_none());
                }
            }
            NewestRecordComesFirst => entry.history.reverse(),
            AllRecordsAreShown => entry.history = state.attempts(&state.deliveries[&id]),
            FirstRecordsAreShown => {
                entry.history = state.attempts(&state.deliveries[&id]);
                entry.history.truncate(AttemptRecord::SHOWN);
            }
            OpenAttemptIsShownBeyondTheLimit => {
                let mut all = state.attempts(&state.deliveries[&id]);
                let open = all.pop_if(|last| last.ended_at.is_none() && last.reason.is_none());
                let shown = all.len().saturating_sub(AttemptRecord::SHOWN);
                entry.history = all.drain(shown..).chain(open).collect();
            }
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

    pub(super) fn requeued(&self, state: &mut ReferenceInbox, ids: &[i64], states: &[DeliveryState]) -> u64 {
        let ids = if self.fault == RequeuesOnlyTheFirst { &ids[..ids.len().min(1)] } else { ids };
        let requeued: u64 = ids.iter().map(|id| self.requeued_one(state, *id, states)).sum();
        match self.fault {
            RequeueingCountsIds if requeued > 0 => ids.len() as u64,
            RequeueingCountsOne => requeued.min(1),
            _ => requeued,
        }
    }

    fn requeued_one(&self, state: &mut ReferenceInbox, id: i64, states: &[DeliveryState]) -> u64 {
        let now = state.now;
        let Some(delivery) = state.deliveries.get_mut(&id) else { return 0 };
        let is_chosen = !delivery.is_pending() && states.contains(&delivery.state) && delivery.has_body;
        let is_dead = delivery.is(DeliveryState::Dead) && is_chosen;
        match self.fault {
            EverythingIsRetried => delivery.state = DeliveryState::Dead,
            KeptAreRetried if delivery.is(DeliveryState::Done) => delivery.state = DeliveryState::Dead,
            RetriedGoesLast if is_dead => {
                let moved = state.deliveries.remove(&id).expect("the delivery was found");
                let last = state.draw_id();
                state.deliveries.insert(last, moved);
                return state.requeue(&[last], states);
            }
            KeptAreNeverRequeued if delivery.is(DeliveryState::Done) => return 0,
            RequeuesAnyState => {
                return state.requeue(&[id], &[DeliveryState::Dead, DeliveryState::Done]);
            }
            RequeuesPendingOnes if delivery.is_pending() && states.contains(&delivery.state) => {
                delivery.state = DeliveryState::Dead;
                return state.requeue(&[id], &[DeliveryState::Dead]);
            }
            RequeuesWithoutABody => delivery.has_body = true,
            RequeuedHasNoReason if is_chosen && !delivery.is_after_expiry() => delivery.reason = None,
            RequeueingDeletesRecords if is_chosen => delivery.history.clear(),
            RequeueingDeletesTheRow if is_chosen => {
                let key = delivery.key();
                state.ledger.0.remove(&key);
            }
            RequeuedKeptIsDueLater if is_chosen && delivery.is(DeliveryState::Done) => {
                let due = delivery.due;
                let requeued = state.requeue(&[id], states);
                state.deliveries.get_mut(&id).into_iter().for_each(|delivery| delivery.due = due);
                return requeued;
            }
            RequeuedKeptHasAttempts if is_chosen && delivery.is(DeliveryState::Done) => {
                delivery.make_ready(now);
                return 1;
            }
            RequeuedKeptGoesLast if is_chosen && delivery.is(DeliveryState::Done) => {
                delivery.request = delivery.request.clone().with_ordering_keys(&[]);
            }
            RetriedHasAttempts if is_dead => {
                delivery.make_ready(now);
                return 1;
            }
            RetriedHaveNoKeys if is_dead => {
                delivery.request = delivery.request.clone().with_ordering_keys(&[]);
            }
            _ => {}
        }
        state.requeue(&[id], states)
    }
}
