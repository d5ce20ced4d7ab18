//! Opening a store.

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

/// Options for opening a [`SqliteStore`]. [`SqliteStore::builder`] makes them.
#[derive(Clone)]
pub struct SqliteStoreBuilder {
    table_prefix: String,
    missing: Missing,
    parts: Parts,
    clock: Arc<dyn Fn() -> Clock + Send + Sync>,
    #[cfg(test)]
    appended: Vec<(&'static str, String)>,
}

impl SqliteStore {
    /// The prefix of the tables' names, unless the builder sets [another](SqliteStoreBuilder::table_prefix).
    pub const DEFAULT_TABLE_PREFIX: &'static str = "klikit_";

    /// Opens the file at `path`, which must exist, with the default [options](Self::builder).
    ///
    /// # Errors
    ///
    /// If the file does not exist: the first time, [create](SqliteStoreBuilder::create) it. For other errors, see
    /// [`SqliteStoreBuilder::open`].
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
    /// Creates the file if it does not exist, when the store is opened and also later, if the file is deleted while it
    /// is open. Without this option, a mistyped path is an error and not a new, empty store, and after the loss of the
    /// file calls fail until it is back.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.missing = Missing::Create;
        self
    }

    /// Sets the prefix of the tables' names: 1 to 32 ASCII letters, digits and underscores, beginning neither with a
    /// digit nor with `sqlite_`. The default is [`klikit_`](SqliteStore::DEFAULT_TABLE_PREFIX). Stores with different
    /// prefixes share nothing but the file.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Leaves the inbox out, for a store that only deduplicates. The file gets no tables for an inbox, and every call
    /// of [`InboxStore`](tower_klikit::inbox::InboxStore) and [`InboxAdmin`](tower_klikit::inbox::InboxAdmin) is an
    /// [error](crate::SqliteErrorKind::LedgerOnly). If the file is opened without this option later, it gets the tables
    /// then.
    #[must_use]
    pub fn ledger_only(mut self) -> Self {
        self.parts = Parts::LedgerOnly;
        self
    }

    /// Uses a clock that a test sets, so that the test need not wait. Time passes when this clock moves forward. When
    /// it moves back, the store sees a step, as of a system clock that is set.
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

    /// Uses a system clock that can be stepped and a monotonic clock that cannot. Where the two part, the system clock
    /// was stepped.
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

    /// Appends a step to the migrations of a part, as a later release may. In the SQL, the names of tables begin with
    /// `klikit_`.
    #[cfg(test)]
    pub(super) fn append_migration(mut self, part: &'static str, sql: impl Into<String>) -> Self {
        self.appended.push((part, sql.into()));
        self
    }

    /// Returns the steps that create and change the tables, in the order in which [`open`](Self::open) applies those
    /// that are missing. Needed only if another tool is to apply them.
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
    /// If the table prefix is invalid.
    pub fn migrations(&self) -> Result<Vec<Migration>, SqliteError> {
        Ok(self.schema()?.migrations().to_vec())
    }

    /// Opens the file at `path`, migrates its tables, and starts the store's threads. Creates the tables that are
    /// missing, and the file if that is [asked for](Self::create). A new file is private to its owner (mode 0600), and
    /// an empty file becomes private if this process may change it. A file with content keeps its permissions: check
    /// them yourself.
    ///
    /// This call waits for the disk, and for up to 5 seconds while another process has the file locked: make it before
    /// serving requests.
    ///
    /// # Errors
    ///
    /// [`SqliteError::kind`] says which of these it is:
    ///
    /// - the file does not exist, cannot be created or written, or is locked by another process;
    /// - the tables are of a version that this release can neither use nor migrate, or one is missing, or the migration
    ///   fails. Then the tables are as they were before;
    /// - the table prefix is invalid, or SQLite is too old or does not take the settings.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteError> {
        let database = Database::open(path.as_ref(), self.schema()?, self.missing)?;
        let clock = Arc::new((self.clock)());
        let (reader, reading) = Reader::start(database.for_reading(), Arc::clone(&clock))?;
        let path = database.path().to_owned();
        let (writer, thread) = Writer::start(database, reading, clock)?;
        Ok(SqliteStore::new(writer, reader, self.parts, path, thread))
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
