//! Faults of the records of attempts.

use tower_klikit::inbox::{DeliveryState, EXPIRED, LEASE_EXPIRED, Lease, LeaseBatch, LeaseRequest, Leased, Settlement};

use super::FaultyStore;
use crate::inbox::{
    faulty::faults::InboxFault::*,
    state::{Delivery, EndedAttempt, OpenAttempt, ReferenceInbox},
};

impl FaultyStore {
    /// Handles the faults that change records, ages and marks after a lease. `before` is the state before.
    pub(super) fn lease_after(
        &self,
        before: &ReferenceInbox,
        state: &mut ReferenceInbox,
        request: &LeaseRequest<'_>,
        batch: &mut LeaseBatch,
    ) {
        let now = state.now;
        for leased in &batch.leased {
            let id = leased.lease().id().get();
            let (Some(old), Some(delivery)) = (before.deliveries.get(&id), state.deliveries.get_mut(&id)) else {
                continue;
            };
            let is_lost = delivery.history.len() > old.history.len();
            match (self.fault, delivery.history.last_mut().filter(|_| is_lost)) {
                (LeasingOpensNothing, _) if leased.is_attempt_counted() => delivery.open = None,
                (LeasingAheadOpens, _) => delivery.open(request.worker, now),
                (LeasesNameNoWorker, _) if leased.is_attempt_counted() => {
                    delivery.open.iter_mut().for_each(|open| open.worker.clear());
                }
                (LostAttemptIsNotRecorded, _) => delivery.history.clone_from(&old.history),
                (LostAttemptHasAnEnd, Some(record)) => record.ended = Some(now),
                (LostAttemptHasNoReason, Some(record)) => record.reason = None,
                (LostAttemptMayHaveNumber0, Some(record)) => record.number = old.attempts,
                (TakeoverEndsTheAttempt, _) => {
                    delivery.open = delivery.open.take().filter(|_| leased.is_attempt_counted())
                }
                _ => {}
            }
        }
        for dead in &batch.dead_lettered {
            let id = dead.id.get();
            let (Some(old), Some(delivery)) = (before.deliveries.get(&id), state.deliveries.get_mut(&id)) else {
                continue;
            };
            match self.fault {
                LostAttemptOfADeadLetterIsNotRecorded => delivery.history.clone_from(&old.history),
                DeadLetteringClosesTheAttempt => delivery.open = None,
                _ => {}
            }
        }
        let leased = std::mem::take(&mut batch.leased);
        batch.leased = leased.into_iter().map(|leased| self.aged(before, state, leased)).collect();
    }

    /// Handles the faults of the ages and marks of leased deliveries.
    fn aged(&self, before: &ReferenceInbox, state: &ReferenceInbox, leased: Leased) -> Leased {
        let id = leased.lease().id().get();
        let (Some(old), Some(delivery)) = (before.deliveries.get(&id), state.deliveries.get(&id)) else {
            return leased;
        };
        match self.fault {
            AgeIsNotReturned => leased.with_age(std::time::Duration::ZERO),
            AgeCountsFromTheDueTime => leased.with_age(state.now - old.due),
            // A delivery that was never done has the time at which its request arrived.
            AgeCountsFromTheRevival => leased.with_age(state.now - delivery.history_until),
            RetriedAfterExpiryIsNotMarked => unmarked(&leased),
            EveryRetriedIsMarked if old.attempts == 0 && old.token > 0 => leased.after_expiry(),
            OnlyTheFirstLeaseIsMarked if old.is(DeliveryState::Leased) => unmarked(&leased),
            _ => leased,
        }
    }

    /// Handles the faults that change records after a settlement.
    pub(super) fn record_after(
        &self,
        state: &mut ReferenceInbox,
        lease: &Lease,
        before: &Delivery,
        settlement: &Settlement,
    ) {
        let now = state.now;
        let Some(delivery) = state.deliveries.get_mut(&lease.id().get()) else { return };
        if delivery.token != lease.token() {
            return;
        }
        let takes_off = matches!(settlement, Settlement::Release | Settlement::Expire);
        let was_dead = before.is(DeliveryState::Dead);
        let was_lost = was_dead && before.reason.as_deref() == Some(LEASE_EXPIRED);
        let is_new = before.open.is_some() && delivery.open.is_none() && !takes_off;
        match (self.fault, delivery.history.last_mut().filter(|_| is_new)) {
            (StatusesAreLost, Some(record)) => record.status = None,
            (ReasonsOfRecordsAreLost, Some(record)) => record.reason = None,
            (RecordsHaveNoEnd, Some(record)) => record.ended = None,
            (RecordsEndWhenTheyStart, Some(record)) => record.ended = Some(record.attempt.started),
            (RecordsStartWhenTheyEnd, Some(record)) => record.attempt.started = now,
            (RecordsAreNumberedFrom0, Some(record)) => record.number -= 1,
            (SuccessHasNoRecord, Some(_)) if matches!(settlement, Settlement::Done { .. }) => {
                delivery.history.pop();
            }
            (FailureHasNoRecord, Some(_)) if matches!(settlement, Settlement::Reschedule { .. }) => {
                delivery.history.pop();
            }
            (DeadLetterHasNoRecord, Some(_)) if matches!(settlement, Settlement::DeadLetter { .. }) => {
                delivery.history.pop();
            }
            (ReleaseIsRecorded, _) if *settlement == Settlement::Release => delivery.record(before.open.clone(), lease),
            (ExpiryIsRecorded, _) if *settlement == Settlement::Expire => delivery.record(before.open.clone(), lease),
            (ReleaseDeletesRecords, _) if *settlement == Settlement::Release => delivery.history.clear(),
            (ReleaseLeavesTheAttemptOpen, _) if *settlement == Settlement::Release => {
                delivery.open.clone_from(&before.open);
            }
            (LateOutcomeAddsARecord, Some(_)) if was_lost => {
                let late = delivery.history.pop();
                delivery.history = before.history.iter().cloned().chain(late).collect();
            }
            (LateOutcomeIsNotRecorded, Some(_)) if was_lost => delivery.history.clone_from(&before.history),
            (LateReleaseLeavesTheRecord, _) if was_lost && takes_off => delivery.history.clone_from(&before.history),
            (LeftDeadLettersRecordNothing, _) if was_dead && !was_lost => {
                delivery.history.clone_from(&before.history);
                delivery.open.clone_from(&before.open);
            }
            (RepeatedSettlementIsRecorded, _) if before.open.is_none() && !takes_off => {
                let last = delivery.history.last().map(|record| record.attempt.clone());
                delivery.record(last, lease);
            }
            (SettlingDeletesEarlierRecords, Some(_)) => {
                let last = delivery.history.pop();
                delivery.history = last.into_iter().collect();
            }
            _ => {}
        }
        if self.fault == ExpiryCountsTheAttempt && *settlement == Settlement::Expire {
            delivery.attempts = before.attempts;
        }
        if self.fault == ExpiryTakesAllAttemptsOff && *settlement == Settlement::Expire {
            delivery.attempts = 0;
        }
        if self.fault == ExpiryHasNoReason && delivery.reason.as_deref() == Some(EXPIRED) {
            delivery.reason = None;
        }
        if self.fault == ExpiryReplacesAnyDeadLetter && *settlement == Settlement::Expire {
            delivery.dead_letter(EXPIRED);
        }
    }
}

impl Delivery {
    /// Adds a record that no store should have.
    fn record(&mut self, attempt: Option<OpenAttempt>, lease: &Lease) {
        if let Some(attempt) = attempt {
            let (number, ended) = (lease.attempt(), Some(attempt.started));
            self.history.push(EndedAttempt { attempt, number, ended, status: None, reason: None });
        }
    }
}

/// Returns the delivery without the mark that it was retried after it had expired.
fn unmarked(leased: &Leased) -> Leased {
    let unmarked = Leased::new(*leased.lease(), leased.head(), leased.body().clone())
        .with_ordering_keys(leased.ordering_keys().to_vec())
        .with_age(leased.age());
    let unmarked = if leased.is_after_expired_lease() { unmarked.after_expired_lease() } else { unmarked };
    if leased.is_attempt_counted() { unmarked.with_attempt_counted() } else { unmarked }
}
