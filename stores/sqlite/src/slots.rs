//! The connections of this process, so that all connections to one file can be closed.
//!
//! SQLite has the connections of a process to one file share the index of the log. If the log loses its name, a new
//! connection would write into a new log by the index of the lost one, until all older connections are closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::{Connection, config::DbConfig};

use super::files::{FileId, Files};

/// A connection, and its files.
pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) files: Files,
}

/// The place where a thread keeps its connection. The thread holds the lock while it works with the connection.
#[derive(Default)]
pub(super) struct Slot {
    /// The file of the connection, or of the last one.
    file: Mutex<Option<FileId>>,
    open: Mutex<Option<Open>>,
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

    pub(super) fn open(&self) -> MutexGuard<'_, Option<Open>> {
        lock(&self.open)
    }

    /// Announces the file that a connection will be opened to. Returns `false` if the connections to it are being
    /// closed.
    pub(super) fn enter(&self, file: FileId) -> bool {
        *lock(&self.file) = Some(file);
        !lock(&CLOSING).contains(&file)
    }
}

/// Whether SQLite copies the log into the file when the last connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    Copy,
    /// The log has lost a part.
    Leave,
}

/// Closes all connections of this process to this file, each after its thread has finished a call. None is opened
/// meanwhile. The caller must not hold a slot's lock.
pub(super) fn close_all(file: FileId, closing: Closing) {
    lock(&CLOSING).push(file);
    let slots: Vec<_> = lock(&SLOTS).iter().filter_map(Weak::upgrade).collect();
    for slot in slots.iter().filter(|slot| *lock(&slot.file) == Some(file)) {
        let mut open = slot.open();
        if let Some(Open { connection, .. }) = open.take_if(|open| open.files.id() == file)
            && closing == Closing::Leave
        {
            // If this fails, the log may be copied nevertheless.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
    let mut closing = lock(&CLOSING);
    if let Some(done) = closing.iter().position(|closing| *closing == file) {
        closing.swap_remove(done);
    }
}

/// Only a thread's own code could panic under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
