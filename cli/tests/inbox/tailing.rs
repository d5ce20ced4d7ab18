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
        let json = store.klikit(["inbox", "tail", "--json"]).start();
        let text = store.klikit(["inbox", "tail", "--order", "6"]).start();
        // Each step is longer than the second between two looks.
        let step = || sleep(Duration::from_millis(2500));
        step().await;
        store.accept([6]).await;
        step().await;
        store.dead_letter("out of paper").await;
        step().await;
        store.text(["inbox", "erase", "6", "--yes"]);
        step().await;
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
