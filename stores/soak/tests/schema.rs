//! Test that SQLite and Postgres have the same tables and columns.

use std::collections::{BTreeMap, BTreeSet};

use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_test_support::servers::postgres::PostgresServer;

type Tables = BTreeMap<String, BTreeSet<String>>;

/// The tables and columns that only SQLite has.
const ONLY_SQLITE: &[(&str, &[&str])] = &[
    // The store's own time. Postgres uses the server's clock.
    ("klikit_clock", &["ahead", "generation", "id", "latest"]),
    // A time by that clock, the key of the open attempt, and search terms. On Postgres, search terms stand with the
    // body: each lease would write a changed row to all indexes.
    ("klikit_inbox", &["branch", "orders", "since", "started_token"]),
    // The key of an attempt. On Postgres, times are exact enough to be keys.
    ("klikit_inbox_attempt", &["token"]),
];

/// The tables and columns that only Postgres has.
const ONLY_POSTGRES: &[(&str, &[&str])] = &[
    ("klikit_inbox_body", &["branch", "event", "orders"]),
    // SQLite finds the tenants in an index.
    ("klikit_inbox_tenant", &["tenant"]),
];

fn sqlite_tables() -> Tables {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("klikit.db");
    drop(SqliteStore::builder().create().open(&file).unwrap());
    let connection = rusqlite::Connection::open(file).unwrap();
    let columns = "
        SELECT t.name, c.name
        FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
        WHERE t.type IN ('table', 'view') AND t.name LIKE 'klikit%'";
    let mut statement = connection.prepare(columns).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    gathered(rows.map(Result::unwrap))
}

async fn postgres_tables(server: &PostgresServer) -> Tables {
    drop(PostgresStore::open(server.url()).await.unwrap());
    let (client, connection) = tokio_postgres::connect(server.url(), tokio_postgres::NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    let columns = "
        SELECT table_name::text, column_name::text
        FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name LIKE 'klikit%'";
    let rows = client.query(columns, &[]).await.unwrap();
    gathered(rows.iter().map(|row| (row.get(0), row.get(1))))
}

fn gathered(columns: impl Iterator<Item = (String, String)>) -> Tables {
    let mut tables = Tables::new();
    columns.for_each(|(table, column)| _ = tables.entry(table).or_default().insert(column));
    tables
}

/// Removes these columns, all of which must be there, and tables that have no others.
fn without(mut tables: Tables, columns: &[(&str, &[&str])]) -> Tables {
    for (table, columns) in columns {
        let found = tables.get_mut(*table).unwrap();
        assert!(columns.iter().all(|column| found.remove(*column)), "{table} has no column of {columns:?}");
    }
    tables.retain(|_, columns| !columns.is_empty());
    tables
}

#[tokio::test]
async fn stores_have_the_same_tables_and_columns() {
    let Some(server) = PostgresServer::start("the same tables on SQLite and Postgres") else { return };
    let sqlite = without(sqlite_tables(), ONLY_SQLITE);
    assert_eq!(sqlite, without(postgres_tables(&server).await, ONLY_POSTGRES));
    let expected =
        ["deliveries", "inbox", "inbox_attempt", "inbox_body", "inbox_key", "inbox_pause", "ledger", "schema"];
    assert_eq!(sqlite.into_keys().collect::<Vec<_>>(), expected.map(|table| format!("klikit_{table}")));
}
