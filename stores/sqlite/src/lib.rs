//! A [SQLite](https://sqlite.org) store for [`tower_klikit`]: a ledger and an inbox in one file.
//!
//! ```
//! use tower_klikit::inbox::Inbox;
//! use tower_klikit_sqlite::SqliteStore;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("klikit.db");
//! let store = SqliteStore::builder().create().open(path)?;
//! let inbox = Inbox::new(store);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! SQLite comes with this crate. The store is for one machine: several processes on it may share the file, but a file
//! on a network mount may not be shared.
//!
//! # Opening
//!
//! - [`SqliteStore::open`] opens a file that exists. A mistyped path is an error, and not a new, empty store.
//! - [`SqliteStore::builder`] has the options. [`create`](SqliteStoreBuilder::create) creates the file if it is
//!   missing, and [`ledger_only`](SqliteStoreBuilder::ledger_only) is for stores that only deduplicate.
//!
//! # Schema
//!
//! - **The file may have tables of your own.** Those of the store begin with `klikit_`, unless the builder sets another
//!   [prefix](SqliteStoreBuilder::table_prefix).
//! - **Opening migrates the tables** to the version that this release uses, in one transaction. If several processes
//!   open the file at once, one of them migrates it, and the others wait for up to 5 seconds, after which opening
//!   fails with [`SqliteErrorKind::Busy`]. If a step fails, the tables stay as they were.
//! - **A file that a later release has migrated is rejected**: stop all processes of an older release before.
//! - **A file without one of the tables is rejected** as well, with an error that names the table.
//! - [`migrations`](SqliteStoreBuilder::migrations) prints the steps, for migration tools of your own.
//! - [`queries`] has the SQL that operators need, for tables and a view that they may read and write.
//!
//! # Durability
//!
//! - **Acknowledged deliveries are on stable storage.** The file is in WAL mode with `synchronous=FULL`. Both are set
//!   when the file is opened, and read back.
//! - **Calls share one wait for the disk.** One thread writes. The calls that come in while it waits for the disk, up
//!   to 256, are committed together.
//! - **Reads do not delay writes.** A second thread selects deliveries to lease, and counts, on a connection of its
//!   own.
//! - **A third thread copies commits into the file**, 16 MB at a time, from the write-ahead log, whose name ends in
//!   `-wal`. Under constant load the log is about 100 MB long. At 192 MB, calls wait until it is copied. The log grows
//!   longer only while something, such as a tool with an open transaction, reads in it for long. Later it is cut back
//!   to 128 MB. Once nothing was written for some seconds, it is emptied if it is longer than 4 MB.
//! - **A store that is closed leaves one file**, with everything in it. [`close`](SqliteStore::close) closes it, and so
//!   does dropping the last clone, which blocks its thread for up to 5 seconds. A process that is killed leaves
//!   the log as well, and the next one that opens the file reads it: never copy the file without the log.
//! - **[`backup`](SqliteStore::backup) copies the file while the store is open.**
//! - **Do not delete, replace or cut short an open file**, nor the two next to it whose names end in `-wal` and `-shm`.
//!   The store checks all three before each commit and before each acknowledgement. If one is lost, calls fail with
//!   [`SqliteErrorKind::File`]. After the loss of the log or its index, the store first copies what was committed into
//!   the file, and then opens all of them anew. If the file itself is lost, calls fail until it is back. A store that
//!   was told to [`create`](SqliteStoreBuilder::create) it goes on with a new, empty one instead.
//!
//! # Faults
//!
//! - **A locked file** is waited for half a second. After that the call fails, and klikit sends the delivery again.
//! - **While the disk is full or the file cannot be written**, calls fail. They succeed again once it can be, without a
//!   restart.
//! - **A row that cannot be read** concerns its own delivery alone. It may have lost its body, have a value of another
//!   type, or be on a damaged page. It is dead-lettered when it is due, or else reported in
//!   [`LeaseBatch::unreadable`](tower_klikit::inbox::LeaseBatch::unreadable). A copy of it is not a duplicate, but an
//!   error, until it is dead. Then the copy revives it. A ledger row that cannot be read is an error for the claims
//!   under its key. The [kind](SqliteErrorKind) of the error is `Unreadable` or `Damaged`. Next to a damaged page,
//!   SQLite may be unable to delete or insert rows: restore such a file from a backup, or with SQLite's `.recover`.
//!
//! # Time
//!
//! Leases, retries and retention are measured in milliseconds of a time that the store keeps by itself, so that steps
//! of the system clock do not matter:
//!
//! - The store's time is the system clock plus an offset that is stored in the file. The offset is zero until the
//!   system clock is stepped.
//! - Each transaction compares the system clock with a monotonic one. If they have parted by more than a second, the
//!   system clock was stepped, or the machine was suspended. The offset makes up for that, and one warning is logged.
//!   So nothing expires early, and nothing waits longer. Smaller steps are followed.
//! - The store's time never goes back, also not across restarts: it is stored at most a second after it was reached.
//! - The times that operators see, and the windows by which they forget, are those of the system clock.
//!
//! # Space
//!
//! - **Claims purge the ledger**, a few rows with each. One million remembered deliveries take about 100 MB.
//! - **The file shrinks.** Space that deliveries have left is used again. Once no process has committed for some
//!   seconds, what is free is given back to the disk, except for 4 MB. Under load, about a megabyte a second is given
//!   back while more than a quarter of the file is free. A commit waits for 256 KB at most. Only a file that a store has
//!   created can shrink. For any other, run `PRAGMA auto_vacuum = INCREMENTAL; VACUUM;` once while it is closed.
//! - **Deleted data can be read in the file and the log** until its space is used again. Bodies hold customers' data:
//!   protect the file as you would protect them. A new or empty file is private to its owner (mode 0600). A file with
//!   content keeps its permissions.
//!
//! # Next to sqlx
//!
//! Only one crate in a program may link SQLite, so this crate takes a range of versions of `rusqlite`:
//!
//! | in the same program | works |
//! |---|---|
//! | sqlx 0.9, with any of its features | yes: with `sqlite`, `migrate` or `json`, cargo chooses `rusqlite` 0.39 |
//! | sqlx 0.8 without `sqlite`, `macros`, `migrate` and `json` | yes |
//! | sqlx 0.8 with one of them, also if it is used for Postgres only | no: both link SQLite |
//!
//! `tower-klikit-postgres` does not link SQLite, and stands next to each of them.

mod backup;
mod builder;
mod checkpoint;
mod clock;
mod connection;
mod error;
mod fault;
mod files;
mod inbox;
mod isolation;
mod ledger;
pub mod queries;
mod reader;
mod schema;
mod slots;
mod statements;
mod store;
mod telemetry;
mod timestamp;
mod transaction;
mod values;
mod wal;
mod writer;

pub use self::{
    builder::SqliteStoreBuilder,
    error::{SqliteError, SqliteErrorKind},
    schema::Migration,
    store::SqliteStore,
};
