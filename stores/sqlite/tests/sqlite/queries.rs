//! Tests of the documented statements for operators, and of other statements that operators may run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rusqlite::types::Value;
use tower_klikit::inbox::{Acceptance, InboxStore, LEASE_EXPIRED};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{
        accept, conflict, dead_letter, delivery, done, ids, keep_for, lease, lease_batch, reschedule, settled,
    },
    support::{Folder, LEASE, RETENTION, TestClock},
};

const DOCS: &str = include_str!("../../src/queries.rs");

/// Returns the documented statement below the paragraph that contains this text.
fn documented(paragraph: &str) -> String {
    let after = DOCS.split(paragraph).nth(1).unwrap_or_else(|| panic!("no paragraph {paragraph:?}"));
    let statement = after.split("```sql\n").nth(1).unwrap().split("//! ```").next().unwrap();
    statement.lines().map(|line| line.strip_prefix("//! ").unwrap()).collect::<Vec<_>>().join("\n")
}

/// Runs a query. Returns its rows as text, with the values of these columns separated by spaces.
fn rows(folder: &Folder, sql: &str, columns: &[&str]) -> Vec<String> {
    let connection = folder.connect();
    let mut query = connection.prepare(sql).unwrap();
    let text = |value: Value| match value {
        Value::Null => "NULL".into(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        other => panic!("{other:?}"),
    };
    let rows = query.query_map([], |row| {
        let values = columns.iter().map(|column| row.get(*column).map(text));
        Ok(values.collect::<Result<Vec<_>, _>>()?.join(" "))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn change(folder: &Folder, sql: &str) {
    folder.connect().execute_batch(sql).unwrap();
}

/// Opens a store and fills it with deliveries in all states: 1, 3 and 4 are dead, 2 is ready but blocked by 5, which is
/// leased, 6 is done, and 7 and 8 are ready.
async fn filled(folder: &Folder, clock: &TestClock) -> SqliteStore {
    let store = clock.open(&folder.file());
    let first = delivery("evt-1", "body of evt-1", &["order:42@default"]).with_terms(&["order:42"]);
    for (event, keys, reason) in [
        ("evt-1", &["order:42@default"][..], "400 Bad Request"),
        ("evt-2", &["order:42@default", "order:43@default"], ""),
        ("evt-3", &["order:43@default"], "503 Service Unavailable"),
        ("evt-4", &["order:44@default"], "503 Service Unavailable"),
        ("evt-5", &["order:42@default"], ""),
    ] {
        match event {
            "evt-1" => assert_eq!(store.accept(&first, RETENTION).await.unwrap(), Acceptance::Accepted),
            _ => accept(&store, event, keys).await,
        }
        clock.advance(Duration::from_secs(1));
        if reason.is_empty() {
            // Make it dead for now, so that it does not block the next delivery.
            change(folder, "UPDATE klikit_inbox SET state = 2 WHERE state < 2");
        } else {
            settled(&store, &lease(&store, 1, 5).await[0], dead_letter(reason)).await;
        }
    }
    change(folder, "UPDATE klikit_inbox SET state = 0, due = 0 WHERE id = 5");
    assert_eq!(ids(&lease(&store, 1, 5).await), [5]);
    change(folder, "UPDATE klikit_inbox SET state = 0, due = 0 WHERE id = 2");
    accept(&store, "evt-6", &[]).await;
    settled(&store, &lease(&store, 1, 5).await[0], keep_for(RETENTION)).await;
    accept(&store, "evt-7", &["order:45@default"]).await;
    settled(&store, &lease(&store, 1, 5).await[0], reschedule(Duration::from_secs(60))).await;
    let other = conflict("evt-1", "another body");
    assert_eq!(store.accept(&other, RETENTION).await.unwrap(), Acceptance::Accepted);
    store
}

#[tokio::test]
async fn documented_queries_find_deliveries() {
    let (folder, clock) = (Folder::new(), TestClock::new());
    let _store = filled(&folder, &clock).await;
    for (paragraph, columns, expected) in [
        (
            "The number of deliveries in each state:",
            &["state", "deliveries"][..],
            &["dead 3", "done 1", "leased 1", "ready 3"][..],
        ),
        (
            "The oldest pending delivery:",
            &["id", "state", "event_id", "accepted_at", "due_at"],
            &["2 ready evt-2 2023-11-14T22:13:21Z 1970-01-01T00:00:00Z"],
        ),
        ("All deliveries of an event.", &["id", "state", "reason"], &["1 dead 400 Bad Request", "8 ready NULL"]),
        ("All deliveries of an order:", &["id", "state"], &["1 dead"]),
        (
            "The attempts of a delivery that have ended,",
            &["attempt", "worker", "started_at", "milliseconds", "status", "reason"],
            &["1 kitchen-1/4711 2023-11-14T22:13:21Z 0 NULL 400 Bad Request"],
        ),
        (
            "The latest deliveries of a tenant",
            &["id", "event_id"],
            &["8 evt-1", "7 evt-7", "6 evt-6", "5 evt-5", "4 evt-4", "3 evt-3", "2 evt-2", "1 evt-1"],
        ),
        ("All deliveries that have an ordering key:", &["id", "state"], &["1 dead", "2 ready", "5 leased"]),
        (
            "The delivery that blocks an ordering key,",
            &["id", "state", "attempts", "due_at"],
            &["5 leased 1 2023-11-14T22:13:50Z"],
        ),
        (
            "Dead deliveries with their reasons",
            &["id", "reason"],
            &["4 503 Service Unavailable", "3 503 Service Unavailable", "1 400 Bad Request"],
        ),
    ] {
        assert_eq!(rows(&folder, &documented(paragraph), columns), expected, "{paragraph}");
    }
    let one = rows(&folder, &documented("One delivery with the head"), &["state", "body_bytes", "head"]);
    assert!(one.len() == 1 && one[0].starts_with("dead 13 {\"event_id\":\"evt-1\","), "{one:?}");
    assert_eq!(DOCS.matches("```sql").count(), 10 + 3);
}

#[tokio::test]
async fn documented_retry_leaves_nothing_stuck() {
    let (folder, clock) = (Folder::new(), TestClock::new());
    let store = filled(&folder, &clock).await;
    change(&folder, &documented("Retry a dead delivery."));
    assert_eq!(rows(&folder, &documented("The delivery that blocks"), &["id"]), ["5"]);
    clock.advance(LEASE);
    assert_eq!(
        rows(&folder, "SELECT id FROM klikit_deliveries WHERE state = 'ready' ORDER BY id", &["id"]),
        ["1", "2", "7", "8"]
    );
    // Delivery 1 is in its old place: before 2, and before 5, whose lease has expired.
    let leased = lease(&store, 10, 5).await;
    assert_eq!(ids(&leased), [1, 8]);
    assert_eq!(leased[0].lease().attempt(), 1);
    run_all(&store, &clock, &[1, 8, 2, 5, 7]).await;
}

#[tokio::test]
async fn documented_retry_by_reason_is_complete() {
    let (folder, clock) = (Folder::new(), TestClock::new());
    let store = filled(&folder, &clock).await;
    change(&folder, &documented("Retry all dead deliveries"));
    clock.advance(LEASE);
    assert_eq!(rows(&folder, &documented("Dead deliveries with their reasons"), &["id"]), ["1"]);
    run_all(&store, &clock, &[2, 3, 4, 5, 7, 8]).await;
}

/// Handles all pending deliveries, and asserts that they are the expected ones, in any order.
async fn run_all(store: &SqliteStore, clock: &TestClock, expected: &[i64]) {
    let mut handled = Vec::new();
    for _ in 0..10 {
        clock.advance(LEASE * 4);
        for leased in lease(store, 10, 9).await {
            handled.push(leased.lease().id().get());
            settled(store, &leased, done()).await;
        }
    }
    handled.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!((handled, store.backlog(10).await.unwrap()), (expected, 0));
}

#[tokio::test]
async fn documented_forget_accepts_the_copy() {
    let (folder, clock) = (Folder::new(), TestClock::new());
    let store = filled(&folder, &clock).await;
    let copy = delivery("evt-1", "body of evt-1", &["order:42@default"]);
    let forget = documented("Forget a dead delivery,");
    change(&folder, &forget);
    assert_eq!(store.accept(&copy, RETENTION).await.unwrap(), Acceptance::Accepted);
    // A delivery that is not dead stays, and so does its ledger row.
    for id in [2, 5, 6] {
        change(&folder, &forget.replace("id = 1", &format!("id = {id}")));
    }
    for table in ["klikit_ledger", "klikit_inbox", "klikit_inbox_body"] {
        assert_eq!(folder.count(table), 8, "{table}");
    }
    run_all(&store, &clock, &[2, 5, 7, 8, 9]).await;
}

/// The delivery is due after many blocked ones, so a selection finds it only as the head of its key's queue.
#[tokio::test]
async fn delivery_made_ready_by_hand_is_not_stuck() {
    for (settlement, statement) in [
        (dead_letter("400"), "UPDATE klikit_inbox SET state = 0 WHERE id = 1"),
        (dead_letter("400"), "UPDATE klikit_inbox SET state = 1 WHERE id = 1"),
        (keep_for(RETENTION), "UPDATE klikit_inbox SET state = 0 WHERE state = 3"),
        (
            dead_letter("400"),
            "
            UPDATE klikit_inbox SET state = 7 WHERE id = 1;
            UPDATE klikit_inbox SET state = 0 WHERE id = 1
            ",
        ),
        (
            dead_letter("400"),
            "
            UPDATE klikit_inbox SET ordering_keys = '[\"another key\"]' WHERE id = 1;
            UPDATE klikit_inbox SET state = 0 WHERE id = 1
            ",
        ),
    ] {
        let folder = Folder::new();
        let store = folder.open();
        accept(&store, "evt-1", &["key"]).await;
        settled(&store, &lease(&store, 1, 5).await[0], settlement).await;
        accept(&store, "evt-2", &["blocked"]).await;
        assert_eq!(ids(&lease(&store, 1, 5).await), [2]);
        for n in 0..600 {
            accept(&store, &format!("evt-blocked-{n}"), &["blocked"]).await;
        }
        accept(&store, "evt-behind", &["key"]).await;
        change(&folder, statement);
        let leased = ids(&lease(&store, 10, 5).await);
        assert!(leased.contains(&1), "{leased:?}: {statement}");
    }
}

#[tokio::test]
async fn delivery_made_ready_by_hand_is_due_now() {
    const HOUR: i64 = 3_600_000;

    for keys in [&[][..], &["key"]] {
        let folder = Folder::new();
        let store = folder.open();
        accept(&store, "evt-1", keys).await;
        settled(&store, &lease(&store, 1, 5).await[0], keep_for(RETENTION)).await;
        let system_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        change(&folder, &format!("UPDATE klikit_clock SET generation = generation + 1, ahead = {HOUR}"));
        change(&folder, "UPDATE klikit_inbox SET state = 0 WHERE id = 1");
        let due = rows(&folder, "SELECT due FROM klikit_inbox", &["due"])[0].parse::<i64>().unwrap();
        let passed = due - HOUR - i64::try_from(system_time).unwrap();
        // The time may be a millisecond less because of rounding.
        assert!((-1..HOUR).contains(&passed), "{keys:?}: {passed}");
        assert_eq!(ids(&lease(&store, 1, 5).await), [1], "{keys:?}");
    }
}

#[tokio::test]
async fn statement_by_hand_may_set_the_time() {
    let (folder, clock) = (Folder::new(), TestClock::new());
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &["key"]).await;
    settled(&store, &lease(&store, 1, 5).await[0], keep_for(RETENTION)).await;
    for due in [i64::MAX, 17] {
        change(&folder, "UPDATE klikit_inbox SET state = 2");
        change(&folder, &format!("UPDATE klikit_inbox SET state = 0, due = {due}"));
        assert_eq!(rows(&folder, "SELECT due FROM klikit_inbox", &["due"]), [due.to_string()]);
    }
}

/// The trigger must not mistake a time that the store has set for an unchanged time.
#[tokio::test]
async fn late_reschedule_keeps_its_own_time() {
    let folder = Folder::new();
    // The store's clock is ahead of the system clock, which the trigger reads.
    let time = SystemTime::now() + RETENTION;
    let store = SqliteStore::builder().create().clock(move || time).open(folder.file()).unwrap();
    accept(&store, "evt-1", &["key"]).await;
    let leased = lease(&store, 1, 5).await;
    settled(&store, &leased[0], dead_letter(LEASE_EXPIRED)).await;
    settled(&store, &leased[0], reschedule(LEASE)).await;
    assert_eq!(rows(&folder, "SELECT state FROM klikit_deliveries", &["state"]), ["ready"]);
    assert!(lease(&store, 1, 5).await.is_empty());
}

#[tokio::test]
async fn statement_by_hand_ignores_unreadable_keys() {
    let (folder, clock) = (Folder::new(), TestClock::new());
    let store = clock.open(&folder.file());
    for event in ["evt-1", "evt-2", "evt-3", "evt-4"] {
        accept(&store, event, &["key"]).await;
    }
    change(
        &folder,
        "
        UPDATE klikit_inbox SET state = 2;
        UPDATE klikit_inbox SET ordering_keys = 'no JSON' WHERE id = 1;
        UPDATE klikit_inbox SET ordering_keys = 17 WHERE id = 2;
        UPDATE klikit_inbox SET ordering_keys = x'00' WHERE id = 3;
        UPDATE klikit_inbox SET state = 0;
        ",
    );
    let batch = lease_batch(&store, 10, 5).await;
    assert_eq!((ids(&batch.leased), batch.dead_lettered.len()), (vec![4], 3));
}

#[tokio::test]
async fn view_shows_the_times_of_the_system_clock() {
    let folder = Folder::new();
    let time = Arc::new(AtomicU64::new(1_700_000_000));
    let now = Arc::clone(&time);
    let clock = move || SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst));
    let store = SqliteStore::builder().create().clock(clock).open(folder.file()).unwrap();
    accept(&store, "evt-1", &[]).await;
    time.fetch_sub(3600, Ordering::SeqCst);
    accept(&store, "evt-2", &[]).await;
    let times = "SELECT accepted_at, due_at FROM klikit_deliveries ORDER BY id";
    let expected = ["2023-11-14T22:13:20Z 2023-11-14T21:13:20Z", "2023-11-14T21:13:20Z 2023-11-14T21:13:20Z"];
    assert_eq!(rows(&folder, times, &["accepted_at", "due_at"]), expected);
    settled(&store, &lease(&store, 1, 5).await[0], dead_letter("400")).await;
    assert_eq!(rows(&folder, times, &["due_at"])[0], "NULL", "a dead delivery is never due");
}

#[tokio::test]
async fn revived_delivery_has_its_new_labels() {
    let folder = Folder::new();
    let store = folder.open();
    accept(&store, "evt-1", &["key"]).await;
    settled(&store, &lease(&store, 1, 5).await[0], dead_letter("400")).await;
    let head = r#"{"event_id":"evt-1","event_type":"order.updated","tenant":"warung"}"#;
    let again = delivery("evt-1", "body of evt-1", &["a", "b"]).with_head(head).with_terms(&["branch:7", "order:42"]);
    assert_eq!(store.accept(&again, RETENTION).await.unwrap(), Acceptance::Revived);
    let labels = "SELECT event_id, event_type, tenant, branch, orders, ordering_keys FROM klikit_deliveries";
    let shown = rows(&folder, labels, &["event_id", "event_type", "tenant", "branch", "orders", "ordering_keys"]);
    assert_eq!(shown, [r#"evt-1 order.updated warung branch:7 ["order:42"] ["a","b"]"#]);
    let queues = rows(&folder, "SELECT ordering_key FROM klikit_inbox_key ORDER BY 1", &["ordering_key"]);
    assert_eq!(queues, ["a", "b"]);
}
