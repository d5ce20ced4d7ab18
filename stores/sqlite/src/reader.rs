//! The reader thread, which keeps long reads from delaying writes.
//!
//! In WAL mode, a read transaction sees everything that was committed before it began.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use rusqlite::TransactionBehavior;
use tokio::sync::oneshot;

use super::{
    clock::Clock,
    connection::{Access, Database},
    error::{SqliteError, SqliteErrorKind},
    isolation::Isolation,
    transaction::Transaction,
};

/// A handle to the reader thread, which ends when the last clone of the handle is dropped.
#[derive(Clone)]
pub(super) struct Reader {
    queue: mpsc::Sender<ReadJob>,
    clock: Arc<Clock>,
    is_closing: Arc<AtomicBool>,
}

type ReadJob = Box<dyn FnOnce(&mut ReaderThread) + Send>;

struct ReaderThread {
    database: Database,
    clock: Arc<Clock>,
}

impl Reader {
    /// Starts the thread. The first call opens the file, so that a ledger-only store has no second connection
    /// until it lists entries. The returned thread ends after it has closed the file.
    pub(super) fn start(database: Database, clock: Arc<Clock>) -> Result<(Self, thread::JoinHandle<()>), SqliteError> {
        let (queue, jobs) = mpsc::channel::<ReadJob>();
        let mut thread = ReaderThread { database, clock: Arc::clone(&clock) };
        let is_closing = Arc::<AtomicBool>::default();
        let run = {
            let is_closing = Arc::clone(&is_closing);
            move || {
                while !is_closing.load(Ordering::SeqCst)
                    && let Ok(job) = jobs.recv()
                {
                    job(&mut thread);
                }
                // Run the calls that were queued before the store was closed.
                jobs.try_iter().for_each(|job| job(&mut thread));
            }
        };
        let handle = thread::Builder::new()
            .name("klikit-sqlite-read".into())
            .spawn(run)
            .map_err(|error| SqliteError::because(SqliteErrorKind::Thread, error))?;
        Ok((Self { queue, clock, is_closing }, handle))
    }

    /// Makes the thread finish the queued calls and close the file. Later calls fail.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        // Wake the thread. If it has ended, sending fails.
        let _ = self.queue.send(Box::new(|_| {}));
    }

    /// Runs a call in a read transaction on the thread. Skips the call if its caller is gone by then.
    pub(super) async fn call<T, F>(&self, run: F) -> Result<T, SqliteError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let stopped = || SqliteError::new(SqliteErrorKind::Stopped);
        let (reply, answer) = oneshot::channel();
        let job = move |thread: &mut ReaderThread| {
            if !reply.is_closed() {
                // Sending fails if the caller is gone by now.
                let _ = reply.send(thread.run(run));
            }
        };
        self.queue.send(Box::new(job)).map_err(|_| stopped())?;
        let answer = answer.await.unwrap_or_else(|_| Err(stopped()));
        self.clock.report_steps();
        answer
    }
}

impl ReaderThread {
    fn run<T>(&mut self, run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, SqliteError> {
        let result = self.transact(run);
        // Check after an error too: a lost file may have caused it.
        self.database.check()?;
        if result.as_ref().is_err_and(|error| error.kind() != SqliteErrorKind::Busy) {
            // A new connection may not have the error.
            self.database.close();
        }
        result
    }

    fn transact<T>(&mut self, run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, SqliteError> {
        let mut session = self.database.session()?;
        let (connection, statements) = session.parts();
        let begun = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        Ok(run(&Transaction::new(&begun, statements, &self.clock, Access::Read, Isolation::Reading)?)?)
    }
}
