-- The version of each part of the schema.
CREATE TABLE klikit_schema (
    part TEXT NOT NULL PRIMARY KEY,  -- ledger or inbox
    version INTEGER NOT NULL,
    applied_at TEXT NOT NULL         -- UTC
) WITHOUT ROWID;

-- The clock that all times are measured by, except those that are named as the system clock's.
CREATE TABLE klikit_clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),  -- one row
    generation INTEGER NOT NULL,            -- how often the offset was changed
    ahead INTEGER NOT NULL,                 -- the offset in milliseconds: the store's time minus the system clock
    latest INTEGER NOT NULL                 -- a store's time that was reached
);

-- No index on the times: it would add a quarter to each row, and purging does well without it.
CREATE TABLE klikit_ledger (
    key BLOB NOT NULL PRIMARY KEY,
    event_key BLOB,               -- NULL: the key itself
    digest BLOB NOT NULL,
    token BLOB NOT NULL,
    state INTEGER NOT NULL,       -- 0: claimed, 1: done
    until INTEGER NOT NULL,       -- end of the lease or the retention, in milliseconds of the store's time
    kept_until INTEGER,           -- claimed: end of the grace; done: NULL
    claimed_at INTEGER NOT NULL   -- milliseconds since 1970, by the system clock
) WITHOUT ROWID;

-- Few rows: those of conflicts.
CREATE INDEX klikit_ledger_event
    ON klikit_ledger (event_key)
    WHERE event_key IS NOT NULL;
