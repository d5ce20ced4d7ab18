//! A reference for an inbox and its ledger, on a clock that is moved by hand. Written slowly and plainly.

mod admin;
mod lease;
mod settle;

use std::{collections::BTreeMap, time::Duration};

use tower_klikit::{
    dedupe::{BodyDigest, Claim, EventKey},
    inbox::{Acceptance, DeliveryState, NewDelivery},
};

use crate::ledger::reference::{Entries, Entry};

#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) request: NewDelivery,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    pub(crate) token: i64,
    /// READY: when the next attempt is due. LEASED: the end of the lease. DONE: the end of its time.
    pub(crate) due: Duration,
    pub(crate) accepted: Duration,
    pub(crate) reason: Option<String>,
    /// Whether the lease before this one expired.
    pub(crate) after_expired_lease: bool,
    /// Whether the attempt was counted with the last lease.
    pub(crate) attempt_counted: bool,
}

/// All times count from the beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) last_id: i64,
    /// By their ids.
    pub(crate) deliveries: BTreeMap<i64, Delivery>,
    pub(crate) ledger: Entries,
}

impl Delivery {
    pub(crate) fn new(request: &NewDelivery, now: Duration) -> Self {
        Self {
            request: request.clone(),
            state: DeliveryState::Ready,
            attempts: 0,
            token: 0,
            due: now,
            accepted: now,
            reason: None,
            after_expired_lease: false,
            attempt_counted: false,
        }
    }

    pub(crate) fn is(&self, state: DeliveryState) -> bool {
        self.state == state
    }

    /// Whether the delivery is READY or LEASED.
    pub(crate) fn is_pending(&self) -> bool {
        self.is(DeliveryState::Ready) || self.is(DeliveryState::Leased)
    }

    pub(crate) fn has_expired(&self, now: Duration) -> bool {
        self.is(DeliveryState::Leased) && self.due <= now
    }

    pub(crate) fn shares_a_key_with(&self, other: &Self) -> bool {
        self.request.ordering_keys().iter().any(|key| other.request.ordering_keys().contains(key))
    }

    pub(crate) fn make_ready(&mut self, due: Duration) {
        (self.state, self.due) = (DeliveryState::Ready, due);
    }

    pub(crate) fn key(&self) -> EventKey {
        *self.request.claim().key()
    }

    pub(crate) fn digest(&self) -> BodyDigest {
        *self.request.claim().digest()
    }
}

impl State {
    /// Returns the ledger row, unless it is over or a claim that has expired.
    pub(crate) fn row(&self, key: &EventKey) -> Option<&Entry> {
        self.ledger.live(key, self.now)
    }

    pub(crate) fn id_of(&self, key: &EventKey) -> Option<i64> {
        self.deliveries.iter().find(|(_, delivery)| delivery.key() == *key).map(|(id, _)| *id)
    }

    pub(crate) fn set_done(&mut self, claim: &Claim, retention: Duration) {
        self.ledger.0.insert(*claim.key(), Entry::done(claim, retention, self.now));
    }

    /// Returns an id that is larger than all before.
    pub(crate) fn draw_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn accept(&mut self, new: &NewDelivery, retention: Duration) -> Acceptance {
        let (now, key) = (self.now, new.claim().key());
        let id = self.id_of(key);
        if let Some(there) = id.and_then(|id| self.deliveries.get_mut(&id)) {
            let claim = there.request.claim().clone();
            if there.is_pending() {
                if self.row(key).is_none() {
                    self.set_done(&claim, retention);
                }
                return self.known(new, *claim.digest());
            }
            if there.is(DeliveryState::Dead) {
                if !new.is_same_as(claim.digest()) {
                    return self.known(new, *claim.digest());
                }
                if !new.revives() {
                    return Acceptance::Dead { head: Some(there.request.head().into()) };
                }
                let (token, accepted) = (there.token + 1, there.accepted);
                *there = Delivery { token, accepted, ..Delivery::new(new, now) };
                self.set_done(new.claim(), retention);
                return Acceptance::Revived;
            }
        }
        if let Some(row) = self.row(key) {
            let digest = row.digest();
            let remaining = row.until - now;
            return if row.is_done { self.known(new, digest) } else { Acceptance::InFlight { digest, remaining } };
        }
        if let Some(kept) = id {
            self.deliveries.remove(&kept);
        }
        let id = self.draw_id();
        self.deliveries.insert(id, Delivery::new(new, now));
        self.set_done(new.claim(), retention);
        Acceptance::Accepted
    }

    /// The key of `new` is known by a body with this digest.
    pub(crate) fn known(&self, new: &NewDelivery, digest: BodyDigest) -> Acceptance {
        let stored = self.id_of(new.claim().key()).map(|id| &self.deliveries[&id]);
        let other = stored.filter(|stored| stored.digest() == digest && !new.is_same_as(&digest));
        Acceptance::Known { digest, body: other.map(|other| other.request.body().clone()) }
    }
}
