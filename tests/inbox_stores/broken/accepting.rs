//! How a delivery can be accepted wrongly.

use std::time::Duration;

use bytes::Bytes;
use tower_klikit::{
    dedupe::{BodyDigest, Claim},
    inbox::{Acceptance, DeliveryState, NewDelivery},
};

use super::{Broken, DAY};
use crate::{faults::Fault::*, state::State};

impl Broken {
    /// The delivery as this store understands it.
    pub(super) fn seen(&self, new: &NewDelivery) -> NewDelivery {
        let claim = new.claim();
        let any_body = new.is_same_as(&BodyDigest::from([0; 32]));
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

    /// What accepting is to do, and does not.
    pub(super) fn accept_before(
        &self,
        state: &mut State,
        new: &NewDelivery,
        retention: Duration,
    ) -> Option<Acceptance> {
        let key = new.claim().key();
        let id = state.id_of(key);
        let standing = id.map(|id| state.deliveries[&id].state);
        let waits = matches!(standing, Some(DeliveryState::Ready | DeliveryState::Leased));
        let row = state.row(key).cloned();
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
    pub(super) fn accept_after(&self, state: &mut State, id: i64, found: &Acceptance) {
        let (last_id, now) = (state.last_id, state.now);
        let key = *state.deliveries[&id].request.claim().key();
        let Some(delivery) = state.deliveries.get_mut(&id) else { return };
        match (self.fault, found) {
            (RevivedHasAttempts, Acceptance::Revived) => delivery.attempts = 1,
            (RevivedHasAFreshToken, Acceptance::Revived) => delivery.token = 0,
            (RevivedHasANewId, Acceptance::Revived) => {
                let moved = state.deliveries.remove(&id).expect("it was found");
                state.last_id = last_id + 1;
                state.deliveries.insert(last_id + 1, moved);
            }
            (RevivedRowsAreOld, Acceptance::Revived) => {
                let until = delivery.accepted + Duration::from_secs(120);
                state.ledger.get_mut(&key).expect("it was accepted").until = until;
            }
            (AcceptedIsClaimed, Acceptance::Accepted) => {
                state.ledger.get_mut(&key).expect("it was accepted").is_done = false;
            }
            (AcceptedWaits, Acceptance::Accepted) => delivery.due = now + DAY,
            _ => {}
        }
    }
}
