//! The public store, and its implementations of the store traits.

mod inbox;
mod ledger;
mod walk;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    error::{SqliteError, SqliteErrorKind},
    reader::Reader,
    writer::Writer,
};

/// The maximum time that dropping a store waits. The log may have 200 MB to copy, and the disk may be slow.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A ledger and an inbox in a file. The [crate documentation](crate) describes its guarantees.
///
/// Clones share three threads, each with its own connection. When the last clone is dropped, the threads finish the
/// queued calls and close the file. The drop blocks until then, for up to 5 seconds, so that a process that ends leaves
/// one complete file. [`close`](Self::close) does the same without blocking.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    reader: Reader,
    parts: Parts,
    path: PathBuf,
    /// Locked while a backup is made.
    backup: Arc<Mutex<()>>,
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
    /// `thread` is the writer thread.
    pub(super) fn new(writer: Writer, reader: Reader, parts: Parts, path: PathBuf, thread: JoinHandle<()>) -> Self {
        let shared = Shared { writer, reader, parts, path, backup: Arc::default(), _end: End(thread) };
        Self { shared: Arc::new(shared) }
    }

    /// Finishes the calls that are queued and closes the file, for all clones. What is in the write-ahead log is copied
    /// into the file, and the log is deleted. Later calls fail with [`SqliteErrorKind::Stopped`], and so do calls that
    /// go on for several transactions, such as a purge. The call waits for a running [backup](Self::backup).
    ///
    /// Stop acceptors and workers first.
    ///
    /// # Errors
    ///
    /// Returns an error if the log is left, because another process has the file open, or because the log cannot be
    /// copied. Nothing is lost: the next process that opens the file reads the log.
    pub async fn close(&self) -> Result<(), SqliteError> {
        let _turn = self.turn_for_backup().await;
        self.shared.reader.close();
        self.shared.writer.close().await;
        let mut log = fs::canonicalize(self.path()).unwrap_or_else(|_| self.path().into()).into_os_string();
        log.push("-wal");
        if fs::exists(&log)? {
            let message = format!(
                "{} is left: another process has the file open, or it cannot be copied into the file",
                log.display()
            );
            return Err(SqliteError::with_message(SqliteErrorKind::File, message));
        }
        Ok(())
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    pub(super) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Waits until no backup is made.
    pub(super) async fn turn_for_backup(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.shared.backup).lock_owned().await
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

/// A guard whose drop waits for the writer thread, which is the last to close the file.
struct End(JoinHandle<()>);

impl Drop for End {
    fn drop(&mut self) {
        let started = Instant::now();
        while !self.0.is_finished() && started.elapsed() < CLOSE_TIMEOUT {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
