//! The parameters and the rows of statements on deliveries by their leases.

use std::time::Duration;

use tokio_postgres::{Row, types::ToSql};
use tower_klikit::inbox::{DeliveryState, Lease};

use crate::values::seconds;

/// The values of a change. Each statement uses some of them.
#[derive(Default)]
pub(super) struct Values {
    pub(super) seconds: f64,
    pub(super) reason: Option<String>,
    pub(super) attempts: i32,
}

/// Converts a number to Postgres's `integer`. Numbers that are too large become the largest one.
pub(super) fn whole(number: u32) -> i32 {
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
}

impl LeaseParams {
    pub(super) fn extension(leases: &[Lease], duration: Duration) -> Self {
        let mut asked = Self::default();
        for lease in leases {
            asked.push(lease, Values { seconds: seconds(duration), ..Values::default() });
        }
        asked
    }

    pub(super) fn push(&mut self, lease: &Lease, Values { seconds, reason, attempts }: Values) {
        self.ids.push(lease.id().get());
        self.tokens.push(lease.token());
        self.seconds.push(seconds);
        self.reasons.push(reason);
        self.attempts.push(attempts);
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.ids, &self.tokens, &self.seconds, &self.reasons, &self.attempts]
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
