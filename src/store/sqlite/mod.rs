//! Deliveries remembered, and kept until they are handled, in a file, by [SQLite](https://sqlite.org), which comes with this crate.
//!
//! For one machine. Several processes on it may share the file; a file on a network mount may not be shared.
//!
//! - **An answer means that the disk has it.** The file is in WAL mode with `synchronous=FULL`. Both are set when the file is
//!   opened, and read back.
//! - **Waiting is shared.** One thread writes. What comes in while it waits for the disk is committed together, 256 calls at
//!   most, so that many deliveries at once cost one wait.
//! - **Looking holds up nobody.** What may be leased, and how much there is, is read by a second thread on a connection of its
//!   own, which is opened when an inbox first asks.
//! - **Nobody who writes waits for the file to be put in order.** What was committed lies in the file whose name ends in `-wal`,
//!   and a third thread copies it from there, 16 MB at a time. Under constant load that file is about 100 MB long. At 192 MB, those
//!   who write wait until it is copied. It is longer only while somebody, such as a tool with an open transaction, reads in it for
//!   long; then it is cut back to 128 MB.
//! - **The lock is waited for half a second**, if another process is writing. After that the call fails, and klikit sends the
//!   delivery again. So do the calls fail while the disk is full, or the file cannot be written; they succeed again once it
//!   can, without a restart.
//! - **The clock is this machine's**, in milliseconds. If it is set back, entries and leases last longer by as much, and what waits
//!   in the inbox waits longer by as much. If it jumps ahead, what waits comes early; and if by more than a lease, what is being
//!   handled may be leased again, and handled twice, and entries whose time is up by that clock are forgotten.
//! - **What is over is purged as claims come**, a few rows with each. The file does not shrink, the room is used again. One
//!   million deliveries that are remembered take about 100 MB.
//! - **What was deleted can be read in the file**, and in the one whose name ends in `-wal`, until the room is used again. Bodies
//!   hold customers' data: keep the file as you would keep them. A new one, or one that was empty, is for its owner alone (mode
//!   0600). One with content keeps the permissions that it has.
//! - **Do not delete the file while it is open**, nor the two files beside it whose names end in `-wal` and `-shm`. If it is
//!   deleted or replaced, the calls that notice fail, and those after them find an empty ledger in a new file.
//!
//! ```no_run
//! use tower_klikit::store::sqlite::SqliteStore;
//!
//! let store = SqliteStore::open("/var/lib/orders/klikit.db")?;
//! # Ok::<(), tower_klikit::store::sqlite::SqliteError>(())
//! ```
//!
//! Beside tables of your own, in a file of your own, under names that you choose:
//!
//! ```no_run
//! use tower_klikit::store::sqlite::SqliteOptions;
//!
//! let store = SqliteOptions::new().table_prefix("webhooks_").open("/var/lib/orders/orders.db")?;
//! # Ok::<(), tower_klikit::store::sqlite::SqliteError>(())
//! ```

mod checkpoint;
mod clock;
mod connection;
mod entries;
mod error;
mod files;
mod inbox;
mod isolation;
mod ledger;
mod options;
mod reader;
mod schema;
mod slots;
mod timestamp;
mod transaction;
mod values;
mod writer;

use std::{fmt, path::Path};

pub use self::{
    error::{SqliteError, SqliteErrorKind},
    options::SqliteOptions,
};
use self::{reader::Reader, writer::Writer};

/// A ledger, and an inbox, in a file.
///
/// Clones share three threads, each with a connection. When the last clone is dropped, the threads finish what was asked of them
/// and close the file. See the [module](self) for what to expect of it.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
    reader: Reader,
}

impl SqliteStore {
    /// Opens the file at `path`, with the default [options](SqliteOptions).
    ///
    /// # Errors
    ///
    /// See [`SqliteOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SqliteError> {
        SqliteOptions::new().open(path)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}
