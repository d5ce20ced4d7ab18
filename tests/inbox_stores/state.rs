//! What an inbox and its ledger should be, on a clock that is moved by hand. Slow, and easy to see through.

use std::{collections::BTreeMap, mem, time::Duration};

use tower_klikit::{
    dedupe::{Claim, ClaimOutcome, EventKey},
    inbox::{Acceptance, DeliveryState, Lease, NewDelivery},
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
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) claim: Claim,
    pub(crate) is_done: bool,
    pub(crate) until: Duration,
    pub(crate) claimed: Duration,
}

/// All times count from the beginning.
#[derive(Debug, Default)]
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
        self.last_id += 1;
        let delivery = Delivery {
            request: new.clone(),
            state: DeliveryState::Ready,
            attempts: 0,
            token: 0,
            due: now,
            accepted: now,
            reason: None,
        };
        self.deliveries.insert(self.last_id, delivery);
        self.set_done(new.claim(), retention);
        Acceptance::Accepted
    }

    /// Whether one with a smaller id holds one of its keys.
    pub(crate) fn is_held_back(&self, id: i64) -> bool {
        let delivery = &self.deliveries[&id];
        self.deliveries.range(..id).any(|(_, before)| before.waits() && before.shares_a_key_with(delivery))
    }

    /// Those that may be leased or buried, the longest due first.
    pub(crate) fn due(&self) -> Vec<i64> {
        let is_due = |id: &i64| {
            let delivery = &self.deliveries[id];
            delivery.waits() && delivery.due <= self.now && !self.is_held_back(*id)
        };
        let mut due: Vec<i64> = self.deliveries.keys().copied().filter(is_due).collect();
        due.sort_by_key(|id| self.deliveries[id].due);
        due
    }

    /// Whether it is to be buried, should it be due.
    pub(crate) fn is_to_be_buried(&self, id: i64, max_attempts: u32) -> bool {
        let delivery = &self.deliveries[&id];
        delivery.is(DeliveryState::Leased) && delivery.attempts >= max_attempts
    }

    pub(crate) fn lease_these(&mut self, ids: &[i64], time: Duration) -> Vec<Lease> {
        let until = self.now + time;
        let mut lease = |id: &i64| {
            let delivery = self.deliveries.get_mut(id).expect("it is due");
            delivery.attempts += 1;
            delivery.token += 1;
            (delivery.state, delivery.due) = (DeliveryState::Leased, until);
            Lease::new(tower_klikit::inbox::DeliveryId::new(*id), delivery.token, delivery.attempts)
        };
        ids.iter().map(&mut lease).collect()
    }

    pub(crate) fn bury_those_who_died(&mut self, ids: &[i64]) {
        for id in ids {
            self.deliveries.get_mut(id).expect("it is due").state = DeliveryState::Dead;
        }
    }

    pub(crate) fn lease(&mut self, limit: u32, time: Duration, max_attempts: u32) -> Vec<Lease> {
        let due = self.due();
        let (died, due): (Vec<_>, Vec<_>) = due.into_iter().partition(|id| self.is_to_be_buried(*id, max_attempts));
        self.bury_those_who_died(&died);
        self.lease_these(&due[..due.len().min(limit as usize)], time)
    }

    /// What this lease is on, if it is held.
    pub(crate) fn held(&mut self, lease: &Lease) -> Option<&mut Delivery> {
        let delivery = self.deliveries.get_mut(&lease.id().get())?;
        (delivery.is(DeliveryState::Leased) && delivery.token == lease.token()).then_some(delivery)
    }

    pub(crate) fn extend(&mut self, lease: &Lease, time: Duration) -> bool {
        let until = self.now + time;
        self.held(lease).map(|delivery| delivery.due = until).is_some()
    }

    pub(crate) fn finish(&mut self, lease: &Lease, keep: Duration) -> bool {
        let until = self.now + keep;
        let Some(delivery) = self.held(lease) else { return false };
        (delivery.state, delivery.due) = (DeliveryState::Done, until);
        if keep.is_zero() {
            self.deliveries.remove(&lease.id().get());
        }
        true
    }

    pub(crate) fn postpone(&mut self, lease: &Lease, pause: Duration, reason: &str) -> bool {
        let due = self.now + pause;
        let Some(delivery) = self.held(lease) else { return false };
        delivery.make_ready(due);
        delivery.reason = Some(reason.into());
        true
    }

    pub(crate) fn bury(&mut self, lease: &Lease, reason: &str) -> bool {
        let Some(delivery) = self.held(lease) else { return false };
        delivery.state = DeliveryState::Dead;
        delivery.reason = Some(reason.into());
        true
    }

    pub(crate) fn give_back(&mut self, lease: &Lease) -> bool {
        let now = self.now;
        let Some(delivery) = self.held(lease) else { return false };
        delivery.make_ready(now);
        delivery.attempts -= 1;
        true
    }

    /// How many are ready, leased, dead and done.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let mut counts = [0; 4];
        for delivery in self.deliveries.values() {
            counts[delivery.state.code() as usize] += 1;
        }
        counts
    }

    /// How long ago the oldest was accepted that waits.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let waiting = self.deliveries.values().filter(|delivery| delivery.waits());
        waiting.map(|delivery| self.now - delivery.accepted).max()
    }

    pub(crate) fn dead(&self, after: Option<i64>, limit: u32) -> Vec<i64> {
        let is_asked_for = |(id, delivery): &(&i64, &Delivery)| {
            delivery.is(DeliveryState::Dead) && after.is_none_or(|after| **id > after)
        };
        self.deliveries.iter().filter(is_asked_for).map(|(id, _)| *id).take(limit as usize).collect()
    }

    pub(crate) fn retry(&mut self, id: i64) -> bool {
        let now = self.now;
        let Some(delivery) = self.deliveries.get_mut(&id) else { return false };
        if !delivery.is(DeliveryState::Dead) {
            return false;
        }
        delivery.make_ready(now);
        delivery.attempts = 0;
        true
    }

    /// Forgets the keys that `which` chooses, by their deliveries or their ledger rows, but for what waits.
    pub(crate) fn forget(&mut self, which: impl Fn(&Claim, Duration) -> bool) -> u64 {
        let rows = self.ledger.values().filter(|row| row.until > self.now).map(|row| (&row.claim, row.claimed));
        let deliveries = self.deliveries.values().map(|delivery| (delivery.request.claim(), delivery.accepted));
        let chosen = rows.chain(deliveries).filter(|(claim, time)| which(claim, *time)).map(|(claim, _)| *claim.key());
        let mut keys: Vec<EventKey> = chosen.collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.id_of(key).is_none_or(|id| !self.deliveries[&id].waits()));
        for key in &keys {
            if let Some(id) = self.id_of(key) {
                self.deliveries.remove(&id);
            }
            self.ledger.remove(key);
        }
        keys.len() as u64
    }

    /// What is done and whose time is up.
    pub(crate) fn is_up(&self, id: i64) -> bool {
        let delivery = &self.deliveries[&id];
        delivery.is(DeliveryState::Done) && delivery.due <= self.now
    }

    pub(crate) fn purge_done(&mut self, limit: u32) -> u64 {
        let up = self.deliveries.keys().copied().filter(|id| self.is_up(*id));
        let up: Vec<i64> = up.take(limit as usize).collect();
        up.iter().for_each(|id| drop(self.deliveries.remove(id)));
        up.len() as u64
    }
}

/// As a ledger.
impl State {
    pub(crate) fn claim(&mut self, claim: &Claim, lease: Duration) -> ClaimOutcome {
        let (now, until) = (self.now, self.now + lease);
        match self.row(claim.key()) {
            Some(row) if row.is_done => ClaimOutcome::Done { digest: *row.claim.digest() },
            Some(row) if row.claim.token() != claim.token() => {
                ClaimOutcome::InFlight { digest: *row.claim.digest(), remaining: row.until - now }
            }
            Some(_) => {
                self.ledger.get_mut(claim.key()).expect("it was found").until = until;
                ClaimOutcome::Claimed
            }
            None => {
                self.ledger.insert(*claim.key(), Row { claim: claim.clone(), is_done: false, until, claimed: now });
                ClaimOutcome::Claimed
            }
        }
    }

    /// The row that this token has claimed or completed.
    fn own(&mut self, claim: &Claim) -> Option<&mut Row> {
        let now = self.now;
        self.ledger.get_mut(claim.key()).filter(|row| row.until > now && row.claim.token() == claim.token())
    }

    pub(crate) fn complete(&mut self, claim: &Claim, retention: Duration) -> bool {
        let until = self.now + retention;
        let Some(row) = self.own(claim) else { return false };
        if !mem::replace(&mut row.is_done, true) {
            row.until = until;
        }
        true
    }

    pub(crate) fn release(&mut self, claim: &Claim) {
        if self.own(claim).is_some_and(|row| !row.is_done) {
            self.ledger.remove(claim.key());
        }
    }

    pub(crate) fn renew(&mut self, claim: &Claim, lease: Duration) -> bool {
        let until = self.now + lease;
        match self.own(claim) {
            Some(row) if !row.is_done => {
                row.until = until;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn forget_rows(&mut self, which: impl Fn(&Row) -> bool) -> u64 {
        let now = self.now;
        let forgotten = self.ledger.values().filter(|row| which(row) && row.until > now).count();
        self.ledger.retain(|_, row| !which(row));
        forgotten as u64
    }
}
