//! The migration steps of the inbox's tables. Never change a released step: add another one.

use crate::{names::Names, sql::LEASING_LOCKS};

/// Returns the statements of each version.
pub(super) fn steps(names: &Names) -> Vec<String> {
    vec![create(names), operate(names)]
}

fn create(names: &Names) -> String {
    format!(
        r#"-- The state and the labels of each delivery: short rows that change
CREATE TABLE {inbox} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- ready: when it may be leased; leased: end of the lease; done: when it may be deleted
    due timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL,
    -- increases with each lease, 0 before the first
    token bigint NOT NULL,
    key uuid NOT NULL UNIQUE,
    -- NULL unless the delivery is a conflict
    event_key uuid,
    attempts integer NOT NULL,
    -- 0 ready, 1 leased, 2 dead, 3 done
    state smallint NOT NULL,
    event_id text,
    event_type text,
    tenant text NOT NULL,
    -- NULL if there are none
    ordering_keys text[],
    reason text
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX {due} ON {inbox} (due, id) WHERE state < 2 AND ordering_keys IS NULL;
CREATE INDEX {ordered} ON {inbox} (due, id) WHERE state < 2 AND ordering_keys IS NOT NULL;
CREATE INDEX {dead} ON {inbox} (id) WHERE state = 2;
CREATE INDEX {done} ON {inbox} (due) WHERE state = 3;
CREATE INDEX {event_key} ON {inbox} (event_key) WHERE event_key IS NOT NULL;

-- The content of each delivery: long rows that do not change
CREATE TABLE {body} (
    id bigint PRIMARY KEY,
    digest bytea NOT NULL,
    head text NOT NULL,
    body bytea NOT NULL
);

-- The queue of each ordering key: the deliveries that are ready or leased
CREATE TABLE {queue} (
    -- Compared by its bytes: an upgrade of the system's locales must not reorder what the index has sorted
    ordering_key text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    PRIMARY KEY (ordering_key, id)
);

CREATE INDEX {by_id} ON {queue} (id);

-- The attempts to handle each delivery
CREATE TABLE {attempt} (
    -- of the delivery
    id bigint,
    attempt integer,
    worker text,
    started_at timestamptz,
    ended_at timestamptz,
    status integer,
    reason text,
    PRIMARY KEY (id, attempt, started_at)
);

-- Keeps the queues, also if a delivery is changed by hand
CREATE FUNCTION {function}() RETURNS trigger
    LANGUAGE plpgsql
    -- A plan from when the table was small must not read through it later
    SET enable_seqscan = off
AS $$
BEGIN
    IF TG_WHEN = 'AFTER' THEN
        DELETE FROM {queue} WHERE id = OLD.id;
        RETURN NULL;
    END IF;
    IF OLD.state < 2 THEN
        -- The delivery has other ordering keys than before
        DELETE FROM {queue} WHERE id = OLD.id;
    ELSIF NEW.due = OLD.due THEN
        -- A dead or done delivery is ready again
        NEW.due := clock_timestamp();
    END IF;
    IF NEW.ordering_keys IS NOT NULL THEN
        -- Nothing may be leased until this is committed
        PERFORM pg_advisory_xact_lock({LEASING_LOCKS}, TG_RELID::integer);
        -- Later deliveries that share a key may be leased. Leasing looks at those only if the token is not 0.
        NEW.token := greatest(NEW.token, 1);
        INSERT INTO {queue} (ordering_key, id)
        SELECT DISTINCT ordering_key, NEW.id
        FROM unnest(NEW.ordering_keys) AS ordering_key
        WHERE ordering_key IS NOT NULL
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEW;
END
$$;
{search_path}
CREATE TRIGGER {returned} BEFORE UPDATE ON {inbox} FOR EACH ROW
    WHEN (OLD.state >= 2 AND NEW.state < 2)
    EXECUTE FUNCTION {function}();
CREATE TRIGGER {relabeled} BEFORE UPDATE OF ordering_keys ON {inbox} FOR EACH ROW
    WHEN (OLD.state < 2 AND NEW.state < 2 AND OLD.ordering_keys IS DISTINCT FROM NEW.ordering_keys)
    EXECUTE FUNCTION {function}();
CREATE TRIGGER {ended} AFTER UPDATE ON {inbox} FOR EACH ROW
    WHEN (OLD.state < 2 AND NEW.state >= 2 AND OLD.ordering_keys IS NOT NULL)
    EXECUTE FUNCTION {function}();
CREATE TRIGGER {deleted} AFTER DELETE ON {inbox} FOR EACH ROW
    WHEN (OLD.state < 2 AND OLD.ordering_keys IS NOT NULL)
    EXECUTE FUNCTION {function}();

-- The deliveries, for operators to read
CREATE VIEW {view} AS
SELECT
    id,
    CASE state WHEN 0 THEN 'ready' WHEN 1 THEN 'leased' WHEN 2 THEN 'dead' WHEN 3 THEN 'done' END AS state,
    event_id,
    event_type,
    tenant,
    ordering_keys,
    attempts,
    -- A dead delivery is never due
    CASE WHEN state <> 2 THEN due END AS due_at,
    accepted_at,
    reason,
    octet_length(body) AS body_bytes
FROM {inbox}
LEFT JOIN {body} USING (id);"#,
        inbox = names.of("inbox"),
        body = names.of("inbox_body"),
        queue = names.of("inbox_key"),
        attempt = names.of("inbox_attempt"),
        view = names.of("deliveries"),
        function = names.of("inbox_queue"),
        due = names.unqualified("inbox_due_idx"),
        ordered = names.unqualified("inbox_ordered_idx"),
        dead = names.unqualified("inbox_dead_idx"),
        done = names.unqualified("inbox_done_idx"),
        event_key = names.unqualified("inbox_event_key_idx"),
        by_id = names.unqualified("inbox_key_id_idx"),
        returned = names.unqualified("inbox_returned"),
        relabeled = names.unqualified("inbox_relabeled"),
        ended = names.unqualified("inbox_ended"),
        deleted = names.unqualified("inbox_deleted"),
        search_path = search_path(names),
    )
}

/// Returns the statements of version 2: records of attempts, search terms, pauses, and a fair share for each tenant.
///
/// All columns of the state table that change stay without an index, because each lease and each settlement writes to every
/// index. Texts that are searched are compared by their bytes, as in the queues.
fn operate(names: &Names) -> String {
    format!(
        r#"-- The open attempt of each delivery
ALTER TABLE {inbox}
    -- NULL unless an attempt is open
    ADD COLUMN started_at timestamptz,
    ADD COLUMN worker text,
    -- done: when it may be deleted, if that is later than the end of its body
    ADD COLUMN history_until timestamptz;

-- A start identifies an attempt: its number may begin again at 1
ALTER TABLE {attempt}
    DROP CONSTRAINT {attempt_key},
    ADD CONSTRAINT {attempt_key} PRIMARY KEY (id, started_at);

-- Search terms. They stand beside the content, whose rows do not change.
ALTER TABLE {body}
    -- NULL once only the history of a done delivery is kept
    ALTER COLUMN body DROP NOT NULL,
    -- the event id, under another name than in the state table, so that a join of the two is not ambiguous
    ADD COLUMN event text COLLATE "C",
    -- such as 'branch:7'
    ADD COLUMN branch text COLLATE "C",
    -- such as 'order:42'
    ADD COLUMN orders text[] COLLATE "C";

UPDATE {body} AS content
SET event = stored.event_id
FROM {inbox} AS stored
WHERE stored.id = content.id AND stored.event_id IS NOT NULL;

CREATE INDEX {event} ON {body} (event, id) WHERE event IS NOT NULL;
CREATE INDEX {branch} ON {body} (branch, id) WHERE branch IS NOT NULL;
-- Without a list of pending entries, which every search would read
CREATE INDEX {orders} ON {body} USING gin (orders) WITH (fastupdate = off) WHERE orders IS NOT NULL;

-- The tenants that have had deliveries. Leasing searches the deliveries of each tenant.
CREATE TABLE {tenant} (
    tenant text COLLATE "C" PRIMARY KEY
);

INSERT INTO {tenant} SELECT DISTINCT tenant FROM {inbox};

DROP INDEX {due_of_schema};
DROP INDEX {ordered_of_schema};
CREATE INDEX {due} ON {inbox} (tenant COLLATE "C", due, id) WHERE state < 2 AND ordering_keys IS NULL;
CREATE INDEX {ordered} ON {inbox} (tenant COLLATE "C", due, id) WHERE state < 2 AND ordering_keys IS NOT NULL;

-- The pauses that are in force
CREATE TABLE {pause} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- NULL: every tenant
    tenant text COLLATE "C",
    -- NULL: every event type, and deliveries without one
    event_type text COLLATE "C",
    operator text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

-- Adds the search terms and the open attempt
CREATE OR REPLACE VIEW {view} AS
SELECT
    id,
    CASE state WHEN 0 THEN 'ready' WHEN 1 THEN 'leased' WHEN 2 THEN 'dead' WHEN 3 THEN 'done' END AS state,
    event_id,
    event_type,
    tenant,
    ordering_keys,
    attempts,
    -- A dead delivery is never due
    CASE WHEN state <> 2 THEN due END AS due_at,
    accepted_at,
    reason,
    octet_length(body) AS body_bytes,
    branch,
    orders,
    started_at,
    worker
FROM {inbox}
LEFT JOIN {body} USING (id);"#,
        view = names.of("deliveries"),
        inbox = names.of("inbox"),
        attempt = names.of("inbox_attempt"),
        attempt_key = names.unqualified("inbox_attempt_pkey"),
        body = names.of("inbox_body"),
        event = names.unqualified("inbox_body_event_idx"),
        branch = names.unqualified("inbox_body_branch_idx"),
        orders = names.unqualified("inbox_body_orders_idx"),
        tenant = names.of("inbox_tenant"),
        due = names.unqualified("inbox_due_idx"),
        ordered = names.unqualified("inbox_ordered_idx"),
        due_of_schema = names.of("inbox_due_idx"),
        ordered_of_schema = names.of("inbox_ordered_idx"),
        pause = names.of("inbox_pause"),
    )
}

/// Returns the setting that makes a function find the tables with any search path. If the prefix names a schema, no setting
/// is needed.
fn search_path(names: &Names) -> String {
    if names.has_schema() {
        return String::new();
    }
    format!(
        r"
-- Finds the tables whatever the search path of the session that writes
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION %1$I.{function}() SET search_path = %1$I, pg_temp',
        current_schema()
    );
END
$$;
",
        function = names.unqualified("inbox_queue"),
    )
}
