-- The open attempt of each delivery: all three are NULL if no attempt is open.
ALTER TABLE klikit_inbox ADD COLUMN started_at INTEGER;     -- milliseconds since 1970, by the system clock
ALTER TABLE klikit_inbox ADD COLUMN started_token INTEGER;  -- the token of the lease with which it started
ALTER TABLE klikit_inbox ADD COLUMN worker TEXT;

-- Done: until when the delivery is kept without its body, in milliseconds of the store's time. NULL: not after `due`.
ALTER TABLE klikit_inbox ADD COLUMN history_until INTEGER;

-- The search terms. A delivery that was accepted before this version has none.
ALTER TABLE klikit_inbox ADD COLUMN branch TEXT;  -- NULL: no branch
ALTER TABLE klikit_inbox ADD COLUMN orders TEXT;  -- a JSON array of texts; NULL: no orders

-- The index for searches, which contains all columns that are searched for. It begins with a bucket of 512 ids, so that
-- the entries of new deliveries are on few pages: in the order of random event ids, each delivery would write a page when
-- it is accepted and another one when it is deleted. A search reads one event id of each bucket, or all entries.
CREATE INDEX klikit_inbox_search
    ON klikit_inbox (id >> 9, event_id, branch, orders);

-- The attempts that have ended, and those whose lease expired on the last attempt. The table of version 1, which no
-- release has written, had no key by which attempts that start in the same millisecond differ.
DROP TABLE klikit_inbox_attempt;

CREATE TABLE klikit_inbox_attempt (
    id INTEGER NOT NULL,          -- the delivery's
    token INTEGER NOT NULL,       -- of the lease with which it started
    attempt INTEGER NOT NULL,
    worker TEXT,
    started_at INTEGER NOT NULL,  -- milliseconds since 1970, by the system clock, as is ended_at
    ended_at INTEGER,             -- NULL: the outcome is unknown
    status INTEGER,               -- the response's
    reason TEXT,
    PRIMARY KEY (id, token)
) WITHOUT ROWID;

-- The deliveries that are not leased.
CREATE TABLE klikit_inbox_pause (
    id INTEGER PRIMARY KEY,
    tenant TEXT,             -- NULL: all tenants
    event_type TEXT,         -- NULL: all event types
    operator TEXT NOT NULL,
    since INTEGER NOT NULL   -- milliseconds since 1970, by the system clock
);

-- The indexes of ready and leased deliveries begin with the tenant, because tenants share the leases.
DROP INDEX klikit_inbox_unordered;
DROP INDEX klikit_inbox_ordered;

CREATE INDEX klikit_inbox_unordered
    ON klikit_inbox (tenant, due, id, state, ordering_keys, since)
    WHERE state < 2 AND ordering_keys IS NULL;

CREATE INDEX klikit_inbox_ordered
    ON klikit_inbox (tenant, due, id, state, ordering_keys, since)
    WHERE state < 2 AND ordering_keys IS NOT NULL;

-- Adds the search terms and the open attempt. A delivery whose history alone is kept has a text instead of its body.
DROP VIEW klikit_deliveries;

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
    i.branch,
    i.orders,
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
    strftime('%Y-%m-%dT%H:%M:%SZ', i.started_at / 1000, 'unixepoch') AS started_at,
    i.worker,
    i.reason,
    CASE typeof(b.body) WHEN 'blob' THEN length(b.body) END AS body_bytes
FROM klikit_inbox AS i
LEFT JOIN klikit_inbox_body AS b ON b.id = i.id;
