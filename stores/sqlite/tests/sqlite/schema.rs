//! Tests of the schema, its versions and its migrations.
//!
//! The release that introduced version 1 has created `tests/schema/v1.db`, which never changes. The file has one
//! delivery in each state, one that was rescheduled, one whose event id was reused with a different body, and two
//! claims.

use std::{fs, path::PathBuf};

use rusqlite::Connection;
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    inbox::{DeliveryState, Filter, InboxAdmin, InboxStore},
};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{done, ids, lease, settled, show},
    support::{Folder, LEASE, TERMS, TestClock, claim, digest},
};

/// Returns a folder with a copy of the file of version 1.
fn version_1() -> Folder {
    let folder = Folder::new();
    let original = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schema/v1.db");
    fs::copy(original, folder.file()).unwrap();
    folder
}

/// Returns the names and definitions of all objects in the schema.
fn definitions(folder: &Folder) -> Vec<(String, Option<String>)> {
    let connection = folder.connect();
    let mut definitions = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let rows = definitions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn versions(folder: &Folder) -> Vec<(String, u32)> {
    let connection = folder.connect();
    let mut versions = connection.prepare("SELECT part, version FROM klikit_schema ORDER BY part").unwrap();
    let rows = versions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn new_file_has_the_same_schema_as_a_migrated_one() {
    let (new, migrated) = (Folder::new(), version_1());
    for folder in [&new, &migrated] {
        drop(folder.open());
        assert_eq!(versions(folder), [("inbox".into(), 2), ("ledger".into(), 1)]);
    }
    assert_eq!(definitions(&new), definitions(&migrated));
}

#[tokio::test]
async fn file_of_version_1_opens_with_all_rows() {
    let folder = version_1();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (3, 1, 1, 1));
    let dead = show(&store, 1).await.unwrap();
    assert_eq!((dead.state, dead.attempts, dead.reason.as_deref()), (DeliveryState::Dead, 1, Some("422")));
    assert_eq!((dead.event_id(), dead.body.as_deref()), (Some("evt-1"), Some(&b"body of evt-1"[..])));
    assert!(dead.terms.is_empty() && dead.history.is_empty());
    let found = store.find(&Filter::new().event_id("evt-1"), None, 10).await.unwrap();
    assert_eq!(found.entries.iter().map(|entry| entry.id.get()).collect::<Vec<_>>(), [1]);
    assert_eq!(store.claim(&claim(1, 9), &TERMS).await.unwrap(), ClaimOutcome::Done { digest: digest(1) });
    let in_flight = ClaimOutcome::InFlight { digest: digest(2), remaining: LEASE };
    assert_eq!(store.claim(&claim(2, 9), &TERMS).await.unwrap(), in_flight);

    // Delivery 3 is leased and blocks delivery 4.
    let leased = lease(&store, 10, 5).await;
    assert_eq!(ids(&leased), [6]);
    clock.advance(LEASE);
    let leased = lease(&store, 10, 5).await;
    assert_eq!(ids(&leased), [5, 3, 6]);
    settled(&store, &leased[1], done()).await;
    assert_eq!(ids(&lease(&store, 10, 5).await), [4]);
}

#[test]
fn printed_migrations_leave_nothing_to_do() {
    for prefix in [SqliteStore::DEFAULT_TABLE_PREFIX, "webhooks_"] {
        let folder = Folder::new();
        let builder = SqliteStore::builder().table_prefix(prefix);
        let connection = folder.connect();
        for (migration, version) in builder.migrations().unwrap().iter().zip([1, 1, 2]) {
            let printed = migration.to_string();
            assert!(printed.starts_with(&format!("-- {}, version {version}\n", migration.part())), "{printed}");
            connection.execute_batch(&format!("BEGIN; {printed} COMMIT;")).unwrap();
        }
        let before = definitions(&folder);
        assert!(before.iter().any(|(name, _)| *name == format!("{prefix}deliveries")));
        drop(builder.open(folder.file()).unwrap());
        assert_eq!(definitions(&folder), before);
    }
    assert_eq!(SqliteStore::builder().ledger_only().migrations().unwrap().len(), 1);
    let error = SqliteStore::builder().table_prefix("a b").migrations().unwrap_err();
    assert_eq!(error.kind(), SqliteErrorKind::TablePrefix);
}

#[test]
fn tables_from_before_version_1_are_rejected() {
    let folder = Folder::new();
    let older = Connection::open(folder.file()).unwrap();
    let create = "
        CREATE TABLE klikit_versions (
            name TEXT PRIMARY KEY,
            version INTEGER NOT NULL
        )
        ";
    older.execute_batch(create).unwrap();
    let before = definitions(&folder);
    let error = SqliteStore::builder().create().open(folder.file()).unwrap_err();
    assert_eq!(error.kind(), SqliteErrorKind::OutdatedSchema);
    assert!(error.to_string().contains("let the old release handle all deliveries"), "{error}");
    assert_eq!(definitions(&folder), before);
    // Another prefix works, as the error message suggests.
    SqliteStore::builder().table_prefix("webhooks_").open(folder.file()).unwrap();
}

#[test]
fn files_without_a_table_are_rejected() {
    for (statement, missing) in [
        ("DROP TABLE klikit_inbox", "the table klikit_inbox"),
        ("DROP TABLE klikit_inbox_key", "the table klikit_inbox_key"),
        ("DROP TABLE klikit_inbox_pause", "the table klikit_inbox_pause"),
        ("DROP TABLE klikit_clock", "the table klikit_clock"),
        ("DROP VIEW klikit_deliveries", "the view klikit_deliveries"),
        ("DROP TRIGGER klikit_inbox_requeue", "the trigger klikit_inbox_requeue"),
        (
            "
            DROP VIEW klikit_deliveries;
            DROP TRIGGER klikit_inbox_requeue;
            DROP TABLE klikit_inbox;
            ",
            "the table klikit_inbox",
        ),
        ("ALTER TABLE klikit_ledger DROP COLUMN kept_until", "the column kept_until of the table klikit_ledger"),
    ] {
        let folder = Folder::new();
        drop(folder.open());
        folder.connect().execute_batch(statement).unwrap();
        let error = SqliteStore::open(folder.file()).expect_err(statement);
        assert_eq!(error.kind(), SqliteErrorKind::Tables, "{error}");
        let expected = format!("{missing} is missing: restore it, or create it with the SQL of its migration");
        assert!(error.to_string().ends_with(&expected), "{error}");
        // A ledger-only store does not need the inbox's tables.
        let is_of_inbox = missing.contains("inbox") || missing.contains("deliveries");
        assert_eq!(SqliteStore::builder().ledger_only().open(folder.file()).is_ok(), is_of_inbox, "{statement}");
    }
}
