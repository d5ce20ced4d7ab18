//! Statements on connections of the pool.

mod failure;
mod slots;
mod statement;

use std::{error::Error, future::Future, iter::zip, pin::pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use deadpool_postgres::{Client, Pool};
use futures_util::{
    TryStreamExt,
    future::{try_join, try_join_all, try_join3},
};
use tokio::time::timeout;
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use self::slots::{Lent, Slots};
pub(crate) use self::{
    failure::{Failure, SharedFailure},
    slots::{Cancel, PATIENCE},
    statement::Sql,
};

pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement and its parameters.
pub(crate) type Statement<'a> = (&'a Sql, Params<'a>);

/// How often a call starts over because a row has changed between two of its statements. Another node would have to
/// change the same row again and again, at the same pace, for a call to need more than two.
pub(crate) const TRIES: u32 = 16;

/// Returns the statements that begin a transaction of a client that waits for up to `limit`.
///
/// They name the isolation level, because the statements are written for this one, and the database's default may be
/// another. They also make the server stop waiting when the client does. Otherwise a connection would wait for a lock
/// as long as that is held, and the server would keep the locks of a node that has vanished. Warnings are sent in any
/// case, because one of them tells that the success reported after it is in doubt.
pub(crate) fn begin(limit: Duration) -> String {
    // Postgres takes milliseconds as a 32-bit integer, and 0 as no limit.
    let millis = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    format!(
        r"BEGIN ISOLATION LEVEL READ COMMITTED;
        SET LOCAL statement_timeout = {millis};
        SET LOCAL idle_in_transaction_session_timeout = {millis};
        SET LOCAL client_min_messages = warning"
    )
}

const COMMIT: &str = "COMMIT";

/// The outcome of a statement.
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    /// How many rows were changed or returned.
    pub(crate) changed: u64,
}

/// Whether statements have names on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Each call sends the statement's text. The connection may be another one behind a pooler each time.
    Unnamed,
    /// Each connection prepares a statement once.
    Named,
}

/// The connections of a pool. Clones share them.
///
/// Every statement runs in a transaction with a time limit, and all that a call sends is sent at once, so that it takes
/// one round trip.
#[derive(Clone)]
pub(crate) struct Connections {
    slots: Slots,
    naming: Naming,
    /// Begins a transaction of an ordinary call.
    begin: Arc<str>,
    /// Begins a transaction that may read a whole table.
    begin_long: Arc<str>,
}

impl Connections {
    pub(crate) fn new(pool: Pool, cancel: Cancel, naming: Naming, deadline: Duration) -> Self {
        let (begin, begin_long) = (begin(deadline).into(), begin(deadline.saturating_mul(PATIENCE)).into());
        Self { slots: Slots::new(pool, cancel, deadline), naming, begin, begin_long }
    }

    /// Returns whether a call would get a connection at once.
    pub(crate) fn has_free(&self) -> bool {
        self.slots.free() > 0
    }

    /// Waits for `work`, but not longer than `limit`.
    pub(crate) async fn in_time<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Failure> {
        timeout(limit, work).await.map_err(|_| {
            let size = self.slots.number();
            Failure::Late { limit, used: size.saturating_sub(self.slots.free()), size }
        })
    }

    /// Runs statements for calls that arrived together, as [`run_within`](Self::run_within) does, within the deadline.
    /// The calls have deadlines of their own, which end earlier, but do not end the batch.
    pub(crate) async fn run_together(&self, begin: &str, statements: &[Statement<'_>]) -> Result<Vec<Answer>, Failure> {
        self.in_time(self.slots.deadline(), self.run_within(begin, statements)).await?
    }

    /// The statements that begin an ordinary transaction.
    pub(crate) fn begin(&self) -> &str {
        &self.begin
    }

    pub(crate) async fn lend(&self) -> Result<Lent, Failure> {
        self.slots.lend().await
    }

    /// Runs a statement.
    ///
    /// If the connection breaks, the statement runs once more on another one. All statements that come here can be
    /// repeated.
    pub(crate) async fn run(&self, sql: &Sql, params: Params<'_>) -> Result<Answer, Failure> {
        self.run_one(&self.begin, sql, params).await
    }

    /// Runs a statement that may read a whole table, as [`run`](Self::run) does.
    pub(crate) async fn run_long(&self, sql: &Sql, params: Params<'_>) -> Result<Answer, Failure> {
        self.run_one(&self.begin_long, sql, params).await
    }

    /// Runs statements in a transaction that starts with `begin`. If the connection breaks, they run once more, as with
    /// [`run`](Self::run).
    pub(crate) async fn run_within(&self, begin: &str, statements: &[Statement<'_>]) -> Result<Vec<Answer>, Failure> {
        match self.once(begin, statements).await {
            Err(failure) if failure.may_pass() => self.once(begin, statements).await,
            answers => answers,
        }
    }

    /// Runs statements as [`run_within`](Self::run_within) does, but repeats them only if the server has said that it
    /// changed nothing: for statements that must not run twice.
    pub(crate) async fn run_once_within(
        &self,
        begin: &str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Answer>, Failure> {
        match self.once(begin, statements).await {
            Err(failure) if failure.was_undone() => self.once(begin, statements).await,
            answers => answers,
        }
    }

    /// Runs `first` and, if it has changed a row, the user's own `second`, in one transaction. Returns whether `first`
    /// has changed a row.
    pub(crate) async fn run_both(
        &self,
        first: Statement<'_>,
        second: (&str, &[Type], Params<'_>),
    ) -> Result<bool, Failure> {
        match self.both_once(first, second).await {
            Err(failure) if failure.may_pass() => self.both_once(first, second).await,
            answer => answer,
        }
    }

    /// Checks that the server can run these statements on the tables that are there, and that this user may. Runs none
    /// of them.
    pub(crate) async fn check(&self, statements: &[&Sql]) -> Result<(), Failure> {
        let explained: Vec<_> = statements.iter().map(|sql| sql.explained()).collect();
        let nulls: Params<'_> = &[&Null as &(dyn ToSql + Sync); 16];
        let explained: Vec<_> = explained.iter().map(|sql| (sql, &nulls[..sql.types().len()])).collect();
        self.run_within(&self.begin, &explained).await.map(drop)
    }

    /// Checks a user's statement whose parameters have these types, used or not. Does not run it.
    ///
    /// The server parses the statement, and then rejects the parameters.
    pub(crate) async fn check_users(&self, sql: &str, types: &[Type]) -> Result<(), Failure> {
        let lent = self.lend().await?;
        let params: Vec<_> = types.iter().map(|of| (&Invalid as &(dyn ToSql + Sync), of.clone())).collect();
        match lent.client().execute_typed(sql, &params).await {
            Err(error) if error.code() == Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
                lent.give_back();
                Ok(())
            }
            Err(error) => Err(Failure::Statement(error)),
            Ok(_) => unreachable!("the parameters are invalid"),
        }
    }

    async fn run_one(&self, begin: &str, sql: &Sql, params: Params<'_>) -> Result<Answer, Failure> {
        let mut answers = self.run_within(begin, &[(sql, params)]).await?;
        Ok(answers.pop().expect("one answer for each statement"))
    }

    /// Runs statements in a transaction. After an error, the server rolls back instead of committing.
    async fn once(&self, begin: &str, statements: &[Statement<'_>]) -> Result<Vec<Answer>, Failure> {
        let lent = self.lend().await?;
        let client = lent.client();
        let run = async {
            self.prepare(client, statements).await?;
            let answers = try_join_all(statements.iter().map(|statement| self.ask(client, *statement)));
            let all = try_join3(client.batch_execute(begin), answers, client.batch_execute(COMMIT));
            all.await.map(|((), answers, ())| answers)
        };
        match run.await.map_err(Failure::Statement) {
            Ok(answers) => {
                lent.give_back();
                Ok(answers)
            }
            Err(failure) => {
                lent.give_back_after(&failure);
                Err(failure)
            }
        }
    }

    async fn both_once(
        &self,
        first: Statement<'_>,
        (second, types, second_params): (&str, &[Type], Params<'_>),
    ) -> Result<bool, Failure> {
        let mut lent = self.lend().await?;
        lent.begun();
        let client = lent.client();
        let run = async {
            self.prepare(client, &[first]).await.map_err(Failure::Statement)?;
            let begun = try_join(client.batch_execute(&self.begin), self.ask(client, first)).await;
            let ((), answer) = begun.map_err(Failure::Statement)?;
            if answer.changed == 0 {
                client.batch_execute("ROLLBACK").await.map_err(Failure::Statement)?;
                return Ok(false);
            }
            let params: Vec<_> = zip(second_params.iter().copied(), types.iter().cloned()).collect();
            client.execute_typed(second, &params).await.map_err(Failure::of_users)?;
            // The user's deferred constraints fail here.
            client.batch_execute(COMMIT).await.map_err(Failure::of_users)?;
            Ok(true)
        };
        match run.await {
            Ok(changed) => {
                lent.give_back();
                Ok(changed)
            }
            Err(failure) => {
                lent.give_back_after(&failure);
                Err(failure)
            }
        }
    }

    /// Prepares what has names, before the transaction, which then waits for nothing.
    async fn prepare(&self, client: &Client, statements: &[Statement<'_>]) -> Result<(), tokio_postgres::Error> {
        if self.naming == Naming::Named {
            for (sql, _) in statements {
                client.prepare_typed_cached(sql.text(), sql.types()).await?;
            }
        }
        Ok(())
    }

    async fn ask(&self, client: &Client, (sql, params): Statement<'_>) -> Result<Answer, tokio_postgres::Error> {
        let answers = match self.naming {
            Naming::Unnamed => {
                let params = zip(params.iter().copied(), sql.types().iter().cloned());
                client.query_typed_raw(sql.text(), params).await?
            }
            Naming::Named => {
                let statement = client.prepare_typed_cached(sql.text(), sql.types()).await?;
                client.query_raw(&statement, params.iter().copied()).await?
            }
        };
        let mut answers = pin!(answers);
        let mut rows = Vec::new();
        while let Some(row) = answers.try_next().await? {
            rows.push(row);
        }
        Ok(Answer { rows, changed: answers.rows_affected().unwrap_or(0) })
    }
}

/// A parameter of any type that is NULL.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A parameter that is no valid text in any encoding.
#[derive(Debug)]
struct Invalid;

impl ToSql for Invalid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&[0]);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
