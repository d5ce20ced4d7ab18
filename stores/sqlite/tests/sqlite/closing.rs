//! Tests of closing a store, and of the files that it leaves.

use std::fs;

use futures_util::{future::join_all, poll};
use tower_klikit::{
    dedupe::Ledger,
    inbox::{Acceptance, InboxStore},
};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{accept, delivery},
    support::{Folder, RETENTION, TERMS, claim, kind},
};

/// Copies the database file without its log, as a careless operator would, and counts the deliveries in the copy.
async fn deliveries_in_copy(folder: &Folder) -> u64 {
    let copy = folder.path().join("copy.db");
    fs::copy(folder.file(), &copy).unwrap();
    SqliteStore::open(copy).unwrap().counts().await.unwrap().ready
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn closed_store_leaves_one_file() {
    let folder = Folder::new();
    let store = folder.open();
    let clone = store.clone();
    for n in 0..100 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    store.counts().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(names(&folder), ["ledger.db"]);
    assert_eq!(deliveries_in_copy(&folder).await, 100);
    // Also for its clones, and once more.
    clone.close().await.unwrap();
    let errors = [
        clone.claim(&claim(1, 1), &TERMS).await.map(drop),
        clone.counts().await.map(drop),
        store.accept(&delivery("evt-1", "one", &[]), RETENTION).await.map(drop),
    ];
    for error in errors {
        assert_eq!(kind(&error.unwrap_err()), SqliteErrorKind::Stopped);
    }
    let error = store.counts().await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("closed"), "{error:?}");
}

#[tokio::test]
async fn dropped_store_leaves_one_file() {
    let folder = Folder::new();
    let store = folder.open();
    let clone = store.clone();
    for n in 0..100 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    clone.counts().await.unwrap();
    drop(store);
    clone.counts().await.unwrap();
    drop(clone);
    assert_eq!(names(&folder), ["ledger.db"]);
    assert_eq!(deliveries_in_copy(&folder).await, 100);
}

#[tokio::test]
async fn closing_finishes_the_calls_that_are_queued() {
    let folder = Folder::new();
    let store = folder.open();
    let new: Vec<_> = (0..100).map(|n| delivery(&format!("evt-{n}"), &format!("body {n}"), &[])).collect();
    let mut calls: Vec<_> = new.iter().map(|new| Box::pin(store.accept(new, RETENTION))).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    store.close().await.unwrap();
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap(), Acceptance::Accepted);
    }
    assert_eq!(deliveries_in_copy(&folder).await, 100);
}

/// More than a task can send at once, so that some are not queued yet.
#[tokio::test]
async fn closing_does_not_wait_for_callers() {
    let folder = Folder::new();
    let store = folder.open();
    let new: Vec<_> = (0..500).map(|n| delivery(&format!("evt-{n}"), &format!("body {n}"), &[])).collect();
    let mut calls: Vec<_> = new.iter().map(|new| Box::pin(store.accept(new, RETENTION))).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    store.close().await.unwrap();
    let answers = join_all(calls).await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answers.into_iter().filter_map(Result::err).all(|error| kind(&error) == SqliteErrorKind::Stopped));
    assert_eq!(deliveries_in_copy(&folder).await, accepted as u64);
}

#[tokio::test]
async fn closing_tells_that_the_log_is_left() {
    let folder = Folder::new();
    let store = folder.open();
    accept(&store, "evt", &[]).await;
    let other = folder.connect();
    other.execute_batch("SELECT count(*) FROM klikit_inbox").unwrap();
    let error = store.close().await.unwrap_err();
    assert!(error.to_string().contains("ledger.db-wal is left"), "{error}");
    drop(other);
    assert_eq!(names(&folder), ["ledger.db"]);
}
