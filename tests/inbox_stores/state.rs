//! What an inbox and its ledger should be, on a clock that is moved by hand. Slow, and easy to see through.

mod leasing;
mod ledger;
mod operating;

use std::{collections::BTreeMap, time::Duration};

use tower_klikit::{
    dedupe::{Claim, EventKey},
    inbox::{Acceptance, DeliveryState, NewDelivery},
};

#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) request: NewDelivery,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    pub(crate) token: i64,
    /// READY: of the next attempt. LEASED: the lease's end. DONE: the end.
    pub(crate) due: Duration,
    pub(crate) accepted: Duration,
    pub(crate) reason: Option<String>,
    /// Whether the lease before this one ran out.
    pub(crate) ran_out: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) claim: Claim,
    pub(crate) is_done: bool,
    pub(crate) until: Duration,
    pub(crate) claimed: Duration,
}

/// All times count from the beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) last_id: i64,
    /// By their ids.
    pub(crate) deliveries: BTreeMap<i64, Delivery>,
    pub(crate) ledger: BTreeMap<EventKey, Row>,
}

impl Delivery {
    pub(crate) fn is(&self, state: DeliveryState) -> bool {
        self.state == state
    }

    /// READY or LEASED.
    pub(crate) fn waits(&self) -> bool {
        self.is(DeliveryState::Ready) || self.is(DeliveryState::Leased)
    }

    pub(crate) fn shares_a_key_with(&self, other: &Self) -> bool {
        self.request.ordering_keys().iter().any(|key| other.request.ordering_keys().contains(key))
    }

    pub(crate) fn make_ready(&mut self, due: Duration) {
        (self.state, self.due) = (DeliveryState::Ready, due);
    }
}

impl State {
    /// A ledger row, if its time is not up.
    pub(crate) fn row(&self, key: &EventKey) -> Option<&Row> {
        self.ledger.get(key).filter(|row| row.until > self.now)
    }

    pub(crate) fn id_of(&self, key: &EventKey) -> Option<i64> {
        self.deliveries.iter().find(|(_, delivery)| delivery.request.claim().key() == key).map(|(id, _)| *id)
    }

    pub(crate) fn set_done(&mut self, claim: &Claim, retention: Duration) {
        let row = Row { claim: claim.clone(), is_done: true, until: self.now + retention, claimed: self.now };
        self.ledger.insert(*claim.key(), row);
    }

    /// Larger than all before.
    pub(crate) fn draw_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn accept(&mut self, new: &NewDelivery, retention: Duration) -> Acceptance {
        let (now, key) = (self.now, new.claim().key());
        let id = self.id_of(key);
        if let Some(there) = id.and_then(|id| self.deliveries.get_mut(&id)) {
            let claim = there.request.claim().clone();
            let known = Acceptance::Known { digest: *claim.digest() };
            if there.waits() {
                if self.row(key).is_none() {
                    self.set_done(&claim, retention);
                }
                return known;
            }
            if there.is(DeliveryState::Dead) {
                if !new.is_same_as(claim.digest()) {
                    return known;
                }
                there.request = new.clone();
                there.attempts = 0;
                there.make_ready(now);
                self.set_done(new.claim(), retention);
                return Acceptance::Revived;
            }
        }
        if let Some(row) = self.row(key) {
            let digest = *row.claim.digest();
            let remaining = row.until - now;
            return if row.is_done { Acceptance::Known { digest } } else { Acceptance::InFlight { digest, remaining } };
        }
        if let Some(kept) = id {
            self.deliveries.remove(&kept);
        }
        let id = self.draw_id();
        let delivery = Delivery {
            request: new.clone(),
            state: DeliveryState::Ready,
            attempts: 0,
            token: 0,
            due: now,
            accepted: now,
            reason: None,
            ran_out: false,
        };
        self.deliveries.insert(id, delivery);
        self.set_done(new.claim(), retention);
        Acceptance::Accepted
    }
}
