//! The thread that reads, so that long reads do not delay calls that write.
//!
//! In WAL mode, a transaction that reads sees everything that was committed before it began.

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

/// A handle to the thread, which ends when the last clone of the handle is dropped.
#[derive(Clone)]
pub(super) struct Reader {
    queue: mpsc::Sender<Job>,
    clock: Arc<Clock>,
    is_closing: Arc<AtomicBool>,
}

type Job = Box<dyn FnOnce(&mut Thread) + Send>;

struct Thread {
    database: Database,
    clock: Arc<Clock>,
}

impl Reader {
    /// Starts the thread. The first call opens the file: a ledger alone needs no second connection. The returned thread
    /// ends once it has closed the file.
    pub(super) fn start(database: Database, clock: Arc<Clock>) -> Result<(Self, thread::JoinHandle<()>), SqliteError> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let mut thread = Thread { database, clock: Arc::clone(&clock) };
        let is_closing = Arc::<AtomicBool>::default();
        let run = {
            let is_closing = Arc::clone(&is_closing);
            move || {
                while !is_closing.load(Ordering::SeqCst)
                    && let Ok(job) = jobs.recv()
                {
                    job(&mut thread);
                }
                // Those that were queued before.
                jobs.try_iter().for_each(|job| job(&mut thread));
            }
        };
        let handle = thread::Builder::new()
            .name("klikit-sqlite-read".into())
            .spawn(run)
            .map_err(|error| SqliteError::because(SqliteErrorKind::Stopped, error))?;
        Ok((Self { queue, clock, is_closing }, handle))
    }

    /// Has the thread close the file once it has run the calls that were made. Later calls fail.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        // Wakes the thread, unless it has ended.
        let _ = self.queue.send(Box::new(|_| {}));
    }

    /// Has the thread run a call in one transaction. A call whose caller is gone by then is not run.
    pub(super) async fn call<T, F>(&self, run: F) -> Result<T, SqliteError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let stopped = || SqliteError::new(SqliteErrorKind::Stopped);
        let (reply, answer) = oneshot::channel();
        let job = move |thread: &mut Thread| {
            if !reply.is_closed() {
                // The caller may be gone by now.
                let _ = reply.send(thread.run(run));
            }
        };
        self.queue.send(Box::new(job)).map_err(|_| stopped())?;
        let answer = answer.await.unwrap_or_else(|_| Err(stopped()));
        self.clock.report_steps();
        answer
    }
}

impl Thread {
    fn run<T>(&mut self, run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, SqliteError> {
        let result = self.transact(run);
        // Also after an error: lost files may be its cause.
        self.database.check()?;
        if result.as_ref().is_err_and(|error| error.kind() != SqliteErrorKind::Busy) {
            // A new connection sees the disk and the tables as they are now.
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
