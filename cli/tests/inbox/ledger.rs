//! Tests of `klikit ledger`.

use std::{fs, path::Path, time::Duration};

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::NoTls;
use tower_klikit::dedupe::{BodyDigest, Claim, ClaimTerms, EventKey, Ledger};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_test_support::servers::postgres::PostgresServer;

use crate::{
    service::order,
    stores::TestStore,
    support::{Ended, klikit},
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn show_lists_an_event_with_its_conflicts() {
    for store in TestStore::each("show lists an event with its conflicts").await {
        store.accept(1..=3).await;
        // Another body under the id of the first order's event.
        assert_eq!(store.service.send(&order(1, 9)).await, StatusCode::OK);
        let shown = store.json(["ledger", "show", "--event-id", "evt-1"]);
        assert_eq!((&shown["next"], entries(&shown).len()), (&Value::Null, 2), "{shown}");
        let event = hex::encode(EventKey::of_event("default", "evt-1").as_bytes());
        for entry in entries(&shown) {
            assert_eq!((&entry["event"], &entry["state"]), (&json!(event), &json!("done")), "{shown}");
            assert_eq!(entry["is_conflict"], entry["key"] != event, "{shown}");
            assert_eq!(entry["digest"].as_str().unwrap().len(), 64, "{shown}");
            let [claimed_at, until] = ["claimed_at", "until"].map(|time| time_of(&entry[time]));
            assert!(claimed_at.duration_since(Timestamp::now()).as_secs().abs() < 600, "{shown}");
            assert_eq!(until.duration_since(claimed_at).as_hours(), 35 * 24, "{shown}");
            assert_eq!(entry["kept_until"], entry["until"], "{shown}");
        }
        let table = store.text(["ledger", "show", "--event-id", "evt-1"]);
        assert!(table.starts_with("key ") && table.lines().count() == 3, "{table}");
        assert!(table.contains(&event) && table.matches("conflict").count() == 1, "{table}");
        for arguments in [&["--event-id", "evt-9"][..], &["--event-id", "evt-1", "--tenant", "other"]] {
            let arguments = ["ledger", "show"].iter().chain(arguments);
            assert_eq!(store.text(arguments.copied()), "No entry was found.\n");
        }
    }
}

#[tokio::test]
async fn show_lists_a_window_in_pages() {
    for store in TestStore::each("show lists a window in pages").await {
        store.accept(1..=3).await;
        store.work_until_idle().await;
        // Only the rows of the ledger are left.
        store.text(["inbox", "purge", "--all", "--yes"]);
        let window = ["ledger", "show", "--accepted", "2026-01-01T00:00:00Z.."];
        let all = store.json(window);
        let keys: Vec<&str> = entries(&all).iter().map(|entry| entry["key"].as_str().unwrap()).collect();
        let mut expected: Vec<_> = (1..=3).map(|n| EventKey::of_event("default", &format!("evt-{n}"))).collect();
        expected.sort_unstable();
        assert_eq!(keys, expected.iter().map(|key| hex::encode(key.as_bytes())).collect::<Vec<_>>());

        let first = store.json(window.into_iter().chain(["--limit", "2"]));
        assert_eq!((entries(&first), &first["next"]), (&entries(&all)[..2], &all["entries"][1]["key"]));
        let text = store.text(window.into_iter().chain(["--limit", "2"]));
        assert!(text.ends_with(&format!("\nThere are more: --after {}\n", keys[1])), "{text}");
        let second = store.json(window.into_iter().chain(["--limit", "2", "--after", keys[1]]));
        assert_eq!((entries(&second), &second["next"]), (&entries(&all)[2..], &Value::Null));
        let exact = store.json(window.into_iter().chain(["--limit", "3"]));
        assert_eq!(exact["next"], Value::Null, "no entry follows a page that is just full");
        assert_eq!(store.text(["ledger", "show", "--accepted", "..2026-01-01T00:00:00Z"]), "No entry was found.\n");
    }
}

#[tokio::test]
async fn forget_lets_events_come_again() {
    for store in TestStore::each("forget lets events come again").await {
        store.accept(1..=3).await;
        store.work_until_idle().await;
        // Only the rows of the ledger are left.
        store.text(["inbox", "purge", "--all", "--yes"]);
        let arguments = ["ledger", "forget", "--event-id", "evt-1", "--operator", "ana"];
        let expected = |changed, dry_run: bool| {
            json!({
                "store": store.name, "action": "forget", "operator": "ana",
                "selected": 1, "changed": changed, "applied": !dry_run, "dry_run": dry_run,
            })
        };
        assert_eq!(store.json(arguments.into_iter().chain(["--dry-run"])), expected(0, true));
        assert_eq!(store.json(arguments.into_iter().chain(["--yes"])), expected(1, false));
        assert_eq!(store.text(arguments.into_iter().chain(["--yes"])), "Forget applies to no delivery.\n");
        let window = ["ledger", "forget", "--accepted", "2026-01-01T00:00:00Z.."];
        for (forget, sent, accepted) in [(false, 1, 1), (false, 2, 1), (true, 2, 2), (false, 3, 3)] {
            if forget {
                // The first delivery is pending.
                let dry_run = store.text(window.into_iter().chain(["--dry-run"]));
                assert_eq!(dry_run, "Forget would apply to 2 deliveries.\n");
                assert_eq!(store.text(window.into_iter().chain(["--yes"])), "Forgot 2 deliveries.\n");
            }
            assert_eq!(store.service.send(&order(sent, sent)).await, StatusCode::OK);
            assert_eq!(store.service.inbox.counts().await.unwrap().ready, accepted, "{forget} {sent}");
        }
    }
}

#[tokio::test]
async fn store_without_inbox_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let store = SqliteStore::builder().create().ledger_only().open(&path).unwrap();
    let edit = async |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    check_ledger_only(&store, path.to_str().unwrap(), edit).await;
    let Some(server) = PostgresServer::start("store without inbox can be used") else { return };
    let store = PostgresStore::builder().ledger_only().open(server.url()).await.unwrap();
    let (client, connection) = tokio_postgres::connect(server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let edit = async |sql: &str| client.batch_execute(sql).await.unwrap();
    check_ledger_only(&store, server.url(), edit).await;
}

/// Checks the commands on a store with the tables of the ledger only. `edit` runs a statement on the store.
async fn check_ledger_only(store: &impl Ledger, location: &str, edit: impl AsyncFn(&str)) {
    let event = EventKey::of_event("default", "evt-1");
    let conflict = event.with_body(&BodyDigest::of(b"other body"));
    let other = EventKey::of_event("default", "evt-2");
    for (key, event) in [(event, event), (conflict, event), (other, other)] {
        let claim = Claim::new(*key.as_bytes(), *event.as_bytes(), BodyDigest::of(b"body"), [1; 16]);
        store.claim(&claim, &ClaimTerms { lease: HOUR, grace: HOUR }).await.unwrap();
        if key == event {
            store.complete(&claim, 2 * HOUR).await.unwrap();
        }
    }
    let run = |arguments: &[&str]| klikit(arguments.iter().copied()).env("KLIKIT_STORE", location).run();
    let json = |ended: Ended| -> Value {
        assert_eq!(ended.code, Some(0), "{ended}");
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let shown = json(run(&["ledger", "show", "--event-id", "evt-1", "--json"]));
    assert_eq!(entries(&shown).len(), 2, "{shown}");
    for entry in entries(&shown) {
        let (state, hours) = if entry["is_conflict"] == json!(true) { ("claimed", 1) } else { ("done", 2) };
        assert_eq!(entry["state"], state, "{shown}");
        let minutes = |from: &str, to: &str| time_of(&entry[to]).duration_since(time_of(&entry[from])).as_mins();
        assert_eq!((minutes("claimed_at", "until") + 1) / 60, hours, "{shown}");
        assert_eq!((minutes("claimed_at", "kept_until") + 1) / 60, 2, "{shown}");
    }
    assert_eq!(entries(&json(run(&["ledger", "show", "--accepted", "..", "--json"]))).len(), 3);

    let forget = ["ledger", "forget", "--event-id", "evt-1", "--operator", "ana"];
    let dry_run = run(&[&forget[..], &["--dry-run"]].concat());
    assert_eq!(dry_run.stdout, "Forget would apply to 2 deliveries.\n", "{dry_run}");
    let forgotten = run(&[&forget[..], &["--yes"]].concat());
    assert_eq!(forgotten.stdout, "Forgot 2 deliveries.\n", "{forgotten}");
    let line = r#"operator acted on deliveries operator=ana action="forget" filter="tenant=default event_id=evt-1" deliveries=2"#;
    assert!(forgotten.stderr.contains(line), "{forgotten}");
    // An entry that cannot be shown can be forgotten.
    edit("UPDATE klikit_ledger SET digest = ''").await;
    assert_eq!(entries(&json(run(&["ledger", "show", "--event-id", "evt-2", "--json"]))).len(), 0);
    let unreadable = run(&["ledger", "forget", "--event-id", "evt-2", "--dry-run"]);
    assert_eq!(unreadable.stdout, "Forget would apply to 1 delivery.\n", "{unreadable}");
    let all = json(run(&["ledger", "forget", "--accepted", "..", "--yes", "--json"]));
    assert_eq!((&all["selected"], &all["changed"]), (&json!(1), &json!(1)), "{all}");
    assert_eq!(entries(&json(run(&["ledger", "show", "--accepted", "..", "--json"]))).len(), 0);

    // The commands have created no tables.
    let stats = run(&["inbox", "stats"]);
    assert!(stats.code == Some(2) && stats.stderr.contains("lacks the migrations inbox 1, inbox 2"), "{stats}");
}

#[test]
fn commands_need_one_target() {
    let store = TestStore::sqlite();
    for command in [&["ledger", "show"][..], &["ledger", "forget", "--yes"]] {
        for options in [&[][..], &["--event-id", "a", "--accepted", ".."], &["--tenant", "a", "--accepted", ".."]] {
            let ended = store.klikit(command.iter().chain(options).copied()).run();
            assert!(ended.code == Some(2) && ended.stderr.matches('\n').count() == 1, "{ended}");
        }
    }
    let ended = store.klikit(["ledger", "forget", "--event-id", "evt-1"]).run();
    ended.assert_error("there is no terminal to ask on: pass --yes");
}

#[test]
fn show_rejects_bad_options() {
    let store = TestStore::sqlite();
    for (option, value, part) in [
        ("--after", "evt-1", "a key is 32 hexadecimal digits"),
        ("--after", "00", "a key is 32 hexadecimal digits"),
        ("--limit", "0", "--limit"),
        ("--accepted", "yesterday..", "yesterday is not a time"),
    ] {
        let target = if option == "--accepted" { &[][..] } else { &["--event-id", "evt-1"] };
        let arguments = ["ledger", "show", option, value];
        let ended = store.klikit(arguments.iter().chain(target).copied()).run();
        assert!(ended.code == Some(2) && ended.stdout.is_empty(), "{ended}");
        assert!(ended.stderr.contains(part) && ended.stderr.matches('\n').count() == 1, "{ended}");
    }
}

#[test]
fn store_that_lacks_migrations_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.db");
    fs::write(&path, "").unwrap();
    let missing = folder.path().join("missing.db");
    // A file of the first version, which has an inbox.
    let older = folder.path().join("older.db");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../stores/sqlite/tests/schema/v1.db"), &older).unwrap();
    for (path, part) in [
        (&path, "lacks the migrations ledger 1, inbox 1, inbox 2"),
        (&older, "lacks the migrations inbox 2"),
        (&missing, "does not exist"),
    ] {
        let ended = klikit(["ledger", "show", "--event-id", "evt-1"]).env("KLIKIT_STORE", path.to_str().unwrap()).run();
        assert!(ended.code == Some(2) && ended.stderr.contains(part), "{ended}");
        assert_eq!(ended.stderr.matches('\n').count(), 1, "{ended}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

fn entries(shown: &Value) -> &[Value] {
    shown["entries"].as_array().unwrap()
}

fn time_of(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
