//! Tests of bad input, and of stores that cannot be used.

use std::{fs, path::Path};

use tower_klikit_sqlite::SqliteStore;

use crate::{
    stores::TestStore,
    support::{Ended, klikit},
};

/// Asserts that a run ended with exit code 2 and one line that contains each of the parts.
#[track_caller]
fn assert_error(ended: &Ended, parts: &[&str]) {
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended}");
    assert!(ended.stderr.starts_with("error: ") && ended.stderr.matches('\n').count() == 1, "{ended}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part} is not in {ended}");
    }
}

fn stats(location: &str) -> Ended {
    klikit(["inbox", "stats"]).env("KLIKIT_STORE", location).run()
}

#[test]
fn store_must_be_named() {
    assert_error(&stats(""), &["no store was given", "--store", "KLIKIT_STORE"]);
}

#[test]
fn missing_file_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.db");
    let named = klikit(["inbox", "stats", "--store", path.to_str().unwrap()]).run();
    assert_error(&named, &["missing.db does not exist", "--store"]);
    assert_error(&stats(path.to_str().unwrap()), &["the file that KLIKIT_STORE names does not exist", "postgres://"]);
    assert!(!path.exists());
}

#[test]
fn file_of_another_kind_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "notes, ".repeat(1000)).unwrap();
    assert_error(&stats(path.to_str().unwrap()), &["notes.txt", "name a store's file"]);
    assert_error(&stats(folder.path().to_str().unwrap()), &["name a store's file"]);
}

#[tokio::test]
async fn file_without_tables_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.db");
    fs::write(&path, "").unwrap();
    assert_error(
        &stats(path.to_str().unwrap()),
        &["lacks the migrations ledger 1, inbox 1, inbox 2", "--table-prefix", "klikit migrate"],
    );
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn older_schema_is_not_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klikit.db");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stores/sqlite/tests/schema/v1.db");
    fs::copy(original, &path).unwrap();
    assert_error(
        &stats(path.to_str().unwrap()),
        &["lacks the migrations inbox 2", "stop the processes of older releases", "`klikit migrate`"],
    );
    let pending = SqliteStore::builder().pending_migrations(&path).unwrap();
    assert_eq!(pending.len(), 1);
}

#[test]
fn newer_schema_is_rejected() {
    let store = TestStore::sqlite();
    let connection = rusqlite::Connection::open(&store.location).unwrap();
    connection.execute("UPDATE klikit_schema SET version = 9 WHERE part = 'inbox'", []).unwrap();
    drop(connection);
    assert_error(
        &stats(&store.location),
        &[&store.name, "the tables of the inbox have version 9", "use the release that migrated them"],
    );
}

#[tokio::test]
async fn newer_schema_on_postgres_is_rejected() {
    let Some(store) = TestStore::postgres("newer schema on postgres is rejected").await else { return };
    store.execute("UPDATE klikit_schema SET version = 9 WHERE part = 'inbox'").await;
    assert_error(
        &stats(&store.location),
        &[&store.name, "the tables of the inbox have schema version 9", "use the release that migrated them"],
    );
}

#[tokio::test]
async fn missing_table_is_reported() {
    for store in TestStore::each("missing table is reported").await {
        store.execute("DROP TABLE klikit_inbox_pause").await;
        assert_error(&stats(&store.location), &[&store.name, "klikit_inbox_pause"]);
    }
}

#[test]
fn locked_store_is_reported() {
    let store = TestStore::sqlite();
    let path = store.location.clone();
    drop(store.service.inbox);
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    assert_error(&stats(&store.location), &["another process has the file locked", "wait for that process"]);
}

#[tokio::test]
async fn action_on_a_locked_store_is_reported() {
    let store = TestStore::sqlite();
    store.accept([1]).await;
    store.dead_letter("out of paper").await;
    let connection = rusqlite::Connection::open(&store.location).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ended = store.klikit(["inbox", "retry", "1", "--yes"]).run();
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended}");
    let line = ended.stderr.lines().last().unwrap();
    for part in [&*format!("error: {} cannot be used", store.name), "keeps the store's file locked", "try again"] {
        assert!(line.contains(part), "{part} is not in {ended}");
    }
    connection.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.text(["inbox", "retry", "1", "--yes"]), "Retried 1 delivery.\n");
}

#[tokio::test]
async fn locked_tables_on_postgres_are_reported() {
    let Some(store) = TestStore::postgres("locked tables on postgres are reported").await else { return };
    store.accept([1]).await;
    store.dead_letter("out of paper").await;
    let (client, connection) = tokio_postgres::connect(&store.location, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE klikit_inbox IN EXCLUSIVE MODE").await.unwrap();
    let ended = store.klikit(["inbox", "retry", "1", "--yes"]).run();
    assert_error(&ended, &[&store.name, "another session may have locked its tables", "end that session"]);
    drop(client);
    connection.await.unwrap().unwrap();
}

#[test]
fn unreachable_server_is_named_without_password() {
    let ended = stats("postgres://klikit:hunter2@127.0.0.1:1/orders");
    assert_error(&ended, &["could not connect to Postgres at 127.0.0.1:1/orders", "check the URL"]);
    assert!(!ended.stderr.contains("hunter2"), "{ended}");
}

#[test]
fn url_of_another_database_is_rejected() {
    for url in ["mysql://klikit:hunter2@127.0.0.1/orders", "://hunter2", "Postgres:hunter2://x"] {
        let line = "KLIKIT_STORE is a URL with an unsupported scheme: set it to the SQLite file of a store, or to a \
                    postgres:// URL";
        stats(url).assert_error(line);
    }
}

#[test]
fn password_of_another_form_is_not_shown() {
    for location in [
        "host=db user=klikit password=hunter2 dbname=orders",
        "postgres:/klikit:hunter2@127.0.0.1/orders",
        "postgres:klikit:hunter2@127.0.0.1/orders",
        "postgres//klikit:hunter2@127.0.0.1/orders",
        "postgres://klikit:1#hunter2@127.0.0.1:1/orders",
        "postgres://klikit:1?hunter2@127.0.0.1:1/orders",
        "postgres://hunter2#@127.0.0.1:1/orders",
    ] {
        for command in [&["inbox", "stats"][..], &["ledger", "show", "--event-id", "a"], &["doctor"], &["migrate"]] {
            let ended = klikit(command.iter().copied()).env("KLIKIT_STORE", location).run();
            let shown = format!("{}{}", ended.stdout, ended.stderr);
            assert!(ended.code != Some(0) && !shown.contains("hunter2"), "{location}: {shown}");
        }
    }
}

#[test]
fn url_is_no_argument() {
    let ended = klikit(["inbox", "stats", "--store", "postgres://klikit:hunter2@127.0.0.1:1/orders"]).run();
    assert_error(&ended, &["--store takes a file", "KLIKIT_STORE"]);
    assert!(!ended.stderr.contains("hunter2"), "{ended}");
}

#[test]
fn bad_arguments_are_explained() {
    for (arguments, part) in [
        (&["list", "--state", "lost"][..], "the states are ready, leased, dead and done"),
        (&["list", "--attempts", "5..2"], "a number of attempts looks like"),
        (&["list", "--older-than", "2"], "a duration looks like"),
        (&["list", "--accepted", "yesterday.."], "yesterday is not a time"),
        (&["list", "--limit", "0"], "--limit"),
        (&["show", "first"], "an id is a number"),
    ] {
        let ended = klikit(["inbox"].iter().chain(arguments).copied()).env("KLIKIT_STORE", "/dev/null").run();
        assert_error(&ended, &[part]);
    }
}

#[tokio::test]
async fn missing_delivery_is_reported() {
    for store in TestStore::each("missing delivery is reported").await {
        for arguments in [&["show", "7"][..], &["list", "--same-body-as", "7"]] {
            let ended = store.klikit(["inbox"].iter().chain(arguments).copied()).run();
            let name = &store.name;
            assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended}");
            assert!(ended.stderr.contains(&format!("error: {name} has no delivery 7")), "{ended}");
        }
    }
}
