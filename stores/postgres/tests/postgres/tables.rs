//! Tests of creating the tables, and of their names.

use futures_util::future::join_all;
use tower_klikit::dedupe::{ClaimOutcome, Ledger};
use tower_klikit_postgres::{PostgresErrorKind as Kind, PostgresStore};

use crate::{TERMS, claim, client, count, done, handle, open, patient, servers::postgres::PostgresServer};

#[tokio::test]
async fn eight_nodes_create_the_tables_at_once() {
    let Some(server) = PostgresServer::start("eight nodes create the tables at once") else { return };
    for round in 0..8 {
        let prefix = format!("round_{round}_");
        let builder = patient().table_prefix(prefix).max_connections(1);
        let stores = join_all((0..8).map(|_| builder.clone().open(server.url()))).await;
        for (node, store) in stores.into_iter().enumerate() {
            handle(&store.unwrap(), node as u64).await;
        }
    }
}

#[tokio::test]
async fn keeps_existing_tables() {
    let Some(server) = PostgresServer::start("keeps existing tables") else { return };
    handle(&open(server.url()).await, 1).await;
    let store = open(server.url()).await;
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
}

#[tokio::test]
async fn tables_of_other_prefixes_are_separate() {
    let Some(server) = PostgresServer::start_own("tables of other prefixes are separate", &[]) else { return };
    let client = client(server.url()).await;
    client.batch_execute("CREATE SCHEMA webhooks").await.unwrap();
    let longest = "x".repeat(40);
    for prefix in [PostgresStore::DEFAULT_TABLE_PREFIX, "order_", "webhooks.klikit_", "webhooks.order", &longest] {
        let store = patient().ledger_only().table_prefix(prefix).open(server.url()).await.unwrap();
        assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), ClaimOutcome::Claimed, "{prefix}");
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'webhooks')";
    assert_eq!(count(&client, tables).await, 5 * 2);
}

#[tokio::test]
async fn rejects_invalid_prefixes() {
    let Some(server) = PostgresServer::start("rejects invalid prefixes") else { return };
    for prefix in ["", "a b", "a;DROP TABLE x", "a\"b", "Upper", "a.b.c", &"x".repeat(41)] {
        let error = patient().table_prefix(prefix).open(server.url()).await.expect_err(prefix);
        assert_eq!(error.kind(), Kind::TablePrefix);
        assert!(error.to_string().starts_with(&format!("{prefix:?} is not a valid table prefix")), "{error}");
        assert_eq!(patient().table_prefix(prefix).migrations().expect_err(prefix).kind(), Kind::TablePrefix);
    }
    let error = patient().table_prefix("no_such_schema.t_").open(server.url()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Migration);
    assert!(error.to_string().contains("create the schema"), "{error}");
}

#[tokio::test]
async fn rejects_the_tables_of_another_program() {
    let Some(server) = PostgresServer::start_own("rejects the tables of another program", &[]) else { return };
    let client = client(server.url()).await;
    for table in ["klikit_ledger", "klikit_inbox", "klikit_inbox_attempt", "klikit_deliveries"] {
        client.batch_execute(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, body text)")).await.unwrap();
        let error = PostgresStore::open(server.url()).await.unwrap_err();
        let expected = if table == "klikit_deliveries" { Kind::OutdatedSchema } else { Kind::Migration };
        assert_eq!(error.kind(), expected, "{error:?}");
        assert!(
            format!("{error:?}").contains(table) && error.to_string().contains("another table prefix"),
            "{error:?}"
        );
        client.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
    }
    client.batch_execute("CREATE TABLE klikit_schema (version text)").await.unwrap();
    let error = PostgresStore::open(server.url()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Tables);
    assert!(error.to_string().contains("klikit_schema"), "{error}");
    assert_eq!(count(&client, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'klikit%'").await, 1);
}

#[tokio::test]
async fn missing_table_is_found_when_opening() {
    let Some(server) = PostgresServer::start("missing table is found when opening") else { return };
    let client = client(server.url()).await;
    open(server.url()).await;
    for (table, named) in [("klikit_inbox_body", "klikit_inbox*"), ("klikit_ledger", "klikit_ledger")] {
        client.batch_execute(&format!("DROP TABLE {table} CASCADE")).await.unwrap();
        let error = patient().open(server.url()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Tables);
        assert!(error.to_string().contains(named) && format!("{error:?}").contains(table), "{error:?}");
    }
}

#[tokio::test]
async fn invalid_url_error_hides_password() {
    for url in [
        "",
        "mysql://u:hunter2@h/d",
        "postgres://u:hunter2@h/d?sslmode=perhaps",
        "postgres://u:hunter2@h:port/d",
        "host=h password=hunter2 port=perhaps",
        "host=h password=a hunter2=b",
        // Reserved characters must be percent-encoded.
        "postgres://u:a@hunter2/x@h/d",
        "postgres://u:a@b/hunter2@h/d",
        "postgres://u:a@b?hunter2@h/d",
        "postgres://u:a@[hunter2@h/d",
    ] {
        let error = PostgresStore::open(url).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Url, "{url}");
        assert_not_in(&error, "hunter2");
    }
    let error = PostgresStore::open("postgres://u:hunter2@h/d?sslmode=perhaps").await.unwrap_err();
    assert!(format!("{error:?}").contains("sslmode"), "{error:?}");
}

#[tokio::test]
async fn errors_name_the_database_and_no_password() {
    let error = PostgresStore::open("postgres://clerk:hunter2@127.0.0.1:1/orders").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    let message = "could not connect to Postgres at 127.0.0.1:1/orders: check the URL, and that the server is running";
    assert_eq!(error.to_string(), message);
    // A `main` that returns the error prints its `Debug` form.
    let printed = format!("{error:?}");
    assert!(printed.starts_with(&format!("{message}: ")) && printed.contains("Connection refused"), "{printed}");
    assert_not_in(&error, "hunter2");
    let error = PostgresStore::open("postgres://127.0.0.1:1/or%0A%E2%80%AEders").await.unwrap_err();
    assert!(format!("{error:?}").contains(r"127.0.0.1:1/or\n\u{202e}ders: "), "{error:?}");
    let Some(server) = PostgresServer::start_own("errors name the database and no password", &[]) else { return };
    client(server.url()).await.batch_execute("CREATE ROLE clerk NOLOGIN PASSWORD 'hunter2'").await.unwrap();
    let error = PostgresStore::open(&server.url().replace("klikit@", "clerk:hunter2@")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    let port = server.port();
    let message = format!(
        "Postgres denies access at 127.0.0.1:{port}/postgres: check the user, the password and the server's pg_hba.conf"
    );
    assert_eq!(error.to_string(), message);
    assert_not_in(&error, "hunter2");
}

/// Checks that neither the texts of the error nor its sources contain this secret.
fn assert_not_in(error: &dyn std::error::Error, secret: &str) {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = format!("{error} {error:?}");
        assert!(!text.contains(secret), "{text}");
        next = error.source();
    }
}
