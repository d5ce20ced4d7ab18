use std::{fs, path::PathBuf, thread};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{SqliteStore, SqliteStoreBuilder};

const ADD_COLUMN: &str = "ALTER TABLE klikit_inbox ADD COLUMN note TEXT NOT NULL DEFAULT 'new';";

/// A temporary folder with a store's file.
struct SchemaFolder(TempDir);

impl SchemaFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Returns a folder with a copy of the file that version 1 has made.
    fn with_version_1() -> Self {
        let folder = Self::new();
        let original = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schema/v1.db");
        fs::copy(original, folder.file()).unwrap();
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("klikit.db")
    }

    fn connect(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    /// Returns the names and definitions of all objects in the schema.
    fn definitions(&self) -> Vec<(String, Option<String>)> {
        let connection = self.connect();
        let mut definitions = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = definitions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Returns the versions of the inbox and of the ledger.
    fn versions(&self) -> Vec<u32> {
        let connection = self.connect();
        let mut versions = connection.prepare("SELECT version FROM klikit_schema ORDER BY part").unwrap();
        let rows = versions.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn text(&self, sql: &str) -> String {
        self.connect().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// Returns the options of a later release, which has one more migration of the inbox.
fn later(sql: &str) -> SqliteStoreBuilder {
    SqliteStore::builder().append_migration(INBOX, sql)
}

#[test]
fn pending_migrations_change_nothing() {
    let steps = |folder: &SchemaFolder| -> Vec<_> {
        let pending = SqliteStore::builder().pending_migrations(folder.file()).unwrap();
        pending.iter().map(|step| (step.part().to_owned(), step.version())).collect()
    };
    let folder = SchemaFolder::with_version_1();
    let before = folder.definitions();
    assert_eq!(steps(&folder), [(INBOX.to_owned(), 2)]);
    assert_eq!(folder.definitions(), before);
    drop(SqliteStore::open(folder.file()).unwrap());
    assert!(steps(&folder).is_empty());

    let missing = SqliteStore::builder().pending_migrations(SchemaFolder::new().file()).unwrap_err();
    assert_eq!(missing.kind(), SqliteErrorKind::NotFound);
    drop(later(ADD_COLUMN).open(folder.file()).unwrap());
    let newer = SqliteStore::builder().pending_migrations(folder.file()).unwrap_err();
    assert_eq!(newer.kind(), SqliteErrorKind::NewerSchema);
}

#[test]
fn migration_keeps_all_rows() {
    let folder = SchemaFolder::with_version_1();
    later(ADD_COLUMN).open(folder.file()).unwrap();
    assert_eq!(folder.versions(), [3, 1]);
    assert_eq!(folder.text("SELECT count(*) || ' ' || min(note) || ' ' || max(note) FROM klikit_inbox"), "6 new new");
}

#[test]
fn failed_migration_changes_nothing() {
    let folder = SchemaFolder::with_version_1();
    let before = folder.definitions();
    for step in [format!("{ADD_COLUMN} INSERT INTO no_such_table VALUES (1);"), "no statement".into()] {
        let error = later(&step).open(folder.file()).unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::Migration);
        assert!(error.to_string().contains("cannot migrate the inbox to version 3"), "{error}");
        assert_eq!((folder.definitions(), folder.versions()), (before.clone(), vec![1, 1]));
    }
    // A new file stays without tables.
    let folder = SchemaFolder::new();
    later("no statement").create().open(folder.file()).unwrap_err();
    assert_eq!(folder.definitions(), []);
    drop(SqliteStore::open(folder.file()).unwrap());
    later(ADD_COLUMN).open(folder.file()).unwrap();
}

#[test]
fn stores_that_open_at_once_migrate_once() {
    for folder in [SchemaFolder::with_version_1(), SchemaFolder::new()] {
        thread::scope(|scope| {
            let open = || later(ADD_COLUMN).create().open(folder.file());
            let opening: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            opening.into_iter().for_each(|thread| drop(thread.join().unwrap().unwrap()));
        });
        assert_eq!(folder.versions(), [3, 1]);
    }
}

/// A migration of one part may use tables of the other part.
#[test]
fn applies_missing_migrations_in_listed_order() {
    let builder = later("ALTER TABLE klikit_inbox ADD COLUMN note TEXT;")
        .append_migration(LEDGER, "CREATE TABLE klikit_notes AS SELECT id FROM klikit_inbox WHERE note IS NULL;")
        .append_migration(INBOX, "UPDATE klikit_inbox SET note = (SELECT count(*) FROM klikit_notes);");
    let migrations = builder.migrations().unwrap();
    let steps: Vec<_> = migrations.iter().map(|step| (step.part(), step.version())).collect();
    assert_eq!(steps, [(LEDGER, 1), (INBOX, 1), (INBOX, 2), (INBOX, 3), (LEDGER, 2), (INBOX, 4)]);
    for folder in [SchemaFolder::with_version_1(), SchemaFolder::new()] {
        builder.clone().create().open(folder.file()).unwrap();
        assert_eq!(folder.versions(), [4, 2]);
    }
    let folder = SchemaFolder::with_version_1();
    builder.open(folder.file()).unwrap();
    assert_eq!(folder.text("SELECT min(note) || ' ' || max(note) FROM klikit_inbox"), "6 6");
}

#[test]
fn newer_schema_is_rejected() {
    let folder = SchemaFolder::with_version_1();
    drop(later(ADD_COLUMN).open(folder.file()).unwrap());
    let error = SqliteStore::open(folder.file()).unwrap_err();
    assert_eq!(error.kind(), SqliteErrorKind::NewerSchema);
    let both = "the tables of the inbox have version 3, and this release knows no version after 2";
    assert!(error.to_string().contains(both), "{error}");
    // This release knows the version of the ledger.
    SqliteStore::builder().ledger_only().open(folder.file()).unwrap();
}
