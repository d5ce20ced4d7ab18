//! Closing a store, and what it leaves.

use std::fs;

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::Ledger,
    inbox::{Acceptance, InboxStore},
};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{accept, delivery},
    support::{Folder, RETENTION, TERMS, claim, kind},
};

/// Copies the file alone, as a careless operator does, and counts its deliveries.
async fn copied(folder: &Folder) -> u64 {
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
    store.close().await;
    assert_eq!(names(&folder), ["ledger.db"]);
    assert_eq!(copied(&folder).await, 100);
    // Also for its clones, and once more.
    clone.close().await;
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
    assert_eq!(copied(&folder).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_finishes_the_calls_that_were_made() {
    let folder = Folder::new();
    let store = folder.open();
    let calls: Vec<_> = (0..500)
        .map(|n| {
            let (store, new) = (store.clone(), delivery(&format!("evt-{n}"), &format!("body {n}"), &[]));
            tokio::spawn(async move { store.accept(&new, RETENTION).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await;
    let mut accepted = 0;
    for answer in join_all(calls).await {
        match answer.unwrap() {
            Ok(Acceptance::Accepted) => accepted += 1,
            other => assert_eq!(kind(&other.unwrap_err()), SqliteErrorKind::Stopped),
        }
    }
    assert_eq!(copied(&folder).await, accepted);
}
