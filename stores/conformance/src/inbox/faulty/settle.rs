//! Faults of settling.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;
use tower_klikit::inbox::{DeliveryState, LEASE_EXPIRED, Lease, NewDelivery, SettleOutcome, Settlement};

use super::{DAY, FaultyStore, HOUR};
use crate::inbox::{
    faulty::faults::InboxFault::*,
    state::{Delivery, ReferenceInbox},
};

/// The reason that marks a released delivery. The contract does not define the reason after a release.
pub(super) const RELEASED: &str = "released";

impl FaultyStore {
    pub(super) fn settled(&self, state: &mut ReferenceInbox, lease: &Lease, settlement: &Settlement) -> SettleOutcome {
        let lease = &self.as_current(state, lease);
        let (id, now) = (lease.id().get(), state.now);
        let Some(before) = state.deliveries.get(&id).cloned() else {
            return match self.fault {
                MissingIsSettled => SettleOutcome::Settled,
                MissingIsReleased if *settlement == Settlement::Release => SettleOutcome::Settled,
                MissingIsSuperseded => SettleOutcome::Superseded,
                _ => SettleOutcome::Gone,
            };
        };
        if before.token != lease.token() {
            return if self.fault == SupersededIsGone { SettleOutcome::Gone } else { SettleOutcome::Superseded };
        }
        if self.is_rejected(&before, settlement, state) {
            return SettleOutcome::Superseded;
        }
        let settlement = &self.changed(settlement, &before);
        if before.is(DeliveryState::Done)
            && let Some(kept) = state.deliveries.get_mut(&id)
        {
            match (self.fault, settlement) {
                (DoneIsGone, _) => return SettleOutcome::Gone,
                (DoneIsSettledAgain, _) => kept.state = DeliveryState::Leased,
                (DoneIsKeptForLonger, Settlement::Done { keep, .. }) if !keep.is_zero() => kept.due = now + *keep,
                (DoneIsDeletedByARepeat, Settlement::Done { keep, .. }) if keep.is_zero() => {
                    kept.state = DeliveryState::Leased;
                }
                _ => {}
            }
        }
        if self.fault == RetriedIsReleased && *settlement == Settlement::Release && before.is(DeliveryState::Ready) {
            self.change(state, id, |delivery| delivery.due = now);
            self.change(state, id, |delivery| delivery.attempts = lease.attempt().saturating_sub(1));
        }
        if self.fault == ReleaseCountsTwice && *settlement == Settlement::Release && before.is(DeliveryState::Ready) {
            self.change(state, id, |delivery| delivery.attempts = delivery.attempts.saturating_sub(1));
        }
        if self.fault == BodiesAreNotKept && matches!(settlement, Settlement::Done { .. }) {
            self.change(state, id, |kept| {
                kept.request = NewDelivery::new(kept.request.claim().clone(), kept.request.head(), Bytes::new());
            });
        }
        let brings_back = match settlement {
            Settlement::Reschedule { .. } => self.fault == FailureBringsBackAnyDeadLetter,
            Settlement::Release => self.fault == ReleaseBringsBackAnyDeadLetter,
            _ => false,
        };
        if brings_back && before.is(DeliveryState::Dead) {
            self.change(state, id, |delivery| delivery.reason = Some(LEASE_EXPIRED.into()));
        }
        let settled = state.settle(lease, settlement);
        self.settle_after(state, id, &before, settlement);
        self.record_after(state, lease, &before, settlement);
        if *settlement == Settlement::Release && matches!(before.state, DeliveryState::Leased | DeliveryState::Dead) {
            let attempts = match self.fault {
                ReleaseTakesOneAttemptOff => Some(before.attempts.saturating_sub(1)),
                ReleaseLeavesStartedAttempts if !before.attempt_counted => Some(before.attempts),
                ReleaseTakesAllAttemptsOff => Some(0),
                _ => None,
            };
            self.change(state, id, |delivery| delivery.attempts = attempts.unwrap_or(delivery.attempts));
        }
        settled
    }

    /// Handles the faults that reject a valid settlement.
    fn is_rejected(&self, before: &Delivery, settlement: &Settlement, state: &ReferenceInbox) -> bool {
        let is_dead = before.is(DeliveryState::Dead);
        let is_late = is_dead && before.reason.as_deref() == Some(LEASE_EXPIRED);
        let is_ready = before.is(DeliveryState::Ready);
        let is_release = *settlement == Settlement::Release;
        match self.fault {
            ExpiredLeaseIsNotSettled => before.has_expired(state.now),
            ReadyIsNotSettled => is_ready,
            RetriedIsNotSettled => is_ready && before.attempts == 0 && !is_release,
            LateSuccessIsRejected => is_late && matches!(settlement, Settlement::Done { .. }),
            LateFailureIsRejected => is_late && matches!(settlement, Settlement::Reschedule { .. }),
            LateDeadLetterIsRejected => is_late && matches!(settlement, Settlement::DeadLetter { .. }),
            LateReleaseIsRejected => is_late && is_release,
            _ => false,
        }
    }

    /// Handles the faults that change a settlement.
    fn changed(&self, settlement: &Settlement, before: &Delivery) -> Settlement {
        let is_dead = before.is(DeliveryState::Dead);
        match (self.fault, settlement) {
            (NothingIsKept, Settlement::Done { history, status, .. }) => {
                Settlement::Done { keep: Duration::ZERO, history: *history, status: *status }
            }
            (HandledIsKeptForADay, Settlement::Done { keep, history, status }) if keep.is_zero() => {
                Settlement::Done { keep: DAY, history: *history, status: *status }
            }
            (HistoryIsNotKept, Settlement::Done { keep, status, .. }) => {
                Settlement::Done { keep: *keep, history: Duration::ZERO, status: *status }
            }
            (HistoryKeepsTheBody, Settlement::Done { keep, history, status }) => {
                Settlement::Done { keep: *keep.max(history), history: *history, status: *status }
            }
            (HistoryEndsEarly, Settlement::Done { keep, history, status }) => {
                Settlement::Done { keep: *keep, history: *history / 2, status: *status }
            }
            (HistoryIsKeptForLonger, Settlement::Done { keep, history, status }) if !history.is_zero() => {
                Settlement::Done { keep: *keep, history: *history + DAY, status: *status }
            }
            (BodyGoesWithTheHistory, Settlement::Done { keep, history, status }) if !history.is_zero() => {
                Settlement::Done { keep: *keep.min(history), history: *history, status: *status }
            }
            (ExpiryReschedules, Settlement::Expire) => Settlement::Release,
            (ReleasingIsAnAttempt, Settlement::Release) if !before.is(DeliveryState::Ready) => released(),
            (LateReleaseIsAnAttempt, Settlement::Release) if is_dead => released(),
            (_, Settlement::Reschedule { delay, reason, unordered, status }) => {
                let (mut delay, mut reason, mut unordered) = (*delay, reason.clone(), *unordered);
                match self.fault {
                    DelaysAreIgnored => delay = Duration::ZERO,
                    DelaysAreCut => delay = delay.min(HOUR / 2),
                    ReasonsAreAscii => reason = reason.replace(|c: char| !c.is_ascii(), "?"),
                    OrderIsNeverLost => unordered = false,
                    LateFailureKeepsItsOrder if is_dead => unordered = false,
                    EveryFailureLosesItsOrder => unordered = true,
                    _ => {}
                }
                Settlement::Reschedule { delay, reason, unordered, status: *status }
            }
            _ => settlement.clone(),
        }
    }

    /// Handles the faults that change a delivery after settling it.
    fn settle_after(&self, state: &mut ReferenceInbox, id: i64, before: &Delivery, settlement: &Settlement) {
        let was_dead = before.is(DeliveryState::Dead);
        let was_ready = before.is(DeliveryState::Ready);
        match (self.fault, settlement) {
            (HandlingDeletesTheRow, Settlement::Done { .. }) => {
                state.ledger.0.remove(&before.key());
            }
            (HistoryDeletesTheRow, Settlement::Done { keep, history, .. }) if keep.is_zero() && !history.is_zero() => {
                state.ledger.0.remove(&before.key());
            }
            (DeadReasonsAreLost, Settlement::DeadLetter { .. }) => {
                self.change(state, id, |dead| dead.reason = None);
            }
            (LateReasonsAreLost, Settlement::DeadLetter { .. }) if was_dead => {
                self.change(state, id, |dead| dead.reason.clone_from(&before.reason));
            }
            (KeptHaveAReason, Settlement::Done { .. }) => {
                self.change(state, id, |kept| kept.reason.clone_from(&before.reason));
            }
            (LateFailureLosesItsPlace, Settlement::Reschedule { .. } | Settlement::Release) if was_dead => {
                self.change(state, id, |delivery| {
                    delivery.request = delivery.request.clone().with_ordering_keys(&[]);
                });
            }
            (ReleasedTokensAreReused, Settlement::Release) if before.is(DeliveryState::Leased) => {
                self.change(state, id, |delivery| delivery.token -= 1);
            }
            (ReleasedIsShownAsAnAttempt, Settlement::Release) if !was_ready => {
                self.change(state, id, |delivery| delivery.reason = Some(RELEASED.into()));
            }
            (ReleaseUnderflowsTheAttempts, Settlement::Release) if !was_ready && before.attempts == 0 => {
                self.change(state, id, |delivery| delivery.attempts = u32::MAX);
            }
            _ => {}
        }
    }

    fn change(&self, state: &mut ReferenceInbox, id: i64, change: impl FnOnce(&mut Delivery)) {
        state.deliveries.get_mut(&id).map(change);
    }

    /// Reads the delivery first and writes it later, without a lock in between.
    pub(super) async fn settled_in_two_steps(&self, settlements: &[(Lease, Settlement)]) -> Vec<SettleOutcome> {
        let mut settled = Vec::new();
        for (lease, settlement) in settlements {
            let (id, found) = (lease.id().get(), self.state().deliveries.get(&lease.id().get()).cloned());
            let is_late = found.as_ref().is_some_and(|found| found.has_expired(self.state().now));
            if found.is_some() && (self.fault == SettlingIsTwoSteps || is_late) {
                yield_now().await;
            }
            let mut state = self.state();
            state.deliveries.extend(found.map(|found| (id, found)));
            settled.push(state.settle(lease, settlement));
        }
        settled
    }
}

/// Returns the settlement of a failed attempt, which some faults use for a release.
fn released() -> Settlement {
    Settlement::Reschedule { delay: Duration::ZERO, reason: RELEASED.into(), unordered: false, status: None }
}
