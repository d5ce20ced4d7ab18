//! Tests of the size of the files.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use tokio::time::sleep;
use tower_klikit::inbox::{Acceptance, InboxStore};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{accept, delivery, done, lease, settled},
    support::{Folder, RETENTION, until, with_suffix},
};

fn length(folder: &Folder, suffix: &str) -> u64 {
    fs::metadata(with_suffix(&folder.file(), suffix)).unwrap().len()
}

/// Accepts deliveries of 20 MB.
async fn load(store: &SqliteStore, round: u32) {
    let body = "o".repeat(200 << 10);
    for event in 0..100 {
        let new = delivery(&format!("evt-{round}-{event}"), &body, &[]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
}

#[tokio::test]
async fn truncates_the_log_after_load() {
    let folder = Folder::new();
    let store = folder.open();
    load(&store, 1).await;
    assert!(length(&folder, "-wal") > 16 << 20);
    until("the log to be truncated", || length(&folder, "-wal") == 0);
    assert_eq!(store.counts().await.unwrap().ready, 100);
    accept(&store, "evt", &[]).await;
    assert_eq!(store.counts().await.unwrap().ready, 101);
}

/// The long read is an open transaction, as of an operator's tool.
#[tokio::test]
async fn truncates_the_log_after_a_long_read() {
    let folder = Folder::new();
    let store = folder.open();
    accept(&store, "evt", &[]).await;
    let reader = folder.connect();
    let begin_reading = "
        BEGIN;

        -- The transaction begins to read here.
        SELECT count(*)
        FROM klikit_inbox;
        ";
    reader.execute_batch(begin_reading).unwrap();
    load(&store, 1).await;
    for n in 0..10 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    // Looked at more than once meanwhile.
    sleep(Duration::from_secs(7)).await;
    assert!(length(&folder, "-wal") > 16 << 20);
    accept(&store, "evt-10", &[]).await;
    reader.execute_batch("COMMIT").unwrap();
    until("the log to be truncated", || length(&folder, "-wal") == 0);
}

#[tokio::test]
async fn file_shrinks_once_deliveries_are_handled() {
    let folder = Folder::new();
    let store = folder.open();
    load(&store, 1).await;
    accept(&store, "evt", &[]).await;
    for leased in lease(&store, 100, 5).await {
        settled(&store, &leased, done()).await;
    }
    until("the file to shrink", || length(&folder, "") < 6 << 20);
    assert_eq!(store.counts().await.unwrap().ready, 1);
    let check: String = folder.connect().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

/// A day of a busy chain: 96,000 deliveries of 8 kB, of which up to 12,000 are pending at a time.
#[tokio::test]
#[ignore = "takes minutes"]
async fn files_after_a_day_of_load() {
    let folder = Folder::new();
    let store = folder.open();
    let body = "o".repeat(8000);
    let [mut longest_file, mut longest_log] = [0, 0];
    for hour in 0..24 {
        for part in 0..40 {
            let accepting = (0..100).map(async |n| {
                let new = delivery(&format!("evt-{hour}-{part}-{n}"), &body, &[]);
                assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
            });
            join_all(accepting).await;
            longest_log = longest_log.max(length(&folder, "-wal"));
            longest_file = longest_file.max(length(&folder, ""));
        }
        // Handled every third hour.
        let handled = if hour % 3 == 2 { 120 } else { 0 };
        for _ in 0..handled {
            let settlements: Vec<_> =
                lease(&store, 100, 5).await.iter().map(|leased| (*leased.lease(), done())).collect();
            store.settle(&settlements).await.unwrap();
        }
    }
    until("the log to be cut back", || length(&folder, "-wal") == 0);
    until("the file to shrink", || length(&folder, "") < 32 << 20);
    let mib = |bytes: u64| bytes >> 20;
    println!("under load: file {} MiB, log {} MiB", mib(longest_file), mib(longest_log));
    println!("afterwards: file {} MiB, log {} MiB", mib(length(&folder, "")), mib(length(&folder, "-wal")));
    drop(store);
    println!("closed: file {} MiB", mib(length(&folder, "")));
}

/// A file that another program has created cannot shrink page by page.
#[tokio::test]
async fn file_of_another_program_keeps_its_space() {
    let folder = Folder::new();
    folder.connect().execute_batch("CREATE TABLE other (c)").unwrap();
    let store = folder.open();
    load(&store, 1).await;
    for leased in lease(&store, 100, 5).await {
        settled(&store, &leased, done()).await;
    }
    until("the log to be truncated", || length(&folder, "-wal") == 0);
    assert!(length(&folder, "") > 19 << 20);
    load(&store, 2).await;
    until("the log to be cut back", || length(&folder, "-wal") == 0);
    assert!(length(&folder, "") < 25 << 20);
}
