//! Tests of unreadable rows: each affects only its own delivery.

use std::{
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
    ops::Range,
    time::Duration,
};

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger, StoreError},
    inbox::{
        Acceptance, DeliveryId, DeliveryState, Filter, InboxAdmin, InboxStore, LeaseBatch, LeaseRequest, SettleOutcome,
    },
};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{
        accept, dead_letter, dead_letters, delivery, done, ids, keep_for, lease, lease_batch, request, settled,
    },
    support::{Folder, LEASE, RETENTION, TERMS, TestClock, bytes, claim, digest, kind},
};

fn id(number: i64) -> DeliveryId {
    DeliveryId::new(number)
}

/// Runs statements on another connection.
fn change(folder: &Folder, sql: &str) {
    folder.connect().execute_batch(sql).unwrap();
}

fn dead_lettered(batch: &LeaseBatch) -> Vec<i64> {
    batch.dead_lettered.iter().map(|dead| dead.id.get()).collect()
}

/// Overwrites these pages with zeros, while no store has the file open.
fn damage(folder: &Folder, pages: &[i64]) {
    let mut file = OpenOptions::new().write(true).open(folder.file()).unwrap();
    for page in pages {
        file.seek(SeekFrom::Start(4096 * (page.unsigned_abs() - 1))).unwrap();
        file.write_all(&[0; 4096]).unwrap();
    }
}

/// Returns the numbers of a table's leaf pages, in the order of its rows.
fn leaves(folder: &Folder, table: &str) -> Vec<i64> {
    let find = "
        SELECT pageno
        FROM dbstat
        WHERE name = ?1 AND pagetype = 'leaf'
        ORDER BY path
        ";
    let connection = folder.connect();
    let mut leaves = connection.prepare(find).unwrap();
    let pages = leaves.query_map([table], |row| row.get(0)).unwrap();
    pages.collect::<Result<_, _>>().unwrap()
}

/// Drops a store, and waits until it has closed its file.
fn close(folder: &Folder, store: SqliteStore) {
    drop(store);
    folder.closed();
}

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
            let shown = store.show(id(2)).await.unwrap().unwrap();
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
    assert!(store.retry(id(1)).await.unwrap() && store.retry(id(2)).await.unwrap());
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

#[tokio::test]
async fn damaged_body_is_dead_lettered_alone() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    // Large bodies, so that each row has its own page.
    let body = "x".repeat(3000);
    for n in 1..=5 {
        let new = delivery(&format!("evt-{n}"), &body, &["key"]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox_body");
    assert_eq!(pages.len(), 5);
    damage(&folder, &pages[1..2]);
    let store = clock.open(&folder.file());
    let mut handled = vec![];
    let mut dead = vec![];
    for _ in 0..4 {
        let batch = lease_batch(&store, 1, 5).await;
        dead.extend(dead_lettered(&batch));
        assert!(batch.unreadable.is_empty());
        handled.extend(ids(&batch.leased));
        settled(&store, &batch.leased[0], done()).await;
    }
    assert_eq!((handled, dead), (vec![1, 3, 4, 5], vec![2]));
    let listed = dead_letters(&store, None, 10).await;
    assert_eq!(listed[0].id, id(2));
    assert!(listed[0].reason.as_ref().unwrap().contains("malformed"), "{:?}", listed[0].reason);
    assert_eq!(store.show(id(2)).await.unwrap().unwrap().body, None);

    // klikit sends delivery 2 again.
    let copy = delivery("evt-2", &body, &["key"]);
    let neighbours: Vec<_> = (10..50).map(|n| delivery(&format!("evt-{n}"), &body, &[])).collect();
    let all = join_all([&copy].into_iter().chain(&neighbours).map(|new| store.accept(new, RETENTION))).await;
    let accepted = all.iter().skip(1).filter(|outcome| matches!(outcome, Ok(Acceptance::Accepted))).count();
    assert_eq!(accepted, 40, "{all:?}");
    assert!(matches!(all[0], Ok(Acceptance::Accepted | Acceptance::Revived)), "{:?}", all[0]);
    assert!(lease(&store, 100, 5).await.iter().any(|leased| leased.body() == &body && leased.head() == copy.head()));
}

#[tokio::test]
async fn lists_deliveries_around_a_damaged_page() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    join_all((1..=2000).map(async |n| accept(&store, &format!("evt-{n}"), &[]).await)).await;
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox");
    assert!(pages.len() > 10);
    damage(&folder, &pages[3..4]);
    let store = clock.open(&folder.file());
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.find(&Filter::new(), after, 300).await.unwrap();
        found.extend(page.entries.iter().map(|entry| entry.id));
        let Some(next) = page.next else { break };
        assert!(Some(next) > after);
        after = Some(next);
    }
    assert!(found.is_sorted_by(|one, next| one < next));
    assert!(found.len() > 1800 && found.len() < 2000, "{} were found", found.len());
    assert_eq!((found.first(), found.last()), (Some(&id(1)), Some(&id(2000))));
}

#[tokio::test]
async fn damaged_body_can_be_forgotten() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let body = "x".repeat(3000);
    let deliveries: Vec<_> = (1..=6).map(|n| delivery(&format!("evt-{n}"), &body, &[])).collect();
    let start = clock.now();
    for new in &deliveries {
        assert_eq!(store.accept(new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    for leased in lease(&store, 6, 5).await {
        let settlement = match leased.lease().id().get() {
            1 | 2 => dead_letter("400"),
            3 | 4 => keep_for(LEASE),
            _ => continue,
        };
        settled(&store, &leased, settlement).await;
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox_body");
    damage(&folder, &[pages[0], pages[2], pages[4]]);
    let store = clock.open(&folder.file());
    // The handlers of deliveries 5 and 6 were running across the restart, and now succeed.
    let settlements = [5, 6].map(|n| (tower_klikit::inbox::Lease::new(id(n), 1, 1), done()));
    assert_eq!(store.settle(&settlements).await.unwrap(), [SettleOutcome::Settled; 2]);
    assert_eq!(store.forget_event(deliveries[0].claim().event()).await.unwrap(), 1);
    clock.advance(LEASE);
    assert_eq!(store.purge_done(1).await.unwrap() + store.purge_done(10).await.unwrap(), 2);
    assert_eq!(store.forget_accepted(start..clock.now()).await.unwrap(), 5);
    assert_eq!(folder.count("klikit_inbox"), 0);
    for new in &deliveries {
        assert_eq!(store.accept(new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
}

#[tokio::test]
async fn reports_damaged_states_and_leases_the_others() {
    const ALL: i64 = 400;

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..ALL {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox");
    damage(&folder, &pages[..2]);
    let store = clock.open(&folder.file());
    let mut handled = vec![];
    let unreadable = loop {
        let batch = lease_batch(&store, 50, 5).await;
        assert!(batch.dead_lettered.is_empty());
        let unreadable = batch.unreadable.iter().map(|unreadable| unreadable.id.get()).collect::<Vec<_>>();
        if batch.leased.is_empty() {
            break unreadable;
        }
        let expected = (ALL - handled.len() as i64 - unreadable.len() as i64).min(50);
        assert_eq!(batch.leased.len() as i64, expected, "the batch is not full");
        handled.extend(ids(&batch.leased));
        let settlements: Vec<_> = batch.leased.iter().map(|leased| (*leased.lease(), done())).collect();
        assert_eq!(store.settle(&settlements).await.unwrap().len(), batch.leased.len());
    };
    assert!(unreadable.len() > 20, "{unreadable:?}");
    handled.extend(&unreadable);
    handled.sort_unstable();
    assert_eq!(handled, (1..=ALL).collect::<Vec<_>>());
    // A call for several leases processes the readable ones and returns an error.
    accept(&store, "evt-new", &[]).await;
    let ahead = store.lease(&LeaseRequest { free_handlers: 0, ..request(1, 5) }).await.unwrap().leased;
    let new = *ahead[0].lease();
    assert_eq!(store.show(new.id()).await.unwrap().unwrap().attempts, 0);
    let damaged = tower_klikit::inbox::Lease::new(id(unreadable[0]), 1, 1);
    assert!(store.start(&[damaged, new]).await.is_err());
    assert_eq!(store.show(new.id()).await.unwrap().unwrap().attempts, 1);
    assert!(store.extend(&[damaged, new], LEASE * 2).await.is_err());
    clock.advance(LEASE);
    assert!(lease(&store, 1, 5).await.is_empty());
    assert!(store.settle(&[(damaged, done()), (new, done())]).await.is_err());
    assert_eq!(store.settle(&[(new, done())]).await.unwrap(), [SettleOutcome::Gone]);
}

#[tokio::test]
async fn stray_queue_entries_block_no_delivery() {
    for stray in [
        "UPDATE klikit_inbox_key SET id = 0 WHERE id = 1",
        "UPDATE klikit_inbox_key SET id = 'x' WHERE id = 1",
        "DELETE FROM klikit_inbox_key WHERE id = 1",
        "DELETE FROM klikit_inbox_key",
        "INSERT INTO klikit_inbox_key SELECT ordering_key, 0 FROM klikit_inbox_key LIMIT 1",
        "INSERT INTO klikit_inbox_key SELECT ordering_key, 99 FROM klikit_inbox_key LIMIT 1",
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
        INSERT INTO klikit_inbox_key
        SELECT ordering_key, 0
        FROM klikit_inbox_key
        WHERE id = 601;

        INSERT INTO klikit_inbox_key
        VALUES (CAST(x'ff' AS TEXT), 0), (x'00', 0);
        ",
    );
    assert_eq!(ids(&lease(&store, 10, 5).await), [601]);
}

#[tokio::test]
async fn accepting_a_copy_of_an_unreadable_one_fails() {
    for statement in [
        "UPDATE klikit_inbox_body SET body = 17",
        "UPDATE klikit_inbox_body SET head = x'00'",
        "UPDATE klikit_inbox_body SET digest = x'00'",
        "UPDATE klikit_inbox_body SET digest = 'text'",
        "DELETE FROM klikit_inbox_body",
    ] {
        let folder = Folder::new();
        let clock = TestClock::new();
        let store = clock.open(&folder.file());
        let body = "body of evt-0";
        accept(&store, "evt-0", &["key"]).await;
        change(&folder, statement);
        let deliveries: Vec<_> = (0..200).map(|n| delivery(&format!("evt-{n}"), body, &[])).collect();
        let accepted = join_all(deliveries.iter().map(|new| store.accept(new, RETENTION))).await;
        for (n, outcome) in accepted.iter().enumerate() {
            match outcome {
                Ok(outcome) => assert!(n != 0 && *outcome == Acceptance::Accepted, "{n}: {outcome:?}: {statement}"),
                Err(error) => assert!(n == 0 && kind(error) == SqliteErrorKind::Unreadable, "{n}: {error:?}"),
            }
        }
        let batch = lease_batch(&store, 1, 5).await;
        if statement.contains("digest") {
            // The delivery can be handled without its digest.
            assert_eq!(ids(&batch.leased), [1]);
            settled(&store, &batch.leased[0], dead_letter("400")).await;
            // Without the digest, the store cannot tell whether the bodies are equal.
            let error = store.accept(&deliveries[0], RETENTION).await.unwrap_err();
            assert_eq!(kind(&error), SqliteErrorKind::Unreadable);
            assert_eq!(store.forget_event(deliveries[0].claim().event()).await.unwrap(), 1);
            assert_eq!(store.accept(&deliveries[0], RETENTION).await.unwrap(), Acceptance::Accepted);
        } else {
            assert_eq!(dead_lettered(&batch), [1], "{statement}");
            // The next copy from klikit revives the delivery.
            assert_eq!(store.accept(&deliveries[0], RETENTION).await.unwrap(), Acceptance::Revived, "{statement}");
        }
        let leased = lease(&store, 1000, 5).await;
        let found = leased.iter().filter(|leased| leased.head() == deliveries[0].head()).count();
        assert_eq!(found, 1, "{statement}");
    }
}

#[tokio::test]
async fn new_delivery_replaces_an_unreadable_kept_one() {
    for statement in ["UPDATE klikit_inbox_body SET digest = 17, body = 17", "DELETE FROM klikit_inbox_body"] {
        let folder = Folder::new();
        let store = folder.open();
        accept(&store, "evt-1", &[]).await;
        settled(&store, &lease(&store, 1, 5).await[0], keep_for(RETENTION)).await;
        change(&folder, statement);
        let new = delivery("evt-1", "body of evt-1", &[]);
        let known = Acceptance::Known { digest: *new.claim().digest(), body: None };
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), known);
        assert_eq!(store.forget(new.claim().event()).await.unwrap(), 1);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
}

#[tokio::test]
async fn unreadable_values_are_forgotten_and_purged() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let start = clock.now();
    for event in ["evt-1", "evt-2", "evt-3", "evt-4"] {
        accept(&store, event, &[]).await;
    }
    for leased in lease(&store, 10, 5).await {
        let is_kept = leased.lease().id().get() > 2;
        settled(&store, &leased, if is_kept { keep_for(LEASE) } else { dead_letter("400") }).await;
    }
    change(
        &folder,
        "
        UPDATE klikit_inbox SET key = 'text', reason = x'00' WHERE id = 1;
        UPDATE klikit_inbox SET key = 17, accepted_at = 'x', since = 'x' WHERE id = 3;
        UPDATE klikit_inbox SET event_key = 'x', attempts = 'x', token = 'x' WHERE id = 4;
        ",
    );
    store.counts().await.unwrap();
    assert_eq!(dead_letters(&store, None, 10).await.len(), 2);
    clock.advance(LEASE);
    // Five: four ledger rows, three of which have a delivery, and delivery 1, which has lost its key.
    assert_eq!(store.forget_accepted(start..clock.now()).await.unwrap(), 5);
    assert_eq!(store.purge_done(10).await.unwrap(), 1);
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (0, 0));
}

#[tokio::test]
async fn unreadable_values_are_evicted_and_expire() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 1..=6 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    for leased in lease(&store, 10, 5).await {
        let is_kept = leased.lease().id().get() > 4;
        settled(&store, &leased, if is_kept { keep_for(LEASE) } else { dead_letter("400") }).await;
    }
    change(
        &folder,
        "
        UPDATE klikit_inbox SET state = 'odd', key = 'text' WHERE id = 1;
        UPDATE klikit_inbox SET since = 'x' WHERE id = 2;
        UPDATE klikit_inbox SET key = 17, since = 'x', token = 'x' WHERE id = 5;
        DELETE FROM klikit_inbox_body WHERE id IN (3, 6);
        ",
    );
    assert_eq!(store.stored(10).await.unwrap(), 6);
    assert_eq!(store.evict_done(10).await.unwrap(), 2);
    clock.advance(LEASE * 2);
    // Delivery 2, whose time is unreadable, stays and does not stop the purge.
    assert_eq!(store.purge_dead(LEASE, 10).await.unwrap(), 3);
    assert_eq!(dead_letters(&store, None, 10).await[0].id, id(2));
    assert_eq!((store.stored(10).await.unwrap(), folder.count("klikit_inbox_body")), (1, 1));
}

#[tokio::test]
async fn damaged_bodies_are_evicted_and_expire() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let body = "x".repeat(3000);
    for n in 1..=6 {
        let new = delivery(&format!("evt-{n}"), &body, &[]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    for leased in lease(&store, 6, 5).await {
        let is_kept = leased.lease().id().get() > 3;
        settled(&store, &leased, if is_kept { keep_for(LEASE) } else { dead_letter("400") }).await;
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox_body");
    damage(&folder, &[pages[0], pages[2], pages[4]]);
    let store = clock.open(&folder.file());
    clock.advance(LEASE * 2);
    assert_eq!((store.evict_done(2).await.unwrap(), store.evict_done(10).await.unwrap()), (2, 1));
    assert_eq!((store.purge_dead(LEASE, 2).await.unwrap(), store.purge_dead(LEASE, 10).await.unwrap()), (2, 1));
    assert_eq!((store.stored(10).await.unwrap(), folder.count("klikit_inbox")), (0, 0));
}

#[tokio::test]
async fn unreadable_ledger_row_fails_its_own_claim() {
    let folder = Folder::new();
    let store = folder.open();
    assert_eq!(store.claim(&claim(13, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    for assignment in ["digest = x'00'", "digest = 'text'", "state = 'x'", "until = 'x'"] {
        change(&folder, &format!("UPDATE klikit_ledger SET {assignment}"));
        let claims = join_all((0..256).map(|event| {
            let (store, claim) = (store.clone(), claim(event, 2));
            async move { store.claim(&claim, &TERMS).await }
        }))
        .await;
        for (event, outcome) in claims.iter().enumerate() {
            match outcome {
                Ok(outcome) => assert!(event != 13 && *outcome == ClaimOutcome::Claimed, "{event}: {outcome:?}"),
                Err(error) => {
                    assert!(event == 13 && kind(error) == SqliteErrorKind::Unreadable, "{event}: {error:?}");
                }
            }
        }
        assert_eq!(store.forget_claimed(std::time::SystemTime::UNIX_EPOCH..later()).await.unwrap(), 256);
        assert_eq!(store.claim(&claim(13, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
}

#[tokio::test]
async fn damaged_clock_row_counts_as_new() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "evt-1", &[]).await;
    change(&folder, "UPDATE klikit_clock SET ahead = 'x', latest = 9223372036854775807");
    assert_eq!(ids(&lease(&store, 1, 5).await), [1]);
    close(&folder, store);
    let pages = leaves(&folder, "klikit_clock");
    damage(&folder, &pages);
    let store = clock.open(&folder.file());
    accept(&store, "evt-2", &[]).await;
    assert_eq!(ids(&lease(&store, 1, 5).await), [2]);
    clock.advance(LEASE);
    assert_eq!(ids(&lease(&store, 10, 5).await), [1, 2]);
}

fn later() -> std::time::SystemTime {
    std::time::SystemTime::now() + Duration::from_secs(3600)
}

#[tokio::test]
async fn damaged_ledger_page_affects_only_its_rows() {
    const ALL: u64 = 2000;

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let claim_all = async |store: &SqliteStore, events: Range<u64>, token| {
        let claims = events.map(|event| {
            let claim = claim(event, token);
            async move { (event, store.claim(&claim, &TERMS).await) }
        });
        let mut claims = join_all(claims).await;
        // Sort in the order of the table's rows.
        claims.sort_unstable_by_key(|(event, _)| bytes(*event));
        claims
    };
    claim_all(&store, 0..ALL, 1).await;
    // Complete three of four entries, so that they stay and keep the pages in use.
    for complete in (0..ALL).filter(|event| event % 4 > 0).map(|event| claim(event, 1)).collect::<Vec<_>>().chunks(500)
    {
        assert!(
            join_all(complete.iter().map(|claim| store.complete(claim, RETENTION))).await.iter().all(Result::is_ok)
        );
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_ledger");
    assert!(pages.len() > 30);
    damage(&folder, &pages[15..16]);

    let store = clock.open(&folder.file());
    let claims = claim_all(&store, 0..ALL, 2).await;
    let is_readable = |(_, outcome): &&(u64, Result<ClaimOutcome, StoreError>)| outcome.is_ok();
    let readable: Vec<_> = claims.iter().filter(is_readable).map(|(event, _)| *event).collect();
    assert!((1..200).contains(&(claims.len() - readable.len())), "{} are readable", readable.len());
    assert!(claims.iter().all(|(_, outcome)| !matches!(outcome, Ok(ClaimOutcome::Claimed))));

    // A call for many claims renews the readable ones and returns an error.
    clock.advance(LEASE / 2);
    let all: Vec<_> = (0..ALL).filter(|event| event % 4 == 0).map(|event| claim(event, 1)).collect();
    assert_eq!(kind(&store.renew(&all, &TERMS).await.unwrap_err()), SqliteErrorKind::Damaged);
    clock.advance(LEASE / 2);
    let claimed: Vec<_> = readable.iter().filter(|event| **event % 4 == 0).collect();
    for event in [claimed[0], claimed[claimed.len() - 1]] {
        let in_flight = ClaimOutcome::InFlight { digest: digest(*event), remaining: LEASE / 2 };
        assert_eq!(store.claim(&claim(*event, 2), &TERMS).await.unwrap(), in_flight);
    }

    // A walk skips the damaged page and returns an error at the end.
    clock.advance(LEASE);
    let is_there = |event: u64| {
        let find = "SELECT count(*) FROM klikit_ledger WHERE key = ?1";
        folder.connect().query_row(find, [bytes(event)], |row| row.get::<_, u32>(0)).unwrap() > 0
    };
    assert_eq!(kind(&store.purge(u32::MAX).await.unwrap_err()), SqliteErrorKind::Damaged);
    assert!(!is_there(*claimed[0]) && !is_there(*claimed[claimed.len() - 1]));
    let start = clock.now();
    let claims = claim_all(&store, ALL..ALL + 200, 1).await;
    clock.advance(Duration::from_millis(1));
    assert_eq!(kind(&store.forget_claimed(start..clock.now()).await.unwrap_err()), SqliteErrorKind::Damaged);
    let new: Vec<_> = claims.iter().filter(is_readable).map(|(event, _)| *event).collect();
    assert!(new.len() > 180, "{}", new.len());
    assert!(!is_there(new[0]) && !is_there(new[new.len() - 1]));

    // The purge with each claim skips the damaged page too.
    claim_all(&store, ALL..ALL + 200, 1).await;
    clock.advance(LEASE);
    let mut event = 2 * ALL;
    while is_there(new[0]) || is_there(new[new.len() - 1]) {
        let _ = store.claim(&claim(event, 1), &TERMS).await;
        event += 1;
        assert!(event < 4 * ALL, "the rows are never purged");
    }
}
