//! Faults of accepting.

use std::time::Duration;

use bytes::Bytes;
use tower_klikit::{
    dedupe::{BodyDigest, Claim},
    inbox::{Acceptance, DeliveryState, NewDelivery},
};

use super::{DAY, FaultyStore, HOUR};
use crate::inbox::{faulty::faults::InboxFault::*, state::ReferenceInbox, steps::BODIES};

/// The reason that marks a revived delivery.
pub(super) const REVIVED: &str = "revived";

impl FaultyStore {
    /// Returns the delivery as this store stores it.
    pub(super) fn stored(&self, new: &NewDelivery) -> NewDelivery {
        let claim = new.claim();
        match self.fault {
            ConflictsShareAKey => {
                let (event, token) = (*claim.event().as_bytes(), *claim.token().as_bytes());
                remade(new, Claim::new(event, event, *claim.digest(), token), new.body().clone())
            }
            HeadsAreCut if new.head().len() > 65_535 => new.clone().with_head("{}"),
            BodiesAreText if str::from_utf8(new.body()).is_err() => {
                remade(new, claim.clone(), String::from_utf8_lossy(new.body()).into_owned().into())
            }
            OneOrderingKeyIsKept if new.ordering_keys().len() > 1 => new.clone().with_ordering_keys(&["b"]),
            OneTermIsKept => {
                let first: Vec<&str> = new.terms().iter().take(1).map(|term| term.as_str()).collect();
                new.clone().with_terms(&first)
            }
            NothingIsOrdered => new.clone().with_ordering_keys(&[]),
            _ => new.clone(),
        }
    }

    pub(super) fn accepted(&self, state: &mut ReferenceInbox, new: &NewDelivery, retention: Duration) -> Acceptance {
        if let Some(found) = self.accept_before(state, new, retention) {
            return found;
        }
        if self.fault == IdsAreReused {
            state.last_id = state.deliveries.keys().last().copied().unwrap_or_default();
        }
        let before = state.clone();
        let found = state.accept(new, retention);
        if let Some(id) = state.id_of(new.claim().key()) {
            self.accept_after(state, &before, id, &found);
        }
        self.known(state, new, found)
    }

    /// Handles the faults that replace accepting.
    fn accept_before(&self, state: &mut ReferenceInbox, new: &NewDelivery, retention: Duration) -> Option<Acceptance> {
        let key = new.claim().key();
        let now = state.now;
        let id = state.id_of(key);
        let existing = id.map(|id| state.deliveries[&id].state);
        let is_unfinished = existing.is_some_and(DeliveryState::is_unfinished);
        let row = state.row(key).cloned();
        let has_expired_claim = state.ledger.kept(key, now).is_some_and(|row| row.has_expired(now));
        let digest = id.map(|id| state.deliveries[&id].digest());
        match self.fault {
            ReturnsTheNewDigest if row.is_some() => Some(state.known(new, *new.claim().digest())),
            DeadIsRevivedUnasked if existing == Some(DeliveryState::Dead) && !new.revives() => {
                Some(state.accept(&asked_to_revive(new), retention))
            }
            DeadIsKnown if existing == Some(DeliveryState::Dead) && !new.revives() => Some(state.known(new, digest?)),
            DeadHasTheNewHead if existing == Some(DeliveryState::Dead) && !new.revives() => {
                new.is_same_as(&digest?).then(|| Acceptance::Dead { head: Some(new.head().into()) })
            }
            OtherBodyReturnsDead if existing == Some(DeliveryState::Dead) && !new.revives() => {
                Some(Acceptance::Dead { head: Some(state.deliveries[&id?].request.head().into()) })
            }
            DeadIsNeverRevived if existing == Some(DeliveryState::Dead) => Some(state.known(new, digest?)),
            AnyBodyRevives if existing == Some(DeliveryState::Dead) => {
                Some(state.accept(&new.clone().with_any_body(), retention))
            }
            SameJsonDoesNotRevive if existing == Some(DeliveryState::Dead) && is_json(new) => {
                (digest != Some(*new.claim().digest())).then_some(state.known(new, digest?))
            }
            AnyJsonRevives if existing == Some(DeliveryState::Dead) && is_json(new) => {
                Some(state.accept(&new.clone().with_any_body(), retention))
            }
            ClaimsAreIgnored if row.as_ref().is_some_and(|row| !row.is_done) => {
                state.ledger.0.remove(key);
                None
            }
            ClaimsAreDone => row.filter(|row| !row.is_done).map(|row| state.known(new, row.digest())),
            ExpiredClaimsAreInFlight if has_expired_claim && !is_unfinished => {
                Some(Acceptance::InFlight { digest: state.ledger.kept(key, now)?.digest(), remaining: HOUR })
            }
            ExpiredClaimIsNotReplaced if has_expired_claim && is_unfinished => Some(state.known(new, digest?)),
            LedgerIsIgnored if id.is_none() && row.as_ref().is_some_and(|row| row.is_done) => {
                state.ledger.0.remove(key);
                None
            }
            MissingRowIsNotRestored if is_unfinished && row.is_none() => {
                let known = state.accept(new, retention);
                state.ledger.0.remove(key);
                Some(known)
            }
            RestoredRowHasTheNewDigest if is_unfinished && row.is_none() => {
                let known = state.accept(new, retention);
                state.set_done(new.claim(), retention);
                Some(known)
            }
            ClaimedRowIsReplaced if is_unfinished && row.as_ref().is_some_and(|row| !row.is_done) => {
                state.ledger.0.remove(key);
                None
            }
            AnyBodyIsAcceptedAgain if id.is_none() && is_any(new) && row.is_some() => {
                state.ledger.0.remove(key);
                None
            }
            ConflictOfADeadOneIsKnown if new.claim().is_conflict() && id.is_none() => {
                let first = &state.deliveries[&state.id_of(new.claim().event())?];
                first.is(DeliveryState::Dead).then(|| state.known(new, first.digest()))
            }
            CopiesExtendTheRetention if is_unfinished => {
                let claim = state.deliveries[&id?].request.claim().clone();
                state.set_done(&claim, retention);
                None
            }
            KeptDeliveryIsReused if existing == Some(DeliveryState::Done) && row.is_none() => {
                state.last_id += 1;
                state.deliveries.get_mut(&id?)?.make_ready(Duration::ZERO);
                state.set_done(new.claim(), retention);
                Some(Acceptance::Accepted)
            }
            _ => None,
        }
    }

    /// Handles the faults that change a delivery after accepting it.
    fn accept_after(&self, state: &mut ReferenceInbox, before: &ReferenceInbox, id: i64, found: &Acceptance) {
        let now = state.now;
        let key = state.deliveries[&id].key();
        let expired = before.ledger.kept(&key, now).filter(|row| row.has_expired(now));
        let (Some(delivery), Some(row)) = (state.deliveries.get_mut(&id), state.ledger.0.get_mut(&key)) else { return };
        match (self.fault, found) {
            (RevivedHasAttempts, Acceptance::Revived) => delivery.attempts = 1,
            (RevivedStartsAtTheFirstToken, Acceptance::Revived) => delivery.token = 0,
            (RevivedKeepsItsToken, Acceptance::Revived) => delivery.token -= 1,
            (RevivedHasANewId, Acceptance::Revived) => {
                let moved = state.deliveries.remove(&id).expect("the delivery was found");
                let last = state.draw_id();
                state.deliveries.insert(last, moved);
            }
            (RevivedKeepsItsHead, Acceptance::Revived) => {
                let head = delivery.request.head().replace("/webhooks/other", "/webhooks/klikit");
                delivery.request = delivery.request.clone().with_head(head);
            }
            (RevivedKeepsItsKeys, Acceptance::Revived) => {
                let (old, new) = (before.deliveries[&id].request.clone(), &mut delivery.request);
                if old.body() == new.body() {
                    *new = old.with_head(new.head());
                }
            }
            (RevivalDeletesRecords, Acceptance::Revived) => {
                delivery.history.clear();
                delivery.open = None;
            }
            (RevivedKeepsItsTerms, Acceptance::Revived) => {
                let terms = before.deliveries[&id].request.terms();
                let terms: Vec<&str> = terms.iter().map(|term| term.as_str()).collect();
                delivery.request = delivery.request.clone().with_terms(&terms);
            }
            (ReplacementKeepsTheRecords, Acceptance::Accepted) => {
                let old = before.id_of(&key).map(|id| before.deliveries[&id].history.clone());
                delivery.history = old.unwrap_or_default();
            }
            (RevivedIsAcceptedAnew, Acceptance::Revived) => delivery.accepted = now,
            (RevivedIgnoresLeasesBehindIt, Acceptance::Revived) => delivery.reason = Some(REVIVED.into()),
            (RevivedRowEndsEarly, Acceptance::Revived) => {
                row.until = delivery.accepted + Duration::from_secs(120);
                row.kept_until = row.until;
            }
            (RevivedRowIsNotClaimedAnew, Acceptance::Revived) => row.claimed_at = delivery.accepted,
            (RestoredRowIsNotClaimedAnew, Acceptance::Known { .. }) if before.row(&key).is_none() => {
                row.claimed_at = delivery.accepted;
            }
            (AcceptedIsOnlyClaimed, Acceptance::Accepted) => row.is_done = false,
            (AcceptedIsNotDue, Acceptance::Accepted) => delivery.due = now + DAY,
            (ExpiredClaimKeepsItsToken, Acceptance::Accepted) => {
                if let Some(expired) = expired {
                    row.claim = expired.claim.clone();
                }
            }
            _ => {}
        }
    }

    /// Handles the faults that change the body returned for a known key.
    fn known(&self, state: &ReferenceInbox, new: &NewDelivery, found: Acceptance) -> Acceptance {
        let Acceptance::Known { digest, body } = found else { return found };
        let stored = state.id_of(new.claim().key()).map(|id| &state.deliveries[&id]);
        let is = |wanted| stored.is_some_and(|stored| stored.is(wanted));
        let stored_body = stored.map(|stored| stored.request.body().clone());
        let body = match self.fault {
            KnownBodyIsMissing => None,
            BodyOfAReadyOneIsMissing if is(DeliveryState::Ready) => None,
            BodyOfADeadOneIsMissing if is(DeliveryState::Dead) => None,
            BodyOfAKeptOneIsMissing if is(DeliveryState::Done) => None,
            NewBodyIsReturned if body.is_some() => Some(new.body().clone()),
            EqualBodyIsReturned if digest == *new.claim().digest() => stored_body,
            SameJsonIsReturned if digest != *new.claim().digest() => stored_body,
            BodyWithAnotherDigestIsReturned if !new.is_same_as(&digest) => stored_body,
            _ => body,
        };
        Acceptance::Known { digest, body }
    }
}

fn is_any(new: &NewDelivery) -> bool {
    new.is_same_as(&BodyDigest::from([0; 32]))
}

/// Returns whether the delivery matches another body with the same JSON.
fn is_json(new: &NewDelivery) -> bool {
    let bodies = BODIES.iter().copied().chain([&b"a third body"[..]]);
    let others = bodies.map(BodyDigest::of);
    !is_any(new) && others.filter(|other| other != new.claim().digest()).any(|other| new.is_same_as(&other))
}

fn remade(new: &NewDelivery, claim: Claim, body: Bytes) -> NewDelivery {
    let remade = NewDelivery::new(claim, new.head(), body);
    if is_any(new) { remade.with_any_body() } else { remade }
}

fn asked_to_revive(new: &NewDelivery) -> NewDelivery {
    remade(new, new.claim().clone(), new.body().clone())
}
