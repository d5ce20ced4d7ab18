-- Bodies have a table of their own, so that a change of state writes a small row.
CREATE TABLE klikit_inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again
    key BLOB NOT NULL UNIQUE,
    event_key BLOB,                        -- NULL: the key itself
    state INTEGER NOT NULL,                -- 0: ready, 1: leased, 2: dead, 3: done
    due INTEGER NOT NULL,                  -- ready: next attempt; leased: end of the lease; done: end of the time that
                                           -- it is kept for. In milliseconds of the store's time
    attempts INTEGER NOT NULL,
    token INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,          -- milliseconds since 1970, by the system clock
    since INTEGER NOT NULL,                -- when it was accepted, in milliseconds of the store's time
    event_id TEXT,
    event_type TEXT,
    tenant TEXT NOT NULL,
    ordering_keys TEXT,                    -- a JSON array of texts; NULL: no keys
    reason TEXT                            -- why the last attempt failed
);

-- The request of each delivery.
CREATE TABLE klikit_inbox_body (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    head TEXT NOT NULL,
    body BLOB NOT NULL
);

-- The queue of each ordering key: deliveries that are ready or leased.
CREATE TABLE klikit_inbox_key (
    ordering_key TEXT NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (ordering_key, id)
) WITHOUT ROWID;

-- The attempts of each delivery. Not written yet.
CREATE TABLE klikit_inbox_attempt (
    id INTEGER NOT NULL,          -- the delivery's
    attempt INTEGER NOT NULL,
    worker TEXT,
    started_at INTEGER NOT NULL,  -- milliseconds since 1970, by the system clock, as is ended_at
    ended_at INTEGER,
    status INTEGER,               -- the response's
    reason TEXT,
    PRIMARY KEY (id, attempt, started_at)
) WITHOUT ROWID;

-- Every ready or leased delivery is in one of these two indexes, with all that selecting and counting look at. By any
-- value of its state, a delivery is in the indexes of either unfinished, dead or done deliveries.
CREATE INDEX klikit_inbox_unordered
    ON klikit_inbox (due, id, state, ordering_keys, since)
    WHERE state < 2 AND ordering_keys IS NULL;

CREATE INDEX klikit_inbox_ordered
    ON klikit_inbox (due, id, state, ordering_keys, since)
    WHERE state < 2 AND ordering_keys IS NOT NULL;

CREATE INDEX klikit_inbox_leased
    ON klikit_inbox (due)
    WHERE state = 1 AND ordering_keys IS NOT NULL;

CREATE INDEX klikit_inbox_dead
    ON klikit_inbox (id, state)
    WHERE state >= 2 AND state <> 3;

CREATE INDEX klikit_inbox_done
    ON klikit_inbox (due)
    WHERE state = 3;

CREATE INDEX klikit_inbox_event
    ON klikit_inbox (event_key)
    WHERE event_key IS NOT NULL;

-- Returns a delivery to its queues, and makes it due, when a statement of the store or of an operator makes it
-- unfinished again.
CREATE TRIGGER klikit_inbox_requeue
    AFTER UPDATE OF state ON klikit_inbox
    WHEN old.state >= 2 AND new.state < 2
BEGIN
    INSERT OR IGNORE INTO klikit_inbox_key (ordering_key, id)
    SELECT value, new.id
    FROM json_each(CASE WHEN json_valid(new.ordering_keys) THEN new.ordering_keys ELSE '[]' END)
    WHERE type = 'text';

    -- Unless the statement has set a time.
    UPDATE klikit_inbox
    SET due = min(
        due,
        -- Now, in milliseconds of the store's time.
        CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) + coalesce((SELECT ahead FROM klikit_clock), 0)
    )
    WHERE id = new.id AND new.due = old.due;
END;

-- The deliveries as operators read them. Times are in UTC, by the system clock.
CREATE VIEW klikit_deliveries AS
SELECT
    i.id,
    CASE
        WHEN i.state = 1 THEN 'leased'
        WHEN i.state = 3 THEN 'done'
        WHEN i.state < 2 THEN 'ready'
        ELSE 'dead'
    END AS state,
    i.event_id,
    i.event_type,
    i.tenant,
    i.ordering_keys,
    i.attempts,
    -- A dead delivery is never due.
    CASE
        WHEN i.state < 2 OR i.state = 3 THEN strftime(
            '%Y-%m-%dT%H:%M:%SZ',
            (i.due - coalesce((SELECT ahead FROM klikit_clock), 0)) / 1000,
            'unixepoch'
        )
    END AS due_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', i.accepted_at / 1000, 'unixepoch') AS accepted_at,
    i.reason,
    length(b.body) AS body_bytes
FROM klikit_inbox AS i
LEFT JOIN klikit_inbox_body AS b ON b.id = i.id;
