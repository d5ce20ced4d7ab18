//! The settings of a connection.

use std::{
    cell::Cell,
    fmt, thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, config::DbConfig, types::FromSql};

use crate::error::{SqliteError, SqliteErrorKind};

/// How long a transaction waits for another connection's lock. A call may wait twice as long, if the batch before it
/// waits too. Both waits together are well below the 2 s deadline of a claim.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The pause between two attempts to get the lock. SQLite's own busy handler soon sleeps for 100 ms at a time, and then
/// never gets the lock while another process writes batch after batch.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// The capacity of the cache of prepared statements, more than the store has.
const STATEMENTS: usize = 128;

/// The length to which SQLite truncates the log when it restarts the log, in bytes. A shorter log is overwritten, which
/// is faster than growing it again.
const LOG_LENGTH: u32 = 128 << 20;

/// Checks that the library has the fix for "The WAL-reset bug" (see SQLite's page on write-ahead logging). Before
/// 3.51.3, a write during another connection's checkpoint could corrupt the file.
pub(super) fn check_library(version: i32) -> Result<(), SqliteError> {
    if version >= 3_051_003 {
        return Ok(());
    }
    Err(SqliteError::because(
        SqliteErrorKind::Library,
        format!("it is {}; 3.51.3 or later is needed, which rusqlite bundles since 0.39", rusqlite::version()),
    ))
}

/// Applies and checks all settings.
// Since rusqlite 0.41, setting a busy handler needs a mutable connection.
pub(super) fn apply(connection: &mut Connection) -> Result<(), SqliteError> {
    connection.busy_handler(Some(wait_for_lock))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    tune(connection)?;
    repeat_while_busy(BUSY_TIMEOUT, || Ok(enable_incremental_vacuum(connection)?))?;
    make_durable(connection)
}

/// Runs a function that fails at once, instead of waiting, while another connection has the lock.
pub(crate) fn without_waiting<T>(
    connection: &mut Connection,
    run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.busy_timeout(Duration::ZERO)?;
    let result = run(connection);
    connection.busy_handler(Some(wait_for_lock))?;
    result
}

/// Applies the settings that affect only speed and space.
fn tune(connection: &Connection) -> rusqlite::Result<()> {
    // Without this setting, SQLite prepares a statement with a parameter for its limit anew for each value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(&format!(
        "
        PRAGMA journal_size_limit = {LOG_LENGTH};

        -- The checkpoint thread copies commits into the file, so turn off SQLite's automatic checkpoints on commit.
        PRAGMA wal_autocheckpoint = 0;
        "
    ))
}

/// Lets a new file shrink page by page. A file with content stays as it is, and setting this would lock it.
fn enable_incremental_vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let pages: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages == 0 { connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL") } else { Ok(()) }
}

/// Applies the settings that durability depends on, and reads them back: SQLite ignores settings that it does not know
/// or cannot apply.
fn make_durable(connection: &Connection) -> Result<(), SqliteError> {
    // On macOS, `fsync` alone leaves the data in the disk's volatile cache, hence `fullfsync`.
    let settings = "
        PRAGMA fullfsync = ON;
        PRAGMA checkpoint_fullfsync = ON;
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        ";
    // If two connections that open a new file at once lock each other out, SQLite does not call the busy handler.
    repeat_while_busy(BUSY_TIMEOUT, || connection.execute_batch(settings).map_err(SqliteError::from))?;
    read_back(connection, "fullfsync", |on: bool| on)?;
    read_back(connection, "checkpoint_fullfsync", |on: bool| on)?;
    read_back(connection, "journal_mode", |mode: String| mode == "wal")?;
    read_back(connection, "synchronous", |level: i64| level == 2)
}

fn read_back<T: FromSql + fmt::Debug + Clone>(
    connection: &Connection,
    setting: &str,
    is_right: impl FnOnce(T) -> bool,
) -> Result<(), SqliteError> {
    let value: T = connection.pragma_query_value(None, setting, |row| row.get(0))?;
    if is_right(value.clone()) {
        return Ok(());
    }
    Err(SqliteError::because(SqliteErrorKind::Settings, format!("{setting} is {value:?}")))
}

/// Repeats an attempt while another connection has the lock, but not for longer than `limit`.
pub(super) fn repeat_while_busy(
    limit: Duration,
    mut attempt: impl FnMut() -> Result<(), SqliteError>,
) -> Result<(), SqliteError> {
    let started = Instant::now();
    while let Err(error) = attempt() {
        if error.kind() != SqliteErrorKind::Busy || started.elapsed() > limit {
            return Err(error);
        }
        thread::sleep(BUSY_PAUSE);
    }
    Ok(())
}

/// Waits for another connection's lock. SQLite calls this busy handler on the connection's thread. Returns whether
/// SQLite should try again.
fn wait_for_lock(calls_before: i32) -> bool {
    thread_local! {
        static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if calls_before == 0 {
        SINCE.set(Some(now));
    }
    if SINCE.get().is_some_and(|since| now - since >= BUSY_TIMEOUT) {
        return false;
    }
    thread::sleep(BUSY_PAUSE);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_libraries_without_the_fix() {
        for fixed in [3_051_003, 3_051_004, 3_053_002, 4_000_000] {
            assert!(check_library(fixed).is_ok(), "{fixed}");
        }
        for broken in [3_007_000, 3_044_006, 3_050_007, 3_051_000, 3_051_002] {
            let kind = check_library(broken).unwrap_err().kind();
            assert_eq!(kind, SqliteErrorKind::Library, "{broken}");
        }
    }

    #[test]
    fn setting_that_was_not_applied_is_an_error() {
        // A database in memory has no write-ahead log.
        let connection = Connection::open_in_memory().unwrap();
        let error = make_durable(&connection).unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::Settings);
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "journal_mode is \"memory\"");

        connection.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
        let error = read_back(&connection, "synchronous", |level: i64| level == 2).unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::Settings);
    }
}
