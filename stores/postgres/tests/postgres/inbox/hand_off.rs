//! Tests of handing deliveries to another queue, which a table and a function imitate.

use futures_util::future::join_all;
use http::StatusCode;
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    inbox::{Acceptance, Inbox, InboxStore},
};
use tower_klikit_postgres::PostgresStore;

use super::{accept, conflicting, dead_letter, delivery, known, known_and_stored, lease_one, send};
use crate::{RETENTION, TERMS, client, count, open, patient, servers::postgres::PostgresServer};

const QUEUE: &str = "
    CREATE TABLE queue (job text, head json, body bytea);
    CREATE TABLE gate (open boolean);
    INSERT INTO gate VALUES (true);
    CREATE FUNCTION enqueue(job text, head json, body bytea) RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO queue VALUES (job, head, body);
        IF NOT (SELECT open FROM gate) THEN
            RAISE EXCEPTION 'the queue is closed';
        END IF;
        RETURN 1;
    END
    $$";
const ENQUEUE: &str = "SELECT enqueue($3, $2::json, $1)";
const QUEUED: &str = "SELECT count(*) FROM queue";
/// The number of rows in the inbox's tables.
const INBOX: &str = "
    SELECT
        (SELECT count(*) FROM klikit_inbox)
        + (SELECT count(*) FROM klikit_inbox_body)";
const REMEMBERED: &str = "SELECT count(*) FROM klikit_ledger WHERE state = 1";

async fn store(server: &PostgresServer, sql: &str) -> PostgresStore {
    patient().hand_off(sql).open(server.url()).await.unwrap()
}

#[tokio::test]
async fn enqueues_and_remembers_a_delivery() {
    let Some(server) = PostgresServer::start("enqueues and remembers a delivery") else { return };
    let client = client(server.url()).await;
    client.batch_execute(QUEUE).await.unwrap();
    let store = store(&server, ENQUEUE).await;
    let new = delivery("evt-1", "a body \0").await;
    assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
    assert_eq!(accept(&store, &new).await, known("a body \0"));
    assert_eq!(accept(&store, &delivery("evt-1", "b").await).await, known("a body \0"));
    let conflict = conflicting("evt-1", "b").await;
    assert_eq!(accept(&store, &conflict).await, Acceptance::Accepted);
    let rows =
        client.query("SELECT job, head ->> 'event_id', head ->> 'conflict', body FROM queue", &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    for (row, new) in rows.iter().zip([&new, &conflict]) {
        let conflict: Option<&str> = row.get(2);
        assert_eq!(row.get::<_, String>(0), format!("{:?}", new.claim().key()));
        assert_eq!(row.get::<_, String>(1), "evt-1");
        assert_eq!(conflict.is_some(), new.claim().is_conflict());
        assert_eq!(row.get::<_, &[u8]>(3), &new.body()[..]);
    }
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox").await, 0);
    assert_eq!(count(&client, REMEMBERED).await, 2);
}

#[tokio::test]
async fn remembers_nothing_that_the_queue_rejects() {
    let Some(server) = PostgresServer::start("remembers nothing that the queue rejects") else { return };
    let client = client(server.url()).await;
    client.batch_execute(QUEUE).await.unwrap();
    let inbox = Inbox::new(store(&server, ENQUEUE).await);
    client.execute("UPDATE gate SET open = false", &[]).await.unwrap();
    for _ in 0..20 {
        assert_eq!(send(&inbox, "evt-1", "x").await, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!((count(&client, QUEUED).await, count(&client, REMEMBERED).await), (0, 0));
    client.execute("UPDATE gate SET open = true", &[]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(send(&inbox, "evt-1", "x").await, StatusCode::OK);
        assert_eq!((count(&client, QUEUED).await, count(&client, REMEMBERED).await), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueues_one_of_many_copies() {
    let Some(server) = PostgresServer::start("enqueues one of many copies") else { return };
    let client = client(server.url()).await;
    client.batch_execute(QUEUE).await.unwrap();
    let nodes = [store(&server, ENQUEUE).await, store(&server, ENQUEUE).await];
    for round in 0..20 {
        let id = format!("evt-{round}");
        let mut copies = Vec::new();
        for copy in 0..32 {
            let (store, new) = (nodes[copy % 2].clone(), delivery(&id, "x").await);
            copies.push(async move { accept(&store, &new).await });
        }
        let copies: Vec<_> = copies.into_iter().map(tokio::spawn).collect();
        let outcomes: Vec<_> = join_all(copies).await.into_iter().map(Result::unwrap).collect();
        let accepted = outcomes.iter().filter(|outcome| **outcome == Acceptance::Accepted).count();
        let duplicates = outcomes.iter().filter(|outcome| **outcome == known("x")).count();
        assert_eq!((accepted, duplicates), (1, 31), "{outcomes:?}");
        assert_eq!(count(&client, QUEUED).await, round + 1);
    }
}

#[tokio::test]
async fn enqueues_nothing_that_the_layer_has_claimed() {
    let Some(server) = PostgresServer::start("enqueues nothing that the layer has claimed") else { return };
    let client = client(server.url()).await;
    client.batch_execute(QUEUE).await.unwrap();
    let store = store(&server, ENQUEUE).await;
    let new = delivery("evt-1", "x").await;
    assert_eq!(store.claim(new.claim(), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(matches!(accept(&store, &new).await, Acceptance::InFlight { .. }));
    client.execute("UPDATE klikit_ledger SET until = now()", &[]).await.unwrap();
    assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
    assert_eq!(count(&client, QUEUED).await, 1);
}

#[tokio::test]
async fn checks_the_statement_when_it_opens() {
    let Some(server) = PostgresServer::start("checks the statement when it opens") else { return };
    client(server.url()).await.batch_execute(QUEUE).await.unwrap();
    for sql in
        ["SELECT no_such_queue($1)", "SELECT 1; SELECT 2", "", "nonsense", "SELECT $4::text", "SELECT $1::integer"]
    {
        let rejected = patient().hand_off(sql).open(server.url()).await.map(drop);
        let known = "Postgres cannot run the hand-off statement";
        assert_eq!(rejected.expect_err(sql).to_string(), known, "{sql:?}");
    }
    let fine = ["INSERT INTO queue VALUES ('only', '{}', '')", "SELECT enqueue('', '{}', $1)", "SELECT $2, $3"];
    for (n, sql) in fine.into_iter().enumerate() {
        let store = store(&server, sql).await;
        assert_eq!(accept(&store, &delivery(&n.to_string(), "x").await).await, Acceptance::Accepted, "{sql}");
    }
}

/// If deliveries are handed off, there may be no worker.
#[tokio::test]
async fn enqueues_a_copy_of_a_dead_delivery() {
    let Some(server) = PostgresServer::start("enqueues a copy of a dead delivery") else { return };
    let client = client(server.url()).await;
    client.batch_execute(QUEUE).await.unwrap();
    let (before, now) = (open(server.url()).await, store(&server, ENQUEUE).await);
    for remembered in [true, false] {
        let new = delivery(&format!("evt-{remembered}"), "x").await;
        assert_eq!(accept(&before, &new).await, Acceptance::Accepted);
        dead_letter(&before, lease_one(&before).await.lease(), "500").await;
        if !remembered {
            client.execute("DELETE FROM klikit_ledger", &[]).await.unwrap();
        }
        client.batch_execute("TRUNCATE queue; UPDATE gate SET open = false").await.unwrap();
        now.accept(&new, RETENTION).await.unwrap_err();
        assert_eq!(
            (count(&client, QUEUED).await, count(&client, INBOX).await),
            (0, 2),
            "the transaction was rolled back"
        );
        client.execute("UPDATE gate SET open = true", &[]).await.unwrap();
        let other = delivery(&format!("evt-{remembered}"), "another").await;
        assert_eq!(accept(&now, &other).await, known_and_stored("x"));
        assert_eq!(
            (count(&client, QUEUED).await, count(&client, INBOX).await),
            (0, 2),
            "another body is another delivery"
        );
        client.execute("UPDATE klikit_ledger SET until = now() + interval '1 minute'", &[]).await.unwrap();
        assert_eq!(accept(&now, &new).await, Acceptance::Revived);
        assert_eq!((count(&client, QUEUED).await, count(&client, INBOX).await), (1, 0));
        let renewed = "
            SELECT count(*)
            FROM klikit_ledger
            WHERE state = 1 AND until > now() + interval '34 days'";
        assert_eq!(count(&client, renewed).await, 1);
        assert_eq!(accept(&now, &new).await, known("x"));
        assert_eq!(count(&client, QUEUED).await, 1);
    }
}

#[tokio::test]
async fn does_not_enqueue_copies_of_pending_deliveries() {
    let Some(server) = PostgresServer::start("does not enqueue copies of pending deliveries") else { return };
    let client = client(server.url()).await;
    client.batch_execute(QUEUE).await.unwrap();
    let (before, now) = (open(server.url()).await, store(&server, ENQUEUE).await);
    let new = delivery("evt-1", "x").await;
    assert_eq!(accept(&before, &new).await, Acceptance::Accepted);
    for leased in [false, true] {
        if leased {
            lease_one(&before).await;
        }
        client.execute("DELETE FROM klikit_ledger", &[]).await.unwrap();
        assert_eq!(accept(&now, &new).await, known("x"));
        assert_eq!((count(&client, QUEUED).await, count(&client, INBOX).await), (0, 2));
        assert_eq!(count(&client, REMEMBERED).await, 1);
    }
}

/// The details of the server's errors repeat the parameters.
#[tokio::test]
async fn rejection_by_the_queue_does_not_leak_the_body() {
    let Some(server) = PostgresServer::start("rejection by the queue does not leak the body") else { return };
    client(server.url()).await.batch_execute("CREATE TABLE picky (body text CHECK (body = ''))").await.unwrap();
    let late = "
            CREATE TABLE late (body text UNIQUE DEFERRABLE INITIALLY DEFERRED);
            INSERT INTO late VALUES ('hunter2')";
    client(server.url()).await.batch_execute(late).await.unwrap();
    for (id, sql, known) in [
        ("picky", "INSERT INTO picky VALUES (convert_from($1, 'UTF8'))", "23514"),
        ("late", "INSERT INTO late VALUES (convert_from($1, 'UTF8'))", "23505"),
        ("cast", "SELECT convert_from($1, 'UTF8')::integer", "22P02"),
    ] {
        let store = store(&server, sql).await;
        let error = store.accept(&delivery(id, "hunter2").await, RETENTION).await.unwrap_err();
        let mut text = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text.push_str(&format!(" {error} {error:?}"));
            source = error.source();
        }
        assert!(text.contains(known) && text.contains("ERROR"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// Imitations of pgmq's functions from version 1.5 on. They find a queue's table by its name.
const PGMQ: &str = "
    CREATE SCHEMA pgmq;
    CREATE TABLE pgmq.q_klikit (
        msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        read_ct integer NOT NULL DEFAULT 0,
        enqueued_at timestamptz NOT NULL DEFAULT now(),
        vt timestamptz NOT NULL,
        message jsonb,
        headers jsonb
    );
    CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay timestamptz)
    RETURNS SETOF bigint LANGUAGE plpgsql AS $$
    BEGIN
        RETURN QUERY EXECUTE format(
            'INSERT INTO pgmq.%I (vt, message, headers) VALUES ($1, $2, $3) RETURNING msg_id', 'q_' || queue_name
        ) USING delay, msg, headers;
    END $$;
    CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb)
    RETURNS SETOF bigint LANGUAGE sql AS 'SELECT pgmq.send($1, $2, $3, clock_timestamp())';
    CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay timestamptz)
    RETURNS SETOF bigint LANGUAGE sql AS 'SELECT pgmq.send($1, $2, NULL, $3)';";

/// The function with two parameters, from version 1.5 on and before.
const PGMQ_SEND: [&str; 2] = [
    "
        CREATE FUNCTION pgmq.send(queue_name text, msg jsonb)
        RETURNS SETOF bigint LANGUAGE sql AS 'SELECT pgmq.send($1, $2, NULL, clock_timestamp())';
        CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer)
        RETURNS SETOF bigint LANGUAGE sql
        AS 'SELECT pgmq.send($1, $2, NULL, clock_timestamp() + make_interval(secs => $3))';",
    "
        CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer DEFAULT 0)
        RETURNS SETOF bigint LANGUAGE sql
        AS 'SELECT pgmq.send($1, $2, NULL, clock_timestamp() + make_interval(secs => $3))';",
];

/// The statement from the crate's page.
const SEND: &str = "
    SELECT pgmq.send(
        'klikit',
        jsonb_build_object('key', $3::text, 'head', $2::jsonb, 'body', encode($1, 'base64'))
    )";

/// An imitation of River's table of jobs after its sixth migration. The seventh adds a default to `max_attempts`.
const RIVER: &str = "
    CREATE TYPE river_job_state AS ENUM (
        'available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled'
    );
    CREATE TABLE river_job (
        id bigserial PRIMARY KEY,
        state river_job_state NOT NULL DEFAULT 'available',
        attempt smallint NOT NULL DEFAULT 0,
        max_attempts smallint NOT NULL,
        attempted_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        finalized_at timestamptz,
        scheduled_at timestamptz NOT NULL DEFAULT now(),
        priority smallint NOT NULL DEFAULT 1,
        args jsonb NOT NULL,
        attempted_by text[],
        errors jsonb[],
        kind text NOT NULL,
        metadata jsonb NOT NULL DEFAULT '{}',
        queue text NOT NULL DEFAULT 'default',
        tags varchar(255)[] NOT NULL DEFAULT '{}',
        unique_key bytea,
        unique_states bit(8),
        CHECK ((finalized_at IS NOT NULL) = (state IN ('cancelled', 'completed', 'discarded'))),
        CHECK (max_attempts > 0),
        CHECK (priority BETWEEN 1 AND 4),
        CHECK (char_length(queue) BETWEEN 1 AND 127),
        CHECK (char_length(kind) BETWEEN 1 AND 127)
    );
    CREATE INDEX ON river_job USING gin (args);
    CREATE INDEX ON river_job USING gin (metadata);";

/// The statement from the crate's page.
const INSERT_JOB: &str = "
    INSERT INTO river_job (kind, max_attempts, args)
    VALUES (
        'klikit_order',
        25,
        jsonb_build_object('key', $3::text, 'head', $2::jsonb, 'body', encode($1, 'base64'))
    )";

#[tokio::test]
async fn hands_off_to_pgmq() {
    for send in PGMQ_SEND {
        let Some(server) = PostgresServer::start_own("hands off to pgmq", &[]) else { return };
        let client = client(server.url()).await;
        client.batch_execute(&format!("{PGMQ} {send}")).await.unwrap();
        let messages = "
            SELECT message
            FROM pgmq.q_klikit
            WHERE vt <= now()
            ORDER BY msg_id";
        hands_off(&server, SEND, messages).await;
        enqueues_nothing_without_queue(&server, SEND, "DROP TABLE pgmq.q_klikit").await;
    }
}

#[tokio::test]
async fn hands_off_to_river() {
    let Some(server) = PostgresServer::start("hands off to river") else { return };
    let client = client(server.url()).await;
    client.batch_execute(RIVER).await.unwrap();
    let jobs = "
        SELECT args FROM river_job
        WHERE
            kind = 'klikit_order' AND queue = 'default' AND state = 'available' AND scheduled_at <= now()
            AND attempt = 0 AND max_attempts = 25
        ORDER BY id";
    hands_off(&server, INSERT_JOB, jobs).await;
    enqueues_nothing_without_queue(&server, INSERT_JOB, "DROP TABLE river_job").await;
}

/// Checks that deliveries with any body are enqueued once and unchanged. `payloads` is a query for the queue's payloads.
async fn hands_off(server: &PostgresServer, sql: &str, payloads: &str) {
    let client = client(server.url()).await;
    let store = store(server, sql).await;
    let bodies = ["{}", "not JSON: \0 é \\u0000", &"a large body ".repeat(10_000)];
    for (n, body) in bodies.into_iter().enumerate() {
        let new = delivery(&format!("evt-{n}"), body).await;
        assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
        assert_eq!(accept(&store, &new).await, known(body));
    }
    let read = format!(
        "SELECT payload ->> 'key', payload -> 'head' ->> 'event_id', decode(payload ->> 'body', 'base64')
        FROM ({payloads}) AS queue (payload)"
    );
    let rows = client.query(&read, &[]).await.unwrap();
    assert_eq!(rows.len(), bodies.len());
    for (n, (row, body)) in rows.iter().zip(bodies).enumerate() {
        let id = format!("evt-{n}");
        assert_eq!(row.get::<_, String>(0), format!("{:?}", delivery(&id, body).await.claim().key()));
        assert_eq!(row.get::<_, String>(1), id);
        assert!(row.get::<_, &[u8]>(2) == body.as_bytes(), "{id}");
    }
}

async fn enqueues_nothing_without_queue(server: &PostgresServer, sql: &str, drop_queue: &str) {
    let client = client(server.url()).await;
    let store = store(server, sql).await;
    let remembered = count(&client, REMEMBERED).await;
    client.batch_execute(drop_queue).await.unwrap();
    store.accept(&delivery("evt-lost", "{}").await, RETENTION).await.unwrap_err();
    assert_eq!(count(&client, REMEMBERED).await, remembered);
}
