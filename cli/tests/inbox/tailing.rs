//! Tests of `klikit inbox tail`.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::stores::TestStore;

#[tokio::test]
async fn tail_shows_what_is_new() {
    for store in TestStore::each("tail shows what is new").await {
        // Not a power of two, for the search of the newest id.
        store.accept(1..=5).await;
        let mut json = store.klikit(["inbox", "tail", "--json"]).start();
        let mut text = store.klikit(["inbox", "tail", "--order", "6"]).start();
        json.wait_for_note("watching");
        text.wait_for_note("watching");
        store.accept([6]).await;
        json.wait_for_output(r#""state":"ready""#, 1);
        text.wait_for_output(" ready ", 1);
        store.dead_letter("out of paper").await;
        json.wait_for_output(r#""state":"dead""#, 6);
        text.wait_for_output(" dead ", 1);
        store.text(["inbox", "erase", "6", "--yes"]);
        json.wait_for_output(r#""change":"gone""#, 1);
        text.wait_for_output(" gone ", 1);
        json.interrupt();
        text.interrupt();

        let ended = json.wait();
        assert_eq!(ended.code, Some(130), "{ended}");
        let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let changes = |id: i64| -> Vec<_> {
            // A look may find the delivery while the worker holds it.
            let of_id = lines.iter().filter(|line| line["id"] == id && line["state"] != "leased");
            of_id.map(|line| [&line["change"], &line["state"]].map(|value| value.as_str().unwrap())).collect()
        };
        assert_eq!(changes(5), [["changed", "dead"]], "{ended}");
        assert_eq!(changes(6), [["accepted", "ready"], ["changed", "dead"], ["gone", "dead"]], "{ended}");

        let ended = text.wait();
        assert_eq!(ended.code, Some(130), "{ended}");
        let states = ended.stdout.lines().map(|line| line.split(' ').nth(1).unwrap());
        let states: Vec<_> = states.filter(|state| *state != "leased").collect();
        assert_eq!(states, ["ready", "dead", "gone"], "{ended}");
        assert!(ended.stdout.contains("delivery 6: event evt-6, orders 6, branch 6, attempts 1, reason: "), "{ended}");
    }
}

/// A poll does not read all deliveries since the start, even if the filter selects few of them.
#[tokio::test]
async fn tail_watches_the_last_ids_only() {
    let store = TestStore::sqlite();
    let mut running = store.klikit(["inbox", "tail", "--tenant", "default"]).start();
    let mut filtered = store.klikit(["inbox", "tail", "--order", "1"]).start();
    running.wait_for_note("watching");
    filtered.wait_for_note("watching");
    store.accept([1]).await;
    filtered.wait_for_output(" ready delivery 1:", 1);
    store.accept(2..=1002).await;
    running.wait_for_output(" ready ", 1002);
    let looks = Duration::from_millis(2500);
    sleep(looks).await;
    store.text(["inbox", "dead-letter", "1", "2", "3", "--reason-text", "a test", "--yes"]);
    running.wait_for_output(" dead delivery 3:", 1);
    sleep(looks).await;
    running.interrupt();
    filtered.interrupt();
    let (ended, filtered) = (running.wait(), filtered.wait());
    assert_eq!(ended.stdout.matches(" dead ").count(), 1, "{ended}");
    assert_eq!(filtered.stdout.lines().count(), 1, "{filtered}");
}
