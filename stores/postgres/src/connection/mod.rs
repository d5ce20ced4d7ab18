//! The connections of a pool, and the statements that run on them.

mod failure;
mod slots;
mod statement;
mod transaction;

use std::{error::Error, future::Future, iter::zip, pin::pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use deadpool_postgres::{Client, Pool};
use futures_util::{
    TryStreamExt,
    future::{join_all, join3, try_join},
};
use tokio::time::timeout;
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

pub(crate) use self::{
    failure::{Failure, SharedFailure},
    slots::Cancel,
    statement::Sql,
    transaction::{LONG_CALL_DEADLINES, begin, begin_long},
};
use self::{
    slots::{AcquiredConnection, Slots},
    transaction::COMMIT,
};

pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement and its parameters.
pub(crate) type Statement<'a> = (&'a Sql, Params<'a>);

/// A user's statement, with the types and values of its parameters.
#[derive(Clone, Copy)]
pub(crate) struct UserStatement<'a> {
    pub(crate) sql: &'a str,
    pub(crate) types: &'a [Type],
    pub(crate) params: Params<'a>,
}

/// The number of tries of a call, which starts over if a row has changed between two of its statements. A call needs more
/// than two only if another node keeps changing the same row at the same pace.
pub(crate) const TRIES: u32 = 16;

/// The outcome of a statement.
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    /// The number of rows that were changed or returned.
    pub(crate) changed: u64,
}

/// Whether statements have names on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Each call sends the statement's text. Behind a pooler, each transaction may run on another connection.
    Unnamed,
    /// Each connection prepares a statement once.
    Named,
}

/// The connections of a pool. Clones share them.
///
/// Every statement runs in a transaction with a time limit. A call sends everything at once, so that it takes one round trip.
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
        let (begin, begin_long) = (begin(deadline).into(), begin_long(deadline).into());
        Self { slots: Slots::new(pool, cancel, deadline), naming, begin, begin_long }
    }

    /// Returns whether a connection is free.
    pub(crate) fn has_free(&self) -> bool {
        self.slots.free() > 0
    }

    /// Waits for `work`, but not longer than `limit`.
    pub(crate) async fn in_time<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Failure> {
        timeout(limit, work).await.map_err(|_| {
            let size = self.slots.number();
            Failure::TimedOut { limit, used: size.saturating_sub(self.slots.free()), size }
        })
    }

    /// Runs the statements of a batch, as [`run_within`](Self::run_within) does, within the deadline. Each call of the batch
    /// has its own, earlier deadline, which does not end the batch.
    pub(crate) async fn run_together(&self, begin: &str, statements: &[Statement<'_>]) -> Result<Vec<Answer>, Failure> {
        self.in_time(self.slots.deadline(), self.run_within(begin, statements)).await?
    }

    /// Returns the statements that begin an ordinary transaction.
    pub(crate) fn begin(&self) -> &str {
        &self.begin
    }

    pub(crate) async fn acquire(&self) -> Result<AcquiredConnection, Failure> {
        self.slots.acquire().await
    }

    /// Runs a statement.
    ///
    /// If the connection breaks, the statement runs once more on another one, so the statement must be repeatable.
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
            Err(failure) if failure.may_succeed_on_retry() => self.once(begin, statements).await,
            answers => answers,
        }
    }

    /// Runs statements that must not run twice. They are repeated only if the server has reported that it changed nothing.
    pub(crate) async fn run_once_within(
        &self,
        begin: &str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Answer>, Failure> {
        match self.once(begin, statements).await {
            Err(failure) if failure.was_rolled_back() => self.once(begin, statements).await,
            answers => answers,
        }
    }

    /// Runs `own` and, if it changes a row, `users`, in one transaction. Returns whether `own` changed a row. If the connection
    /// breaks, both run once more, as with [`run`](Self::run).
    pub(crate) async fn run_both(&self, own: Statement<'_>, users: UserStatement<'_>) -> Result<bool, Failure> {
        match self.both_once(own, users).await {
            Err(failure) if failure.may_succeed_on_retry() => self.both_once(own, users).await,
            answer => answer,
        }
    }

    /// Checks that the server can run these statements on the existing tables, and that this user may. Runs none of them.
    pub(crate) async fn check(&self, statements: &[&Sql]) -> Result<(), Failure> {
        let explained: Vec<_> = statements.iter().map(|sql| sql.explained()).collect();
        let nulls: Params<'_> = &[&Null as &(dyn ToSql + Sync); 18];
        let explained: Vec<_> = explained.iter().map(|sql| (sql, &nulls[..sql.types().len()])).collect();
        // The first plans of a connection take longer, because they read the catalogs. Opening the store has its own time
        // limit, which also ends a wait for a lock.
        let begin = begin(self.slots.deadline().saturating_mul(LONG_CALL_DEADLINES));
        self.run_within(&begin, &explained).await.map(drop)
    }

    /// Checks a user's statement without running it. The statement need not use all parameters.
    ///
    /// The parameters are not valid text. The server first parses the statement, and then rejects the parameters. So this one
    /// error means that the statement is valid.
    pub(crate) async fn check_hand_off(&self, sql: &str, types: &[Type]) -> Result<(), Failure> {
        let acquired = self.acquire().await?;
        let params: Vec<_> = types.iter().map(|kind| (&Invalid as &(dyn ToSql + Sync), kind.clone())).collect();
        match acquired.client().execute_typed(sql, &params).await {
            Err(error) if error.code() == Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
                acquired.release();
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
        let acquired = self.acquire().await?;
        let client = acquired.client();
        let run = async {
            self.prepare(client, statements).await?;
            let answers = join_all(statements.iter().map(|statement| self.ask(client, *statement)));
            // Wait for the last response even after an error. The server reports an error before it rolls back, and until
            // then another statement with SKIP LOCKED would not see the rows that this transaction has locked.
            let (begun, answers, committed) =
                join3(client.batch_execute(begin), answers, client.batch_execute(COMMIT)).await;
            begun?;
            let answers = answers.into_iter().collect::<Result<_, _>>()?;
            committed.map(|()| answers)
        };
        match run.await.map_err(Failure::Statement) {
            Ok(answers) => {
                acquired.release();
                Ok(answers)
            }
            Err(failure) => {
                acquired.release_after(&failure);
                Err(failure)
            }
        }
    }

    /// Runs both statements in a transaction.
    async fn both_once(&self, own: Statement<'_>, users: UserStatement<'_>) -> Result<bool, Failure> {
        let mut acquired = self.acquire().await?;
        acquired.require_rollback();
        let client = acquired.client();
        let run = async {
            self.prepare(client, &[own]).await.map_err(Failure::Statement)?;
            let begun = try_join(client.batch_execute(&self.begin), self.ask(client, own)).await;
            let ((), answer) = begun.map_err(Failure::Statement)?;
            if answer.changed == 0 {
                client.batch_execute("ROLLBACK").await.map_err(Failure::Statement)?;
                return Ok(false);
            }
            let params: Vec<_> = zip(users.params.iter().copied(), users.types.iter().cloned()).collect();
            client.execute_typed(users.sql, &params).await.map_err(Failure::of_hand_off)?;
            // Deferred constraints of the user's tables fail here.
            client.batch_execute(COMMIT).await.map_err(Failure::of_hand_off)?;
            Ok(true)
        };
        match run.await {
            Ok(changed) => {
                acquired.release();
                Ok(changed)
            }
            Err(failure) => {
                acquired.release_after(&failure);
                Err(failure)
            }
        }
    }

    /// Prepares named statements before the transaction begins, so that the transaction takes one round trip.
    async fn prepare(&self, client: &Client, statements: &[Statement<'_>]) -> Result<(), tokio_postgres::Error> {
        if self.naming == Naming::Named {
            for (sql, _) in statements {
                client.prepare_typed_cached(sql.text(), sql.types()).await?;
            }
        }
        Ok(())
    }

    /// Runs a statement in the transaction that is open.
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

/// A NULL parameter of any type.
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

/// A parameter that is not valid text in any encoding.
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
