//! Recording the outcomes of attempts.

use super::{super::table::Timestamp, deliveries::Deliveries, row::Row};
use crate::inbox::{DeliveryState, EXPIRED, Lease, SettleOutcome, Settlement};

impl Deliveries {
    pub(super) fn settle(&mut self, lease: &Lease, settlement: &Settlement, now: Timestamp) -> SettleOutcome {
        let id = lease.id();
        let Some(row) = self.rows.get(&id) else { return SettleOutcome::Gone };
        if row.token != lease.token() {
            return SettleOutcome::Superseded;
        }
        match settlement {
            _ if row.state == DeliveryState::Done => {}
            Settlement::Done { keep, history, .. } if keep.is_zero() && history.is_zero() => {
                self.remove(id);
            }
            _ => {
                self.change(id, |row| {
                    row.record(lease, settlement, now);
                    let is_left = row.state == DeliveryState::Dead && settlement.leaves_dead(row.reason.as_deref());
                    if !is_left {
                        row.settle(lease, settlement, now);
                    }
                });
            }
        }
        SettleOutcome::Settled
    }
}

impl Row {
    /// Ends the open attempt.
    fn record(&mut self, lease: &Lease, settlement: &Settlement, now: Timestamp) {
        let number = lease.attempt().max(1);
        match settlement {
            Settlement::Done { status, .. } => self.end(number, now, *status, None),
            Settlement::Reschedule { status, reason, .. } | Settlement::DeadLetter { status, reason } => {
                self.end(number, now, *status, Some(reason));
            }
            Settlement::Expire | Settlement::Release => drop(self.take_open()),
        }
    }

    fn settle(&mut self, lease: &Lease, settlement: &Settlement, at: Timestamp) {
        let now = at.tick();
        match settlement {
            Settlement::Done { keep, history, .. } => {
                self.state = DeliveryState::Done;
                self.reason = None;
                self.history_until = now.after(*history);
                if keep.is_zero() {
                    self.body = None;
                    self.due = self.history_until;
                } else {
                    self.due = now.after(*keep);
                }
            }
            Settlement::Reschedule { delay, reason, unordered, .. } => {
                self.state = DeliveryState::Ready;
                self.due = now.after(*delay);
                self.reason = Some(reason.clone());
                if *unordered {
                    self.ordering_keys.clear();
                }
            }
            Settlement::DeadLetter { reason, .. } => self.dead_letter(reason),
            Settlement::Expire => {
                self.take_off(lease);
                self.dead_letter(EXPIRED);
            }
            Settlement::Release if self.state == DeliveryState::Ready => {}
            Settlement::Release => {
                self.take_off(lease);
                self.state = DeliveryState::Ready;
                self.due = now;
            }
        }
    }

    /// Takes the attempt of a lease off.
    fn take_off(&mut self, lease: &Lease) {
        self.attempts = self.attempts.min(lease.attempt().saturating_sub(1));
    }

    pub(super) fn dead_letter(&mut self, reason: &str) {
        self.state = DeliveryState::Dead;
        self.reason = Some(reason.into());
    }
}
