//! Recording how attempts ended.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tower_klikit::{
    dedupe::StoreError,
    inbox::{DeliveryState, Lease, SettleOutcome, Settlement},
};

use super::{
    by_lease::{Asked, Seen, Values, changed_and_before, seen, whole},
    sql::{ByLease, InboxSql},
    together::InBatch,
};
use crate::{
    connection::{Failure, Params, TRIES},
    store::{PostgresStore, Shared},
    values::{seconds, storable},
};

impl PostgresStore {
    /// Settles deliveries with one transaction, together with those of other calls.
    ///
    /// The transaction leaves out the deliveries that other transactions have locked, and is rolled back as a whole if
    /// the server rejects one of the settlements. The rest is settled one by one, so that no delivery holds up the
    /// others. If the server rejects one of those or one is late, the others are tried all the same, and then the call
    /// fails. If the server cannot be reached, or another one is late, the call fails at once.
    pub(super) async fn settle_all(
        &self,
        settlements: &[(Lease, Settlement)],
    ) -> Result<Vec<SettleOutcome>, StoreError> {
        let outcomes = match settlements {
            [settlement] => vec![self.in_time(1, self.settle_in_batch(settlement.clone())).await?],
            several => self.in_time(1, settle_together(&self.shared, several)).await?,
        };
        let (mut settled, mut failed, mut is_late) = (Vec::with_capacity(settlements.len()), None, false);
        for (outcome, (lease, settlement)) in outcomes.into_iter().zip(settlements) {
            if let Some(outcome) = outcome.map_err(StoreError::new)? {
                settled.push(outcome);
                continue;
            }
            match self.in_time(1, self.settle_one(lease, settlement)).await {
                Ok(Ok(outcome)) => settled.push(outcome),
                Ok(Err(failure)) if failure.is_servers() => failed = failed.or(Some(StoreError::new(failure))),
                Ok(Err(failure)) => return Err(StoreError::new(failure)),
                // It may wait for a lock. Another one that is late tells that the server hangs.
                Err(error) if !is_late => (failed, is_late) = (failed.or(Some(error)), true),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(settled), Err)
    }

    async fn settle_in_batch(&self, ending: (Lease, Settlement)) -> InBatch<SettleOutcome> {
        let shared = Arc::clone(&self.shared);
        let settle = move |endings: Vec<_>| {
            let shared = Arc::clone(&shared);
            async move { settle_together(&shared, &endings).await }
        };
        self.shared.together.endings.run(ending, settle).await.unwrap_or(Ok(None))
    }

    /// Looks at a delivery only if there was nothing to change.
    pub(super) async fn settle_one(&self, lease: &Lease, settlement: &Settlement) -> Result<SettleOutcome, Failure> {
        let shared = &*self.shared;
        let (id, token) = (lease.id().get(), lease.token());
        let Change { sql, values: Values { seconds, reason, attempts } } = Change::of(&shared.inbox, lease, settlement);
        let params: Params<'_> = &[&id, &token, &seconds, &reason, &attempts];
        for _ in 0..TRIES {
            if shared.connections.run(&sql.one, params).await?.changed > 0 {
                return Ok(SettleOutcome::Settled);
            }
            let look = shared.connections.run(&shared.inbox.look, &[&id]).await?;
            let seen = look.rows.first().map(|row| seen(row, 0)).transpose().map_err(Failure::Statement)?;
            match verdict(seen.flatten(), lease, settlement) {
                Verdict::Ended(outcome) => return Ok(outcome),
                Verdict::Dead => {
                    let bring_back = match settlement {
                        Settlement::Reschedule { unordered: true, .. } => &shared.inbox.bring_back_unordered,
                        _ => &shared.inbox.bring_back,
                    };
                    let statements = [(bring_back, params)];
                    let answers = shared.connections.run_within(&shared.inbox.begin_alone, &statements).await?;
                    if answers.iter().any(|answer| answer.changed > 0) {
                        return Ok(SettleOutcome::Settled);
                    }
                    let for_good = shared.connections.run(&shared.inbox.is_dead_for_good, &[&id, &token]).await?;
                    if for_good.changed > 0 {
                        return Ok(SettleOutcome::Settled);
                    }
                }
                Verdict::Unclear => {}
            }
        }
        Err(Failure::Restless)
    }
}

/// Settles what one transaction can settle. Returns `None` for the rest.
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
                outcomes[*index] = Ok(match verdict(before, lease, settlement) {
                    _ if changed => Some(SettleOutcome::Settled),
                    Verdict::Ended(outcome) => Some(outcome),
                    Verdict::Dead | Verdict::Unclear => None,
                });
            }
        }
        Ok(())
    };
    match settled.await {
        Ok(()) => outcomes,
        Err(failure) if Failure::is_servers(&failure) => vec![Ok(None); settlements.len()],
        Err(failure) => vec![Err(failure.into()); settlements.len()],
    }
}

/// The settlements that one statement can record: those of one kind, for deliveries of different ids.
struct Group<'a> {
    sql: &'a ByLease,
    asked: Asked,
    /// Where the settlements were among all.
    indices: Vec<usize>,
}

impl<'a> Group<'a> {
    /// Takes the first settlement of each delivery. Any further ones are left out.
    fn of(inbox: &'a InboxSql, settlements: &[(Lease, Settlement)]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut ids = HashSet::new();
        for (index, (lease, settlement)) in settlements.iter().enumerate() {
            if !ids.insert(lease.id()) {
                continue;
            }
            let Change { sql, values } = Change::of(inbox, lease, settlement);
            let place = groups.iter().position(|group| std::ptr::eq(group.sql, sql)).unwrap_or_else(|| {
                groups.push(Self { sql, asked: Asked::default(), indices: Vec::new() });
                groups.len() - 1
            });
            groups[place].asked.push(lease, values);
            groups[place].indices.push(index);
        }
        groups
    }
}

/// A settlement, as a statement and its parameters.
struct Change<'a> {
    sql: &'a ByLease,
    values: Values,
}

impl<'a> Change<'a> {
    fn of(inbox: &'a InboxSql, lease: &Lease, settlement: &Settlement) -> Self {
        let (sql, duration, reason) = match settlement {
            Settlement::Done { keep } if keep.is_zero() => (&inbox.delete, Duration::ZERO, None),
            Settlement::Done { keep } => (&inbox.keep, *keep, None),
            Settlement::Reschedule { delay, reason, unordered: false } => (&inbox.reschedule, *delay, Some(reason)),
            Settlement::Reschedule { delay, reason, unordered: true } => {
                (&inbox.reschedule_unordered, *delay, Some(reason))
            }
            Settlement::DeadLetter { reason } => (&inbox.dead_letter, Duration::ZERO, Some(reason)),
            Settlement::Release => (&inbox.release, Duration::ZERO, None),
        };
        let attempts = match settlement {
            Settlement::Release => lease.attempt().saturating_sub(1),
            _ => u32::MAX,
        };
        let reason = reason.map(|reason| storable(reason));
        Self { sql, values: Values { seconds: seconds(duration), reason, attempts: whole(attempts) } }
    }
}

/// The meaning of a settlement that has changed nothing.
enum Verdict {
    Ended(SettleOutcome),
    /// The delivery is DEAD, and has to be READY again if its lease expired on the last attempt.
    Dead,
    /// The delivery is locked, or has changed meanwhile.
    Unclear,
}

fn verdict(seen: Seen, lease: &Lease, settlement: &Settlement) -> Verdict {
    match seen {
        // A larger token never gives way to a smaller one, and an id is not used again. So this needs no lock.
        None => Verdict::Ended(SettleOutcome::Gone),
        Some((token, _)) if token != lease.token() => Verdict::Ended(SettleOutcome::Superseded),
        Some((_, Some(DeliveryState::Done))) => Verdict::Ended(SettleOutcome::Settled),
        Some((_, Some(DeliveryState::Ready))) if *settlement == Settlement::Release => {
            Verdict::Ended(SettleOutcome::Settled)
        }
        Some((_, Some(DeliveryState::Dead)))
            if matches!(settlement, Settlement::Release | Settlement::Reschedule { .. }) =>
        {
            Verdict::Dead
        }
        Some(_) => Verdict::Unclear,
    }
}
