//! The state of the write-ahead log.

use rusqlite::Connection;

/// The state of the write-ahead log after a checkpoint.
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
    /// Runs a checkpoint in this mode, and returns the state of the log after it. The mode `NOOP` changes nothing.
    /// `RESTART` waits for readers, so that the next write transaction restarts the log.
    pub(super) fn after(connection: &Connection, mode: &str) -> rusqlite::Result<Self> {
        let page: u32 = connection.prepare_cached("PRAGMA page_size")?.query_row([], |row| row.get(0))?;
        connection.prepare_cached(&format!("PRAGMA wal_checkpoint = {mode}"))?.query_row([], |row| {
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
