//! How a lease can be prolonged or ended wrongly.

use std::time::Duration;

use bytes::Bytes;
use tower_klikit::inbox::{Lease, NewDelivery};

use super::{Broken, DAY, HOUR};
use crate::{faults::Fault::*, state::State};

/// What the last call on a delivery was, where a store may say what it likes.
pub(super) const GIVEN_BACK: &str = "given back";

impl Broken {
    /// Has a lease be held by its delivery alone, or the like.
    fn loosened(&self, state: &State, lease: &Lease) -> Lease {
        let Some(delivery) = state.deliveries.get(&lease.id().get()) else { return *lease };
        let same = match self.fault {
            TokensAreIgnored => true,
            TokensAreAttempts => delivery.attempts == lease.attempt(),
            LargerTokensHold => lease.token() > delivery.token,
            _ => false,
        };
        if same { Lease::new(lease.id(), delivery.token, lease.attempt()) } else { *lease }
    }

    pub(super) fn extended(&self, state: &mut State, lease: &Lease, time: Duration) -> bool {
        let lease = &self.loosened(state, lease);
        let now = state.now;
        match (self.fault, state.held(lease)) {
            (ExtendingDoesNothing, held) => return held.is_some(),
            (ExtendingAdds, Some(held)) => held.due += time,
            (ExtendingNeverShortens, Some(held)) => held.due = held.due.max(now + time),
            (LapsedLeasesAreExtended, Some(held)) => held.due = now + time,
            (LapsedLeasesAreExtendedAllTheSame, Some(held)) if held.due <= now => {
                held.due = now + time;
                return false;
            }
            (ExtendingIsAnAttempt, Some(held)) if held.due > now => {
                held.attempts += 1;
                held.due = now + time;
            }
            _ => return state.extend(lease, time),
        }
        true
    }

    pub(super) fn finished(&self, state: &mut State, lease: &Lease, keep: Duration) -> bool {
        let lease = &self.loosened(state, lease);
        let (id, now) = (lease.id().get(), state.now);
        match self.fault {
            FinishedTwiceIsTrue if state.last_id >= id && !state.deliveries.contains_key(&id) => return true,
            LapsedLeasesAreLost if state.held(lease).is_some_and(|held| held.due <= now) => return false,
            NothingIsKept => return state.finish(lease, Duration::ZERO),
            FinishedStaysForADay if keep.is_zero() => return state.finish(lease, DAY),
            BodiesAreNotKept => {
                if let Some(kept) = state.held(lease) {
                    kept.request = NewDelivery::new(kept.request.claim().clone(), kept.request.head(), Bytes::new());
                }
            }
            FinishingForgets => {
                let key = state.deliveries.get(&id).map(|delivery| *delivery.request.claim().key());
                let finished = state.finish(lease, keep);
                if let Some(key) = key.filter(|_| finished) {
                    state.ledger.remove(&key);
                }
                return finished;
            }
            _ => {}
        }
        state.finish(lease, keep)
    }

    pub(super) fn postponed(&self, state: &mut State, lease: &Lease, pause: Duration, reason: &str) -> bool {
        let lease = &self.loosened(state, lease);
        match self.fault {
            PausesAreIgnored => state.postpone(lease, Duration::ZERO, reason),
            PausesAreCut => state.postpone(lease, pause.min(HOUR / 2), reason),
            ReasonsAreAscii => state.postpone(lease, pause, &reason.replace(|c: char| !c.is_ascii(), "?")),
            _ => state.postpone(lease, pause, reason),
        }
    }

    pub(super) fn buried(&self, state: &mut State, lease: &Lease, reason: &str) -> bool {
        let lease = &self.loosened(state, lease);
        let buried = state.bury(lease, reason);
        if self.fault == ReasonsOfTheDeadAreLost
            && buried
            && let Some(dead) = state.deliveries.get_mut(&lease.id().get())
        {
            dead.reason = None;
        }
        buried
    }

    pub(super) fn given_back(&self, state: &mut State, lease: &Lease) -> bool {
        let lease = &self.loosened(state, lease);
        if self.fault == GivingBackIsAnAttempt {
            return state.postpone(lease, Duration::ZERO, GIVEN_BACK);
        }
        let given_back = state.give_back(lease);
        if given_back && let Some(delivery) = state.deliveries.get_mut(&lease.id().get()) {
            match self.fault {
                GivenBackTokensComeAgain => delivery.token -= 1,
                GivenBackIsShownAsAnAttempt => delivery.reason = Some(GIVEN_BACK.into()),
                _ => {}
            }
        }
        given_back
    }
}
