//! Recording how attempts ended, and extending leases.

use std::{collections::HashSet, time::Duration};

use tokio_postgres::{Row, types::ToSql};
use tower_klikit::{
    dedupe::StoreError,
    inbox::{DeliveryState, Lease, SettleOutcome, Settlement},
};

use super::sql::{ByLease, InboxSql};
use crate::{
    connection::{Failure, Params, TRIES},
    store::PostgresStore,
    values::{seconds, storable},
};

impl PostgresStore {
    /// Settles a single delivery with one statement, and several of them with one transaction that is sent at once.
    ///
    /// The transaction leaves out the deliveries that other transactions have locked, and is rolled back as a whole if
    /// the server rejects one of the settlements. The rest is settled one by one, so that no delivery holds up the
    /// others. If the server rejects one of those or one is late, the others are tried all the same, and then the call
    /// fails. If the server cannot be reached, or another one is late, the call fails at once.
    pub(super) async fn settle_all(
        &self,
        settlements: &[(Lease, Settlement)],
    ) -> Result<Vec<SettleOutcome>, StoreError> {
        let mut outcomes = vec![None; settlements.len()];
        if settlements.len() > 1 {
            self.settle_together(settlements, &mut outcomes).await?;
        }
        let (mut failed, mut is_late) = (None, false);
        for (outcome, (lease, settlement)) in outcomes.iter_mut().zip(settlements) {
            if outcome.is_some() {
                continue;
            }
            match self.in_time(1, self.settle_one(lease, settlement)).await {
                Ok(Ok(settled)) => *outcome = Some(settled),
                Ok(Err(failure)) if failure.is_servers() => failed = failed.or(Some(StoreError::new(failure))),
                Ok(Err(failure)) => return Err(StoreError::new(failure)),
                // It may wait for a lock. Another one that is late tells that the server hangs.
                Err(error) if !is_late => (failed, is_late) = (failed.or(Some(error)), true),
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(outcomes.into_iter().flatten().collect()),
        }
    }

    /// Settles what one transaction can settle.
    async fn settle_together(
        &self,
        settlements: &[(Lease, Settlement)],
        outcomes: &mut [Option<SettleOutcome>],
    ) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let groups = Group::of(&shared.inbox, settlements);
        let params: Vec<_> = groups.iter().map(|group| group.asked.params()).collect();
        let statements: Vec<_> =
            groups.iter().zip(&params).map(|(group, params)| (&group.sql.many, Params::from(params))).collect();
        let settling = shared.connections.run_within(&shared.inbox.begin_many, &statements);
        let answers = match self.in_time(1, settling).await? {
            Ok(answers) => answers,
            Err(failure) if failure.is_servers() => return Ok(()),
            Err(failure) => return Err(StoreError::new(failure)),
        };
        for (group, answer) in groups.iter().zip(answers) {
            for (index, row) in group.indices.iter().zip(&answer.rows) {
                let (lease, settlement) = &settlements[*index];
                let (changed, before) = changed_and_before(row).map_err(StoreError::new)?;
                outcomes[*index] = match verdict(before, lease, settlement) {
                    _ if changed => Some(SettleOutcome::Settled),
                    Verdict::Ended(outcome) => Some(outcome),
                    Verdict::Dead | Verdict::Unclear => None,
                };
            }
        }
        Ok(())
    }

    /// Looks at a delivery only if there was nothing to change.
    pub(super) async fn settle_one(&self, lease: &Lease, settlement: &Settlement) -> Result<SettleOutcome, Failure> {
        let shared = &*self.shared;
        let (id, token) = (lease.id().get(), lease.token());
        let Change { sql, seconds, reason } = Change::of(&shared.inbox, settlement);
        for _ in 0..TRIES {
            if shared.connections.run(&sql.one, &[&id, &token, &seconds, &reason]).await?.changed > 0 {
                return Ok(SettleOutcome::Settled);
            }
            let look = shared.connections.run(&shared.inbox.look, &[&id]).await?;
            let seen = look.rows.first().map(|row| seen(row, 0)).transpose().map_err(Failure::Statement)?;
            match verdict(seen.flatten(), lease, settlement) {
                Verdict::Ended(outcome) => return Ok(outcome),
                Verdict::Dead => {
                    let decrease = i32::from(*settlement == Settlement::Release);
                    let params: Params<'_> = &[&id, &token, &seconds, &reason, &decrease];
                    let statements = [(&shared.inbox.bring_back, params)];
                    let answers = shared.connections.run_within(&shared.inbox.begin_alone, &statements).await?;
                    if answers.iter().any(|answer| answer.changed > 0) {
                        return Ok(SettleOutcome::Settled);
                    }
                }
                Verdict::Unclear => {}
            }
        }
        Err(Failure::Restless)
    }

    /// Extends leases with one statement, which waits for nothing. A lease on a delivery that another transaction has
    /// locked counts as extended. That may be the handler's own transaction, which finishes the delivery, and no other
    /// worker can lease it meanwhile.
    pub(super) async fn extend_leases(&self, leases: &[Lease], duration: Duration) -> Result<Vec<bool>, StoreError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let shared = &*self.shared;
        let asked = Asked::extension(leases, duration);
        let params = asked.params();
        let statements = [(&shared.inbox.extend, Params::from(&params))];
        let extending = shared.connections.run_within(&shared.inbox.begin_many, &statements);
        let answers = self.within(1, extending).await?;
        let rows = answers.iter().flat_map(|answer| &answer.rows);
        let extended = leases.iter().zip(rows).map(|(lease, row)| {
            let (changed, before) = changed_and_before(row)?;
            Ok(changed || before == Some((lease.token(), Some(DeliveryState::Leased))))
        });
        extended.collect::<Result<_, tokio_postgres::Error>>().map_err(StoreError::new)
    }
}

/// The parameters of [`ByLease::many`].
#[derive(Default)]
pub(super) struct Asked {
    ids: Vec<i64>,
    tokens: Vec<i64>,
    seconds: Vec<f64>,
    reasons: Vec<Option<String>>,
}

impl Asked {
    pub(super) fn extension(leases: &[Lease], duration: Duration) -> Self {
        let mut asked = Self::default();
        for lease in leases {
            asked.push(lease, seconds(duration), None);
        }
        asked
    }

    fn push(&mut self, lease: &Lease, seconds: f64, reason: Option<String>) {
        self.ids.push(lease.id().get());
        self.tokens.push(lease.token());
        self.seconds.push(seconds);
        self.reasons.push(reason);
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.ids, &self.tokens, &self.seconds, &self.reasons]
    }

    pub(super) fn ids(&self) -> &Vec<i64> {
        &self.ids
    }

    pub(super) fn tokens(&self) -> &Vec<i64> {
        &self.tokens
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
            let Change { sql, seconds, reason } = Change::of(inbox, settlement);
            let place = groups.iter().position(|group| std::ptr::eq(group.sql, sql)).unwrap_or_else(|| {
                groups.push(Self { sql, asked: Asked::default(), indices: Vec::new() });
                groups.len() - 1
            });
            groups[place].asked.push(lease, seconds, reason);
            groups[place].indices.push(index);
        }
        groups
    }
}

/// A settlement, as a statement and its parameters.
struct Change<'a> {
    sql: &'a ByLease,
    seconds: f64,
    reason: Option<String>,
}

impl<'a> Change<'a> {
    fn of(inbox: &'a InboxSql, settlement: &Settlement) -> Self {
        let (sql, duration, reason) = match settlement {
            Settlement::Done { keep } if keep.is_zero() => (&inbox.delete, Duration::ZERO, None),
            Settlement::Done { keep } => (&inbox.keep, *keep, None),
            Settlement::Reschedule { delay, reason } => (&inbox.reschedule, *delay, Some(reason)),
            Settlement::DeadLetter { reason } => (&inbox.dead_letter, Duration::ZERO, Some(reason)),
            Settlement::Release => (&inbox.release, Duration::ZERO, None),
        };
        Self { sql, seconds: seconds(duration), reason: reason.map(|reason| storable(reason)) }
    }
}

/// The token and the state of a delivery. `None` if it is not there.
type Seen = Option<(i64, Option<DeliveryState>)>;

/// Reads two columns, the first of which is number `first`.
fn seen(row: &Row, first: usize) -> Result<Seen, tokio_postgres::Error> {
    let (token, state): (Option<i64>, Option<i16>) = (row.try_get(first)?, row.try_get(first + 1)?);
    Ok(token.map(|token| (token, state.and_then(DeliveryState::from_code))))
}

/// Reads whether a delivery was changed, and what it was before.
fn changed_and_before(row: &Row) -> Result<(bool, Seen), tokio_postgres::Error> {
    Ok((row.try_get(0)?, seen(row, 1)?))
}

/// The meaning of a settlement that has changed nothing.
enum Verdict {
    Ended(SettleOutcome),
    /// The delivery is DEAD, and has to be READY again.
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
