//! The parameters and the rows of statements on deliveries by their leases.

use std::time::Duration;

use tokio_postgres::{Row, types::ToSql};
use tower_klikit::inbox::{DeliveryState, Lease};

use crate::values::seconds;

/// The values of a change besides those of the lease. Each statement uses some of them.
#[derive(Default)]
pub(super) struct Values {
    pub(super) seconds: f64,
    pub(super) reason: Option<String>,
    pub(super) status: Option<i32>,
    /// The seconds for which the history is kept.
    pub(super) history: f64,
    pub(super) worker: Option<String>,
}

/// The parameters of [`ByLease::one`](super::sql::ByLease::one).
pub(super) struct OneLeaseParams {
    id: i64,
    token: i64,
    attempt: i32,
    values: Values,
}

impl OneLeaseParams {
    pub(super) fn new(lease: &Lease, values: Values) -> Self {
        Self { id: lease.id().get(), token: lease.token(), attempt: whole(lease.attempt()), values }
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 8] {
        let Self { id, token, attempt, values: Values { seconds, reason, status, history, worker } } = self;
        [id, token, seconds, reason, attempt, status, history, worker]
    }
}

/// Converts a number to Postgres's `integer`. Numbers that are too large become the largest one.
fn whole(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The parameters of [`ByLease::many`](super::sql::ByLease::many).
#[derive(Default)]
pub(super) struct LeaseParams {
    ids: Vec<i64>,
    tokens: Vec<i64>,
    seconds: Vec<f64>,
    reasons: Vec<Option<String>>,
    attempts: Vec<i32>,
    statuses: Vec<Option<i32>>,
    histories: Vec<f64>,
    workers: Vec<Option<String>>,
}

impl LeaseParams {
    pub(super) fn extension(leases: &[Lease], duration: Duration) -> Self {
        let mut asked = Self::default();
        for lease in leases {
            asked.push(lease, Values { seconds: seconds(duration), ..Values::default() });
        }
        asked
    }

    pub(super) fn push(&mut self, lease: &Lease, values: Values) {
        let Values { seconds, reason, status, history, worker } = values;
        self.ids.push(lease.id().get());
        self.tokens.push(lease.token());
        self.seconds.push(seconds);
        self.reasons.push(reason);
        self.attempts.push(whole(lease.attempt()));
        self.statuses.push(status);
        self.histories.push(history);
        self.workers.push(worker);
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 8] {
        let Self { ids, tokens, seconds, reasons, attempts, statuses, histories, workers } = self;
        [ids, tokens, seconds, reasons, attempts, statuses, histories, workers]
    }

    pub(super) fn ids(&self) -> &Vec<i64> {
        &self.ids
    }

    pub(super) fn tokens(&self) -> &Vec<i64> {
        &self.tokens
    }
}

/// The token and the state of a delivery, or `None` if there is no such delivery.
pub(super) type TokenAndState = Option<(i64, Option<DeliveryState>)>;

/// Reads the token and the state from two columns, starting at `first`.
pub(super) fn seen(row: &Row, first: usize) -> Result<TokenAndState, tokio_postgres::Error> {
    let (token, state): (Option<i64>, Option<i16>) = (row.try_get(first)?, row.try_get(first + 1)?);
    Ok(token.map(|token| (token, state.and_then(DeliveryState::from_code))))
}

/// Reads whether a delivery was changed, and its token and state before.
pub(super) fn changed_and_before(row: &Row) -> Result<(bool, TokenAndState), tokio_postgres::Error> {
    Ok((row.try_get(0)?, seen(row, 1)?))
}
