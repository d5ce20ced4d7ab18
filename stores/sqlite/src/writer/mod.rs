//! The thread that writes. It commits the calls that are queued in one transaction.
//!
//! There is no timer: while one batch waits for the disk, the next one gathers in the queue.

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

/// How many calls a transaction has at most.
const BATCH: usize = 256;

/// How many calls fit into the queue. Callers wait for a place in it.
const QUEUE: usize = 1024;

/// A handle to the thread, which ends when the last clone of the handle is dropped.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    clock: Arc<Clock>,
    is_closing: Arc<AtomicBool>,
    /// Its sender is dropped when the file is closed.
    end: watch::Receiver<()>,
}

impl Writer {
    /// Starts the thread. It closes the file after `reader`, the thread that reads, has closed it.
    pub(super) fn start(
        database: Database,
        reader: thread::JoinHandle<()>,
        clock: Arc<Clock>,
    ) -> Result<(Self, thread::JoinHandle<()>), SqliteError> {
        let (queue, calls) = mpsc::channel(QUEUE);
        let checkpoints = Checkpoints::start(database.for_upkeep(), Limits::default())?;
        let (_end, end) = watch::channel(());
        let is_closing = Arc::<AtomicBool>::default();
        let thread = Thread {
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
            .map_err(|error| SqliteError::because(SqliteErrorKind::Stopped, error))?;
        Ok((Self { queue, clock, is_closing, end }, handle))
    }

    /// Has the thread close the file once it has run the calls that were made, and waits for that. Later calls fail.
    pub(super) async fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        // A call that nobody waits for is not run, but wakes the thread.
        let (reply, _) = oneshot::channel();
        let wake = |_: &Transaction<'_>| Ok(());
        let _ = self.queue.send(Box::new(Request::new(Call::Claim, wake, reply))).await;
        let mut end = self.end.clone();
        while end.changed().await.is_ok() {}
    }

    /// Has the thread run a call, and waits until the call is committed. The call may run more than once, but only the
    /// last run counts.
    pub(super) async fn call<T, F>(&self, call: Call, run: F) -> Result<T, SqliteError>
    where
        T: Send + 'static,
        F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let stopped = || SqliteError::new(SqliteErrorKind::Stopped);
        let (reply, answer) = oneshot::channel();
        self.queue.send(Box::new(Request::new(call, run, reply))).await.map_err(|_| stopped())?;
        let answer = answer.await.unwrap_or_else(|_| Err(stopped()));
        self.clock.report_steps();
        answer
    }
}

struct Thread {
    checkpoints: Checkpoints,
    reader: thread::JoinHandle<()>,
    database: Database,
    clock: Arc<Clock>,
    purge: Purge,
    is_closing: Arc<AtomicBool>,
    _end: watch::Sender<()>,
}

/// Why a transaction was not committed.
enum Failed {
    /// The file cannot be used: every transaction would fail.
    Any(SqliteError),
    /// A transaction with fewer calls might succeed.
    This(SqliteError),
    /// The only call in the transaction failed.
    Call(SqliteError),
}

impl Thread {
    fn run(mut self, mut calls: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = calls.blocking_recv() {
            batch.push(first);
            self.serve_queued(&mut batch, &mut calls);
            if self.is_closing.load(Ordering::SeqCst) {
                // Not until all callers are gone: one may never be polled again.
                while let Ok(first) = calls.try_recv() {
                    batch.push(first);
                    self.serve_queued(&mut batch, &mut calls);
                }
                break;
            }
        }
        drop(calls);
        // The last connection that is closed deletes the log. Two that are closed at once would both leave it.
        drop(self.checkpoints);
        let _ = self.reader.join();
        drop(self.database);
    }

    /// Serves this batch together with the calls that are queued.
    fn serve_queued(&mut self, batch: &mut Vec<Box<dyn Job>>, calls: &mut mpsc::Receiver<Box<dyn Job>>) {
        while batch.len() < BATCH
            && let Ok(next) = calls.try_recv()
        {
            batch.push(next);
        }
        self.serve(batch);
        self.look_after_log();
    }

    fn serve(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        batch.retain(|job| job.is_wanted());
        if batch.is_empty() {
            return;
        }
        let claims = batch.iter().filter(|job| job.is_claim()).count();
        let outcome = match self.attempt(batch, claims, Isolation::None) {
            Ok(()) => Ok(()),
            Err(Failed::Any(error)) => Err(error),
            Err(Failed::Call(error)) if error.kind() != SqliteErrorKind::Damaged => Err(error),
            // Everything is rolled back. The other calls succeed without the one that failed.
            Err(Failed::Call(_) | Failed::This(_)) => return self.serve_one_by_one(batch),
        };
        for job in batch.drain(..) {
            job.answer(outcome.clone());
        }
    }

    fn serve_one_by_one(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        let mut any = Ok(());
        for mut job in batch.drain(..) {
            let outcome = match any.clone().map(|()| self.attempt_around_damage(&mut job)) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(Failed::This(error) | Failed::Call(error))) => Err(error),
                Ok(Err(Failed::Any(error))) => {
                    // The next calls must not wait for the lock one after the other.
                    any = Err(error.clone());
                    Err(error)
                }
                Err(error) => Err(error),
            };
            job.answer(outcome);
        }
    }

    /// Repeats a call until it has left out every step that comes across a damaged page.
    fn attempt_around_damage(&mut self, job: &mut Box<dyn Job>) -> Result<(), Failed> {
        let failures = RefCell::default();
        let mut outcome = Ok(());
        while Failures::begin(&mut failures.borrow_mut()) {
            outcome = self.attempt(slice::from_mut(job), 0, Isolation::Repeating(&failures));
            let Err(Failed::This(error) | Failed::Call(error)) = &outcome else { break };
            if error.kind() != SqliteErrorKind::Damaged {
                break;
            }
        }
        outcome
    }

    /// Looks after the log between two batches, when the callers of the first have their answers.
    fn look_after_log(&mut self) {
        // The next call opens a connection that was closed, and reports if it cannot.
        let Some(session) = self.database.open_session() else { return };
        let looked = self.checkpoints.look_after(session.connection());
        drop(session);
        if looked.is_err() {
            self.database.close();
        }
    }

    /// Runs calls in one transaction, and purges a few rows for each of `claims`.
    fn attempt(&mut self, jobs: &mut [Box<dyn Job>], claims: usize, isolation: Isolation<'_>) -> Result<(), Failed> {
        // Nothing must be written into files that nobody else finds.
        self.database.check().map_err(Failed::Any)?;
        let outcome = self.transact(jobs, claims, isolation);
        // Nor acknowledged. Also after an error: lost files may be its cause.
        self.database.check().map_err(Failed::Any)?;
        if let Err(Failed::Any(error) | Failed::This(error) | Failed::Call(error)) = &outcome
            && error.kind() != SqliteErrorKind::Busy
        {
            // A new connection sees the disk and the tables as they are now.
            self.database.close();
        }
        outcome
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>], claims: usize, isolation: Isolation<'_>) -> Result<(), Failed> {
        let mut session = self.database.session().map_err(Failed::Any)?;
        let (connection, statements) = session.parts();
        let this = |error: rusqlite::Error| Failed::This(error.into());
        let begun = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| Failed::Any(error.into()))?;
        // After the lock was taken, so that the times of calls are in the order of the calls.
        let transaction = Transaction::new(&begun, statements, &self.clock, Access::Write, isolation).map_err(this)?;
        let is_alone = jobs.len() == 1;
        for job in jobs {
            let changes = transaction.changes();
            if let Err(error) = job.run(&transaction) {
                // A row that cannot be read is found before anything is written: there is nothing to roll back.
                if error.kind() == SqliteErrorKind::Unreadable && transaction.changes() == changes {
                    continue;
                }
                // The call may have written a part. A savepoint for each call would undo that part alone, but would
                // slow down the calls that succeed.
                return Err(if is_alone { Failed::Call(error) } else { Failed::This(error) });
            }
        }
        if claims > 0 {
            self.purge.step(&transaction.ledger(), claims).map_err(this)?;
        }
        begun.commit().map_err(this)
    }
}

#[cfg(test)]
mod tests;
