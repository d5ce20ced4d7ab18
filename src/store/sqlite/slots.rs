//! The connections of this process, so that all of them to one file can be closed.
//!
//! The connections of a process to one file share what SQLite keeps of the write-ahead log. While one of them is open that has a log
//! without a name, a new connection would write into another log by the index of the first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::{Connection, config::DbConfig};

use super::files::{FileId, Files};

/// A connection, and its files.
pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) files: Files,
}

/// Where a thread keeps its connection. It holds the lock while it works with it.
#[derive(Default)]
pub(super) struct Slot {
    /// Of the connection that is in here, or was last.
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

    /// Says which file a connection is going to be opened to. Returns `false` if connections to it are being closed.
    pub(super) fn enter(&self, file: FileId) -> bool {
        *lock(&self.file) = Some(file);
        !lock(&CLOSING).contains(&file)
    }
}

/// Whether the last connection that is closed copies the log into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    Copy,
    /// The log is not what was committed.
    Leave,
}

/// Closes all connections of this process to this file, when their threads have done what they are at. None is opened meanwhile. The
/// caller must hold no slot's lock.
pub(super) fn close_all(file: FileId, closing: Closing) {
    lock(&CLOSING).push(file);
    let slots: Vec<_> = lock(&SLOTS).iter().filter_map(Weak::upgrade).collect();
    for slot in slots.iter().filter(|slot| *lock(&slot.file) == Some(file)) {
        let mut open = slot.open();
        if let Some(Open { connection, .. }) = open.take_if(|open| open.files.id() == file)
            && closing == Closing::Leave
        {
            // If this fails, the log may be copied for all that.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
    let mut closing = lock(&CLOSING);
    if let Some(done) = closing.iter().position(|closing| *closing == file) {
        closing.swap_remove(done);
    }
}

/// No code that could panic runs under these locks but a thread's own.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
