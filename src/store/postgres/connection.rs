//! One statement on a connection of the pool.

use std::{error::Error, fmt, pin::pin, time::Duration};

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

use super::refusal::Refusal;

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What the server waits for longer than its client, which ends first what it can end itself.
const GRACE: Duration = Duration::from_secs(1);

/// Begins a transaction of a client that waits so long and no longer.
///
/// The isolation is named, whatever the database's default is: the statements are written for this one. The server gives up
/// by itself soon after the client has. It would not notice otherwise that a node has vanished, and keep its locks.
pub(super) fn begin(limit: Duration) -> String {
    // Postgres has them in milliseconds, as an integer of 32 bits.
    let millis = i32::try_from(limit.saturating_add(GRACE).as_millis()).unwrap_or(i32::MAX);
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {millis}; \
         SET LOCAL idle_in_transaction_session_timeout = {millis}"
    )
}

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
    /// The user's own statement was refused.
    Users(Refusal),
}

/// Runs one prepared statement: one round trip, on a connection that has run it before.
///
/// Once more on another connection when this one broke. Every statement that comes here may be run twice: what a token did, it
/// may do again, and what an operator did is found done.
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

/// The same, but run again only after the server has said that nothing was done: for what may not be done twice.
pub(super) async fn run_once_within(
    pool: &Pool,
    begin: &str,
    sql: &str,
    params: Params<'_>,
) -> Result<Answer, Failure> {
    match once_within(pool, begin, sql, params).await {
        Err(failure) if failure.was_undone() => once_within(pool, begin, sql, params).await,
        answer => answer,
    }
}

/// Runs `first` and, if that has changed a row, the user's own `second` in one transaction that begins with `begin`. Whether
/// it has.
pub(super) async fn run_both(
    pool: &Pool,
    begin: &str,
    first: (&str, Params<'_>),
    second: (&str, &[Type], Params<'_>),
) -> Result<bool, Failure> {
    match both_once(pool, begin, first, second).await {
        Err(failure) if failure.may_pass() => both_once(pool, begin, first, second).await,
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
    begin: &str,
    (first, first_params): (&str, Params<'_>),
    (second, types, second_params): (&str, &[Type], Params<'_>),
) -> Result<bool, Failure> {
    let lent = Lent::from(pool).await?;
    let client = lent.client();
    let run = async {
        client.prepare_cached(first).await?;
        let ((), answer) = try_join(client.batch_execute(begin), ask(client, first, first_params)).await?;
        if answer.changed == 0 {
            client.batch_execute("ROLLBACK").await?;
        }
        Ok(answer.changed > 0)
    };
    let changed = run.await.map_err(Failure::Statement)?;
    if changed {
        let run = async {
            let second = client.prepare_typed_cached(second, types).await?;
            client.execute(&second, second_params).await?;
            // What the user's constraints leave to the end fails here.
            client.batch_execute(COMMIT).await
        };
        run.await.map_err(Failure::of_users)?;
    }
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

/// After these the same statement may do a moment later.
const UNDONE: [SqlState; 3] = [
    // These two only where the database's default isolation is stricter than Postgres's own.
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    // Another process behind the same pooler has dropped it.
    SqlState::INVALID_SQL_STATEMENT_NAME,
];

impl Failure {
    /// Whether a row was added meanwhile that stands in the way.
    pub(super) fn is_collision(&self) -> bool {
        matches!(self, Self::Statement(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION))
    }

    /// Of the user's own statement.
    fn of_users(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::Users(Refusal::of(refusal)),
            None => Self::Statement(error),
        }
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Pool(_) => None,
            Self::Statement(error) => error.code(),
            Self::Users(refusal) => Some(refusal.code()),
        }
    }

    /// Whether the server has said that the transaction is rolled back, and the next one may do.
    fn was_undone(&self) -> bool {
        self.code().is_some_and(|code| UNDONE.contains(code))
    }

    /// Whether another connection, or the same statement a moment later, may do.
    fn may_pass(&self) -> bool {
        const ENDED: [SqlState; 2] = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
        let closed = matches!(self, Self::Statement(error) if error.is_closed());
        closed || self.was_undone() || self.code().is_some_and(|code| ENDED.contains(code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(_) => f.write_str("no connection to Postgres could be had"),
            Self::Statement(_) => f.write_str("Postgres could not run a statement"),
            Self::Users(_) => f.write_str("Postgres could not run the statement that hands deliveries off"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pool(error) => Some(error),
            Self::Statement(error) => Some(error),
            Self::Users(refusal) => Some(refusal),
        }
    }
}
