//! The state of the write-ahead log, and checkpoints.

use rusqlite::Connection;

/// How a checkpoint handles readers and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckpointMode {
    /// Copies what it can without waiting.
    Passive,
    /// Waits for readers, copies everything, and lets the next write transaction restart the log at its beginning.
    Restart,
    /// Waits for readers, copies everything, and truncates the log.
    Truncate,
}

/// The state of the write-ahead log.
pub(super) struct Log {
    /// Whether another connection prevented the checkpoint.
    pub(super) busy: bool,
    frames: u64,
    page: u64,
    /// The total size of the pages in the log, in bytes.
    pub(super) bytes: u64,
    /// The total size of the pages that are not copied into the file yet, in bytes.
    pub(super) left: u64,
}

impl Log {
    /// Reads the state of the log. Changes nothing.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        // In this mode, the pragma only reports the state.
        Self::run(connection, "PRAGMA wal_checkpoint = NOOP")
    }

    /// Runs a checkpoint. Returns the state of the log after it.
    pub(super) fn checkpoint(connection: &Connection, mode: CheckpointMode) -> rusqlite::Result<Self> {
        Self::run(
            connection,
            match mode {
                CheckpointMode::Passive => "PRAGMA wal_checkpoint = PASSIVE",
                CheckpointMode::Restart => "PRAGMA wal_checkpoint = RESTART",
                CheckpointMode::Truncate => "PRAGMA wal_checkpoint = TRUNCATE",
            },
        )
    }

    fn run(connection: &Connection, pragma: &str) -> rusqlite::Result<Self> {
        let page: u32 = connection.prepare_cached("PRAGMA page_size")?.query_row([], |row| row.get(0))?;
        connection.prepare_cached(pragma)?.query_row([], |row| {
            let (frames, copied) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            let bytes = |frames: i64| u64::try_from(frames).unwrap_or_default() * u64::from(page);
            let (bytes, left) = (bytes(frames), bytes(frames - copied));
            let frames = u64::try_from(frames).unwrap_or_default();
            Ok(Self { busy: row.get(0)?, frames, page: page.into(), bytes, left })
        })
    }

    /// Returns the minimum length of the log's file, in bytes.
    pub(super) fn length(&self) -> u64 {
        const HEADER: u64 = 32;
        const FRAME_HEADER: u64 = 24;
        if self.frames == 0 { 0 } else { HEADER + self.frames * (FRAME_HEADER + self.page) }
    }
}
