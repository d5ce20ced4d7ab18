//! The one thread that writes, and commits what has come in together.
//!
//! There is no timer: while one batch waits for the disk, the next one gathers in the queue.

use std::{cell::RefCell, sync::Arc, thread};

use rusqlite::TransactionBehavior;
use tokio::sync::{mpsc, oneshot};

use super::{
    checkpoint::{Checkpoints, Limits},
    clock::Clock,
    connection::{Access, Database},
    entries::{Entries, SKIPPED, skip_damaged},
    error::{SqliteError, SqliteErrorKind},
    isolation::{Failures, Isolation},
    transaction::Transaction,
};

/// How many calls a transaction has at most.
const BATCH: usize = 256;

/// How many calls may wait. Those beyond wait for their place.
const QUEUE: usize = 1024;

/// How many rows a batch looks at to purge them, for each claim in it. One row comes with each claim, so the table is gone
/// through often enough; and claims that come one by one are not slowed down.
const PURGED_BY_A_CLAIM: usize = 32;

/// The same for the whole batch.
const PURGED_BY_A_BATCH: usize = 512;

/// Hands calls to the thread, which ends when the last clone of this is gone.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    clock: Arc<Clock>,
}

/// What is to become of a call whose caller has gone away before its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// It adds to the ledger, and nobody would be told: it is left out.
    Claim,
    /// Nobody would handle what it leases: it is left out.
    Lease,
    /// It is done all the same.
    Other,
}

impl Writer {
    /// `reading` is the thread of the store that reads.
    pub(super) fn start(
        database: Database,
        reading: thread::JoinHandle<()>,
        clock: Arc<Clock>,
    ) -> Result<(Self, thread::JoinHandle<()>), SqliteError> {
        let (queue, calls) = mpsc::channel(QUEUE);
        let checkpoints = Checkpoints::start(database.for_reading(), Limits::default())?;
        let thread = Thread { checkpoints, reading, database, clock: Arc::clone(&clock), purge: Purge::new() };
        let handle = thread::Builder::new()
            .name("klikit-sqlite".into())
            .spawn(|| thread.run(calls))
            .map_err(|error| SqliteError::because(SqliteErrorKind::Stopped, error))?;
        Ok((Self { queue, clock }, handle))
    }

    /// Has the thread run this, and waits until it is committed. It may be run more than once, and counts once.
    pub(super) async fn call<T, F>(&self, call: Call, run: F) -> Result<T, SqliteError>
    where
        T: Send + 'static,
        F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let stopped = || SqliteError::new(SqliteErrorKind::Stopped);
        let (reply, answer) = oneshot::channel();
        let request = Request { call, run, result: None, reply };
        self.queue.send(Box::new(request)).await.map_err(|_| stopped())?;
        let answer = answer.await.unwrap_or_else(|_| Err(stopped()));
        self.clock.report_steps();
        answer
    }
}

struct Request<T, F> {
    call: Call,
    run: F,
    result: Option<Result<T, SqliteError>>,
    reply: oneshot::Sender<Result<T, SqliteError>>,
}

/// A [`Request`], whatever its answer.
trait Job: Send {
    fn is_claim(&self) -> bool;

    fn is_wanted(&self) -> bool;

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), SqliteError>;

    /// Tells the caller what came of it, or of the batch.
    fn answer(self: Box<Self>, batch: Result<(), SqliteError>);
}

impl<T, F> Job for Request<T, F>
where
    T: Send,
    F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send,
{
    fn is_claim(&self) -> bool {
        self.call == Call::Claim
    }

    fn is_wanted(&self) -> bool {
        self.call == Call::Other || !self.reply.is_closed()
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), SqliteError> {
        let result = (self.run)(transaction).map_err(SqliteError::from);
        let error = result.as_ref().err().cloned();
        self.result = Some(result);
        error.map_or(Ok(()), Err)
    }

    fn answer(self: Box<Self>, batch: Result<(), SqliteError>) {
        let result = self.result.unwrap_or_else(|| Err(SqliteError::new(SqliteErrorKind::Stopped)));
        // The caller may be gone.
        let _ = self.reply.send(batch.and(result));
    }
}

struct Thread {
    checkpoints: Checkpoints,
    reading: thread::JoinHandle<()>,
    database: Database,
    clock: Arc<Clock>,
    purge: Purge,
}

/// Why a transaction was not committed.
enum Failed {
    /// No other would be.
    Any(SqliteError),
    /// One with fewer calls might be.
    This(SqliteError),
    /// The only call in it failed.
    Call(SqliteError),
}

impl Thread {
    fn run(mut self, mut calls: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = calls.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH
                && let Ok(next) = calls.try_recv()
            {
                batch.push(next);
            }
            self.serve(&mut batch);
            self.look_after_log();
        }
        // Whoever closes the last connection deletes the log, but of two who close theirs at once neither does.
        drop(self.checkpoints);
        let _ = self.reading.join();
        drop(self.database);
    }

    fn serve(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        batch.retain(|job| job.is_wanted());
        if batch.is_empty() {
            return;
        }
        let claims = batch.iter().filter(|job| job.is_claim()).count();
        let outcome = match self.attempt(batch, PURGED_BY_A_BATCH.min(claims * PURGED_BY_A_CLAIM), Isolation::None) {
            Ok(()) => Ok(()),
            Err(Failed::Any(error)) => Err(error),
            Err(Failed::Call(error)) if error.kind() != SqliteErrorKind::Damaged => Err(error),
            // It is undone for all. Whichever call failed, the others succeed without it.
            Err(Failed::Call(_) | Failed::This(_)) => return self.serve_one_by_one(batch),
        };
        for job in batch.drain(..) {
            job.answer(outcome.clone());
        }
    }

    fn serve_one_by_one(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        let mut any = Ok(());
        for mut job in batch.drain(..) {
            let outcome = match any.clone().map(|()| self.attempt_without_damage(&mut job)) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(Failed::This(error) | Failed::Call(error))) => Err(error),
                Ok(Err(Failed::Any(error))) => {
                    // So that not each of them waits for a lock in its turn.
                    any = Err(error.clone());
                    Err(error)
                }
                Err(error) => Err(error),
            };
            job.answer(outcome);
        }
    }

    /// Runs a job until it has left out all that is damaged.
    fn attempt_without_damage(&mut self, job: &mut Box<dyn Job>) -> Result<(), Failed> {
        let failures = RefCell::default();
        let mut outcome = Ok(());
        while Failures::begin(&mut failures.borrow_mut()) {
            outcome = self.attempt(std::slice::from_mut(job), 0, Isolation::Repeating(&failures));
            let Err(Failed::This(error) | Failed::Call(error)) = &outcome else { break };
            if error.kind() != SqliteErrorKind::Damaged {
                break;
            }
        }
        outcome
    }

    /// Between two batches, when the callers of the one have their answers.
    fn look_after_log(&mut self) {
        // A connection that was closed is opened by the next call, which is told when it cannot be.
        let Some(session) = self.database.open_session() else { return };
        let looked = self.checkpoints.look_after(session.connection());
        drop(session);
        if looked.is_err() {
            self.database.close();
        }
    }

    /// Runs these in one transaction, and purges among so many rows.
    fn attempt(&mut self, jobs: &mut [Box<dyn Job>], purge: usize, isolation: Isolation<'_>) -> Result<(), Failed> {
        // Before anything is written, so that it is not written where nobody finds it.
        self.database.check().map_err(Failed::Any)?;
        let outcome = self.transact(jobs, purge, isolation);
        // And before anything is acknowledged. Also after an error: it may come from files that were lost.
        self.database.check().map_err(Failed::Any)?;
        if let Err(Failed::Any(error) | Failed::This(error) | Failed::Call(error)) = &outcome
            && error.kind() != SqliteErrorKind::Busy
        {
            // A new connection knows the disk and the tables as they are now.
            self.database.close();
        }
        outcome
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>], purge: usize, isolation: Isolation<'_>) -> Result<(), Failed> {
        let mut session = self.database.session().map_err(Failed::Any)?;
        let (connection, schema) = session.parts();
        let this = |error: rusqlite::Error| Failed::This(error.into());
        let begun = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| Failed::Any(error.into()))?;
        // Read after the lock was taken: the times of calls are in the order of the calls.
        let transaction = Transaction::new(&begun, schema, &self.clock, Access::Write, isolation).map_err(this)?;
        let alone = jobs.len() == 1;
        for job in jobs {
            let before = transaction.changes();
            if let Err(error) = job.run(&transaction) {
                // A row that cannot be read is found before anything is written, and then there is nothing to undo.
                if error.kind() == SqliteErrorKind::Unreadable && transaction.changes() == before {
                    continue;
                }
                // A call that failed may have done a part of it. A savepoint for each would undo that alone, at the expense of all
                // those that do not fail.
                return Err(if alone { Failed::Call(error) } else { Failed::This(error) });
            }
        }
        if purge > 0 {
            self.purge.next(&transaction.ledger(), purge).map_err(this)?;
        }
        begun.commit().map_err(this)
    }
}

/// How far the ledger was purged on this round.
struct Purge {
    after: Vec<u8>,
    /// How many rows to look at at most: fewer near a damaged page.
    most: usize,
    /// How much to skip at a damaged page.
    skipped: u16,
}

impl Purge {
    fn new() -> Self {
        Self { after: Vec::new(), most: PURGED_BY_A_BATCH, skipped: SKIPPED }
    }

    /// Purges among the next `rows` rows.
    ///
    /// A damaged page is approached row by row and then skipped, further each time, so that what is behind it is purged too.
    fn next(&mut self, ledger: &Entries<'_>, rows: usize) -> rusqlite::Result<()> {
        let rows = self.most.min(rows);
        match purge_slice(ledger, &self.after, rows) {
            Ok(next) => {
                *self = Self { after: next, most: PURGED_BY_A_BATCH.min(2 * self.most), skipped: SKIPPED };
                Ok(())
            }
            Err(error) => {
                self.most = (rows / 4).max(1);
                if rows == 1 {
                    self.after = skip_damaged(&self.after, self.skipped).unwrap_or_default();
                    self.skipped = self.skipped.saturating_mul(2);
                }
                Err(error)
            }
        }
    }
}

/// Purges among the next `rows` rows. Returns after which key to go on.
fn purge_slice(ledger: &Entries<'_>, after: &[u8], rows: usize) -> rusqlite::Result<Vec<u8>> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let slice = ledger.slice(after, rows)?;
    ledger.purge(&slice, rows)?;
    Ok(slice.next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
