//! One statement on a connection of the pool.

use std::{error::Error, fmt, pin::pin};

use deadpool_postgres::{Client, Pool, PoolError};
use futures_util::{
    TryStreamExt,
    future::{try_join, try_join_all, try_join3},
};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Whatever the database's default is: the statements are written for this isolation.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

const COMMIT: &str = "COMMIT";

/// What a statement gave.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// How many rows were changed, or given.
    pub(super) changed: u64,
}

/// No answer.
#[derive(Debug)]
pub(super) enum Failure {
    Pool(PoolError),
    Statement(tokio_postgres::Error),
}

/// Runs one prepared statement: one round trip, on a connection that has run it before.
///
/// Once more on another connection when this one broke. Every statement that comes here may be run twice, because what a
/// token did, it may do again.
pub(super) async fn run(pool: &Pool, sql: &str, params: Params<'_>) -> Result<Answer, Failure> {
    match once(pool, sql, params).await {
        Err(failure) if failure.may_pass() => once(pool, sql, params).await,
        answer => answer,
    }
}

/// Runs one prepared statement in a transaction that begins with `begin`: one round trip all the same, because everything is
/// sent at once.
///
/// Twice when the connection broke, as [`run`] does. After an error the server makes a roll-back of the commit.
pub(super) async fn run_within(pool: &Pool, begin: &str, sql: &str, params: Params<'_>) -> Result<Answer, Failure> {
    match once_within(pool, begin, sql, params).await {
        Err(failure) if failure.may_pass() => once_within(pool, begin, sql, params).await,
        answer => answer,
    }
}

/// Runs `first` and, if that has changed a row, `second` in one transaction. Whether it has.
pub(super) async fn run_both(
    pool: &Pool,
    first: (&str, Params<'_>),
    second: (&str, &[Type], Params<'_>),
) -> Result<bool, Failure> {
    match both_once(pool, first, second).await {
        Err(failure) if failure.may_pass() => both_once(pool, first, second).await,
        answer => answer,
    }
}

/// Runs statements without parameters, in one transaction.
pub(super) async fn batch(pool: &Pool, sql: &str) -> Result<(), Failure> {
    let lent = Lent::from(pool).await?;
    lent.client().batch_execute(sql).await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(())
}

/// Has the server check statements against the tables, all at once.
pub(super) async fn check(pool: &Pool, statements: &[&str]) -> Result<(), Failure> {
    let lent = Lent::from(pool).await?;
    let prepare = statements.iter().map(|sql| lent.client().prepare_cached(sql));
    try_join_all(prepare).await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(())
}

/// The same for one, with parameters of these types, used or not. How many it has.
pub(super) async fn check_typed(pool: &Pool, sql: &str, types: &[Type]) -> Result<usize, Failure> {
    let lent = Lent::from(pool).await?;
    let statement = lent.client().prepare_typed_cached(sql, types).await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(statement.params().len())
}

async fn once(pool: &Pool, sql: &str, params: Params<'_>) -> Result<Answer, Failure> {
    let lent = Lent::from(pool).await?;
    let answer = ask(lent.client(), sql, params).await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(answer)
}

async fn once_within(pool: &Pool, begin: &str, sql: &str, params: Params<'_>) -> Result<Answer, Failure> {
    let lent = Lent::from(pool).await?;
    let client = lent.client();
    // Before the transaction, so that nothing has to be waited for within it.
    client.prepare_cached(sql).await.map_err(Failure::Statement)?;
    let all = try_join3(client.batch_execute(begin), ask(client, sql, params), client.batch_execute(COMMIT));
    let ((), answer, ()) = all.await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(answer)
}

async fn both_once(
    pool: &Pool,
    (first, first_params): (&str, Params<'_>),
    (second, types, second_params): (&str, &[Type], Params<'_>),
) -> Result<bool, Failure> {
    let lent = Lent::from(pool).await?;
    let client = lent.client();
    let run = async {
        client.prepare_cached(first).await?;
        let ((), answer) = try_join(client.batch_execute(BEGIN), ask(client, first, first_params)).await?;
        if answer.changed == 0 {
            client.batch_execute("ROLLBACK").await?;
            return Ok(false);
        }
        let second = client.prepare_typed_cached(second, types).await?;
        client.execute(&second, second_params).await?;
        client.batch_execute(COMMIT).await?;
        Ok(true)
    };
    let changed = run.await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(changed)
}

async fn ask(client: &Client, sql: &str, params: Params<'_>) -> Result<Answer, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    let mut answers = pin!(client.query_raw(&statement, params.iter().copied()).await?);
    let mut rows = Vec::new();
    while let Some(row) = answers.try_next().await? {
        rows.push(row);
    }
    Ok(Answer { rows, changed: answers.rows_affected().unwrap_or(0) })
}

/// A connection of the pool that goes back only after it has answered well.
///
/// When the wait for an answer is given up, by a deadline or because the caller is gone, or when there was an error, the
/// connection is closed: the next one to use it would wait behind the unanswered statement, or meet the same error.
struct Lent(Option<Client>);

impl Lent {
    async fn from(pool: &Pool) -> Result<Self, Failure> {
        pool.get().await.map(|client| Self(Some(client))).map_err(Failure::Pool)
    }

    fn client(&self) -> &Client {
        self.0.as_ref().expect("it is taken only by what ends the loan")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

impl Failure {
    /// Whether a row was added meanwhile that stands in the way.
    pub(super) fn is_collision(&self) -> bool {
        matches!(self, Self::Statement(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION))
    }

    /// Whether another connection, or the same statement a moment later, may do.
    fn may_pass(&self) -> bool {
        const PASSING: [SqlState; 5] = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            // These two only where the database's default isolation is stricter than Postgres's own.
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            // Another process behind the same pooler has dropped it.
            SqlState::INVALID_SQL_STATEMENT_NAME,
        ];
        match self {
            Self::Pool(_) => false,
            Self::Statement(error) => error.is_closed() || error.code().is_some_and(|code| PASSING.contains(code)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(_) => f.write_str("no connection to Postgres could be had"),
            Self::Statement(_) => f.write_str("Postgres could not run a statement"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pool(error) => Some(error),
            Self::Statement(error) => Some(error),
        }
    }
}
