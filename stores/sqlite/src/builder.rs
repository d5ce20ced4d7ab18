//! The options for opening a store.

#[cfg(feature = "testing")]
use std::time::{Duration, SystemTime};
use std::{fmt, path::Path, sync::Arc};

use super::{
    clock::Clock,
    connection::{Database, Missing},
    error::SqliteError,
    reader::Reader,
    schema::{Migration, Schema},
    store::{Parts, SqliteStore},
    writer::Writer,
};

/// Options for opening a [`SqliteStore`]. [`SqliteStore::builder`] returns the defaults.
#[derive(Clone)]
pub struct SqliteStoreBuilder {
    table_prefix: String,
    missing: Missing,
    parts: Parts,
    clock: Arc<dyn Fn() -> Clock + Send + Sync>,
    /// The part and the SQL of each [appended migration](Self::append_migration).
    #[cfg(test)]
    appended: Vec<(&'static str, String)>,
}

impl SqliteStore {
    /// The default [prefix](SqliteStoreBuilder::table_prefix) of the tables' names.
    pub const DEFAULT_TABLE_PREFIX: &'static str = "klikit_";

    /// Opens the file at `path`, which must exist, with the default [options](Self::builder).
    ///
    /// # Errors
    ///
    /// Returns an error if the file does not exist: call [`create`](SqliteStoreBuilder::create) on the builder to
    /// create it. For other errors, see [`SqliteStoreBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SqliteError> {
        Self::builder().open(path)
    }

    /// Returns the default options for opening a store.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder {
            table_prefix: Self::DEFAULT_TABLE_PREFIX.into(),
            missing: Missing::Fail,
            parts: Parts::All,
            clock: Arc::new(Clock::system),
            #[cfg(test)]
            appended: Vec::new(),
        }
    }
}

impl SqliteStoreBuilder {
    /// Creates the file if it does not exist when the store is opened, or if it is deleted while the store is open.
    ///
    /// Without this option, a mistyped path is an error instead of a new, empty store. If the file is deleted while the
    /// store is open, calls fail until the file is restored.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.missing = Missing::Create;
        self
    }

    /// Sets the prefix of the tables' names. The default is [`klikit_`](SqliteStore::DEFAULT_TABLE_PREFIX).
    ///
    /// A prefix has 1 to 32 ASCII letters, digits and underscores, and begins neither with a digit nor with `sqlite_`.
    /// Stores with different prefixes share nothing but the file.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Omits the inbox, for a store that only deduplicates. No inbox tables are created, and every call of
    /// [`InboxStore`](tower_klikit::inbox::InboxStore) and [`InboxAdmin`](tower_klikit::inbox::InboxAdmin) returns an
    /// [error](crate::SqliteErrorKind::LedgerOnly). Opening the file later without this option creates the tables.
    #[must_use]
    pub fn ledger_only(mut self) -> Self {
        self.parts = Parts::LedgerOnly;
        self
    }

    /// Replaces the clock, so that a test does not have to wait. Time passes when this clock moves forward. If it moves
    /// back, the store treats that as a step of the system clock.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        let clock = Arc::new(clock);
        self.clock = Arc::new(move || {
            let clock = Arc::clone(&clock);
            Clock::passing(move || clock())
        });
        self
    }

    /// Replaces the system clock and the monotonic clock, so that a test can step the system clock. If the two diverge,
    /// the store treats that as a step of the system clock.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clocks(
        mut self,
        system: impl Fn() -> SystemTime + Send + Sync + 'static,
        monotonic: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        let (system, monotonic) = (Arc::new(system), Arc::new(monotonic));
        self.clock = Arc::new(move || {
            let (system, monotonic) = (Arc::clone(&system), Arc::clone(&monotonic));
            Clock::stepped(move || system(), move || monotonic())
        });
        self
    }

    /// Appends a migration to a part, as a later release may do. In the SQL, the names of tables begin with `klikit_`.
    #[cfg(test)]
    pub(super) fn append_migration(mut self, part: &'static str, sql: impl Into<String>) -> Self {
        self.appended.push((part, sql.into()));
        self
    }

    /// Returns the migrations that create and change the tables, in the order in which [`open`](Self::open) applies the
    /// missing ones. You need this list only if another tool applies the migrations.
    ///
    /// ```
    /// use tower_klikit_sqlite::SqliteStore;
    ///
    /// for migration in SqliteStore::builder().migrations()? {
    ///     println!("{migration}");
    /// }
    /// # Ok::<(), tower_klikit_sqlite::SqliteError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the table prefix is invalid.
    pub fn migrations(&self) -> Result<Vec<Migration>, SqliteError> {
        Ok(self.schema()?.migrations().to_vec())
    }

    /// Returns the migrations that [`open`](Self::open) would apply to the file at `path`, in order. Changes nothing, so
    /// that a tool can look at a store without migrating it under processes of an older release.
    ///
    /// This function blocks, as `open` does.
    ///
    /// # Errors
    ///
    /// Returns an error if [`open`](Self::open) would return one before it changes anything: if the file does not exist
    /// or a later release has migrated its tables, for example.
    pub fn pending_migrations(&self, path: impl AsRef<Path>) -> Result<Vec<Migration>, SqliteError> {
        Database::pending_migrations(path.as_ref(), &self.schema()?)
    }

    /// Opens the file at `path`, creates or migrates its tables, and starts the store's threads. Creates the file if it
    /// is missing and [`create`](Self::create) is set.
    ///
    /// A new file is private to its owner (mode 0600). An empty file becomes private if this process may change its
    /// permissions. A file with content keeps its permissions: check them yourself.
    ///
    /// This function blocks: it waits for the disk, and for up to 5 seconds while another process has the file locked.
    /// Call it before you serve requests.
    ///
    /// # Errors
    ///
    /// Returns an error in these cases. [`SqliteError::kind`] tells which:
    ///
    /// - The file does not exist, cannot be created or written, or is locked by another process.
    /// - This release can neither use nor migrate the tables' version, a table is missing, or a migration fails. The
    ///   tables stay unchanged.
    /// - The table prefix is invalid, or SQLite is too old or does not apply the settings.
    /// - A thread cannot be started.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteError> {
        let database = Database::open(path.as_ref(), self.schema()?, self.missing)?;
        let clock = Arc::new((self.clock)());
        let (reader, reader_thread) = Reader::start(database.for_reading(), Arc::clone(&clock))?;
        let path = database.path().to_owned();
        let (writer, writer_thread) = Writer::start(database, reader_thread, clock)?;
        Ok(SqliteStore::new(writer, reader, self.parts, path, writer_thread))
    }

    fn schema(&self) -> Result<Schema, SqliteError> {
        let schema = Schema::new(&self.table_prefix)?;
        let schema = match self.parts {
            Parts::All => schema,
            Parts::LedgerOnly => schema.ledger_only(),
        };
        #[cfg(test)]
        let schema = self.appended.iter().fold(schema, |schema, (part, sql)| schema.append(part, sql));
        Ok(schema)
    }
}

impl fmt::Debug for SqliteStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStoreBuilder")
            .field("table_prefix", &self.table_prefix)
            .field("missing", &self.missing)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}
