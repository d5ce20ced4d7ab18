//! Faults of leasing and extending.

use std::time::Duration;

use tower_klikit::inbox::{DeadLettered, DeliveryState, Lease, LeaseBatch, LeaseRequest, Leased};

use super::{DAY, FaultyStore, accept::REVIVED};
use crate::inbox::{
    faulty::faults::InboxFault::*,
    state::{Delivery, ReferenceInbox},
};

/// A delivery that shares an ordering key with another one, which it may block.
struct Rival<'a> {
    id: i64,
    delivery: &'a Delivery,
    order: Order,
}

/// Whether a rival was accepted before or after the delivery that it may block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Earlier,
    Later,
}

impl FaultyStore {
    pub(super) fn leased(&self, state: &mut ReferenceInbox, request: &LeaseRequest<'_>) -> LeaseBatch {
        if self.fault == RetriedTokensAreReused {
            let retried = |d: &&mut Delivery| d.is(DeliveryState::Ready) && d.attempts == 0 && d.token > 0;
            state.deliveries.values_mut().filter(retried).for_each(|d| d.token -= 1);
        }
        let dead = |(_, d): &(&i64, &Delivery)| d.is(DeliveryState::Dead);
        let dead: Vec<i64> = state.deliveries.iter().filter(dead).map(|(id, _)| *id).collect();
        let (leases, mut dead_lettered) = self.lease_or_dead_letter(state, request);
        for lease in &leases {
            let delivery = state.deliveries.get_mut(&lease.id().get()).expect("the delivery was leased");
            match self.fault {
                AttemptsAreNotCounted => delivery.attempts = 1,
                LaterLeasesAreShort if lease.attempt() > 1 => delivery.due = state.now + request.duration / 2,
                ExpiredAreNotMarked => delivery.after_expired_lease = false,
                AllAreMarked => delivery.after_expired_lease = true,
                CountedAreNotMarked => delivery.attempt_counted = false,
                UncountedAreMarked => delivery.attempt_counted = true,
                LeasingNeverCounts if delivery.attempt_counted => {
                    (delivery.attempts, delivery.attempt_counted) = (delivery.attempts - 1, false);
                }
                LeasingCountsAfterExpiry if delivery.after_expired_lease => {
                    (delivery.attempts, delivery.attempt_counted) = (lease.attempt(), true);
                }
                _ => {}
            }
        }
        let reported = |lease: &Lease| match self.fault {
            AttemptsAreNotCounted => Lease::new(lease.id(), lease.token(), 1),
            _ => *lease,
        };
        let leases = leases.iter().map(reported).collect();
        self.report(state, &dead, &mut dead_lettered);
        let mut batch = state.batch(leases, dead_lettered);
        let with_keys = |leased: Leased| {
            let keys = leased.ordering_keys().to_vec();
            let is_late = leased.is_after_expired_lease();
            match self.fault {
                OrderingKeysAreNotReturned => leased.with_ordering_keys(Vec::new()),
                OneOrderingKeyIsReturned => leased.with_ordering_keys(keys.into_iter().take(1).collect()),
                LateOrderingKeysAreNotReturned if is_late => leased.with_ordering_keys(Vec::new()),
                _ => leased,
            }
        };
        batch.leased = batch.leased.into_iter().map(with_keys).collect();
        batch
    }

    fn lease_or_dead_letter(
        &self,
        state: &mut ReferenceInbox,
        request: &LeaseRequest<'_>,
    ) -> (Vec<Lease>, Vec<DeadLettered>) {
        let request = &self.extend_held(state, request);
        if let Some(leased) = self.lease_unfairly(state, request) {
            return leased;
        }
        match self.fault {
            LeasesNeverEnd => {
                let duration = request.duration.max(DAY);
                return state.lease(&LeaseRequest { duration, ..*request });
            }
            LastAcceptedGoesFirst => {
                let mut due = state.due();
                due.reverse();
                return state.lease_due(due, request);
            }
            FirstAcceptedGoesFirst => {
                let mut due = state.due();
                due.sort_unstable();
                return state.lease_due(due, request);
            }
            FreeHandlersAreIgnored => return state.lease(&LeaseRequest { free_handlers: u32::MAX, ..*request }),
            OneHandlerMoreIsFree => {
                let free_handlers = request.free_handlers.saturating_add(1);
                return state.lease(&LeaseRequest { free_handlers, ..*request });
            }
            LeasingAheadCounts
            | ExpiredAreLeasedAhead
            | ExpiredHideTheReady
            | ExpiredUseUpTheFreeHandlers
            | ExhaustedAreLeasedAhead => {
                return self.lease_ahead(state, request);
            }
            LeasingCountsTheLastAttempt => {
                return self.lease_with_attempts(state, request, u32::MAX);
            }
            SecondLastAttemptCountsWhenItStarts => {
                let max_attempts = request.max_attempts.saturating_sub(1);
                return self.lease_with_attempts(state, request, max_attempts);
            }
            UnstartedAreDeadLettered => {
                let may_die = |(_, d): &(&i64, &Delivery)| {
                    d.has_expired(state.now) && d.attempts + 1 >= request.max_attempts && !d.attempt_counted
                };
                let spent: Vec<i64> = state.deliveries.iter().filter(may_die).map(|(id, _)| *id).collect();
                let dead_lettered = state.dead_letter_these(&spent);
                let (leases, more) = state.lease(request);
                return (leases, dead_lettered.into_iter().chain(more).collect());
            }
            PausedIsDeadLettered => {
                let may_die = |(id, d): &(&i64, &Delivery)| {
                    state.is_paused(d) && d.due <= state.now && state.is_exhausted(**id, request.max_attempts)
                };
                let spent: Vec<i64> = state.deliveries.iter().filter(may_die).map(|(id, _)| *id).collect();
                let dead_lettered = state.dead_letter_these(&spent);
                let (leases, more) = state.lease(request);
                return (leases, dead_lettered.into_iter().chain(more).collect());
            }
            ExpiryUndoesTheStart => {
                let now = state.now;
                let expired = state.deliveries.values_mut().filter(|d| d.has_expired(now) && !d.attempt_counted);
                expired.for_each(|d| d.attempts = d.attempts.saturating_sub(1));
            }
            LimitIsIgnored => return state.lease(&LeaseRequest { limit: u32::MAX, ..*request }),
            NoneIsDeadLettered => return state.lease(&LeaseRequest { max_attempts: u32::MAX, ..*request }),
            OneAttemptMore => {
                let max_attempts = request.max_attempts.saturating_add(1);
                return state.lease(&LeaseRequest { max_attempts, ..*request });
            }
            ReadyAreDeadLettered | UnexpiredAreDeadLettered => {
                let is_exhausted = |(id, d): &(&i64, &Delivery)| match self.fault {
                    ReadyAreDeadLettered => d.is_pending() && d.due <= state.now && d.attempts >= request.max_attempts,
                    _ => state.is_exhausted(**id, request.max_attempts),
                };
                let spent: Vec<i64> = state.deliveries.iter().filter(is_exhausted).map(|(id, _)| *id).collect();
                let dead_lettered = state.dead_letter_these(&spent);
                let (leases, more) = state.lease(request);
                return (leases, dead_lettered.into_iter().chain(more).collect());
            }
            _ => {}
        }
        let due = self.due(state, request);
        let leased = state.lease_due(due, request);
        if self.fault == HeldIsExtendedAfterSelecting {
            state.extend_held(request);
        }
        leased
    }

    /// Handles the faults in the selection or counting of deliveries that are leased ahead.
    fn lease_ahead(&self, state: &mut ReferenceInbox, request: &LeaseRequest<'_>) -> (Vec<Lease>, Vec<DeadLettered>) {
        let is_exhausted = |id: &i64| state.is_exhausted(*id, request.max_attempts);
        let (spent, due): (Vec<i64>, Vec<i64>) = state.due().into_iter().partition(is_exhausted);
        let dead_lettered = state.dead_letter_these(&spent);
        let free_handlers = request.free_handlers as usize;
        let due = state.share(due, request);
        let is_expired = |id: &i64| state.deliveries[id].is(DeliveryState::Leased);
        let mut due = match self.fault {
            ExpiredAreLeasedAhead => due,
            ExhaustedAreLeasedAhead => state.leave_out(due, &LeaseRequest { max_attempts: u32::MAX, ..*request }),
            ExpiredHideTheReady => {
                let hidden = due.iter().enumerate().position(|(n, id)| n >= free_handlers && is_expired(id));
                due[..hidden.unwrap_or(due.len())].to_vec()
            }
            // Deliveries that are left out use up free handlers.
            ExpiredUseUpTheFreeHandlers => {
                let left_out = due.iter().filter(|id| is_expired(id)).skip(free_handlers).count();
                let free_handlers = free_handlers.saturating_sub(left_out);
                let request = LeaseRequest { free_handlers: u32::try_from(free_handlers).unwrap(), ..*request };
                state.leave_out(due, &request)
            }
            _ => state.leave_out(due, request),
        };
        due.truncate(request.limit as usize);
        let free_handlers = if self.fault == LeasingAheadCounts { u32::MAX } else { request.free_handlers };
        (state.lease_these(&due, &LeaseRequest { free_handlers, ..*request }), dead_lettered)
    }

    /// Leases with another maximum of attempts, but dead-letters with the requested one.
    fn lease_with_attempts(
        &self,
        state: &mut ReferenceInbox,
        request: &LeaseRequest<'_>,
        max_attempts: u32,
    ) -> (Vec<Lease>, Vec<DeadLettered>) {
        let is_exhausted = |id: &i64| state.is_exhausted(*id, request.max_attempts);
        let (spent, due): (Vec<i64>, Vec<i64>) = state.due().into_iter().partition(is_exhausted);
        let dead_lettered = state.dead_letter_these(&spent);
        let due = state.share(due, request);
        let mut due = state.leave_out(due, request);
        due.truncate(request.limit as usize);
        (state.lease_these(&due, &LeaseRequest { max_attempts, ..*request }), dead_lettered)
    }

    /// Extends the held leases, with the faults of that step. Returns the request that the rest of the call follows.
    fn extend_held<'a>(&self, state: &mut ReferenceInbox, request: &LeaseRequest<'a>) -> LeaseRequest<'a> {
        let now = state.now;
        match self.fault {
            HeldIsIgnored => return LeaseRequest { held: &[], ..*request },
            HeldIsNotExtended | HeldIsExtendedAfterSelecting => return *request,
            HeldIsExtendedIfSomeAreRequested if request.limit == 0 => return *request,
            HeldIsNotExtendedIfPaused => {
                let is_paused = |lease: &&Lease| {
                    state.deliveries.get(&lease.id().get()).is_some_and(|delivery| state.is_paused(delivery))
                };
                let others: Vec<Lease> = request.held.iter().filter(|lease| !is_paused(lease)).copied().collect();
                state.extend_held(&LeaseRequest { held: &others, ..*request });
                return *request;
            }
            HeldIsAlwaysExtended => {
                for lease in request.held {
                    state.extend(lease, request.duration);
                }
            }
            HeldIsDeadLettered => {
                let unspent = |lease: &&Lease| !state.is_exhausted(lease.id().get(), request.max_attempts);
                let is_there = |lease: &&Lease| state.deliveries.contains_key(&lease.id().get());
                let unspent: Vec<Lease> = request.held.iter().filter(is_there).filter(unspent).copied().collect();
                state.extend_held(&LeaseRequest { held: &unspent, ..*request });
                return *request;
            }
            HeldExtendsForeignLeases => {
                for lease in request.held {
                    if let Some(foreign) = state.deliveries.get_mut(&lease.id().get())
                        && foreign.is(DeliveryState::Leased)
                        && foreign.token != lease.token()
                        && foreign.due > now
                    {
                        foreign.due = now + request.duration;
                    }
                }
            }
            HeldRevivesTheDead => {
                for lease in request.held {
                    if let Some(dead) = state.deliveries.get_mut(&lease.id().get())
                        && dead.is(DeliveryState::Dead)
                        && dead.token == lease.token()
                    {
                        (dead.state, dead.due) = (DeliveryState::Leased, now + request.duration);
                    }
                }
            }
            _ => {}
        }
        state.extend_held(request);
        match self.fault {
            HeldDeliveryBeginsAnAttempt => LeaseRequest { held: &[], ..*request },
            ReadyHeldDeliveryBeginsAnAttempt => {
                for lease in request.held {
                    if let Some(ready) = state.deliveries.get_mut(&lease.id().get())
                        && ready.is(DeliveryState::Ready)
                        && ready.due <= now
                    {
                        ready.attempts += 1;
                    }
                }
                *request
            }
            _ => *request,
        }
    }

    /// Returns the deliveries to lease or dead-letter, with the faults of blocking.
    fn due(&self, state: &ReferenceInbox, request: &LeaseRequest<'_>) -> Vec<i64> {
        let now = state.now;
        let is_due = |d: &Delivery| d.due <= now;
        let is_leased = |d: &Delivery| d.is(DeliveryState::Leased) && !is_due(d);
        let is_held = |id: i64| request.held.iter().any(|lease| lease.id().get() == id);
        let is_own =
            |id: i64, d: &Delivery| request.held.iter().any(|held| held.id().get() == id && held.token() == d.token);
        let blocks: &dyn Fn(&Delivery, &Rival<'_>) -> bool = match self.fault {
            LeasedHeadDoesNotBlock => &|_, rival| match rival.order {
                Order::Earlier => rival.delivery.is(DeliveryState::Ready),
                Order::Later => is_leased(rival.delivery),
            },
            RescheduledHeadDoesNotBlock => &|_, Rival { delivery, order, .. }| match order {
                Order::Earlier => {
                    delivery.is(DeliveryState::Leased) || delivery.is(DeliveryState::Ready) && is_due(delivery)
                }
                Order::Later => is_leased(delivery),
            },
            ExpiredHeadDoesNotBlock => &|_, rival| match rival.order {
                Order::Earlier => rival.delivery.is(DeliveryState::Ready) || is_leased(rival.delivery),
                Order::Later => is_leased(rival.delivery),
            },
            DeadBlock => &|_, rival| match rival.order {
                Order::Earlier => !rival.delivery.is(DeliveryState::Done),
                Order::Later => is_leased(rival.delivery),
            },
            SettledAfterARetryBlocks => &|_, Rival { delivery, order, .. }| match order {
                Order::Earlier => delivery.is_pending() || delivery.is(DeliveryState::Done) && delivery.attempts == 0,
                Order::Later => is_leased(delivery),
            },
            LaterLeasedDoNotBlock => &|_, rival| rival.order == Order::Earlier && rival.delivery.is_pending(),
            LaterExpiredBlock => &|_, rival| match rival.order {
                Order::Earlier => rival.delivery.is_pending(),
                Order::Later => rival.delivery.is(DeliveryState::Leased),
            },
            RevivedIgnoresLeasesBehindIt => &|blocked, rival| match rival.order {
                Order::Earlier => rival.delivery.is_pending(),
                Order::Later => is_leased(rival.delivery) && blocked.reason.as_deref() != Some(REVIVED),
            },
            PausedDoesNotBlock => &|_, rival| match rival.order {
                Order::Earlier => rival.delivery.is_pending() && !state.is_paused(rival.delivery),
                Order::Later => is_leased(rival.delivery),
            },
            ExpiredBlock => &|_, rival| match rival.order {
                Order::Earlier => rival.delivery.is_pending() || rival.delivery.is_after_expiry(),
                Order::Later => is_leased(rival.delivery),
            },
            HeldDoesNotBlock => &|_, rival| match rival.order {
                Order::Earlier => rival.delivery.is_pending() && !is_own(rival.id, rival.delivery),
                Order::Later => is_leased(rival.delivery),
            },
            _ => &|_, rival| match rival.order {
                Order::Earlier => rival.delivery.is_pending(),
                Order::Later => is_leased(rival.delivery),
            },
        };
        let is_free = |id: &i64, delivery: &Delivery| {
            let rivals =
                state.deliveries.iter().filter(|(other, rival)| *other != id && rival.shares_a_key_with(delivery));
            !rivals.into_iter().any(|(other, rival)| {
                let order = if other < id { Order::Earlier } else { Order::Later };
                blocks(delivery, &Rival { id: *other, delivery: rival, order })
            })
        };
        let is_spared = |id: i64, d: &Delivery| match self.fault {
            HeldIsNotExtended => is_own(id, d),
            HeldIsExtendedAfterSelecting => is_own(id, d) && d.has_expired(now),
            HeldDeliveryIsNeverLeased => is_held(id) && d.is(DeliveryState::Leased),
            StaleHeldIsNotDeadLettered => is_held(id) && state.is_exhausted(id, request.max_attempts),
            _ => false,
        };
        let due = state.deliveries.iter();
        let due = due.filter(|(id, d)| {
            d.is_pending() && is_due(d) && !self.leaves_out(state, d) && is_free(id, d) && !is_spared(**id, d)
        });
        let mut due: Vec<i64> = due.map(|(id, _)| *id).collect();
        due.sort_by_key(|id| state.deliveries[id].due);
        due
    }

    /// Handles the faults of reporting dead letters. `dead` are the deliveries that were dead before.
    fn report(&self, state: &mut ReferenceInbox, dead: &[i64], dead_lettered: &mut Vec<DeadLettered>) {
        match self.fault {
            DeadLettersAreNotReported => dead_lettered.clear(),
            OneDeadLetterIsReported => dead_lettered.truncate(1),
            AllDeadAreReported if !dead_lettered.is_empty() => {
                dead_lettered.extend(state.clone().dead_letter_these(dead));
            }
            DeadLettersHaveNoHead => dead_lettered.iter_mut().for_each(|dead| dead.head = None),
            DeadLettersHaveAnAttemptMore => dead_lettered.iter_mut().for_each(|dead| dead.attempts += 1),
            DeadLettersHaveNoReason => {
                for dead in dead_lettered {
                    state.deliveries.get_mut(&dead.id.get()).expect("the delivery was found").reason = None;
                }
            }
            _ => {}
        }
    }

    pub(super) fn extended(&self, state: &mut ReferenceInbox, lease: &Lease, duration: Duration) -> bool {
        let lease = &self.as_current(state, lease);
        let now = state.now;
        if self.rejects_paused(state, lease, PausedIsNotExtended) {
            return false;
        }
        let (fault, until) = (self.fault, now + duration);
        let delivery = state.deliveries.get_mut(&lease.id().get());
        match (fault, delivery) {
            (ReadyIsExtended, Some(d)) if d.token == lease.token() && d.is(DeliveryState::Ready) => {
                (d.state, d.due) = (DeliveryState::Leased, until);
                return true;
            }
            (DeadIsExtended, Some(d)) if d.token == lease.token() && d.is(DeliveryState::Dead) => {
                (d.state, d.due) = (DeliveryState::Leased, until);
                return true;
            }
            (LostLeaseExtendsAnExpiredOne, Some(d)) if d.has_expired(now) && d.token > lease.token() => {
                d.due = until;
                return true;
            }
            _ => {}
        }
        match (fault, state.own(lease)) {
            (ExtendingDoesNothing, own) => return own.is_some(),
            (ExtendingAdds, Some(own)) => own.due += duration,
            (ExtendingNeverShortens, Some(own)) => own.due = own.due.max(until),
            (ExpiredLeaseIsNotExtended, Some(own)) if own.due <= now => return false,
            (ExtensionOfAnExpiredLeaseIsDenied, Some(own)) if own.due <= now => {
                own.due = until;
                return false;
            }
            (ExtendingUndoesTheStart, Some(own)) if !own.attempt_counted => {
                own.attempts = own.attempts.min(lease.attempt() - 1);
                own.due = until;
            }
            (ExtendingIsAnAttempt, Some(own)) => {
                own.attempts += 1;
                own.due = until;
            }
            _ => return state.extend(lease, duration),
        }
        true
    }

    /// Handles the faults that take another lease for the current one. Returns such a lease with the current token.
    pub(super) fn as_current(&self, state: &ReferenceInbox, lease: &Lease) -> Lease {
        let Some(delivery) = state.deliveries.get(&lease.id().get()) else { return *lease };
        let is_taken_for_current = match self.fault {
            TokensAreIgnored => true,
            TokensAreAttempts => delivery.attempts == lease.attempt(),
            LargerTokensAreCurrent => lease.token() > delivery.token,
            LostLeaseSettlesUnleasedOnes => {
                lease.token() < delivery.token && !delivery.is(DeliveryState::Leased) && delivery.attempts > 0
            }
            _ => false,
        };
        if is_taken_for_current { Lease::new(lease.id(), delivery.token, lease.attempt()) } else { *lease }
    }
}
