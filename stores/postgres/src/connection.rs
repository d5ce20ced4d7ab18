//! Statements on connections of the pool.

use std::{error::Error, fmt, pin::pin, time::Duration};

use deadpool_postgres::{Client, Pool, PoolError};
use futures_util::{
    TryStreamExt,
    future::{try_join, try_join_all, try_join3},
};
use tokio_postgres::{
    Row,
    error::{DbError, SqlState},
    types::{ToSql, Type},
};

use crate::refusal::Refusal;

pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement and its parameters.
pub(crate) type Statement<'a> = (&'a str, Params<'a>);

/// How often a call starts over because a row has changed between two of its statements. Another node would have to
/// change the same row again and again, at the same pace, for a call to need more than two.
pub(crate) const TRIES: u32 = 16;

/// How many deadlines a call may take that may read a whole table.
pub(crate) const PATIENCE: u32 = 30;

/// How much longer the server waits than the client, which stops first where it can.
const GRACE: Duration = Duration::from_secs(1);

/// Returns the statements that begin a transaction of a client that waits for up to `limit`.
///
/// They name the isolation level, because the statements are written for this one, and the database's default may be
/// another. They also make the server stop waiting soon after the client. Otherwise it would not notice that a node has
/// vanished, and would keep its locks.
pub(crate) fn begin(limit: Duration) -> String {
    // Postgres takes milliseconds as a 32-bit integer.
    let millis = i32::try_from(limit.saturating_add(GRACE).as_millis()).unwrap_or(i32::MAX);
    format!(
        r"BEGIN ISOLATION LEVEL READ COMMITTED;
        SET LOCAL statement_timeout = {millis};
        SET LOCAL idle_in_transaction_session_timeout = {millis}"
    )
}

const COMMIT: &str = "COMMIT";

/// The outcome of a statement.
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    /// How many rows were changed or returned.
    pub(crate) changed: u64,
}

/// Why there is no [`Answer`].
#[derive(Debug)]
pub(crate) enum Failure {
    Pool(PoolError),
    Statement(tokio_postgres::Error),
    /// The user's own statement failed.
    Users(Refusal),
    /// The row changed each time between one statement and the next.
    Restless,
}

/// Runs a prepared statement: one round trip, on a connection that has run it before.
///
/// If the connection breaks, the statement runs once more on another one. All statements that come here can be
/// repeated.
pub(crate) async fn run(pool: &Pool, sql: &str, params: Params<'_>) -> Result<Answer, Failure> {
    match once(pool, sql, params).await {
        Err(failure) if failure.may_pass() => once(pool, sql, params).await,
        answer => answer,
    }
}

/// Runs prepared statements in a transaction that starts with `begin`. All are sent at once, so they take one round
/// trip together.
///
/// If the connection breaks, they run once more, as with [`run`]. After an error, the server rolls back instead of
/// committing.
pub(crate) async fn run_within(pool: &Pool, begin: &str, statements: &[Statement<'_>]) -> Result<Vec<Answer>, Failure> {
    match once_within(pool, begin, statements).await {
        Err(failure) if failure.may_pass() => once_within(pool, begin, statements).await,
        answers => answers,
    }
}

/// Runs statements as [`run_within`] does, but repeats them only if the server has said that it changed nothing: for
/// statements that must not run twice.
pub(crate) async fn run_once_within(
    pool: &Pool,
    begin: &str,
    statements: &[Statement<'_>],
) -> Result<Vec<Answer>, Failure> {
    match once_within(pool, begin, statements).await {
        Err(failure) if failure.was_undone() => once_within(pool, begin, statements).await,
        answers => answers,
    }
}

/// Runs `first` and, if it has changed a row, the user's own `second`, in one transaction that starts with `begin`.
/// Returns whether `first` has changed a row.
pub(crate) async fn run_both(
    pool: &Pool,
    begin: &str,
    first: Statement<'_>,
    second: (&str, &[Type], Params<'_>),
) -> Result<bool, Failure> {
    match both_once(pool, begin, first, second).await {
        Err(failure) if failure.may_pass() => both_once(pool, begin, first, second).await,
        answer => answer,
    }
}

/// Checks that the server can run these statements on the tables that are there.
pub(crate) async fn check(pool: &Pool, statements: &[&str]) -> Result<(), Failure> {
    let lent = Lent::from(pool).await?;
    let prepare = statements.iter().map(|sql| lent.client().prepare_cached(sql));
    try_join_all(prepare).await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(())
}

/// Checks a statement whose parameters have these types, used or not. Returns how many it has.
pub(crate) async fn check_typed(pool: &Pool, sql: &str, types: &[Type]) -> Result<usize, Failure> {
    let lent = Lent::from(pool).await?;
    let statement = lent.client().prepare_typed_cached(sql, types).await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(statement.params().len())
}

async fn once(pool: &Pool, sql: &str, params: Params<'_>) -> Result<Answer, Failure> {
    let lent = Lent::from(pool).await?;
    let answer = ask(lent.client(), (sql, params)).await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(answer)
}

async fn once_within(pool: &Pool, begin: &str, statements: &[Statement<'_>]) -> Result<Vec<Answer>, Failure> {
    let lent = Lent::from(pool).await?;
    let client = lent.client();
    // Before the transaction, so that it does not have to wait for anything.
    for (sql, _) in statements {
        client.prepare_cached(sql).await.map_err(Failure::Statement)?;
    }
    let answers = try_join_all(statements.iter().map(|statement| ask(client, *statement)));
    let all = try_join3(client.batch_execute(begin), answers, client.batch_execute(COMMIT));
    let ((), answers, ()) = all.await.map_err(Failure::Statement)?;
    lent.give_back();
    Ok(answers)
}

async fn both_once(
    pool: &Pool,
    begin: &str,
    first: Statement<'_>,
    (second, types, second_params): (&str, &[Type], Params<'_>),
) -> Result<bool, Failure> {
    let lent = Lent::from(pool).await?;
    let client = lent.client();
    let run = async {
        client.prepare_cached(first.0).await?;
        let ((), answer) = try_join(client.batch_execute(begin), ask(client, first)).await?;
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
            // The user's deferred constraints fail here.
            client.batch_execute(COMMIT).await
        };
        run.await.map_err(Failure::of_users)?;
    }
    lent.give_back();
    Ok(changed)
}

async fn ask(client: &Client, (sql, params): Statement<'_>) -> Result<Answer, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    let mut answers = pin!(client.query_raw(&statement, params.iter().copied()).await?);
    let mut rows = Vec::new();
    while let Some(row) = answers.try_next().await? {
        rows.push(row);
    }
    Ok(Answer { rows, changed: answers.rows_affected().unwrap_or(0) })
}

/// A connection of the pool, which goes back only after it has answered well.
///
/// If the wait for an answer ends early, or the answer is an error, the connection is closed instead. Its next user
/// would wait behind the unanswered statement, or meet the same error.
pub(crate) struct Lent(Option<Client>);

impl Lent {
    pub(crate) async fn from(pool: &Pool) -> Result<Self, Failure> {
        pool.get().await.map(|client| Self(Some(client))).map_err(Failure::Pool)
    }

    pub(crate) fn client(&self) -> &Client {
        self.0.as_ref().expect("only what ends the loan takes the client")
    }

    pub(crate) fn give_back(mut self) {
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

/// After these errors the same statement may succeed a moment later.
const UNDONE: [SqlState; 3] = [
    // These two occur only if the database's default isolation is stricter than Postgres's own.
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    // Another process behind the same pooler has dropped the statement.
    SqlState::INVALID_SQL_STATEMENT_NAME,
];

impl Failure {
    /// Whether a row that was added meanwhile is in the way.
    pub(crate) fn is_collision(&self) -> bool {
        matches!(self, Self::Statement(_)) && self.code() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    /// Whether the server has rejected a statement, as opposed to a connection that is broken or could not be opened.
    pub(crate) fn is_servers(&self) -> bool {
        self.code().is_some() && !matches!(self, Self::Pool(_))
    }

    /// The server's message, if it has found its files damaged. Later attempts find the same.
    pub(crate) fn damage(&self) -> Option<&str> {
        match self {
            Self::Statement(error) => error.as_db_error(),
            _ => None,
        }
        .filter(|error| *error.code() == SqlState::DATA_CORRUPTED)
        .map(DbError::message)
    }

    fn of_users(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::Users(Refusal::of(refusal)),
            None => Self::Statement(error),
        }
    }

    /// The server's code of the error.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Pool(PoolError::Backend(error)) => error.code(),
            Self::Pool(_) | Self::Restless => None,
            Self::Statement(error) => error.code(),
            Self::Users(refusal) => Some(refusal.code()),
        }
    }

    /// Whether the server has rolled the transaction back, and the next one may succeed.
    fn was_undone(&self) -> bool {
        self.code().is_some_and(|code| UNDONE.contains(code))
    }

    /// Whether another connection, or the same statement a moment later, may succeed.
    fn may_pass(&self) -> bool {
        const ENDED: [SqlState; 2] = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
        let closed = matches!(self, Self::Statement(error) if error.is_closed());
        closed || self.was_undone() || self.code().is_some_and(|code| ENDED.contains(code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(_) => f.write_str("could not get a connection to Postgres"),
            Self::Statement(_) => f.write_str("Postgres could not run a statement"),
            Self::Users(_) => f.write_str("Postgres could not run the hand-off statement"),
            Self::Restless => f.write_str("another node changed the same row again and again"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pool(error) => Some(error),
            Self::Statement(error) => Some(error),
            Self::Users(refusal) => Some(refusal),
            Self::Restless => None,
        }
    }
}
