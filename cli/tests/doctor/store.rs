//! Tests of the checks of the store and its schema.

use std::{fs, path::Path};

use tokio_postgres::NoTls;
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_test_support::servers::postgres::PostgresServer;

use crate::{
    report::{Report, doctor},
    stores::TestStore,
    support::klikit,
};

const OF_OPEN_STORE: [&str; 5] = ["dead_letters", "pending", "stored", "pauses", "clock"];

fn at(location: &str) -> Report {
    Report::of(doctor(&[]).env("KLIKIT_STORE", location))
}

#[test]
fn without_a_store_only_the_secret_is_checked() {
    let report = Report::of(doctor(&[]).env("KLIKIT_STORE", ""));
    report.assert_checks("ok", &["secret"]);
    report.assert_checks("not_checked", &[&["store", "schema"][..], &OF_OPEN_STORE].concat());
    assert!(report.json["store"].is_null());
}

#[test]
fn wrong_places_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.db");
    for (location, options, part) in [
        ("", &["--store", missing.to_str().unwrap()][..], "missing.db does not exist: name the service's file with"),
        (missing.to_str().unwrap(), &[], "the file that KLIKIT_STORE names does not exist: set it to the SQLite file"),
        ("mysql://127.0.0.1:1/orders", &[], "KLIKIT_STORE is a URL with an unsupported scheme: set it to the SQLite"),
        ("postgres://127.0.0.1:99999/orders", &[], "the URL of the Postgres database is invalid"),
        ("", &["--store", "postgres://127.0.0.1:1/orders"], "--store takes a file"),
        ("postgres://127.0.0.1:1/orders", &["--table-prefix", "1"], "is not a valid table prefix"),
        ("", &["--max-stored", "many"], "invalid value 'many' for '--max-stored <DELIVERIES>'"),
    ] {
        let ended = klikit(["doctor"].iter().chain(options).copied()).env("KLIKIT_STORE", location).run();
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended}");
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.matches('\n').count() == 1, "{ended}");
        assert!(ended.stderr.contains(part), "{part} is not in {ended}");
    }
    assert!(!missing.exists());
}

#[test]
fn unreachable_server_is_a_blocker() {
    let report = at("postgres://klikit:hunter2@127.0.0.1:1/orders");
    report.assert_row("store", "blocker", "could not connect to Postgres at 127.0.0.1:1/orders");
    report.assert_checks("not_checked", &[&["schema"][..], &OF_OPEN_STORE].concat());
    report.assert_hides("hunter2");
}

#[test]
fn file_of_another_kind_is_a_blocker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "notes, ".repeat(1000)).unwrap();
    let report = at(path.to_str().unwrap());
    report.assert_row("store", "blocker", "notes.txt");
    assert_eq!(
        report.row("store")["action"],
        "name a store's file that can be read and written, on a disk with free space"
    );
}

#[test]
fn locked_file_is_a_blocker() {
    let store = TestStore::sqlite();
    drop(store.service.inbox);
    let connection = rusqlite::Connection::open(&store.location).unwrap();
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let report = at(&store.location);
    report.assert_row("store", "blocker", "another process has the file locked");
    assert_eq!(report.row("store")["action"], "wait for that process, or stop it");
    report.assert_checks("not_checked", &[&["schema"][..], &OF_OPEN_STORE].concat());
}

#[test]
fn lock_of_a_writer_is_a_blocker() {
    let store = TestStore::sqlite();
    let connection = rusqlite::Connection::open(&store.location).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let report = Report::on(&store, &[]);
    report.assert_row("store", "blocker", "another connection keeps the store's file locked");
    report.assert_checks("ok", &["secret", "schema", "dead_letters", "pending", "stored", "pauses"]);
}

#[tokio::test]
async fn read_only_database_is_a_blocker() {
    let Some(store) = TestStore::postgres("read-only database is a blocker").await else { return };
    store.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on").await;
    Report::on(&store, &[]).assert_row("store", "blocker", "read-only transaction");
}

#[tokio::test]
async fn locked_table_is_a_blocker() {
    let Some(store) = TestStore::postgres("locked table is a blocker").await else { return };
    let (client, connection) = tokio_postgres::connect(&store.location, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE klikit_inbox IN ACCESS EXCLUSIVE MODE").await.unwrap();
    Report::on(&store, &[]).assert_checks("blocker", &["store"]);
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn store_without_inbox_is_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(SqliteStore::builder().create().ledger_only().open(&path).unwrap());
    let mut locations = vec![path.to_str().unwrap().to_owned()];
    let server = PostgresServer::start("store without inbox is no fault");
    if let Some(server) = &server {
        drop(PostgresStore::builder().ledger_only().open(server.url()).await.unwrap());
        locations.push(server.url().to_owned());
    }
    for location in locations {
        let report = at(&location);
        report.assert_checks("ok", &["secret", "store", "schema"]);
        report.assert_row("schema", "ok", "ledger 1, the versions of this release");
        report.assert_checks("not_checked", &OF_OPEN_STORE);
    }
}

#[test]
fn older_schema_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klikit.db");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stores/sqlite/tests/schema/v1.db");
    fs::copy(original, &path).unwrap();
    let report = at(path.to_str().unwrap());
    report.assert_row("store", "ok", "reachable");
    report.assert_row("schema", "warning", "lacks the migrations inbox 2");
    assert!(report.row("schema")["action"].as_str().unwrap().contains("`klikit migrate`"));
    report.assert_checks("not_checked", &OF_OPEN_STORE);
    assert_eq!(SqliteStore::builder().pending_migrations(&path).unwrap().len(), 1);
}

#[test]
fn empty_database_lacks_all_migrations() {
    let Some(server) = PostgresServer::start("empty database lacks all migrations") else { return };
    at(server.url()).assert_row("schema", "warning", "lacks the migrations ledger 1, inbox 1, inbox 2");
}

#[tokio::test]
async fn newer_schema_is_a_blocker() {
    let sql = "UPDATE klikit_schema SET version = 9 WHERE part = 'inbox'";
    let file = TestStore::sqlite();
    rusqlite::Connection::open(&file.location).unwrap().execute(sql, []).unwrap();
    let database = TestStore::postgres("newer schema is a blocker").await;
    if let Some(database) = &database {
        database.execute(sql).await;
    }
    for store in [Some(&file), database.as_ref()].into_iter().flatten() {
        let report = Report::on(store, &[]);
        report.assert_row("store", "ok", "reachable");
        report.assert_row("schema", "blocker", "version 9");
        report.assert_checks("not_checked", &OF_OPEN_STORE);
    }
}
