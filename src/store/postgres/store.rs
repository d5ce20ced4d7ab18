//! The store.

use std::{
    error::Error,
    fmt,
    future::Future,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use deadpool_postgres::{Pool, Status};
use tokio::time::timeout;
use tokio_postgres::{
    GenericClient, Row,
    types::{ToSql, Type},
};

use super::{
    builder::PostgresStoreBuilder,
    connection::{Answer, Failure, Params, run},
    error::PostgresError,
    inbox::{HandOff, InboxSql},
    sql::Sql,
    sweep::{self, Sweeper},
    values::{Digest, bytes, count, seconds, within_calendar},
};
use crate::dedupe::{Claim, ClaimOutcome, EventKey, Ledger, StoreError};

/// A [`Ledger`] and an [`InboxStore`](crate::inbox::InboxStore) in Postgres tables. See the [module](super) for what it promises.
///
/// Clones share the connections.
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) sql: Sql,
    pub(super) inbox: InboxSql,
    pub(super) hand_off: Option<HandOff>,
    pub(super) deadline: Duration,
    pub(super) sweeper: Sweeper,
}

/// How often a claim is tried that finds an entry, and then finds it gone. It takes another node that claims and releases at
/// the same pace to need a second one.
pub(super) const TRIES: u32 = 16;

/// What forgetting and purging get, in deadlines: they may look at the whole table.
pub(super) const PATIENCE: u32 = 30;

impl PostgresStore {
    /// The table's name unless another is set.
    pub const TABLE: &'static str = "klikit_deliveries";

    /// Connects to the database that `url` names, with the defaults. See [`PostgresStoreBuilder::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect(url: &str) -> Result<Self, PostgresError> {
        Self::builder().connect(url).await
    }

    /// Uses connections of a pool of your own, with the defaults. See [`PostgresStoreBuilder::from_pool`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn from_pool(pool: Pool) -> Result<Self, PostgresError> {
        Self::builder().from_pool(pool).await
    }

    /// For another table, another number of connections, another deadline.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    pub(super) fn new(pool: Pool, sql: Sql, inbox: InboxSql, hand_off: Option<HandOff>, deadline: Duration) -> Self {
        Self { shared: Arc::new(Shared { pool, sql, inbox, hand_off, deadline, sweeper: Sweeper::default() }) }
    }

    /// The statement that completes a claim, for a transaction of your own through any driver.
    ///
    /// | parameter | type | is |
    /// |---|---|---|
    /// | `$1` | `bytea` | [`Claim::key`], 16 bytes |
    /// | `$2` | `bytea` | [`Claim::token`], 16 bytes |
    /// | `$3` | `float8` | how long to remember the delivery, in seconds |
    ///
    /// It changes one row when the claim is still held, and none when it is not: then roll back, because another copy of
    /// the delivery is being handled, or was. Completing twice changes one row each time.
    pub fn complete_sql(&self) -> &str {
        &self.shared.sql.complete
    }

    /// Completes `claim` on a connection of yours, as a part of the transaction that is open on it. `false` when the claim
    /// is not held any more: then roll back.
    ///
    /// `client` is a client or a transaction of `tokio-postgres`; those of `deadpool-postgres` dereference to them.
    ///
    /// # Errors
    ///
    /// When Postgres refuses the statement or does not answer within the [deadline](PostgresStoreBuilder::deadline). The
    /// transaction must then be rolled back.
    pub async fn complete_in(
        &self,
        client: &impl GenericClient,
        claim: &Claim,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let (key, token) = (bytes(claim.key()), &claim.token().as_bytes()[..]);
        let seconds = seconds(retention);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&key, Type::BYTEA), (&token, Type::BYTEA), (&seconds, Type::FLOAT8)];
        let complete = client.execute_typed(self.complete_sql(), &params);
        self.within(1, complete).await.map(|changed| changed > 0)
    }

    pub(super) async fn run(&self, sql: &str, params: Params<'_>) -> Result<Answer, StoreError> {
        self.within(1, run(&self.shared.pool, sql, params)).await
    }

    /// Runs a statement that may look at the whole table.
    pub(super) async fn run_long(&self, sql: &str, params: Params<'_>) -> Result<Answer, StoreError> {
        self.within(PATIENCE, run(&self.shared.pool, sql, params)).await
    }

    pub(super) async fn within<T, E>(
        &self,
        deadlines: u32,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let limit = self.shared.deadline.saturating_mul(deadlines);
        match timeout(limit, work).await {
            Ok(done) => done.map_err(StoreError::new),
            Err(_) => {
                let Status { max_size, size, available, .. } = self.shared.pool.status();
                let used = size.saturating_sub(available);
                Err(StoreError::new(format!(
                    "Postgres did not answer within {limit:?} ({used} of {max_size} connections are in use)"
                )))
            }
        }
    }

    async fn claim_or_read(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, ClaimFailure> {
        let Shared { pool, sql, .. } = &*self.shared;
        let (key, event) = (bytes(claim.key()), bytes(claim.event()));
        let (digest, token) = (&claim.digest().as_bytes()[..], &claim.token().as_bytes()[..]);
        let lease = seconds(lease);
        for _ in 0..TRIES {
            let claimed = run(pool, &sql.claim, &[&key, &event, &token, &digest, &lease]).await?;
            if !claimed.rows.is_empty() {
                return Ok(ClaimOutcome::Claimed);
            }
            // Two statements: one that does both sees the table as it was when it began, so that after waiting for another
            // node's claim it neither claims nor finds what that node has written.
            let there = run(pool, &sql.read, &[&key, &token]).await?;
            if let Some(row) = there.rows.first()
                && let Some(outcome) = outcome(row)?
            {
                return Ok(outcome);
            }
        }
        Err(ClaimFailure::Restless)
    }
}

impl Ledger for PostgresStore {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        self.within(1, self.claim_or_read(claim, lease)).await
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let (key, token) = (bytes(claim.key()), &claim.token().as_bytes()[..]);
        let answer = self.run(&self.shared.sql.complete, &[&key, &token, &seconds(retention)]).await?;
        sweep::completed(&self.shared);
        Ok(answer.changed > 0)
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let (key, token) = (bytes(claim.key()), &claim.token().as_bytes()[..]);
        self.run(&self.shared.sql.release, &[&key, &token]).await?;
        Ok(())
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        let (key, token) = (bytes(claim.key()), &claim.token().as_bytes()[..]);
        let answer = self.run(&self.shared.sql.renew, &[&key, &token, &seconds(lease)]).await?;
        Ok(answer.changed > 0)
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        count(&self.run_long(&self.shared.sql.forget, &[&bytes(event)]).await?)
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let (start, end) = (within_calendar(window.start), within_calendar(window.end));
        count(&self.run_long(&self.shared.sql.forget_claimed, &[&start, &end]).await?)
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.run_long(&self.shared.sql.purge, &[&i64::from(limit)]).await?.changed)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool would print how it connects.
        f.debug_struct("PostgresStore").field("deadline", &self.shared.deadline).finish_non_exhaustive()
    }
}

/// Why a claim was not decided.
enum ClaimFailure {
    Statement(Failure),
    Row(tokio_postgres::Error),
    /// The entry changed every time between one statement and the next.
    Restless,
}

impl From<Failure> for ClaimFailure {
    fn from(failure: Failure) -> Self {
        Self::Statement(failure)
    }
}

impl From<tokio_postgres::Error> for ClaimFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Row(error)
    }
}

impl From<ClaimFailure> for Box<dyn Error + Send + Sync> {
    fn from(failure: ClaimFailure) -> Self {
        match failure {
            ClaimFailure::Statement(failure) => failure.into(),
            ClaimFailure::Row(error) => error.into(),
            ClaimFailure::Restless => "the entry was claimed and given up again and again meanwhile".into(),
        }
    }
}

/// What an entry means to the token that found it. `None` when it should claim once more, because the entry is its own.
fn outcome(row: &Row) -> Result<Option<ClaimOutcome>, tokio_postgres::Error> {
    let (done, mine): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let (digest, remaining): (Digest, f64) = (row.try_get(2)?, row.try_get(3)?);
    Ok(match (done, mine) {
        (true, _) => Some(ClaimOutcome::Done { digest: digest.0 }),
        (false, true) => None,
        (false, false) => Some(ClaimOutcome::InFlight {
            digest: digest.0,
            remaining: Duration::try_from_secs_f64(remaining).unwrap_or_default(),
        }),
    })
}
