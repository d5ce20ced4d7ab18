//! Tests of deliveries with unreadable values.

use tower_klikit::inbox::{DeliveryState, InboxStore};

use super::{change, close, dead_lettered, id};
use crate::{
    deliveries::{accept, dead_letters, done, ids, lease, lease_batch, retry, settled, show},
    support::{Folder, TestClock},
};

#[tokio::test]
async fn unreadable_delivery_is_dead_lettered_alone() {
    for (statement, reason) in [
        ("UPDATE klikit_inbox_body SET body = 17", "its body is of the type Integer, not Blob"),
        ("UPDATE klikit_inbox_body SET body = 'text'", "its body is of the type Text, not Blob"),
        ("UPDATE klikit_inbox_body SET body = NULL", "its body is of the type Null, not Blob"),
        ("UPDATE klikit_inbox_body SET head = 17.5", "its head is of the type Text"),
        ("UPDATE klikit_inbox_body SET head = x'00'", "its head is of the type Blob, not Text"),
        ("UPDATE klikit_inbox_body SET head = CAST(x'ff' AS TEXT)", "its head is not valid UTF-8"),
        ("DELETE FROM klikit_inbox_body", "missing"),
        ("UPDATE klikit_inbox SET due = 'soon'", "its due is of the type Text, not Integer"),
        ("UPDATE klikit_inbox SET due = x'00'", "its due is of the type Blob, not Integer"),
        ("UPDATE klikit_inbox SET due = 1.5", "its due is of the type Real, not Integer"),
        ("UPDATE klikit_inbox SET token = 'x'", "its token is of the type Text, not Integer"),
        ("UPDATE klikit_inbox SET token = 9223372036854775807", "its token is out of range"),
        ("UPDATE klikit_inbox SET attempts = 'x'", "its attempts is of the type Text, not Integer"),
        ("UPDATE klikit_inbox SET attempts = -1", "its attempts is out of range"),
        ("UPDATE klikit_inbox SET attempts = 4294967295", "its attempts is out of range"),
        ("UPDATE klikit_inbox SET ordering_keys = 17", "its ordering_keys are not a JSON array of strings"),
        ("UPDATE klikit_inbox SET ordering_keys = ''", "its ordering_keys are not a JSON array of strings"),
        ("UPDATE klikit_inbox SET ordering_keys = '[17]'", "its ordering_keys are not a JSON array of strings"),
        ("UPDATE klikit_inbox SET ordering_keys = x'00'", "its ordering_keys is of the type Blob, not Text"),
    ] {
        // SQLite converts a number to text in this column, so the store can read it.
        let is_readable = statement.contains("17.5");
        for state in ["", ", state = 1"] {
            let folder = Folder::new();
            let clock = TestClock::new();
            let store = clock.open(&folder.file());
            for event in ["evt-1", "evt-2", "evt-3"] {
                accept(&store, event, &["key"]).await;
            }
            accept(&store, "evt-4", &[]).await;
            if statement.contains("NULL") {
                let nullable = "
                    PRAGMA writable_schema = ON;
                    UPDATE sqlite_schema
                    SET sql = replace(sql, 'body BLOB NOT NULL', 'body BLOB');
                    ";
                change(&folder, nullable);
            }
            change(&folder, &format!("{statement} WHERE id = 2"));
            if !state.is_empty() {
                // A worker has leased the delivery and then crashed.
                change(&folder, "UPDATE klikit_inbox SET state = 1 WHERE id = 2");
            }
            let store = if statement.contains("NULL") {
                close(&folder, store);
                clock.open(&folder.file())
            } else {
                store
            };
            let first = lease_batch(&store, 10, 5).await;
            assert_eq!(ids(&first.leased), [1, 4], "{statement}");
            settled(&store, &first.leased[0], done()).await;
            let second = lease_batch(&store, 10, 5).await;
            if is_readable {
                assert_eq!(ids(&second.leased), [2], "{statement}");
                continue;
            }
            assert_eq!(ids(&second.leased), [3], "{statement}: the dead delivery blocks no other");
            assert!(first.unreadable.is_empty() && second.unreadable.is_empty());
            let reported: Vec<_> = first.dead_lettered.iter().chain(&second.dead_lettered).collect();
            assert_eq!(reported.iter().map(|dead| dead.id).collect::<Vec<_>>(), [id(2)], "{statement}");
            assert!(reported[0].reason.contains(reason), "{statement}: {}", reported[0].reason);
            let has_head = !statement.contains("head") && !statement.contains("DELETE");
            assert_eq!(reported[0].head.is_some(), has_head, "{statement}");

            let dead = dead_letters(&store, None, 10).await;
            assert_eq!(dead.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id(2)], "{statement}");
            assert_eq!(dead[0].reason.as_deref(), Some(&*reported[0].reason));
            let shown = show(&store, 2).await.unwrap();
            assert_eq!((shown.state, shown.event_id().is_some()), (DeliveryState::Dead, has_head), "{statement}");
            let counts = store.counts().await.unwrap();
            assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (0, 2, 1, 0));
            assert!(lease_batch(&store, 10, 5).await.dead_lettered.is_empty());
        }
    }
}

#[tokio::test]
async fn unknown_states_are_dead_or_ready() {
    let folder = Folder::new();
    let store = folder.open();
    for event in ["evt-1", "evt-2", "evt-3", "evt-4"] {
        accept(&store, event, &[]).await;
    }
    change(
        &folder,
        "
        UPDATE klikit_inbox SET state = 7 WHERE id = 1;
        UPDATE klikit_inbox SET state = 'x' WHERE id = 2;
        UPDATE klikit_inbox SET state = -1 WHERE id = 3;
        ",
    );
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (2, 0, 2, 0));
    assert_eq!(ids(&lease(&store, 10, 5).await), [3, 4]);
    let dead = dead_letters(&store, None, 10).await;
    assert_eq!(
        dead.iter().map(|entry| (entry.id, entry.state)).collect::<Vec<_>>(),
        [(id(1), DeliveryState::Dead), (id(2), DeliveryState::Dead)]
    );
    assert!(retry(&store, 1).await && retry(&store, 2).await);
    assert_eq!(ids(&lease(&store, 10, 5).await), [1, 2]);
}

#[tokio::test]
async fn finds_readable_deliveries_behind_unreadable_ones() {
    const UNREADABLE: i64 = 600;

    for keys in [&[][..], &["key"]] {
        let folder = Folder::new();
        let clock = TestClock::new();
        let store = clock.open(&folder.file());
        for n in 0..UNREADABLE + 3 {
            accept(&store, &format!("evt-{n}"), keys).await;
        }
        change(&folder, &format!("UPDATE klikit_inbox_body SET body = 17 WHERE id <= {UNREADABLE}"));
        let batch = lease_batch(&store, 3, 5).await;
        let expected: Vec<_> = (1..=if keys.is_empty() { 3 } else { 1 }).map(|n| UNREADABLE + n).collect();
        assert_eq!(ids(&batch.leased), expected);
        assert_eq!(dead_lettered(&batch), (1..=UNREADABLE).collect::<Vec<_>>());
        assert!(batch.unreadable.is_empty());
    }
}
