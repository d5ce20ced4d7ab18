//! What was committed is copied from the write-ahead log into the file by a thread of its own, so that those who wait for a
//! commit do not wait for that as well.
//!
//! While it copies, the log grows at its end. It begins anew once all of it is copied and nobody reads in it, which under constant
//! load never comes about by itself. So when it is long, the thread that writes copies what is left, which is little then, and
//! has it begin anew.

use std::{sync::mpsc, thread};

use rusqlite::Connection;

use super::{
    connection::Database,
    error::{SqliteError, SqliteErrorKind},
};

/// When to do what, in bytes of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// So much is worth being copied. A page that changes often is then copied once for many times that it was written.
    pub(super) worth: u64,
    /// So much may be left for the thread that writes: some milliseconds' work.
    pub(super) little: u64,
    /// A log of this length is to begin anew. When it is twice as long, those who write wait until it is copied.
    pub(super) long: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { worth: 16 << 20, little: 4 << 20, long: 96 << 20 }
    }
}

/// How often a long log is copied in the hope that little is left.
const COPIES: u32 = 3;

/// The thread that copies, as the one that writes sees it.
pub(super) struct Checkpoints {
    limits: Limits,
    /// At which length the log is to begin anew. Longer than `limits.long` when somebody who reads kept it from that.
    restart_at: u64,
    /// How often it was copied since it was as long.
    copies: u32,
    is_copying: bool,
    begin: Option<mpsc::Sender<()>>,
    done: mpsc::Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Checkpoints {
    /// The file is opened when there first is something to copy.
    pub(super) fn start(database: Database, limits: Limits) -> Result<Self, SqliteError> {
        let (begin, beginning) = mpsc::channel();
        let (end, done) = mpsc::channel();
        let run = move || {
            for () in beginning {
                // What could not be copied is copied later. If it never can be, the disk fills up, and calls fail.
                if copy(&database).is_err() {
                    database.close();
                }
                // Whoever is to be told may be waiting for this thread to end.
                let _ = end.send(());
            }
        };
        let thread = thread::Builder::new()
            .name("klikit-sqlite-copy".into())
            .spawn(run)
            .map_err(|error| SqliteError::because(SqliteErrorKind::Stopped, error))?;
        let (begin, thread) = (Some(begin), Some(thread));
        Ok(Self { limits, restart_at: limits.long, copies: 0, is_copying: false, begin, done, thread })
    }

    /// To be called between the transactions of the connection that writes.
    pub(super) fn look_after(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Limits { worth, little, long } = self.limits;
        let mut log = Log::after(connection, "NOOP")?;
        if log.bytes < long {
            (self.restart_at, self.copies) = (long, 0);
        }
        let is_too_long = log.bytes >= self.restart_at.saturating_add(long);
        if self.is_copying(is_too_long) {
            return Ok(());
        }
        if is_too_long {
            log = Log::after(connection, "NOOP")?;
            self.copies = COPIES;
        }
        let is_long = log.bytes >= self.restart_at;
        if is_long && (log.left <= little || self.copies == COPIES) {
            self.copies = 0;
            // If this fails, or somebody reads for long, it is not to be waited for after each commit.
            self.restart_at = log.bytes.saturating_add(long);
            if !Log::after(connection, "RESTART")?.busy {
                self.restart_at = long;
            }
        } else if is_long || log.left >= worth {
            self.copies += u32::from(is_long);
            self.copy();
        }
        Ok(())
    }

    /// Whether the thread copies, having waited for its end if so desired.
    fn is_copying(&mut self, wait: bool) -> bool {
        if self.is_copying {
            // A thread that is gone copies nothing: then a log begins anew once it is long.
            let goes_on = !wait && self.done.try_recv() == Err(mpsc::TryRecvError::Empty);
            if wait {
                let _ = self.done.recv();
            }
            self.is_copying = goes_on;
        }
        self.is_copying
    }

    fn copy(&mut self) {
        self.is_copying = self.begin.as_ref().is_some_and(|begin| begin.send(()).is_ok());
    }
}

impl Drop for Checkpoints {
    /// Waits for the thread, and so until its connection is closed.
    fn drop(&mut self) {
        self.begin = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn copy(database: &Database) -> Result<(), SqliteError> {
    // A log that was cut short would damage the file.
    database.check()?;
    Log::after(database.session()?.connection(), "PASSIVE")?;
    Ok(())
}

/// The state of the log.
pub(super) struct Log {
    /// Whether somebody was in the way.
    busy: bool,
    frames: u64,
    page: u64,
    bytes: u64,
    /// How much of it is not copied.
    left: u64,
}

impl Log {
    /// Runs a checkpoint of this mode. `NOOP` only looks; `RESTART` waits for those who read, and has the next transaction
    /// begin the log anew.
    pub(super) fn after(connection: &Connection, mode: &str) -> rusqlite::Result<Self> {
        let page: u32 = connection.prepare_cached("PRAGMA page_size")?.query_row([], |row| row.get(0))?;
        connection.prepare_cached(&format!("PRAGMA wal_checkpoint = {mode}"))?.query_row([], |row| {
            let (frames, copied) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            let bytes = |frames: i64| u64::try_from(frames).unwrap_or_default() * u64::from(page);
            let (bytes, left) = (bytes(frames), bytes(frames - copied));
            let frames = u64::try_from(frames).unwrap_or_default();
            Ok(Self { busy: row.get(0)?, frames, page: page.into(), bytes, left })
        })
    }

    /// How long the log's file is at least.
    pub(super) fn length(&self) -> u64 {
        const HEADER: u64 = 32;
        const FRAME_HEADER: u64 = 24;
        if self.frames == 0 { 0 } else { HEADER + self.frames * (FRAME_HEADER + self.page) }
    }
}

#[cfg(test)]
mod tests;
