//! A store in a file, by [SQLite](https://sqlite.org), which comes with this crate.
//!
//! For one machine. Several processes on it may share the file. A file on a network mount may not be shared.
//!
//! # Durability
//!
//! - **Acknowledged deliveries are on stable storage.** The file is in WAL mode with `synchronous=FULL`. Both are set when the file is
//!   opened, and read back.
//! - **Calls share one wait for the disk.** One thread writes. The calls that come in while it waits for the disk, up to 256, are
//!   committed together.
//! - **Reads do not delay writes.** A second thread selects deliveries to lease, and counts, on a connection of its own.
//! - **A third thread copies commits into the file**, 16 MB at a time, from the write-ahead log, whose name ends in `-wal`. Under
//!   constant load the log is about 100 MB long. At 192 MB, calls wait until it is copied. The log grows longer only while something,
//!   such as a tool with an open transaction, reads in it for long. Later it is cut back to 128 MB.
//! - **Do not delete, replace or cut short an open file**, nor the two next to it whose names end in `-wal` and `-shm`. The store checks
//!   all three before each commit and before each acknowledgement. If one is lost, calls fail with [`SqliteErrorKind::File`]. After the
//!   loss of the log or its index, the store first copies what was committed into the file, and then opens all of them anew. If the file
//!   itself is lost, the next calls find an empty ledger in a new file.
//!
//! # Faults
//!
//! - **A locked file** is waited for half a second. After that the call fails, and klikit sends the delivery again.
//! - **While the disk is full or the file cannot be written**, calls fail. They succeed again once it can be, without a restart.
//! - **A row that cannot be read** concerns its own delivery alone. It may have lost its body, have a value
//!   of another type, or be on a damaged page. It is dead-lettered when it is due, or else reported in
//!   [`LeaseBatch::unreadable`](tower_klikit::inbox::LeaseBatch::unreadable). A copy of it is not a duplicate, but an error, until it is dead. Then the copy revives it. A ledger row that
//!   cannot be read is an error for the claims under its key. The [kind](SqliteErrorKind) of the error is `Unreadable` or `Damaged`.
//!   Next to a damaged page, SQLite may be unable to delete or insert rows: restore such a file from a backup, or with SQLite's
//!   `.recover`.
//!
//! # Time
//!
//! Leases, retries and retention are measured in milliseconds of a time that the store keeps by itself, so that steps of the system
//! clock do not matter:
//!
//! - The store's time is the system clock plus an offset that is stored in the file. The offset is zero until the system clock is stepped.
//! - Each transaction compares the system clock with a monotonic one. If they have parted by more than a second, the system clock was
//!   stepped, or the machine was suspended. The offset makes up for that, and one warning is logged. So nothing expires early, and
//!   nothing waits longer. Smaller steps are followed.
//! - The store's time never goes back, also not across restarts: it is stored at most a second after it was reached.
//! - The times that operators see, and the windows by which they forget, are those of the system clock.
//!
//! # Space
//!
//! - **Claims purge the ledger**, a few rows with each. The file does not shrink, but its space is used again. One million remembered
//!   deliveries take about 100 MB.
//! - **Deleted data can be read in the file and the log** until its space is used again. Bodies hold customers' data: protect the file
//!   as you would protect them. A new or empty file is private to its owner (mode 0600). A file with content keeps its permissions.
//!
//! # Examples
//!
//! ```no_run
//! use tower_klikit::store::sqlite::SqliteStore;
//!
//! let store = SqliteStore::open("/var/lib/orders/klikit.db")?;
//! # Ok::<(), tower_klikit::store::sqlite::SqliteError>(())
//! ```
//!
//! In a file that has tables of your own, under names that you choose:
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
mod error;
mod files;
mod inbox;
mod isolation;
mod ledger;
mod options;
mod reader;
mod schema;
mod slots;
mod telemetry;
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

/// A ledger and an inbox in a file. The [module's documentation](self) describes its guarantees.
///
/// Clones share three threads, each with a connection. When the last clone is dropped, the threads finish the calls that were made and
/// close the file.
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
