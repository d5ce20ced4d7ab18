//! The thread that copies commits from the write-ahead log into the file, so that calls need not wait for it.
//!
//! While the thread copies, the log grows at its end. SQLite restarts the log once all of it is copied and nobody reads
//! in it, which never happens by itself under constant load. So when the log is long, the thread that writes copies the
//! rest, which is little by then, and restarts the log.
//!
//! Once nothing is written any more, the thread cuts the log back, and gives free pages of the file back to the disk.

mod thread;

use std::{
    sync::{Arc, mpsc},
    thread::{Builder, JoinHandle},
};

use rusqlite::Connection;

use self::thread::{Task, Thread, Watch};
use super::{
    connection::Database,
    error::{SqliteError, SqliteErrorKind},
    wal::Log,
};

/// The limits on the log, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The thread begins when so much is not copied. A page that changes often is then copied once for many times that
    /// it was written.
    pub(super) worth: u64,
    /// The thread that writes may copy so much itself: some milliseconds' work.
    pub(super) little: u64,
    /// The log is restarted at this length. At twice this length, calls wait until it is copied.
    pub(super) long: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { worth: 16 << 20, little: 4 << 20, long: 96 << 20 }
    }
}

/// How often the thread copies a long log before the thread that writes copies the rest, however much that is.
const COPIES: u32 = 3;

/// The thread that copies, as the thread that writes sees it.
pub(super) struct Checkpoints {
    limits: Limits,
    /// The length at which to restart the log. More than `limits.long` after a long read has prevented that.
    restart_at: u64,
    /// How often the log was copied since it reached that length.
    copies: u32,
    is_copying: bool,
    watch: Arc<Watch>,
    tasks: Option<mpsc::Sender<Task>>,
    done: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread. It opens the file when there is something to copy for the first time.
    pub(super) fn start(database: Database, limits: Limits) -> Result<Self, SqliteError> {
        let (tasks, receiver) = mpsc::channel();
        let (end, done) = mpsc::channel();
        let watch = Arc::<Watch>::default();
        let thread = Thread::new(database, Arc::clone(&watch));
        let thread = Builder::new()
            .name("klikit-sqlite-copy".into())
            .spawn(move || thread.run(&receiver, &end))
            .map_err(|error| SqliteError::because(SqliteErrorKind::Stopped, error))?;
        let (tasks, thread) = (Some(tasks), Some(thread));
        Ok(Self { limits, restart_at: limits.long, copies: 0, is_copying: false, watch, tasks, done, thread })
    }

    /// Has the log copied and restarted as its length demands. The connection is the one that writes, between two
    /// transactions.
    pub(super) fn look_after(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.watch.begin() {
            self.tell(Task::Watch);
        }
        let Limits { worth, little, long } = self.limits;
        let mut log = Log::after(connection, "NOOP")?;
        if log.bytes < long {
            (self.restart_at, self.copies) = (long, 0);
        }
        let is_too_long = log.bytes >= self.restart_at.saturating_add(long);
        if self.is_copying(is_too_long) || (self.watch.is_copying() && !is_too_long) {
            return Ok(());
        }
        if is_too_long {
            log = Log::after(connection, "NOOP")?;
            self.copies = COPIES;
        }
        let is_long = log.bytes >= self.restart_at;
        if is_long && (log.left <= little || self.copies == COPIES) {
            self.copies = 0;
            // If this fails, or a read takes long, not every commit should wait for it.
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

    /// Returns whether the thread is copying. If `wait` is set, waits until it is not.
    fn is_copying(&mut self, wait: bool) -> bool {
        if self.is_copying {
            // A thread that has panicked copies nothing. The log is then restarted once it is long.
            let goes_on = !wait && self.done.try_recv() == Err(mpsc::TryRecvError::Empty);
            if wait {
                let _ = self.done.recv();
            }
            self.is_copying = goes_on;
        }
        self.is_copying
    }

    fn copy(&mut self) {
        self.is_copying = self.tell(Task::Copy);
    }

    /// Returns `false` if the thread has ended.
    fn tell(&self, task: Task) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok())
    }
}

impl Drop for Checkpoints {
    /// Waits for the thread, so that its connection is closed.
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
