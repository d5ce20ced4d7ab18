//! Tests of migrations that a user runs, of roles without DDL rights, and of schemas of other versions.

use tower_klikit::inbox::{Acceptance, InboxAdmin, InboxStore};
use tower_klikit_postgres::{PostgresErrorKind as Kind, PostgresStore};

use crate::{
    LEASE, TERMS, claim, client, count, done, handle,
    inbox::{accept, dead_letter, finish, lease, ordered, retry},
    open, patient,
    servers::postgres::PostgresServer,
};

/// Statements that let the role `clerk` read and write the tables, but not create any.
const ROLE: &str = "
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk";

#[tokio::test]
async fn printed_migrations_suffice_without_ddl_rights() {
    let Some(server) = PostgresServer::start_own("printed migrations suffice without ddl rights", &[]) else { return };
    let client = client(server.url()).await;
    client.batch_execute("CREATE ROLE clerk LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
    let url = server.url().replace("klikit@", "clerk@");
    let error = patient().open(&url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Migration);
    assert!(error.to_string().contains("apply the migrations as a role that may create tables"), "{error}");

    let migrations = patient().migrations().unwrap();
    assert_eq!(
        migrations.iter().map(|step| (step.part(), step.version())).collect::<Vec<_>>(),
        [("ledger", 1), ("inbox", 1), ("inbox", 2)]
    );
    for migration in &migrations {
        let text = migration.to_string();
        assert!(text.starts_with(&format!("-- {}, version {}\n", migration.part(), migration.version())), "{text}");
        client.batch_execute(&format!("BEGIN; {text}; COMMIT")).await.unwrap();
    }
    client.batch_execute(ROLE).await.unwrap();

    let store = patient().open(&url).await.unwrap();
    handle(&store, 1).await;
    assert_eq!(tower_klikit::dedupe::Ledger::claim(&store, &claim(1), &TERMS).await.unwrap(), done(1));
    let new = ordered("evt-1", &["a"]).await;
    assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
    let leased = lease(&store, 1).await;
    dead_letter(&store, leased[0].lease(), "500").await;
    assert_eq!(accept(&store, &new).await, Acceptance::Revived);
    let leased = lease(&store, 1).await;
    finish(&store, leased[0].lease(), LEASE).await;
    assert_eq!(store.forget_keys(&new.claim().event().into()).await.unwrap(), 1);
    store.counts().await.unwrap();
    assert_eq!(store.purge_done(1).await.unwrap(), 0);
    assert!(!retry(&store, leased[0].lease().id()).await.unwrap());
    assert!(patient().table_prefix("another_").open(&url).await.is_err());
}

#[tokio::test]
async fn missing_permission_is_found_when_opening() {
    let Some(server) = PostgresServer::start_own("missing permission is found when opening", &[]) else { return };
    open(server.url()).await;
    let client = client(server.url()).await;
    client.batch_execute("CREATE ROLE clerk LOGIN").await.unwrap();
    let error = patient().open(&server.url().replace("klikit@", "clerk@")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Tables, "{error:?}");
    assert!(error.to_string().contains("klikit_schema"), "{error}");
}

#[tokio::test]
async fn newer_schema_is_rejected() {
    let Some(server) = PostgresServer::start("newer schema is rejected") else { return };
    open(server.url()).await;
    let client = client(server.url()).await;
    for (part, known) in [("ledger", 1), ("inbox", 2)] {
        client.batch_execute(&format!("UPDATE klikit_schema SET version = 9 WHERE part = '{part}'")).await.unwrap();
        let error = patient().open(server.url()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NewerSchema);
        let text = error.to_string();
        assert!(
            text.contains(part) && text.contains("version 9") && text.contains(&format!("after {known}: use")),
            "{text}"
        );
        let reset = format!("UPDATE klikit_schema SET version = {known} WHERE part = '{part}'");
        client.batch_execute(&reset).await.unwrap();
    }
}

#[tokio::test]
async fn tables_without_versions_are_rejected() {
    let Some(server) = PostgresServer::start_own("tables without versions are rejected", &[]) else { return };
    let client = client(server.url()).await;
    for table in ["klikit_deliveries", "klikit_deliveries_inbox"] {
        client.batch_execute(&format!("CREATE TABLE {table} (key uuid)")).await.unwrap();
        for builder in [patient(), patient().ledger_only()] {
            let error = builder.open(server.url()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::OutdatedSchema);
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("{table} is a table")) && text.contains("another table prefix"),
                "{text}"
            );
            assert_eq!(count(&client, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, 1);
        }
        PostgresStore::builder().table_prefix("other_").open(server.url()).await.unwrap();
        client.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    }
}

#[tokio::test]
async fn waiting_for_another_migration_ends() {
    let Some(server) = PostgresServer::start("waiting for another migration ends") else { return };
    let other = client(server.url()).await;
    // The lock that keeps two nodes from migrating at the same time.
    other.batch_execute("SELECT pg_advisory_lock(x'6b6c696b6974'::bigint)").await.unwrap();
    let url = server.url().to_owned();
    let opening = tokio::spawn(async move { patient().open(&url).await });
    let waiting = "
        SELECT count(*)
        FROM pg_locks
        WHERE locktype = 'advisory' AND NOT granted";
    while count(&other, waiting).await < 1 {}
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(301)).await;
    tokio::time::resume();
    let error = opening.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Migration, "{error:?}");
    assert!(error.to_string().contains("another node is still migrating"), "{error}");
}
