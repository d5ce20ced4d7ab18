//! The inbox's tables and indexes.

use super::{DEAD, DONE, LEASED};

/// Bodies lie apart from the states, so that a change of state writes a small row. Every READY or LEASED delivery is in one of the
/// first two indexes, with all that selecting and counting look at; the other indexes have few rows. By any stored state, a delivery
/// is in the indexes of either unfinished, dead or done deliveries. `AUTOINCREMENT`: an id is never used again.
pub(super) fn create(inbox: &str, delivery: &str, ordering: &str) -> String {
    format!(
        "
        CREATE TABLE IF NOT EXISTS {inbox} (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key BLOB NOT NULL UNIQUE,
            event BLOB,                   -- NULL: the key itself
            state INTEGER NOT NULL,       -- 0: ready, 1: leased, 2: dead, 3: done
            due INTEGER NOT NULL,         -- ready: next attempt; leased: end of the lease; done: end of its time.
                                          -- In milliseconds of the store's time, as is since
            attempts INTEGER NOT NULL,
            token INTEGER NOT NULL,
            accepted_at INTEGER NOT NULL, -- milliseconds since 1970, by the system clock
            since INTEGER NOT NULL,       -- when it was accepted, by the store's time
            ordering BLOB,                -- keys of 16 bytes, one after the other; NULL: none
            reason TEXT
        );

        CREATE TABLE IF NOT EXISTS {delivery} (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL,
            head TEXT NOT NULL,
            body BLOB NOT NULL
        );

        -- The queue of each ordering key: deliveries that are ready or leased.
        CREATE TABLE IF NOT EXISTS {ordering} (
            key BLOB NOT NULL,
            id INTEGER NOT NULL,
            PRIMARY KEY (key, id)
        ) WITHOUT ROWID;

        CREATE INDEX IF NOT EXISTS {inbox}_unordered
            ON {inbox} (due, id, state, ordering, since)
            WHERE state < {DEAD} AND ordering IS NULL;

        CREATE INDEX IF NOT EXISTS {inbox}_ordered
            ON {inbox} (due, id, state, ordering, since)
            WHERE state < {DEAD} AND ordering IS NOT NULL;

        CREATE INDEX IF NOT EXISTS {inbox}_leased
            ON {inbox} (due)
            WHERE state = {LEASED} AND ordering IS NOT NULL;

        CREATE INDEX IF NOT EXISTS {inbox}_dead
            ON {inbox} (id, state)
            WHERE state >= {DEAD} AND state <> {DONE};

        CREATE INDEX IF NOT EXISTS {inbox}_done
            ON {inbox} (due)
            WHERE state = {DONE};

        CREATE INDEX IF NOT EXISTS {inbox}_event
            ON {inbox} (event)
            WHERE event IS NOT NULL;
        "
    )
}
