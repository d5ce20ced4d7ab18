//! The thread that copies the log when the writer thread asks for it, and tidies up the file after commits.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    connection::{Database, Session, settings::without_waiting},
    error::{SqliteError, SqliteErrorKind},
    files::Lost,
    wal::{CheckpointMode, Log},
};

/// The interval between two checks of the file. The file is quiet if no process has committed in that time.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The length up to which the log is not truncated, in bytes: overwriting the log is faster than growing it again.
const SHORT_LOG: u64 = 4 << 20;

/// The number of free pages that stay in the file: 4 MiB.
const SPARE: u32 = 1024;

/// The number of pages that one transaction returns to the disk: 256 KiB. A commit may have to wait for the transaction.
const SLICE: u32 = 64;

/// The shortest pause after a slice, in which commits get the lock.
const SLICE_PAUSE: Duration = Duration::from_millis(5);

/// The pause after a slice while other connections commit.
const SLICE_PAUSE_UNDER_LOAD: Duration = Duration::from_millis(200);

/// The number of slices between two checkpoints. Each slice makes the log longer.
const SLICES_PER_COPY: u32 = 64;

/// A request to the checkpoint thread.
pub(super) enum Task {
    /// Run a checkpoint, and report its end.
    Copy,
    /// Check the file at intervals, until there is nothing left to tidy up.
    Watch,
}

/// State that the checkpoint thread shares with the writer thread.
#[derive(Default)]
pub(super) struct Watch {
    is_watching: AtomicBool,
    is_copying: AtomicBool,
}

impl Watch {
    /// Notes that something was committed. Returns whether the writer thread must send [`Task::Watch`].
    pub(super) fn begin(&self) -> bool {
        !self.is_watching.swap(true, Ordering::SeqCst)
    }

    /// Returns whether the thread is copying the log without a [`Task::Copy`].
    pub(super) fn is_copying(&self) -> bool {
        self.is_copying.load(Ordering::SeqCst)
    }
}

/// The checkpoint thread, with its own connection to the file.
pub(super) struct CheckpointThread {
    database: Database,
    watch: Arc<Watch>,
    /// Whether free pages are returned to the disk. Not after a failure: a damaged page would fail each slice.
    may_shrink: Cell<bool>,
    /// The number of slices that were returned to the disk since the last checkpoint.
    slices: Cell<u32>,
}

/// The work that remains after a check of the file.
enum Remaining {
    Nothing,
    /// Check again after this time.
    More(Duration),
}

impl CheckpointThread {
    pub(super) fn new(database: Database, watch: Arc<Watch>) -> Self {
        Self { database, watch, may_shrink: Cell::new(true), slices: Cell::new(0) }
    }

    /// Works until the sender of the tasks is dropped.
    pub(super) fn run(self, tasks: &Receiver<Task>, done: &Sender<()>) {
        // The time of the next check, and the version of the file at the last one.
        let mut next_check: Option<(Instant, Option<i64>)> = None;
        loop {
            let task = match next_check {
                None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => tasks.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match task {
                Ok(Task::Copy) => {
                    // Ignore the error, since the next checkpoint copies the rest. If all fail, the disk fills up, and
                    // calls fail.
                    if self.copy().is_err() {
                        self.database.close();
                    }
                    // Sending fails if the store is being closed.
                    let _ = done.send(());
                }
                Ok(Task::Watch) => next_check = Some((Instant::now() + CHECK_INTERVAL, None)),
                Err(RecvTimeoutError::Timeout) => {
                    let last = next_check.take().and_then(|(_, version)| version);
                    let version = self.version().ok();
                    let is_quiet = version.is_some() && version == last;
                    let remaining = if is_quiet { self.tidy_quiet_file() } else { self.tidy_busy_file() };
                    next_check = match remaining {
                        Ok(Remaining::Nothing) if self.stop_watching(version) => {
                            // If the writer's connection is the last one, closing it copies a full log.
                            self.database.close();
                            None
                        }
                        Ok(Remaining::More(pause)) => Some((Instant::now() + pause, version)),
                        Ok(Remaining::Nothing) => Some((Instant::now() + CHECK_INTERVAL, version)),
                        Err(error) => {
                            if error.kind() != SqliteErrorKind::Busy {
                                self.database.close();
                            }
                            Some((Instant::now() + CHECK_INTERVAL, version))
                        }
                    };
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Returns a number that changes when another connection, of any process, commits.
    fn version(&self) -> Result<i64, SqliteError> {
        let version = |row: &rusqlite::Row<'_>| row.get(0);
        Ok(self.session()?.connection().pragma_query_value(None, "data_version", version)?)
    }

    /// Stops watching, unless something was committed since the file had this version. Returns whether it stopped.
    fn stop_watching(&self, version: Option<i64>) -> bool {
        self.watch.is_watching.store(false, Ordering::SeqCst);
        // Check after the flag is reset: for a commit before the reset, the writer thread has sent no `Task::Watch`. If
        // it has set the flag again in the meantime, it has sent one.
        self.version().ok() == version || self.watch.is_watching.swap(true, Ordering::SeqCst)
    }

    fn copy(&self) -> Result<(), SqliteError> {
        Log::checkpoint(self.session()?.connection(), CheckpointMode::Passive)?;
        Ok(())
    }

    /// Returns a slice of the free pages to the disk if there are very many.
    fn tidy_busy_file(&self) -> Result<Remaining, SqliteError> {
        let session = self.session()?;
        let all: u32 = session.connection().pragma_query_value(None, "page_count", |row| row.get(0))?;
        let has_shrunk = self.shrink(session.connection(), SPARE.max(all / 4));
        Ok(Remaining::More(if has_shrunk { SLICE_PAUSE_UNDER_LOAD } else { CHECK_INTERVAL }))
    }

    /// Returns a slice of the free pages to the disk. Once few are left, copies the log and truncates it.
    fn tidy_quiet_file(&self) -> Result<Remaining, SqliteError> {
        let mut session = self.session()?;
        let started = Instant::now();
        if self.shrink(session.connection(), SPARE) {
            self.slices.set((self.slices.get() + 1) % SLICES_PER_COPY);
            if self.slices.get() == 0 {
                self.copy_without_task(session.connection())?;
            }
            // Commits get the lock for at least as long as the slice had it.
            return Ok(Remaining::More(started.elapsed().max(SLICE_PAUSE)));
        }
        self.copy_without_task(session.connection())?;
        if session.log_length()? <= SHORT_LOG {
            return Ok(Remaining::Nothing);
        }
        // Do not wait for readers: the truncation blocks commits meanwhile.
        let log = without_waiting(session.connection_mut(), |connection| {
            Log::checkpoint(connection, CheckpointMode::Truncate)
        })?;
        Ok(if log.busy { Remaining::More(CHECK_INTERVAL) } else { Remaining::Nothing })
    }

    fn copy_without_task(&self, connection: &Connection) -> Result<(), SqliteError> {
        self.watch.is_copying.store(true, Ordering::SeqCst);
        let copied = Log::checkpoint(connection, CheckpointMode::Passive);
        self.watch.is_copying.store(false, Ordering::SeqCst);
        copied?;
        Ok(())
    }

    /// Returns a slice of the free pages to the disk. Returns `false` if the file has at most `max_free` free pages, or if
    /// they cannot be returned.
    fn shrink(&self, connection: &Connection, max_free: u32) -> bool {
        if !self.may_shrink.get() {
            return false;
        }
        shrink(connection, max_free).unwrap_or_else(|error| {
            // While the file is locked, the next check tries again.
            self.may_shrink.set(SqliteError::from(error).kind() == SqliteErrorKind::Busy);
            false
        })
    }

    fn session(&self) -> Result<Session<'_>, SqliteError> {
        let mut session = self.database.session()?;
        // Copying a truncated log would damage the file. Do not recover here: the writer thread does, and it may be
        // waiting for this thread.
        session.check().map_err(Lost::into_error)?;
        Ok(session)
    }
}

/// Returns a slice of the free pages to the disk. Returns `false` if the file has at most `max_free` free pages, or if it
/// cannot shrink page by page.
fn shrink(connection: &Connection, max_free: u32) -> rusqlite::Result<bool> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    // Only a file that a store has created can shrink page by page: its mode is 2, incremental.
    let free = number("freelist_count")?;
    if free <= max_free || number("auto_vacuum")? != 2 {
        return Ok(false);
    }
    let pages = SLICE.min(free - SPARE);
    let mut slice = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = slice.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}
