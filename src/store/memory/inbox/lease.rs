//! Leasing deliveries, starting attempts and extending leases.

use std::{ops::Bound, sync::Arc};

use super::{
    super::table::{Tick, Timestamp},
    deliveries::Deliveries,
    row::Row,
};
use crate::inbox::{
    DeadLettered, DeliveryId, DeliveryState, EXPIRED, LEASE_EXPIRED, Lease, LeaseBatch, LeaseRequest, Leased,
    OrderingKey,
};

/// The turn of a tenant. The tenant with the smallest rank is next, and among equal ranks the one with the smallest
/// draw.
struct Turn {
    tenant: Arc<str>,
    rank: usize,
    draw: u64,
    /// The position of the last delivery that was examined.
    examined: Option<(Tick, DeliveryId)>,
}

impl Deliveries {
    pub(super) fn lease(&mut self, at: Timestamp, request: &LeaseRequest<'_>) -> LeaseBatch {
        let now = at.tick();
        let until = now.after(request.duration);
        for lease in request.held {
            if self.is_expired(lease.id(), now) {
                self.extend(lease, until);
            }
        }
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let free_handlers = usize::try_from(request.free_handlers).unwrap_or(usize::MAX);
        let mut batch = LeaseBatch::default();
        let mut left_out = 0;
        let mut turns = self.turns(request);
        while batch.leased.len() + left_out < limit
            && let Some((turn, id)) = self.next_candidate(&mut turns, now)
        {
            let Some(row) = self.rows.get(&id) else { continue };
            if self.is_paused(row) {
                continue;
            }
            if row.state == DeliveryState::Leased && row.attempts >= request.max_attempts {
                batch.dead_lettered.extend(self.change(id, |row| {
                    row.state = DeliveryState::Dead;
                    row.reason = Some(LEASE_EXPIRED.into());
                    // The attempt stays open as well: its worker may still report an outcome.
                    let open = row.open.clone();
                    row.end_unknown();
                    row.open = open;
                    let (attempts, head) = (row.attempts, Some(row.head.clone()));
                    DeadLettered { id, attempts, head, reason: LEASE_EXPIRED.into() }
                }));
                continue;
            }
            if row.ordering_keys.iter().any(|key| self.is_blocked(key, id, now)) {
                continue;
            }
            turns[turn].rank += 1;
            let is_for_free_handler = batch.leased.len() < free_handlers;
            let expired = row.state == DeliveryState::Leased;
            if !is_for_free_handler && (expired || row.attempts >= request.max_attempts) {
                left_out += 1;
                continue;
            }
            // A handler that is still running takes over the delivery, so no new attempt begins.
            let is_attempt = request.held.iter().all(|held| held.id() != id);
            let is_counted = is_attempt && is_for_free_handler && !expired && row.attempts + 1 < request.max_attempts;
            batch.leased.extend(self.change(id, |row| {
                row.state = DeliveryState::Leased;
                if is_attempt {
                    row.end_unknown();
                }
                row.token += 1;
                row.due = until;
                let attempt = row.attempts + u32::from(is_attempt);
                if is_counted {
                    row.attempts = attempt;
                    row.open(request.worker, at);
                }
                let body = row.body.clone().unwrap_or_default();
                let leased = Leased::new(Lease::new(id, row.token, attempt), row.head.as_str(), body)
                    .with_ordering_keys(row.ordering_keys.clone())
                    .with_age(row.accepted_at.age(at));
                let leased = if row.reason.as_deref() == Some(EXPIRED) { leased.after_expiry() } else { leased };
                let leased = if expired { leased.after_expired_lease() } else { leased };
                if is_counted { leased.with_attempt_counted() } else { leased }
            }));
        }
        batch
    }

    /// Returns the turns of the tenants that have ready or leased deliveries.
    fn turns(&self, request: &LeaseRequest<'_>) -> Vec<Turn> {
        let held: Vec<_> = request.held.iter().filter_map(|lease| self.rows.get(&lease.id())).collect();
        let turn = |tenant: &Arc<str>| Turn {
            tenant: Arc::clone(tenant),
            rank: held.iter().filter(|row| row.tenant == *tenant).count(),
            // Without random bytes, the order of the tenants is arbitrary.
            draw: getrandom::u64().unwrap_or_default(),
            examined: None,
        };
        self.due.keys().map(turn).collect()
    }

    /// Returns the next due delivery of the tenant whose turn it is, and the position of the turn. Removes turns that
    /// have no due delivery left.
    fn next_candidate(&self, turns: &mut Vec<Turn>, now: Tick) -> Option<(usize, DeliveryId)> {
        loop {
            let position = (0..turns.len()).min_by_key(|position| (turns[*position].rank, turns[*position].draw))?;
            let turn = &mut turns[position];
            let later = (turn.examined.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            let next = self.due.get(&turn.tenant).and_then(|due| due.range(later).next().copied());
            match next.filter(|(due, _)| *due <= now) {
                Some((due, id)) => {
                    turn.examined = Some((due, id));
                    return Some((position, id));
                }
                None => drop(turns.swap_remove(position)),
            }
        }
    }

    /// Returns whether a pause selects the delivery.
    pub(super) fn is_paused(&self, row: &Row) -> bool {
        self.pauses.keys().any(|pause| pause.matches(&row.tenant, row.event_type.as_deref()))
    }

    /// Returns whether another delivery with this key blocks this one: an earlier unfinished delivery, or a later one
    /// that was leased while this one was dead.
    fn is_blocked(&self, key: &OrderingKey, id: DeliveryId, now: Tick) -> bool {
        let (first, last) = (DeliveryId::new(i64::MIN), DeliveryId::new(i64::MAX));
        let mut before = self.ordering.range((key.clone(), first)..(key.clone(), id));
        let mut behind = self.ordering.range((key.clone(), id)..=(key.clone(), last));
        before.next().is_some() || behind.any(|(_, other)| *other != id && self.is_leased(*other, now))
    }

    fn is_leased(&self, id: DeliveryId, now: Tick) -> bool {
        self.rows.get(&id).is_some_and(|row| row.state == DeliveryState::Leased && row.due > now)
    }

    fn is_expired(&self, id: DeliveryId, now: Tick) -> bool {
        self.rows.get(&id).is_some_and(|row| row.state == DeliveryState::Leased && row.due <= now)
    }

    /// Counts the lease's attempt. Returns whether the delivery is leased with this token.
    pub(super) fn start(&mut self, lease: &Lease, worker: &str, now: Timestamp) -> bool {
        let is_held = self.rows.get(&lease.id()).is_some_and(|row| row.is_held_by(lease));
        let start = |row: &mut Row| {
            row.attempts = row.attempts.max(lease.attempt());
            row.open(worker, now);
        };
        is_held && self.change(lease.id(), start).is_some()
    }

    /// Returns whether the delivery is leased with this token.
    pub(super) fn extend(&mut self, lease: &Lease, until: Tick) -> bool {
        let is_held = self.rows.get(&lease.id()).is_some_and(|row| row.is_held_by(lease));
        is_held && self.change(lease.id(), |row| row.due = until).is_some()
    }
}
