//! The writer thread, which commits the queued calls together in one transaction.
//!
//! There is no timer: while one batch waits for the disk, the next batch gathers in the queue.

mod job;
mod purge;

use std::{
    cell::RefCell,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rusqlite::TransactionBehavior;
use tokio::sync::{mpsc, oneshot, watch};

pub(super) use self::job::Call;
use self::{
    job::{Job, Request},
    purge::Purge,
};
use super::{
    checkpoint::{Checkpoints, Limits},
    clock::Clock,
    connection::{Access, Database},
    error::{SqliteError, SqliteErrorKind},
    isolation::{Failures, Isolation},
    transaction::Transaction,
};

/// The maximum number of calls in a transaction.
const BATCH: usize = 256;

/// The capacity of the queue, in calls. While the queue is full, callers wait.
const QUEUE: usize = 1024;

/// A handle to the writer thread, which ends when the last clone of the handle is dropped.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    clock: Arc<Clock>,
    is_closing: Arc<AtomicBool>,
    /// The thread drops the sender when it has closed the file.
    end: watch::Receiver<()>,
}

impl Writer {
    /// Starts the writer thread. At its end, the writer thread waits for `reader`, the reader thread, to close the file
    /// first.
    pub(super) fn start(
        database: Database,
        reader: thread::JoinHandle<()>,
        clock: Arc<Clock>,
    ) -> Result<(Self, thread::JoinHandle<()>), SqliteError> {
        let (queue, calls) = mpsc::channel(QUEUE);
        let checkpoints = Checkpoints::start(database.for_upkeep(), Limits::default())?;
        let (_end, end) = watch::channel(());
        let is_closing = Arc::<AtomicBool>::default();
        let thread = WriterThread {
            checkpoints,
            reader,
            database,
            clock: Arc::clone(&clock),
            purge: Purge::new(),
            is_closing: Arc::clone(&is_closing),
            _end,
        };
        let handle = thread::Builder::new()
            .name("klikit-sqlite".into())
            .spawn(|| thread.run(calls))
            .map_err(|error| SqliteError::because(SqliteErrorKind::Thread, error))?;
        Ok((Self { queue, clock, is_closing, end }, handle))
    }

    /// Makes the thread finish the queued calls and close the file, and waits until it has done so. Later calls fail.
    pub(super) async fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        // Wake the thread with an empty call. The thread does not even run it, because nobody waits for the answer.
        let (reply, _) = oneshot::channel();
        let wake = |_: &Transaction<'_>| Ok(());
        let _ = self.queue.send(Box::new(Request::new(Call::Claim, wake, reply))).await;
        // No value is ever sent: `changed` returns an error once the thread has dropped the sender.
        let mut end = self.end.clone();
        while end.changed().await.is_ok() {}
    }

    /// Runs a call on the thread, and waits until it is committed. The call may run several times, in transactions that
    /// are rolled back; only its last run is committed.
    pub(super) async fn call<T, F>(&self, call: Call, run: F) -> Result<T, SqliteError>
    where
        T: Send + 'static,
        F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let stopped = || SqliteError::new(SqliteErrorKind::Stopped);
        let (reply, answer) = oneshot::channel();
        self.queue.send(Box::new(Request::new(call, run, reply))).await.map_err(|_| stopped())?;
        let answer = answer.await.unwrap_or_else(|_| Err(stopped()));
        // Log steps of the system clock here, in the caller's span, rather than on the thread.
        self.clock.report_steps();
        answer
    }
}

struct WriterThread {
    checkpoints: Checkpoints,
    reader: thread::JoinHandle<()>,
    database: Database,
    clock: Arc<Clock>,
    purge: Purge,
    is_closing: Arc<AtomicBool>,
    /// Dropped at the end of [`run`](Self::run), which wakes [`Writer::close`].
    _end: watch::Sender<()>,
}

/// The reason why a transaction was not committed.
enum TransactionError {
    /// The file cannot be used. Every other transaction would fail too.
    File(SqliteError),
    /// A transaction with fewer calls may succeed.
    Batch(SqliteError),
    /// The only call in the transaction failed.
    Call(SqliteError),
}

impl WriterThread {
    fn run(mut self, mut calls: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = calls.blocking_recv() {
            batch.push(first);
            self.serve_queued(&mut batch, &mut calls);
            if self.is_closing.load(Ordering::SeqCst) {
                // Serve the calls that are queued, but do not wait until all callers are gone: a caller that waits for
                // a place in the queue may never be polled again.
                while let Ok(first) = calls.try_recv() {
                    batch.push(first);
                    self.serve_queued(&mut batch, &mut calls);
                }
                break;
            }
        }
        drop(calls);
        // Close the connections one after another. SQLite deletes the log when the last connection is closed, but two
        // connections that are closed at once would both leave the log.
        drop(self.checkpoints);
        let _ = self.reader.join();
        drop(self.database);
    }

    /// Adds queued calls to the batch, serves the batch and then looks after the log.
    fn serve_queued(&mut self, batch: &mut Vec<Box<dyn Job>>, calls: &mut mpsc::Receiver<Box<dyn Job>>) {
        while batch.len() < BATCH
            && let Ok(next) = calls.try_recv()
        {
            batch.push(next);
        }
        self.serve(batch);
        self.look_after_log();
    }

    /// Runs the calls of a batch and answers their callers.
    fn serve(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        batch.retain(|job| job.is_wanted());
        if batch.is_empty() {
            return;
        }
        let claims = batch.iter().filter(|job| job.is_claim()).count();
        let outcome = match self.attempt(batch, claims, Isolation::None) {
            Ok(()) => Ok(()),
            Err(TransactionError::File(error)) => Err(error),
            Err(TransactionError::Call(error)) if error.kind() != SqliteErrorKind::Damaged => Err(error),
            // The batch was rolled back. Run each call in its own transaction, so that one call does not fail the
            // others, and so that a call can succeed without the rows on a damaged page.
            Err(TransactionError::Call(_) | TransactionError::Batch(_)) => return self.serve_one_by_one(batch),
        };
        for job in batch.drain(..) {
            job.answer(outcome.clone());
        }
    }

    fn serve_one_by_one(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        // The error of the file, once a call has found one.
        let mut file = Ok(());
        for mut job in batch.drain(..) {
            let outcome = match file.clone().map(|()| self.attempt_around_damage(&mut job)) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(TransactionError::Batch(error) | TransactionError::Call(error))) => Err(error),
                Ok(Err(TransactionError::File(error))) => {
                    // Fail the remaining calls at once, because each of them might wait for the same lock.
                    file = Err(error.clone());
                    Err(error)
                }
                Err(error) => Err(error),
            };
            job.answer(outcome);
        }
    }

    /// Runs a call in its own transaction. If a step of the call reads a damaged page, repeats the call without that
    /// step, and so on until no further step fails.
    fn attempt_around_damage(&mut self, job: &mut Box<dyn Job>) -> Result<(), TransactionError> {
        let failures = RefCell::default();
        let mut outcome = Ok(());
        while Failures::begin(&mut failures.borrow_mut()) {
            // Do not purge: a damaged page could fail that too.
            outcome = self.attempt(slice::from_mut(job), 0, Isolation::Repeating(&failures));
            let Err(TransactionError::Batch(error) | TransactionError::Call(error)) = &outcome else { break };
            if error.kind() != SqliteErrorKind::Damaged {
                break;
            }
        }
        outcome
    }

    /// Starts a checkpoint or restarts the log, if the log is long. Called between batches, when all callers have their
    /// answers.
    fn look_after_log(&mut self) {
        // If the connection was closed, the next call reopens it and reports errors.
        let Some(session) = self.database.open_session() else { return };
        let result = self.checkpoints.look_after(session.connection());
        drop(session);
        if result.is_err() {
            self.database.close();
        }
    }

    /// Runs calls in one transaction, which also purges a few rows for each of the `claims` among the calls. Checks
    /// before and after the transaction that the files are not lost.
    fn attempt(
        &mut self,
        jobs: &mut [Box<dyn Job>],
        claims: usize,
        isolation: Isolation<'_>,
    ) -> Result<(), TransactionError> {
        // A commit to a lost file would be lost as well.
        self.database.check().map_err(TransactionError::File)?;
        let outcome = self.transact(jobs, claims, isolation);
        // The files may have been lost during the transaction. Check after an error too: a lost file may have caused
        // it.
        self.database.check().map_err(TransactionError::File)?;
        if let Err(TransactionError::File(error) | TransactionError::Batch(error) | TransactionError::Call(error)) =
            &outcome
            && error.kind() != SqliteErrorKind::Busy
        {
            // A new connection may work.
            self.database.close();
        }
        outcome
    }

    /// Runs calls in one transaction and commits the transaction.
    fn transact(
        &mut self,
        jobs: &mut [Box<dyn Job>],
        claims: usize,
        isolation: Isolation<'_>,
    ) -> Result<(), TransactionError> {
        let mut session = self.database.session().map_err(TransactionError::File)?;
        let (connection, statements) = session.parts();
        let batch_error = |error: rusqlite::Error| TransactionError::Batch(error.into());
        let begun = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| TransactionError::File(error.into()))?;
        // Read the time under the lock, so that the times of transactions are in commit order.
        let transaction =
            Transaction::new(&begun, statements, &self.clock, Access::Write, isolation).map_err(batch_error)?;
        let is_alone = jobs.len() == 1;
        for job in jobs {
            let changes_before = transaction.changes();
            if let Err(error) = job.run(&transaction) {
                // The call found an unreadable row before it wrote anything, so there is nothing to roll back. The job
                // keeps the error for its caller, and the other calls can be committed.
                if error.kind() == SqliteErrorKind::Unreadable && transaction.changes() == changes_before {
                    continue;
                }
                // The call may have written something, so roll back the batch. A savepoint for each call would be more
                // precise, but would slow down all calls.
                return Err(if is_alone { TransactionError::Call(error) } else { TransactionError::Batch(error) });
            }
        }
        if claims > 0 {
            self.purge.step(&transaction.ledger(), claims).map_err(batch_error)?;
        }
        begun.commit().map_err(batch_error)
    }
}

#[cfg(test)]
mod tests;
