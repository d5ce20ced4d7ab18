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
//! The crate bundles SQLite. Several processes on one machine may share the file. Do not share a file on a network
//! mount.
//!
//! # Opening
//!
//! - [`SqliteStore::open`] opens an existing file. If the path is mistyped, it returns an error instead of creating an
//!   empty store.
//! - [`SqliteStore::builder`] sets options. [`create`](SqliteStoreBuilder::create) creates the file if it is missing,
//!   and [`ledger_only`](SqliteStoreBuilder::ledger_only) is for stores that only deduplicate.
//!
//! # Schema
//!
//! - **The file may contain your own tables.** The names of the store's tables begin with `klikit_`, unless the builder
//!   sets another [prefix](SqliteStoreBuilder::table_prefix).
//! - **Opening migrates the tables** to the schema version of this release, in one transaction. If a migration fails,
//!   the tables stay unchanged. If several processes open the file at once, one migrates it. The others wait for up to
//!   5 seconds, and then opening fails with [`SqliteErrorKind::Busy`].
//! - **A file that a later release has migrated is rejected.** Stop all processes of an older release before you
//!   upgrade.
//! - **A file with a missing table is rejected** with an error that names the table.
//! - [`migrations`](SqliteStoreBuilder::migrations) returns the migrations as SQL, for your own migration tool.
//!   [`pending_migrations`](SqliteStoreBuilder::pending_migrations) returns those that a file lacks.
//! - [`queries`] documents the SQL for operators, and the tables and the view that they may read and write.
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
//! - **Do not delete, replace or truncate an open file**, or the two files next to it whose names end in `-wal` and
//!   `-shm`. The store checks all three before each commit and before each acknowledgement. If one is lost, calls fail
//!   with [`SqliteErrorKind::File`]. If the log or its index is lost, the store copies all commits into the database
//!   file and reopens it. If the database file itself is lost, calls fail until it is restored. With the option
//!   [`create`](SqliteStoreBuilder::create), the store creates a new, empty file instead.
//!
//! # Tenants
//!
//! - **A call that leases looks at each tenant that has pending deliveries**, with a few searches in an index. Of the
//!   deliveries, it reads about as many as it leases, and those that are blocked before them.
//! - **A pause of a tenant costs nothing.** A pause of an event type makes the calls that lease slower: each reads the
//!   paused deliveries that are due before those that it leases.
//!
//! # Searches
//!
//! - **A page of a search reads about 1,000 deliveries** at most. To find an event id, an order or a branch, it first
//!   examines up to 65,000 entries of an index. A search for an order among a million deliveries takes 16 pages.
//! - **Deliveries that a release before schema version 2 of the inbox has accepted** are found by their event id, but
//!   not by their orders and branch.
//!
//! # Faults
//!
//! - **Locked file**: a call waits for half a second and then fails. klikit sends the delivery again.
//! - **Full disk or read-only file**: calls fail until the file can be written again. No restart is needed.
//! - **Unreadable row**: its body is missing, a value has the wrong type, or the row is on a damaged page. Only its own
//!   delivery is affected. The delivery is dead-lettered when it is due. If that is impossible,
//!   [`LeaseBatch::unreadable`](tower_klikit::inbox::LeaseBatch::unreadable) reports it. Accepting a copy of the
//!   delivery fails until the delivery is dead, and then revives it. An unreadable ledger row fails the claims under
//!   its key. The kind of the error is [`SqliteErrorKind::Unreadable`] or [`SqliteErrorKind::Damaged`].
//! - **Damaged records of attempts**: the deliveries are handled, but some attempts have no record.
//! - **Damaged page**: SQLite may be unable to delete or insert rows near the page. Restore the file from a backup, or
//!   with SQLite's `.recover`.
//!
//! # Time
//!
//! Leases, retries and retention are measured in milliseconds of the store's own time, so that steps of the system
//! clock do not affect them:
//!
//! - The store's time is the system clock plus an offset that is stored in the file. The offset is zero until the
//!   system clock is stepped.
//! - Each transaction compares the system clock with a monotonic clock. If they have diverged by more than a second,
//!   the system clock was stepped, or the machine was suspended. The store changes the offset to compensate and logs
//!   one warning. Nothing expires early or late. The store's time follows smaller steps.
//! - The store's time never goes back, even across restarts. The file records the latest time at most a second late.
//! - Operators see times of the system clock, and the windows for `forget` use the system clock too.
//!
//! # Space
//!
//! - **Claims purge the ledger**, a few rows with each. One million remembered deliveries take about 100 MB.
//! - **The file shrinks.** Space that deliveries have left is used again. Once no process has committed for some
//!   seconds, what is free is returned to the disk, except for 4 MB. Under load, about a megabyte a second is
//!   returned while more than a quarter of the file is free. A commit waits for 256 KB at most. Only a file that a store has
//!   created can shrink. For any other, run `PRAGMA auto_vacuum = INCREMENTAL; VACUUM;` once while it is closed.
//! - **Deleted data can be read in the file and the log** until its space is used again. Bodies hold customers' data:
//!   protect the file as you would protect them. A new or empty file is private to its owner (mode 0600). A file with
//!   content keeps its permissions.
//!
//! # Compatibility with sqlx
//!
//! Only one crate in a program may link SQLite, so this crate accepts a range of `rusqlite` versions:
//!
//! | in the same program | works |
//! |---|---|
//! | sqlx 0.9, with any of its features | yes: with `sqlite`, `migrate` or `json`, cargo chooses `rusqlite` 0.39 |
//! | sqlx 0.8 without `sqlite`, `macros`, `migrate` and `json` | yes |
//! | sqlx 0.8 with one of these features, even if it is used for Postgres only | no: both link SQLite |
//!
//! `tower-klikit-postgres` does not link SQLite, and works with all of them.

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
