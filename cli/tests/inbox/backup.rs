//! Tests of `klikit inbox backup`.

use serde_json::json;

use crate::{stores::TestStore, support::klikit};

#[tokio::test]
async fn backup_is_a_store() {
    let store = TestStore::sqlite();
    store.accept(1..=2).await;
    let copy = store.file("copy.db").to_str().unwrap().to_owned();
    let report = store.json(["inbox", "backup", &copy]);
    assert_eq!(report, json!({"store": store.name, "backup": copy}));
    let counted = klikit(["inbox", "stats", "--store", &copy, "--json"]).run();
    assert!(counted.stdout.contains("\"ready\":2"), "{counted}");

    let ended = store.klikit(["inbox", "backup", &copy]).run();
    assert_eq!(ended.code, Some(2), "{ended}");
    assert!(ended.stderr.contains("it exists already: name a new file"), "{ended}");
}

#[tokio::test]
async fn postgres_is_left_to_pg_dump() {
    let Some(store) = TestStore::postgres("postgres is left to pg_dump").await else { return };
    let ended = store.klikit(["inbox", "backup", "copy.db"]).run();
    ended.assert_error(&format!("{} is not a SQLite file: back it up with pg_dump", store.name));
}
