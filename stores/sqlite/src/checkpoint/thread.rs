//! The thread itself: copies when it is told to, and tidies up while it watches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::Log;
use crate::{
    connection::{Database, Session, settings::without_waiting},
    error::{SqliteError, SqliteErrorKind},
    files::Lost,
};

/// How often the thread looks whether it can tidy up. The store is quiet if nothing was committed for as long.
const LOOK: Duration = Duration::from_secs(2);

/// A log up to this length stays as it is, in bytes: overwriting it is faster than growing it again.
const SHORT_LOG: u64 = 4 << 20;

/// So many free pages stay in the file, 4 MiB.
const SPARE: u32 = 1024;

/// How many pages one transaction gives back, 1 MiB. A commit may have to wait for it.
const SLICE: u32 = 256;

/// What the thread is told.
pub(super) enum Task {
    /// Copy the log, and report the end.
    Copy,
    /// Look now and then whether there is something to tidy up, until there is nothing left.
    Watch,
}

/// What the thread that writes tells of itself.
#[derive(Default)]
pub(super) struct Activity {
    /// How many batches were committed.
    batches: AtomicU64,
    /// Whether the thread watches.
    is_watched: AtomicBool,
}

impl Activity {
    /// Counts a batch. Returns whether the thread has to be told to watch.
    pub(super) fn count(&self) -> bool {
        self.batches.fetch_add(1, Ordering::SeqCst);
        !self.is_watched.swap(true, Ordering::SeqCst)
    }
}

pub(super) struct Thread {
    pub(super) database: Database,
    pub(super) activity: Arc<Activity>,
}

impl Thread {
    /// Works until the sender of the tasks is dropped.
    pub(super) fn run(self, tasks: &Receiver<Task>, done: &Sender<()>) {
        // The next look, and how many batches there were at the last one.
        let mut look: Option<(Instant, u64)> = None;
        loop {
            let task = match look {
                None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => tasks.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match task {
                Ok(Task::Copy) => {
                    // Copied later, then. If it never can be, the disk fills up, and calls fail.
                    if self.copy().is_err() {
                        self.database.close();
                    }
                    // The receiver is gone while it waits for this thread to end.
                    let _ = done.send(());
                }
                Ok(Task::Watch) => look = Some((Instant::now() + LOOK, self.batches())),
                Err(RecvTimeoutError::Timeout) => {
                    let batches = self.batches();
                    let is_quiet = look.is_some_and(|(_, last)| last == batches);
                    look = Some((Instant::now() + LOOK, batches));
                    match self.tidy(is_quiet) {
                        Ok(true) if self.stops_watching(batches) => look = None,
                        Ok(_) => {}
                        Err(error) if error.kind() == SqliteErrorKind::Busy => {}
                        Err(_) => self.database.close(),
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn batches(&self) -> u64 {
        self.activity.batches.load(Ordering::SeqCst)
    }

    /// Returns whether nothing was committed since there were so many batches.
    fn stops_watching(&self, batches: u64) -> bool {
        self.activity.is_watched.store(false, Ordering::SeqCst);
        // A batch that was counted before this is not lost.
        self.batches() == batches || self.activity.is_watched.swap(true, Ordering::SeqCst)
    }

    fn copy(&self) -> Result<(), SqliteError> {
        Log::after(self.session()?.connection(), "PASSIVE")?;
        Ok(())
    }

    /// Gives free pages back, and cuts the log back if the store is quiet. Returns whether nothing is left to do.
    fn tidy(&self, is_quiet: bool) -> Result<bool, SqliteError> {
        let mut session = self.session()?;
        let batches = self.batches();
        while self.give_back(&mut session, is_quiet)? {
            if !is_quiet || self.batches() != batches {
                return Ok(false);
            }
        }
        if !is_quiet {
            return Ok(false);
        }
        Log::after(session.connection(), "PASSIVE")?;
        if session.log_length()? <= SHORT_LOG {
            return Ok(true);
        }
        // Waiting for a reader here would hold up commits.
        let log = without_waiting(session.connection_mut(), |connection| Log::after(connection, "TRUNCATE"))?;
        Ok(!log.busy)
    }

    /// Gives a slice of the free pages back. Returns `false` if there are too few of them.
    fn give_back(&self, session: &mut Session<'_>, is_quiet: bool) -> Result<bool, SqliteError> {
        let connection = session.connection();
        let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
        let (free, all) = (number("freelist_count")?, number("page_count")?);
        // While there is load, the file may need them again.
        let enough = if is_quiet { SPARE } else { SPARE.max(all / 4) };
        if free <= enough || !is_incremental(connection)? {
            return Ok(false);
        }
        let pages = SLICE.min(free - SPARE);
        let mut slice = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = slice.query([])?;
        while rows.next()?.is_some() {}
        Ok(true)
    }

    fn session(&self) -> Result<Session<'_>, SqliteError> {
        let mut session = self.database.session()?;
        // A log that was cut short would damage the file. The thread that writes deals with it: it may be waiting for
        // this one.
        session.check().map_err(Lost::into_error)?;
        Ok(session)
    }
}

/// Returns whether the file can give back pages one by one, as a file that was created by a store can.
fn is_incremental(connection: &rusqlite::Connection) -> rusqlite::Result<bool> {
    connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0)).map(|mode| mode == 2)
}
