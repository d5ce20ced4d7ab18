//! The options of a store.

#[cfg(feature = "testing")]
use std::time::{Duration, SystemTime};
use std::{fmt, path::Path, sync::Arc};

use super::{
    SqliteStore, clock::Clock, connection::Database, error::SqliteError, reader::Reader, schema::Schema, writer::Writer,
};

/// Options for opening a [`SqliteStore`].
#[derive(Clone)]
pub struct SqliteOptions {
    table_prefix: String,
    clock: Arc<dyn Fn() -> Clock + Send + Sync>,
}

impl SqliteOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        Self { table_prefix: "klikit_".into(), clock: Arc::new(Clock::system) }
    }

    /// Sets the prefix of the tables' names: 1 to 32 ASCII letters, digits and underscores, beginning neither with a digit nor with
    /// `sqlite_`. The default is `klikit_`. Stores with different prefixes share nothing but the file.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Takes the time from elsewhere, so that a test need not wait. Time passes when this clock moves forward. When it moves back, the
    /// store sees a step, as of a system clock that is set.
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

    /// Takes the time from a system clock that can be stepped and a monotonic clock that cannot. Where the two part, the system clock
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

    /// Opens the file at `path` and starts the store's threads. Creates the file, private to its owner (mode 0600), and the tables if they
    /// are missing. An empty file becomes private if this process may change it. A file with content keeps its permissions: check them
    /// yourself.
    ///
    /// This call waits for the disk, and for up to 5 seconds while another process has the file locked: make it before serving requests.
    ///
    /// # Errors
    ///
    /// If the table prefix is invalid, SQLite is too old or does not take the settings, or the tables are of another version. Also if the
    /// file cannot be created or written, or another process has it locked. [`SqliteError::kind`] says which.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteError> {
        let schema = Schema::new(&self.table_prefix)?;
        let database = Database::open(path.as_ref(), schema)?;
        let clock = Arc::new((self.clock)());
        let (reader, reading) = Reader::start(database.for_reading(), Arc::clone(&clock))?;
        let (writer, _) = Writer::start(database, reading, clock)?;
        Ok(SqliteStore { writer, reader })
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions").field("table_prefix", &self.table_prefix).finish_non_exhaustive()
    }
}
