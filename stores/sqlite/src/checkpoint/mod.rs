//! The checkpoint thread, which copies commits from the write-ahead log into the file, so that calls need not wait for
//! that.
//!
//! While the thread copies, the log grows at its end. SQLite restarts the log only when all of it is copied and no
//! connection reads it, which never happens under constant load. So when the log is long, the writer thread copies the
//! rest itself, which is little by then, and restarts the log.
//!
//! When the store is idle, the checkpoint thread truncates the log and releases free pages of the file to the file
//! system.

mod thread;

use std::{
    sync::{Arc, mpsc},
    thread::{Builder, JoinHandle},
};

use rusqlite::Connection;

use self::thread::{CheckpointThread, Task, Watch};
use super::{
    connection::Database,
    error::{SqliteError, SqliteErrorKind},
    wal::{CheckpointMode, Log},
};

/// The limits on the log, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The amount of uncopied data at which the thread starts a checkpoint. A page that changes often is then copied
    /// once for many writes.
    pub(super) worth: u64,
    /// The amount of uncopied data that the writer thread may copy itself, which takes some milliseconds.
    pub(super) little: u64,
    /// The length at which the log is restarted. At twice this length, calls wait for the checkpoint.
    pub(super) long: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { worth: 16 << 20, little: 4 << 20, long: 96 << 20 }
    }
}

/// The number of checkpoints of a long log after which the writer thread copies the rest, regardless of its size.
const COPIES: u32 = 3;

/// The writer thread's handle to the checkpoint thread.
pub(super) struct Checkpoints {
    limits: Limits,
    /// The length at which to restart the log. It exceeds `limits.long` if a long read has prevented a restart.
    restart_at: u64,
    /// The number of checkpoints since the log reached that length.
    copies: u32,
    /// Whether a checkpoint was started whose end was not received yet.
    is_copying: bool,
    watch: Arc<Watch>,
    tasks: Option<mpsc::Sender<Task>>,
    done: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread. The first task opens the file.
    pub(super) fn start(database: Database, limits: Limits) -> Result<Self, SqliteError> {
        let (tasks, receiver) = mpsc::channel();
        let (end, done) = mpsc::channel();
        let watch = Arc::<Watch>::default();
        let thread = CheckpointThread::new(database, Arc::clone(&watch));
        let thread = Builder::new()
            .name("klikit-sqlite-copy".into())
            .spawn(move || thread.run(&receiver, &end))
            .map_err(|error| SqliteError::because(SqliteErrorKind::Thread, error))?;
        let (tasks, thread) = (Some(tasks), Some(thread));
        Ok(Self { limits, restart_at: limits.long, copies: 0, is_copying: false, watch, tasks, done, thread })
    }

    /// Starts a checkpoint or restarts the log, depending on the log's length. `connection` is the writer's, between
    /// two transactions.
    pub(super) fn look_after(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.watch.begin() {
            self.send(Task::Watch);
        }
        let Limits { worth, little, long } = self.limits;
        let mut log = Log::read(connection)?;
        if log.bytes < long {
            (self.restart_at, self.copies) = (long, 0);
        }
        let is_too_long = log.bytes >= self.restart_at.saturating_add(long);
        if is_too_long {
            self.wait_for_copy();
            log = Log::read(connection)?;
            self.copies = COPIES;
        } else if self.is_copying() || self.watch.is_copying() {
            return Ok(());
        }
        let is_long = log.bytes >= self.restart_at;
        if is_long && (log.left <= little || self.copies == COPIES) {
            self.copies = 0;
            // If the restart fails or a long read prevents it, wait until the log is longer, so that not every commit
            // waits.
            self.restart_at = log.bytes.saturating_add(long);
            if !Log::checkpoint(connection, CheckpointMode::Restart)?.busy {
                self.restart_at = long;
            }
        } else if is_long || log.left >= worth {
            self.copies += u32::from(is_long);
            self.copy();
        }
        Ok(())
    }

    /// Returns whether the thread is running a checkpoint that this handle has started.
    fn is_copying(&mut self) -> bool {
        // If the thread has panicked, it is not copying. The writer thread then restarts the log once it is long.
        self.is_copying = self.is_copying && self.done.try_recv() == Err(mpsc::TryRecvError::Empty);
        self.is_copying
    }

    /// Waits for the end of a checkpoint that this handle has started.
    fn wait_for_copy(&mut self) {
        if self.is_copying {
            // Receiving fails if the thread has panicked.
            let _ = self.done.recv();
            self.is_copying = false;
        }
    }

    fn copy(&mut self) {
        self.is_copying = self.send(Task::Copy);
    }

    /// Returns `false` if the thread has ended.
    fn send(&self, task: Task) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok())
    }
}

impl Drop for Checkpoints {
    /// Waits for the end of the thread, which closes its connection.
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
