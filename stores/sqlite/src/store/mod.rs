//! The store, as services see it.

mod inbox;
mod ledger;

use std::{
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    connection::Database,
    error::{SqliteError, SqliteErrorKind},
    reader::Reader,
    writer::Writer,
};

/// How long dropping a store waits at most. The log may have 200 MB to copy, and the disk may be slow.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A ledger and an inbox in a file. The [crate's documentation](crate) describes its guarantees.
///
/// Clones share three threads, each with a connection. When the last clone is dropped, the threads finish the calls
/// that were made and close the file. Dropping it waits for that, for 5 seconds at most, so that a process that ends
/// leaves one file with everything in it. [`close`](Self::close) does the same without blocking a thread.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    reader: Reader,
    parts: Parts,
    /// The file, without a connection.
    database: Database,
    /// Dropped after the handles to the threads, which end them.
    _end: End,
}

/// The parts that a store is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    All,
    LedgerOnly,
}

impl SqliteStore {
    /// `database` is for more connections, and `thread` is the one that writes.
    pub(super) fn new(
        writer: Writer,
        reader: Reader,
        parts: Parts,
        database: Database,
        thread: JoinHandle<()>,
    ) -> Self {
        Self { shared: Arc::new(Shared { writer, reader, parts, database, _end: End(thread) }) }
    }

    /// Finishes the calls that were made and closes the file, for all clones. What is in the write-ahead log is copied
    /// into the file, and the log is deleted, unless another process has the file open. Later calls fail with
    /// [`SqliteErrorKind::Stopped`].
    ///
    /// Stop acceptors and workers first.
    pub async fn close(&self) {
        self.shared.reader.close();
        self.shared.writer.close().await;
    }

    /// Returns the file for one more connection.
    pub(super) fn another_connection(&self) -> Database {
        self.shared.database.for_upkeep()
    }

    fn check_inbox(&self) -> Result<(), SqliteError> {
        match self.shared.parts {
            Parts::All => Ok(()),
            Parts::LedgerOnly => Err(SqliteError::new(SqliteErrorKind::LedgerOnly)),
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("parts", &self.shared.parts).finish_non_exhaustive()
    }
}

/// Waits for the thread that closes the file last.
struct End(JoinHandle<()>);

impl Drop for End {
    fn drop(&mut self) {
        let started = Instant::now();
        while !self.0.is_finished() && started.elapsed() < CLOSE_TIMEOUT {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
