#[cfg(feature = "testing")]
use std::time::{Duration, SystemTime};
use std::{fmt, path::Path, sync::Arc};

use super::{
    SqliteStore,
    clock::Clock,
    connection::{Database, Synchronous},
    error::SqliteError,
    reader::Reader,
    schema::Schema,
    writer::Writer,
};

/// How to open a [`SqliteStore`].
#[derive(Clone)]
pub struct SqliteOptions {
    table_prefix: String,
    clock: Arc<dyn Fn() -> Clock + Send + Sync>,
    synchronous: Synchronous,
}

impl SqliteOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { table_prefix: "klikit_".into(), clock: Arc::new(Clock::system), synchronous: Synchronous::Full }
    }

    /// What the names of the tables begin with: 1 to 32 letters, digits and underscores of ASCII, not beginning with a digit
    /// nor with `sqlite_`. `klikit_` by default. Stores with other prefixes know nothing of each other.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Takes the time from elsewhere, so that a test need not wait: time passes when this clock moves forward. When it moves back, that
    /// is a step, as of a system clock that is set.
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

    /// Answers before the disk has it: `synchronous=NORMAL`. **A power cut loses deliveries that were acknowledged.**
    ///
    /// The control of a test that cuts the power: with this it has to find that some are lost.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn danger_synchronous_normal(mut self) -> Self {
        self.synchronous = Synchronous::Normal;
        self
    }

    /// Opens the file at `path`, and starts the store's threads. A file that is not there is created, for its owner alone
    /// (mode 0600), and so are the tables. One that is there and empty becomes its owner's alone, if it is this process's to
    /// change; one with content keeps the permissions that it has, and they are for you to see to.
    ///
    /// This waits for the disk, and for some five seconds at most while another process has the file locked: call it before
    /// serving.
    ///
    /// # Errors
    ///
    /// When the table prefix is none, SQLite is too old, the file cannot be created or written, the settings are not taken,
    /// the tables are of a newer version, or another process has the file locked: [`SqliteError::kind`] tells which.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteError> {
        let schema = Schema::new(&self.table_prefix)?;
        let database = Database::open(path.as_ref(), schema, self.synchronous)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::writer::Call;

    #[tokio::test]
    async fn a_commit_waits_for_the_disk_unless_it_is_dangerously_told_not_to() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut levels = vec![SqliteOptions::new().open(folder.join("full.db")).unwrap()];
        #[cfg(feature = "testing")]
        levels.push(SqliteOptions::new().danger_synchronous_normal().open(folder.join("normal.db")).unwrap());
        for (store, expected) in levels.iter().zip([2, 1]) {
            let level = store.writer.call(Call::Other, |transaction| transaction.setting("synchronous")).await.unwrap();
            assert_eq!(level, expected);
            let level = store.reader.call(|transaction| transaction.setting("synchronous")).await.unwrap();
            assert_eq!(level, expected);
        }
    }
}
