//! A registry of this process's connections, which can close all connections to one file.
//!
//! In SQLite, all connections of a process to one file share the index of the write-ahead log. If the log is deleted or
//! replaced, a new connection would write into the new log by the index of the lost one. All older connections must
//! therefore be closed first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::{Connection, config::DbConfig};

use super::files::{FileId, Files};

/// An open connection and its files.
pub(super) struct OpenConnection {
    pub(super) connection: Connection,
    pub(super) files: Files,
}

/// A registered place for one thread's connection. The thread holds the lock while it uses the connection.
#[derive(Default)]
pub(super) struct Slot {
    /// The file that the current connection, or else the last one, was opened to.
    file: Mutex<Option<FileId>>,
    open: Mutex<Option<OpenConnection>>,
}

static SLOTS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

/// The files whose connections are being closed.
static CLOSING: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

impl Slot {
    pub(super) fn new() -> Arc<Self> {
        let slot = Arc::new(Self::default());
        let mut slots = lock(&SLOTS);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Option<OpenConnection>> {
        lock(&self.open)
    }

    /// Announces the file that a connection will be opened to. Returns `false` if the connections to it are being
    /// closed.
    pub(super) fn enter(&self, file: FileId) -> bool {
        *lock(&self.file) = Some(file);
        !lock(&CLOSING).contains(&file)
    }
}

/// Whether SQLite runs a checkpoint when the last connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseMode {
    Checkpoint,
    /// For a truncated log: a checkpoint would damage the file.
    NoCheckpoint,
}

/// Closes all connections of this process to this file, each once its thread has finished its call. Prevents new
/// connections to the file meanwhile. The caller must not hold a slot's lock.
pub(super) fn close_all(file: FileId, closing: CloseMode) {
    lock(&CLOSING).push(file);
    let slots: Vec<_> = lock(&SLOTS).iter().filter_map(Weak::upgrade).collect();
    for slot in slots.iter().filter(|slot| *lock(&slot.file) == Some(file)) {
        let mut open = slot.open();
        if let Some(OpenConnection { connection, .. }) = open.take_if(|open| open.files.id() == file)
            && closing == CloseMode::NoCheckpoint
        {
            // If this fails, closing the connection may still run a checkpoint.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
    let mut closing = lock(&CLOSING);
    if let Some(done) = closing.iter().position(|closing| *closing == file) {
        closing.swap_remove(done);
    }
}

/// Locks a mutex, also after a panic: the values under these locks are valid at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
