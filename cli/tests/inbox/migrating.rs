//! Tests of `klikit migrate`.

use std::{fs, path::Path};

use serde_json::json;
use tower_klikit_test_support::servers::postgres::PostgresServer;

use crate::support::{Ended, klikit};

fn migrate(location: &str, options: &[&str]) -> Ended {
    klikit(["migrate"].iter().chain(options).copied()).env("KLIKIT_STORE", location).run()
}

#[test]
fn file_of_an_older_release_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klikit.db");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stores/sqlite/tests/schema/v1.db");
    fs::copy(original, &path).unwrap();
    let location = path.to_str().unwrap();

    assert_eq!(migrate(location, &["--dry-run"]).stdout, "Migrate would apply inbox 2.\n");
    migrate(location, &[]).assert_error("there is no terminal to ask on: pass --yes");
    let printed = migrate(location, &["--print"]);
    assert_eq!(printed.code, Some(0), "{printed}");
    assert!(printed.stdout.starts_with("BEGIN;\n\n-- inbox, version 2\n"), "{printed}");
    assert!(printed.stdout.ends_with("COMMIT;\n"), "{printed}");

    let migrated = migrate(location, &["--yes", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&migrated.stdout).unwrap();
    let expected = json!({"store": location, "pending": [{"part": "inbox", "version": 2}], "applied": true});
    assert_eq!(report, expected);
    assert_eq!(migrate(location, &["--yes"]).stdout, "The store lacks no migration.\n");
    assert_eq!(migrate(location, &["--print"]).stdout, "-- The store lacks no migration.\n");
    assert_eq!(klikit(["inbox", "stats", "--store", location]).run().code, Some(0));
}

#[test]
fn printed_sql_migrates_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klikit.db");
    fs::write(&path, "").unwrap();
    let printed = migrate(path.to_str().unwrap(), &["--print", "--table-prefix", "webhooks_"]).stdout;
    rusqlite::Connection::open(&path).unwrap().execute_batch(&printed).unwrap();
    let counted = ["inbox", "stats", "--table-prefix", "webhooks_", "--store", path.to_str().unwrap()];
    assert_eq!(klikit(counted).run().code, Some(0));
}

#[test]
fn missing_file_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.db");
    let ended = klikit(["migrate", "--yes", "--store", path.to_str().unwrap()]).run();
    let name = path.display();
    ended.assert_error(&format!("{name} does not exist: name the service's file with --store, or set KLIKIT_STORE"));
    assert!(!path.exists());
}

#[test]
fn ledger_alone_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    fs::write(&path, "").unwrap();
    let server = PostgresServer::start("ledger alone is migrated");
    for location in [path.to_str()].into_iter().flatten().chain(server.as_ref().map(PostgresServer::url)) {
        assert_eq!(migrate(location, &["--ledger-only", "--yes"]).stdout, "Applied ledger 1.\n");
        assert_eq!(migrate(location, &["--ledger-only", "--yes"]).stdout, "The store lacks no migration.\n");
        let shown = klikit(["ledger", "show", "--event-id", "evt-1"]).env("KLIKIT_STORE", location).run();
        assert_eq!(shown.stdout, "No entry was found.\n", "{shown}");
        assert_eq!(migrate(location, &["--dry-run"]).stdout, "Migrate would apply inbox 1, inbox 2.\n");
    }
}

#[test]
fn empty_database_is_migrated() {
    let Some(server) = PostgresServer::start("empty database is migrated") else { return };
    let ended = klikit(["inbox", "stats"]).env("KLIKIT_STORE", server.url()).run();
    assert!(
        ended.code == Some(2) && ended.stderr.contains("lacks the migrations ledger 1, inbox 1, inbox 2"),
        "{ended}"
    );
    assert!(migrate(server.url(), &["--print"]).stdout.contains("CREATE TABLE"));
    assert_eq!(migrate(server.url(), &["--yes"]).stdout, "Applied ledger 1, inbox 1, inbox 2.\n");
    assert_eq!(klikit(["inbox", "stats"]).env("KLIKIT_STORE", server.url()).run().code, Some(0));
}
