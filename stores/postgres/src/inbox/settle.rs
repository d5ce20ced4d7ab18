//! Calls that settle deliveries.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tower_klikit::{
    dedupe::StoreError,
    inbox::{DeliveryState, Lease, SettleOutcome, Settlement},
};

use super::{
    batches::InBatch,
    by_lease::{LeaseParams, OneLeaseParams, TokenAndState, Values, changed_and_before, seen},
    sql::{ByLease, InboxSql},
};
use crate::{
    connection::{Failure, Params, Sql, TRIES},
    store::{PostgresStore, Shared},
    values::{seconds, storable},
};

impl PostgresStore {
    /// Settles deliveries in one transaction, together with those of other calls.
    ///
    /// The transaction leaves out deliveries that other transactions have locked. If the server rejects one settlement, the
    /// whole transaction is rolled back. All deliveries that are not settled then follow one by one, so that none delays
    /// the others.
    ///
    /// If one of these is rejected or times out, the others are still tried, and then the call fails. If a second one times
    /// out, or the server cannot be reached, the call fails at once.
    pub(super) async fn settle_all(
        &self,
        settlements: &[(Lease, Settlement)],
    ) -> Result<Vec<SettleOutcome>, StoreError> {
        let outcomes = match settlements {
            [settlement] => vec![self.in_time(1, self.settle_in_batch(settlement.clone())).await?],
            several => self.in_time(1, settle_together(&self.shared, several)).await?,
        };
        let mut settled = Vec::with_capacity(settlements.len());
        let (mut first_error, mut has_timed_out) = (None, false);
        for (outcome, (lease, settlement)) in outcomes.into_iter().zip(settlements) {
            if let Some(outcome) = outcome.map_err(StoreError::new)? {
                settled.push(outcome);
                continue;
            }
            match self.in_time(1, self.settle_one(lease, settlement)).await {
                Ok(Ok(outcome)) => settled.push(outcome),
                Ok(Err(failure)) if failure.is_from_server() => {
                    first_error = first_error.or(Some(StoreError::new(failure)));
                }
                Ok(Err(failure)) => return Err(StoreError::new(failure)),
                // One timeout may be a wait for a lock. After a second one, assume that the server hangs.
                Err(error) if !has_timed_out => {
                    has_timed_out = true;
                    first_error = first_error.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        first_error.map_or(Ok(settled), Err)
    }

    async fn settle_in_batch(&self, settlement: (Lease, Settlement)) -> InBatch<SettleOutcome> {
        let shared = Arc::clone(&self.shared);
        let settle = move |settlements: Vec<_>| {
            let shared = Arc::clone(&shared);
            async move { settle_together(&shared, &settlements).await }
        };
        self.shared.batches.settlements.run(settlement, settle).await.unwrap_or(Ok(None))
    }

    /// Settles one delivery. Reads its state only if the statement changed nothing.
    pub(super) async fn settle_one(&self, lease: &Lease, settlement: &Settlement) -> Result<SettleOutcome, Failure> {
        let shared = &*self.shared;
        let SettlementStatement { sql, values } = SettlementStatement::of(&shared.inbox, settlement);
        let asked = OneLeaseParams::new(lease, values);
        let params = asked.params();
        for _ in 0..TRIES {
            if shared.connections.run(&sql.one, &params).await?.changed > 0 {
                return Ok(SettleOutcome::Settled);
            }
            let read: Params<'_> = &[&lease.id().get()];
            let current = shared.connections.run(&shared.inbox.read_token_and_state, read).await?;
            let current = current.rows.first().map(|row| seen(row, 0)).transpose().map_err(Failure::Statement)?;
            match unchanged_reason(current.flatten(), lease, settlement) {
                UnchangedReason::Known(outcome) => return Ok(outcome),
                UnchangedReason::Dead => {
                    let ForDead { bring_back, leave } = ForDead::of(&shared.inbox, settlement);
                    if let Some(bring_back) = bring_back {
                        let statements = [(bring_back, Params::from(&params))];
                        let answers = shared.connections.run_within(&shared.inbox.begin_alone, &statements).await?;
                        if answers.iter().any(|answer| answer.changed > 0) {
                            return Ok(SettleOutcome::Settled);
                        }
                    }
                    if shared.connections.run(leave, &params).await?.changed > 0 {
                        return Ok(SettleOutcome::Settled);
                    }
                }
                UnchangedReason::Unknown => {}
            }
        }
        Err(Failure::Contended)
    }
}

/// Settles deliveries in one transaction. Returns `None` for those that must be settled by themselves.
async fn settle_together(shared: &Shared, settlements: &[(Lease, Settlement)]) -> Vec<InBatch<SettleOutcome>> {
    let groups = Group::of(&shared.inbox, settlements);
    let params: Vec<_> = groups.iter().map(|group| group.asked.params()).collect();
    let statements: Vec<_> =
        groups.iter().zip(&params).map(|(group, params)| (&group.sql.many, Params::from(params))).collect();
    let mut outcomes = vec![Ok(None); settlements.len()];
    let settled = async {
        let answers = shared.connections.run_together(&shared.inbox.begin_many, &statements).await?;
        for (group, answer) in groups.iter().zip(answers) {
            for (index, row) in group.indices.iter().zip(&answer.rows) {
                let (lease, settlement) = &settlements[*index];
                let (changed, before) = changed_and_before(row).map_err(Failure::Statement)?;
                outcomes[*index] = Ok(match unchanged_reason(before, lease, settlement) {
                    _ if changed => Some(SettleOutcome::Settled),
                    UnchangedReason::Known(outcome) => Some(outcome),
                    UnchangedReason::Dead | UnchangedReason::Unknown => None,
                });
            }
        }
        Ok::<_, Failure>(())
    };
    match settled.await {
        Ok(()) => outcomes,
        Err(failure) if failure.is_from_server() => vec![Ok(None); settlements.len()],
        Err(failure) => vec![Err(failure.into()); settlements.len()],
    }
}

/// The settlements that one statement records: they have the same kind and different deliveries.
struct Group<'a> {
    sql: &'a ByLease,
    asked: LeaseParams,
    /// The positions of the settlements among all.
    indices: Vec<usize>,
}

impl<'a> Group<'a> {
    /// Groups the first settlement of each delivery, and leaves out further ones.
    fn of(inbox: &'a InboxSql, settlements: &[(Lease, Settlement)]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut ids = HashSet::new();
        for (index, (lease, settlement)) in settlements.iter().enumerate() {
            if !ids.insert(lease.id()) {
                continue;
            }
            let SettlementStatement { sql, values } = SettlementStatement::of(inbox, settlement);
            let place = groups.iter().position(|group| std::ptr::eq(group.sql, sql)).unwrap_or_else(|| {
                groups.push(Self { sql, asked: LeaseParams::default(), indices: Vec::new() });
                groups.len() - 1
            });
            groups[place].asked.push(lease, values);
            groups[place].indices.push(index);
        }
        groups
    }
}

/// A settlement, as a statement and its parameters.
struct SettlementStatement<'a> {
    sql: &'a ByLease,
    values: Values,
}

impl<'a> SettlementStatement<'a> {
    fn of(inbox: &'a InboxSql, settlement: &Settlement) -> Self {
        let (sql, duration, reason, status) = match settlement {
            Settlement::Done { keep, history, .. } if keep.is_zero() && history.is_zero() => {
                (&inbox.delete, Duration::ZERO, None, None)
            }
            Settlement::Done { keep, history, status } if keep.is_zero() => {
                (&inbox.keep_history, *history, None, *status)
            }
            Settlement::Done { keep, status, .. } => (&inbox.keep, *keep, None, *status),
            Settlement::Reschedule { delay, reason, unordered: false, status } => {
                (&inbox.reschedule, *delay, Some(reason), *status)
            }
            Settlement::Reschedule { delay, reason, unordered: true, status } => {
                (&inbox.reschedule_unordered, *delay, Some(reason), *status)
            }
            Settlement::DeadLetter { reason, status } => (&inbox.dead_letter, Duration::ZERO, Some(reason), *status),
            Settlement::Expire => (&inbox.expire, Duration::ZERO, None, None),
            Settlement::Release => (&inbox.release, Duration::ZERO, None, None),
        };
        let history = match settlement {
            Settlement::Done { history, .. } => *history,
            _ => Duration::ZERO,
        };
        let values = Values {
            seconds: seconds(duration),
            reason: reason.map(|reason| storable(reason)),
            status: status.map(i32::from),
            history: seconds(history),
            worker: None,
        };
        Self { sql, values }
    }
}

/// The statements for a failure or a release of a DEAD delivery.
struct ForDead<'a> {
    /// Makes the delivery READY if its lease expired on the last attempt.
    bring_back: Option<&'a Sql>,
    /// Ends the attempt if the delivery is DEAD for another reason.
    leave: &'a Sql,
}

impl<'a> ForDead<'a> {
    fn of(inbox: &'a InboxSql, settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Reschedule { unordered: false, .. } => {
                Self { bring_back: Some(&inbox.bring_back), leave: &inbox.leave_dead }
            }
            Settlement::Reschedule { unordered: true, .. } => {
                Self { bring_back: Some(&inbox.bring_back_unordered), leave: &inbox.leave_dead }
            }
            Settlement::Release => {
                Self { bring_back: Some(&inbox.bring_back_released), leave: &inbox.leave_dead_released }
            }
            Settlement::Expire | Settlement::Done { .. } | Settlement::DeadLetter { .. } => {
                Self { bring_back: None, leave: &inbox.leave_dead_released }
            }
        }
    }
}

/// The reason why a settlement has changed nothing.
enum UnchangedReason {
    Known(SettleOutcome),
    /// The delivery is DEAD, and must become READY again if its lease expired on the last attempt.
    Dead,
    /// The delivery is locked, or has changed since.
    Unknown,
}

/// Finds the reason why a settlement has changed nothing. `current` is the delivery's token and state.
fn unchanged_reason(current: TokenAndState, lease: &Lease, settlement: &Settlement) -> UnchangedReason {
    match current {
        // Tokens only grow and ids are never reused, so reading them needs no lock.
        None => UnchangedReason::Known(SettleOutcome::Gone),
        Some((token, _)) if token != lease.token() => UnchangedReason::Known(SettleOutcome::Superseded),
        Some((_, Some(DeliveryState::Done))) => UnchangedReason::Known(SettleOutcome::Settled),
        // Such a settlement changes the state of a dead letter only if its lease expired on the last attempt.
        Some((_, Some(DeliveryState::Dead))) if settlement.leaves_dead(None) => UnchangedReason::Dead,
        Some(_) => UnchangedReason::Unknown,
    }
}
