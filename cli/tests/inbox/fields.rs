//! The fields with `--json` are those that the README documents.

use tower_klikit::{inbox::Pause, testing::SignedDelivery};

use crate::{
    service::OLD_SECRET,
    stores::TestStore,
    support::{assert_documented, klikit},
};

#[tokio::test]
async fn fields_are_documented() {
    let store = TestStore::sqlite();
    store.accept([1]).await;
    store.dead_letter("out of paper").await;
    store.service.send(&SignedDelivery::new(OLD_SECRET, b"\xff".to_vec()).event_id("evt-2")).await;
    store.service.inbox.operator("budi").pause(&Pause::everything()).await.unwrap();
    for (row, commands) in [
        ("`inbox stats`", &[&["inbox", "stats", "--reasons"][..]][..]),
        ("`inbox list`", &[&["inbox", "list"]]),
        ("`inbox show`", &[&["inbox", "show", "1", "--body"], &["inbox", "show", "2", "--body"]]),
        ("`inbox pauses`", &[&["inbox", "pauses"]]),
        ("`ledger show`", &[&["ledger", "show", "--event-id", "evt-1"]]),
    ] {
        let outputs: Vec<_> = commands.iter().map(|command| store.json(command.iter().copied())).collect();
        assert_documented(row, &outputs);
    }
}

#[tokio::test]
async fn fields_of_tail_are_documented() {
    let store = TestStore::sqlite();
    let mut tail = store.klikit(["inbox", "tail", "--json"]).start();
    tail.wait_for_note("watching");
    store.accept([1]).await;
    tail.wait_for_output("\n", 1);
    tail.interrupt();
    let ended = tail.wait();
    let (line, _) = ended.stdout.split_once('\n').unwrap();
    assert_documented("`inbox tail`", &[serde_json::from_str(line).unwrap()]);
}

#[test]
fn fields_of_migrate_are_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.db");
    std::fs::write(&path, "").unwrap();
    let printed = klikit(["migrate", "--print", "--json", "--store", path.to_str().unwrap()]).run();
    assert_documented("`migrate`", &[serde_json::from_str(&printed.stdout).unwrap()]);
}
