//! Test that SQLite and Postgres have the same tables and columns.

use std::collections::{BTreeMap, BTreeSet};

use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_test_support::servers::postgres::PostgresServer;

type Tables = BTreeMap<String, BTreeSet<String>>;

/// The table of the store's own time, which only SQLite has. Postgres uses the server's clock.
const CLOCK: &str = "klikit_clock";
/// The column with a time by that clock.
const SINCE: &str = "since";

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

#[tokio::test]
async fn stores_have_the_same_tables_and_columns() {
    let Some(server) = PostgresServer::start("the same tables on SQLite and Postgres") else { return };
    let (mut sqlite, postgres) = (sqlite_tables(), postgres_tables(&server).await);
    assert!(sqlite.remove(CLOCK).is_some());
    assert!(sqlite.get_mut("klikit_inbox").unwrap().remove(SINCE));
    assert_eq!(sqlite, postgres);
    let expected = ["deliveries", "inbox", "inbox_attempt", "inbox_body", "inbox_key", "ledger", "schema"];
    assert_eq!(sqlite.into_keys().collect::<Vec<_>>(), expected.map(|table| format!("klikit_{table}")));
}
