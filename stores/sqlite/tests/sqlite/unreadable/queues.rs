//! Tests of queues with wrong entries.

use super::change;
use crate::{
    deliveries::{accept, done, ids, lease, settled},
    support::{Folder, TestClock},
};

#[tokio::test]
async fn stray_queue_entries_block_no_delivery() {
    for stray in [
        "UPDATE klikit_inbox_key SET id = 0 WHERE id = 1",
        "UPDATE klikit_inbox_key SET id = 'x' WHERE id = 1",
        "DELETE FROM klikit_inbox_key WHERE id = 1",
        "DELETE FROM klikit_inbox_key",
        "
        INSERT INTO klikit_inbox_key
        SELECT ordering_key, 0
        FROM klikit_inbox_key
        LIMIT 1
        ",
        "
        INSERT INTO klikit_inbox_key
        SELECT ordering_key, 99
        FROM klikit_inbox_key
        LIMIT 1
        ",
        "INSERT INTO klikit_inbox_key VALUES ('another key', 1), (17, 1), (x'00', 1)",
        "INSERT INTO klikit_inbox_key VALUES (CAST(x'ff' AS TEXT), 1)",
        "UPDATE klikit_inbox_key SET ordering_key = 'another key'",
        "UPDATE klikit_inbox_key SET ordering_key = x'00112233445566778899aabbccddeeff'",
    ] {
        let folder = Folder::new();
        let clock = TestClock::new();
        let store = clock.open(&folder.file());
        for event in ["evt-1", "evt-2", "evt-3"] {
            accept(&store, event, &["key"]).await;
        }
        change(&folder, stray);
        for expected in 1..=3 {
            let leased = lease(&store, 10, 5).await;
            assert_eq!(ids(&leased), [expected], "{stray}");
            settled(&store, &leased[0], done()).await;
        }
        assert!(lease(&store, 10, 5).await.is_empty());
    }
}

#[tokio::test]
async fn repairs_stray_entries_behind_many_deliveries() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..600 {
        accept(&store, &format!("evt-{n}"), &["key"]).await;
    }
    accept(&store, "evt-last", &["another key"]).await;
    assert_eq!(ids(&lease(&store, 1, 5).await), [1]);
    change(
        &folder,
        "
        -- An entry at the head of the last delivery's queue.
        INSERT INTO klikit_inbox_key
        SELECT ordering_key, 0
        FROM klikit_inbox_key
        WHERE id = 601;

        -- Keys that no delivery has: a text that is not UTF-8, and a blob.
        INSERT INTO klikit_inbox_key
        VALUES (CAST(x'ff' AS TEXT), 0), (x'00', 0);
        ",
    );
    assert_eq!(ids(&lease(&store, 10, 5).await), [601]);
}
