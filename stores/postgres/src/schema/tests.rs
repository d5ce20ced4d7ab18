//! Tests of the migrations on a real server.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Client, Pool};
use tokio_postgres::NoTls;
use tower_klikit_test_support::servers::postgres::PostgresServer;

use super::{Schema, SchemaFailure, migrate::MIGRATION_LOCK};
use crate::{
    connection::{Connections, Naming},
    names::Names,
    tls::{self, Access},
};

/// A database of version 1 with rows in every state.
const KEPT: &str = include_str!("../../tests/schema/v1.sql");

/// An unreleased step.
const STEP: &str = r#"
    ALTER TABLE "klikit_inbox" ADD COLUMN made_up text;
    UPDATE "klikit_inbox" SET made_up = event_id;"#;

fn whole() -> Schema {
    Schema::whole(&Names::parse("klikit_").unwrap())
}

fn connect(url: &str, connections: usize) -> Connections {
    let deadline = Duration::from_secs(50);
    let Access { manager, cancel, .. } = tls::access(url, deadline).unwrap();
    let pool = Pool::builder(manager).max_size(connections).build().unwrap();
    Connections::new(pool, cancel, Naming::Unnamed, deadline)
}

/// Restores the kept database. Uses a separate connection, because the dump changes the search path.
async fn restore(url: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(KEPT).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

async fn kept(test: &str) -> Option<(PostgresServer, Connections)> {
    let server = PostgresServer::start_own(test, &[])?;
    restore(server.url()).await;
    let connections = connect(server.url(), 8);
    Some((server, connections))
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Returns all rows of the tables of version 1, without the columns that later steps add.
async fn rows(client: &Client) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, added) in [
        ("klikit_ledger", ""),
        ("klikit_inbox", "started_at, worker, history_until, made_up"),
        ("klikit_inbox_body", "event, branch, orders"),
        ("klikit_inbox_key", ""),
        ("klikit_inbox_attempt", ""),
    ] {
        let sql = format!("SELECT (to_jsonb(t) - '{{{added}}}'::text[])::text FROM {table} AS t ORDER BY 1");
        rows.extend(texts(client, &sql).await);
    }
    rows
}

async fn versions(client: &Client) -> Vec<String> {
    texts(client, "SELECT part || ' ' || version FROM klikit_schema ORDER BY part").await
}

/// Returns the definitions of all tables, views, indexes, triggers and functions.
async fn catalog(client: &Client) -> Vec<String> {
    let mut catalog = Vec::new();
    for sql in [
        "
            SELECT format(
                '%s.%s %s %s %s %s %s %s',
                table_name,
                column_name,
                data_type,
                udt_name,
                collation_name,
                is_nullable,
                column_default,
                identity_generation
            )
            FROM information_schema.columns
            WHERE table_schema = 'public'
            ORDER BY 1",
        "
            SELECT indexdef
            FROM pg_indexes
            WHERE schemaname = 'public'
            ORDER BY 1",
        "
            SELECT pg_get_triggerdef(oid) || tgenabled::text
            FROM pg_trigger
            WHERE NOT tgisinternal
            ORDER BY 1",
        "
            SELECT pg_get_functiondef(oid)
            FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
            ORDER BY 1",
        "
            SELECT conrelid::regclass::text || ' ' || pg_get_constraintdef(oid)
            FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace
            ORDER BY 1",
        "
            SELECT format('%s %s %s', relname, relkind, reloptions)
            FROM pg_class
            WHERE relnamespace = 'public'::regnamespace
            ORDER BY 1",
        "
            SELECT viewname || definition
            FROM pg_views
            WHERE schemaname = 'public'
            ORDER BY 1",
    ] {
        catalog.extend(texts(client, sql).await);
    }
    catalog
}

#[tokio::test]
async fn released_step_has_not_changed() {
    let Some((server, old)) = kept("released step has not changed").await else { return };
    let old = old.acquire().await.unwrap();
    let old = old.client();
    old.batch_execute("CREATE DATABASE new").await.unwrap();
    let new = connect(&server.url().replace("/postgres?", "/new?"), 1);
    whole().first_version().migrate(&new).await.unwrap();
    let new = catalog(new.acquire().await.unwrap().client()).await;
    assert!(new.len() > 60, "{}", new.len());
    assert_eq!(catalog(old).await, new);
}

#[tokio::test]
async fn kept_database_is_migrated() {
    let Some((_server, connections)) = kept("kept database is migrated").await else { return };
    let acquired = connections.acquire().await.unwrap();
    let client = acquired.client();
    let before = rows(client).await;
    let states = texts(client, "SELECT DISTINCT state FROM klikit_deliveries ORDER BY state").await;
    assert_eq!(states, ["dead", "done", "leased", "ready"]);
    assert!(!whole().pending(&connections).await.unwrap().is_empty());
    whole().migrate(&connections).await.unwrap();
    assert!(whole().pending(&connections).await.unwrap().is_empty());
    assert_eq!(versions(client).await, ["inbox 2", "ledger 1"]);
    assert_eq!(rows(client).await, before);
    let events = "
        SELECT DISTINCT (stored.event_id = content.event)::text
        FROM klikit_inbox AS stored
        JOIN klikit_inbox_body AS content USING (id)";
    assert_eq!(texts(client, events).await, ["true"]);
    let tenants = "
        SELECT (array_agg(DISTINCT tenant) = ARRAY(SELECT tenant FROM klikit_inbox_tenant ORDER BY tenant))::text
        FROM klikit_inbox";
    assert_eq!(texts(client, tenants).await, ["true"]);

    let later = whole().with_step("inbox", STEP);
    assert!(!later.pending(&connections).await.unwrap().is_empty());
    later.migrate(&connections).await.unwrap();
    assert!(later.pending(&connections).await.unwrap().is_empty());
    assert_eq!(versions(client).await, ["inbox 3", "ledger 1"]);
    assert_eq!(rows(client).await, before);
    let ids = "SELECT DISTINCT (made_up = event_id)::text FROM klikit_inbox";
    assert_eq!(texts(client, ids).await, ["true"]);

    match whole().pending(&connections).await {
        Err(SchemaFailure::Newer { part: "inbox", found: 3, known: 2 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(Schema::ledger_only(&Names::parse("klikit_").unwrap()).pending(&connections).await.unwrap().is_empty());
}

#[tokio::test]
async fn failed_step_changes_nothing() {
    let Some((_server, connections)) = kept("failed step changes nothing").await else { return };
    let acquired = connections.acquire().await.unwrap();
    let client = acquired.client();
    let before = (rows(client).await, catalog(client).await);
    // The first of the steps succeeds, and is rolled back too.
    let broken =
        whole().with_step("ledger", "CREATE TABLE made_up ();").with_step("inbox", &format!("{STEP} SELECT 1/0;"));
    for _ in 0..2 {
        match broken.migrate(&connections).await {
            Err(SchemaFailure::Step { part: "inbox", version: 3, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!((rows(client).await, catalog(client).await), before);
        assert_eq!(versions(client).await, ["inbox 1", "ledger 1"]);
    }
    whole().with_step("inbox", STEP).migrate(&connections).await.unwrap();
}

#[tokio::test]
async fn nodes_that_open_at_once_migrate_once() {
    let Some((_server, connections)) = kept("nodes that open at once migrate once").await else { return };
    let acquired = connections.acquire().await.unwrap();
    let client = acquired.client();
    client.batch_execute("CREATE TABLE runs (version bigint)").await.unwrap();
    // All of them wait for the lock before one of them runs.
    client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await.unwrap();
    let schema = Arc::new(whole().with_step("inbox", &format!("{STEP} INSERT INTO runs VALUES (2);")));
    let nodes: Vec<_> = (0..4)
        .map(|_| {
            let (schema, connections) = (Arc::clone(&schema), connections.clone());
            tokio::spawn(async move { schema.migrate(&connections).await })
        })
        .collect();
    let waiting = "
        SELECT count(*)::text
        FROM pg_locks
        WHERE locktype = 'advisory' AND NOT granted";
    while texts(client, waiting).await != ["4"] {
        assert!(nodes.iter().all(|node| !node.is_finished()), "a node does not wait");
    }
    client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await.unwrap();
    for node in nodes {
        node.await.unwrap().unwrap();
    }
    assert_eq!(texts(client, "SELECT count(*)::text FROM runs").await, ["1"]);
    assert_eq!(versions(client).await, ["inbox 3", "ledger 1"]);
}
