//! The reference for an inbox and its ledger, with a manual clock. The code is simple rather than fast.

mod admin;
mod attempts;
mod lease;
mod pause;
mod settle;
#[cfg(test)]
mod share;

use std::{collections::BTreeMap, mem, time::Duration};

use bytes::Bytes;

use tower_klikit::{
    dedupe::{BodyDigest, Claim, EventKey},
    inbox::{Acceptance, DeliveryState, NewDelivery, Pause},
};

pub(crate) use self::attempts::{EndedAttempt, OpenAttempt};
use crate::ledger::reference::{Entries, Entry};

/// A stored delivery.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) request: NewDelivery,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    pub(crate) token: i64,
    /// READY: the time of the next attempt. LEASED: the end of the lease. DONE: the time at which its body, or else the
    /// delivery, may be purged.
    pub(crate) due: Duration,
    /// DONE: the time at which the delivery may be purged after its body.
    pub(crate) history_until: Duration,
    pub(crate) has_body: bool,
    pub(crate) accepted: Duration,
    pub(crate) reason: Option<String>,
    /// Whether the previous lease expired.
    pub(crate) after_expired_lease: bool,
    /// Whether the last lease counted its attempt.
    pub(crate) attempt_counted: bool,
    pub(crate) open: Option<OpenAttempt>,
    pub(crate) history: Vec<EndedAttempt>,
}

/// The reference. All times are measured from its creation.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReferenceInbox {
    pub(crate) now: Duration,
    pub(crate) last_id: i64,
    /// The deliveries, by id.
    pub(crate) deliveries: BTreeMap<i64, Delivery>,
    pub(crate) ledger: Entries,
    /// The pauses in force, with the operator and the time of each.
    pub(crate) pauses: BTreeMap<Pause, (String, Duration)>,
    /// The number of calls of `lease` so far. Decides the order of tenants that share a rank.
    #[cfg(test)]
    pub(crate) lease_calls: usize,
}

impl Delivery {
    pub(crate) fn new(request: &NewDelivery, now: Duration) -> Self {
        Self {
            request: request.clone(),
            state: DeliveryState::Ready,
            attempts: 0,
            token: 0,
            due: now,
            history_until: now,
            has_body: true,
            accepted: now,
            reason: None,
            after_expired_lease: false,
            attempt_counted: false,
            open: None,
            history: Vec::new(),
        }
    }

    pub(crate) fn is(&self, state: DeliveryState) -> bool {
        self.state == state
    }

    /// Returns whether the delivery is READY or LEASED.
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

    /// Returns the body, if it is still stored.
    pub(crate) fn body(&self) -> Option<&Bytes> {
        Some(self.request.body()).filter(|_| self.has_body)
    }

    pub(crate) fn key(&self) -> EventKey {
        *self.request.claim().key()
    }

    pub(crate) fn digest(&self) -> BodyDigest {
        *self.request.claim().digest()
    }
}

impl ReferenceInbox {
    /// Returns the ledger row, unless its retention is over or its claim has expired.
    pub(crate) fn row(&self, key: &EventKey) -> Option<&Entry> {
        self.ledger.live(key, self.now)
    }

    pub(crate) fn id_of(&self, key: &EventKey) -> Option<i64> {
        self.deliveries.iter().find(|(_, delivery)| delivery.key() == *key).map(|(id, _)| *id)
    }

    pub(crate) fn set_done(&mut self, claim: &Claim, retention: Duration) {
        self.ledger.0.insert(*claim.key(), Entry::done(claim, retention, self.now));
    }

    /// Returns an id that is larger than all earlier ones.
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
                let (open, history) = (there.open.take(), mem::take(&mut there.history));
                *there = Delivery { token, accepted, open, history, ..Delivery::new(new, now) };
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

    /// Returns `Known` with this digest, and with the stored body if it has the digest and `new` does not match it.
    pub(crate) fn known(&self, new: &NewDelivery, digest: BodyDigest) -> Acceptance {
        let stored = self.id_of(new.claim().key()).map(|id| &self.deliveries[&id]);
        let other = stored.filter(|stored| stored.digest() == digest && !new.is_same_as(&digest));
        Acceptance::Known { digest, body: other.and_then(Delivery::body).cloned() }
    }
}
