//! Deliveries remembered in a file, by [SQLite](https://sqlite.org), which comes with this crate.
//!
//! For one machine. Several processes on it may share the file; a file on a network mount may not be shared.
//!
//! - **An answer means that the disk has it.** The file is in WAL mode with `synchronous=FULL`. Both are set when the file is
//!   opened, and read back.
//! - **Waiting is shared.** One thread writes. What comes in while it waits for the disk is committed together, 256 calls at
//!   most, so that many deliveries at once cost one wait.
//! - **The lock is waited for half a second**, if another process is writing. After that the call fails, and klikit sends the
//!   delivery again. So do the calls fail while the disk is full, or the file cannot be written; they succeed again once it
//!   can, without a restart.
//! - **The clock is this machine's**, in milliseconds. If it is set back, entries last longer by as much.
//! - **What is over is purged as claims come**, a few rows with each. The file does not shrink, the room is used again. One
//!   million deliveries that are remembered take about 100 MB.
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

mod connection;
mod entries;
mod error;
mod writer;

use std::{
    fmt,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use self::error::{SqliteError, SqliteErrorKind};
use self::{
    connection::Database,
    entries::{Entries, Slice, Sql, milliseconds},
    writer::{Call, Clock, Writer},
};
use crate::dedupe::{Claim, ClaimOutcome, EventKey, Ledger, StoreError};

/// How many rows are looked at in one transaction, by what looks at all of them.
const SLICE: u32 = 1024;

/// A ledger in a file.
///
/// Clones share one thread and one connection. When the last clone is dropped, the thread finishes what was asked of it and
/// closes the file. See the [module](self) for what to expect of it.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
}

/// How to open a [`SqliteStore`].
#[derive(Clone)]
pub struct SqliteOptions {
    table_prefix: String,
    clock: Clock,
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

    /// Goes through the table by slices, each in a transaction of its own, so that others are served in between. `each` gets
    /// what was found in those before it. Stops when `limit` were found.
    async fn walk<F>(&self, limit: u64, each: F) -> Result<u64, SqliteError>
    where
        F: Fn(&Entries<'_>, &Slice, u64) -> rusqlite::Result<u64> + Clone + Send + 'static,
    {
        let mut total = 0;
        let mut next = Some(Vec::new());
        while let Some(after) = next.take_if(|_| total < limit) {
            let each = each.clone();
            let run = move |entries: &Entries<'_>| {
                let slice = entries.slice(&after, SLICE)?;
                Ok((each(entries, &slice, total)?, slice.next()))
            };
            let (found, rest) = self.writer.call(Call::Other, run).await?;
            total += found;
            next = rest;
        }
        Ok(total)
    }
}

impl SqliteOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { table_prefix: "klikit_".into(), clock: Arc::new(SystemTime::now) }
    }

    /// What the names of the tables begin with: 1 to 32 letters, digits and underscores of ASCII, not beginning with a digit
    /// nor with `sqlite_`. `klikit_` by default. Stores with other prefixes know nothing of each other.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Takes the time from elsewhere, so that a test need not wait. The system's clock by default.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the file at `path`, and starts the store's thread. A file that is not there is created, for its owner alone
    /// (mode 0600), and so are the tables.
    ///
    /// This waits for the disk, and for half a second at most for each lock that another process has: call it before serving.
    ///
    /// # Errors
    ///
    /// When the table prefix is none, SQLite is too old, the file cannot be created or written, the settings are not taken,
    /// the tables are of a newer version, or another process has the file locked: [`SqliteError::kind`] tells which.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteError> {
        let sql = Sql::new(&self.table_prefix)?;
        let database = Database::open(path.as_ref(), sql)?;
        let (writer, _) = Writer::start(database, Arc::clone(&self.clock))?;
        Ok(SqliteStore { writer })
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions").field("table_prefix", &self.table_prefix).finish_non_exhaustive()
    }
}

/// A caller that goes away while its claim waits in the queue leaves it undone; everything else is done all the same.
///
/// `forget_claimed` and `purge` look at the whole table, 1024 rows at a time, and others are served in between. If they fail,
/// what was gone through stays done.
impl Ledger for SqliteStore {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        let claim = claim.clone();
        let run = move |entries: &Entries<'_>| entries.claim(&claim, lease);
        self.writer.call(Call::Claim, run).await.map_err(StoreError::new)
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let claim = claim.clone();
        let run = move |entries: &Entries<'_>| entries.complete(&claim, retention);
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let claim = claim.clone();
        let run = move |entries: &Entries<'_>| entries.release(&claim);
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        let claim = claim.clone();
        let run = move |entries: &Entries<'_>| entries.renew(&claim, lease);
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        let event = *event;
        let run = move |entries: &Entries<'_>| entries.forget(&event);
        self.writer.call(Call::Other, run).await.map_err(StoreError::new)
    }

    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        if window.is_empty() {
            return Ok(0);
        }
        let from = milliseconds(window.start);
        // Up: what was claimed within the window's last millisecond is forgotten with it.
        let before = window.end.checked_add(Duration::from_nanos(999_999)).map_or(i64::MAX, milliseconds);
        let each = move |entries: &Entries<'_>, slice: &Slice, _| entries.forget_claimed(slice, from, before);
        self.walk(u64::MAX, each).await.map_err(StoreError::new)
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        let each = move |entries: &Entries<'_>, slice: &Slice, gone: u64| {
            let rest = u64::from(limit).saturating_sub(gone);
            entries.purge(slice, u32::try_from(rest).unwrap_or(limit))
        };
        self.walk(limit.into(), each).await.map_err(StoreError::new)
    }
}
