//! How a delivery can be accepted wrongly.

use std::time::Duration;

use bytes::Bytes;
use tower_klikit::{
    dedupe::{BodyDigest, Claim},
    inbox::{Acceptance, DeliveryState, NewDelivery},
};

use super::{Broken, DAY};
use crate::{faults::Fault::*, state::State};

/// Marks what was revived.
pub(super) const REVIVED: &str = "revived";

impl Broken {
    /// The delivery as this store understands it.
    pub(super) fn seen(&self, new: &NewDelivery) -> NewDelivery {
        let claim = new.claim();
        let any_body = takes_any_body(new);
        let again = |claim: Claim, head: &str, body: Bytes| {
            let new = NewDelivery::new(claim, head, body);
            if any_body { new.with_any_body() } else { new }
        };
        match self.fault {
            ConflictsShareAKey => {
                let (event, token) = (*claim.event().as_bytes(), *claim.token().as_bytes());
                again(Claim::new(event, event, *claim.digest(), token), new.head(), new.body().clone())
            }
            HeadsAreCut if new.head().len() > 65_535 => new.clone().with_head("{}"),
            BodiesAreText => {
                let body = String::from_utf8_lossy(new.body()).into_owned();
                again(claim.clone(), new.head(), body.into())
            }
            OneKeyIsEnough if new.ordering_keys().len() > 1 => {
                again(claim.clone(), new.head(), new.body().clone()).with_ordering_keys(&["b"])
            }
            NothingIsOrdered => again(claim.clone(), new.head(), new.body().clone()),
            _ => new.clone(),
        }
    }

    pub(super) fn accepted(&self, state: &mut State, new: &NewDelivery, retention: Duration) -> Acceptance {
        if let Some(found) = self.accept_before(state, new, retention) {
            return found;
        }
        if self.fault == IdsAreUsedAgain {
            state.last_id = state.deliveries.keys().last().copied().unwrap_or_default();
        }
        let before = state.clone();
        let found = state.accept(new, retention);
        if let Some(id) = state.id_of(new.claim().key()) {
            self.accept_after(state, &before, id, &found);
        }
        found
    }

    /// What accepting is to do, and does not.
    fn accept_before(&self, state: &mut State, new: &NewDelivery, retention: Duration) -> Option<Acceptance> {
        let key = new.claim().key();
        let id = state.id_of(key);
        let standing = id.map(|id| state.deliveries[&id].state);
        let waits = matches!(standing, Some(DeliveryState::Ready | DeliveryState::Leased));
        let row = state.row(key).cloned();
        let any_body = takes_any_body(new);
        match self.fault {
            TheNewDigestIsTold if row.is_some() => Some(Acceptance::Known { digest: *new.claim().digest() }),
            DeadStaysDead if standing == Some(DeliveryState::Dead) => {
                let digest = *state.deliveries[&id?].request.claim().digest();
                Some(Acceptance::Known { digest })
            }
            AnyBodyRevives if standing == Some(DeliveryState::Dead) => {
                Some(state.accept(&new.clone().with_any_body(), retention))
            }
            ClaimsAreIgnored if row.as_ref().is_some_and(|row| !row.is_done) => {
                state.ledger.remove(key);
                None
            }
            ClaimsAreDone => {
                let row = row.filter(|row| !row.is_done)?;
                Some(Acceptance::Known { digest: *row.claim.digest() })
            }
            TheLedgerIsIgnored if id.is_none() && row.as_ref().is_some_and(|row| row.is_done) => {
                state.ledger.remove(key);
                None
            }
            RowsStayGone if waits && row.is_none() => {
                let known = state.accept(new, retention);
                state.ledger.remove(key);
                Some(known)
            }
            TheNewRowIsPutBack if waits && row.is_none() => {
                let known = state.accept(new, retention);
                state.set_done(new.claim(), retention);
                Some(known)
            }
            AClaimHasGone if waits && row.as_ref().is_some_and(|row| !row.is_done) => {
                state.ledger.remove(key);
                None
            }
            AnyBodyIsNew if id.is_none() && any_body && row.is_some() => {
                state.ledger.remove(key);
                None
            }
            TheDeadRefuseConflicts if new.claim().is_conflict() && id.is_none() => {
                let beside = &state.deliveries[&state.id_of(new.claim().event())?];
                let known = Acceptance::Known { digest: *beside.request.claim().digest() };
                beside.is(DeliveryState::Dead).then_some(known)
            }
            CopiesProlong if waits => {
                let claim = state.deliveries[&id?].request.claim().clone();
                state.set_done(&claim, retention);
                None
            }
            KeptStays if standing == Some(DeliveryState::Done) && row.is_none() => {
                state.last_id += 1;
                state.deliveries.get_mut(&id?)?.make_ready(Duration::ZERO);
                state.set_done(new.claim(), retention);
                Some(Acceptance::Accepted)
            }
            _ => None,
        }
    }

    /// What accepting did, and is not to do.
    fn accept_after(&self, state: &mut State, before: &State, id: i64, found: &Acceptance) {
        let now = state.now;
        let key = *state.deliveries[&id].request.claim().key();
        let (Some(delivery), Some(row)) = (state.deliveries.get_mut(&id), state.ledger.get_mut(&key)) else { return };
        match (self.fault, found) {
            (RevivedHasAttempts, Acceptance::Revived) => delivery.attempts = 1,
            (RevivedHasAFreshToken, Acceptance::Revived) => delivery.token = 0,
            (RevivedHasANewId, Acceptance::Revived) => {
                let moved = state.deliveries.remove(&id).expect("it was found");
                let last = state.draw_id();
                state.deliveries.insert(last, moved);
            }
            (TheOldHeadStays, Acceptance::Revived) => {
                let head = delivery.request.head().replace("/webhooks/other", "/webhooks/klikit");
                delivery.request = delivery.request.clone().with_head(head);
            }
            (RevivedKeepsItsOldKeys, Acceptance::Revived) => {
                let (old, new) = (before.deliveries[&id].request.clone(), &mut delivery.request);
                if old.body() == new.body() {
                    *new = old.with_head(new.head());
                }
            }
            (RevivedIsAcceptedAnew, Acceptance::Revived) => delivery.accepted = now,
            (RevivedWaitsForNobodyBehindIt, Acceptance::Revived) => delivery.reason = Some(REVIVED.into()),
            (RevivedRowsAreOld, Acceptance::Revived) => row.until = delivery.accepted + Duration::from_secs(120),
            (RevivedRowsAreNotClaimedAnew, Acceptance::Revived) => row.claimed = delivery.accepted,
            (RestoredRowsAreNotClaimedAnew, Acceptance::Known { .. }) if before.row(&key).is_none() => {
                row.claimed = delivery.accepted;
            }
            (AcceptedIsClaimed, Acceptance::Accepted) => row.is_done = false,
            (AcceptedWaits, Acceptance::Accepted) => delivery.due = now + DAY,
            _ => {}
        }
    }
}

fn takes_any_body(new: &NewDelivery) -> bool {
    new.is_same_as(&BodyDigest::from([0; 32]))
}
