//! Tests of backups while the store is open.

use std::{
    fs,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::poll;
use tower_klikit::inbox::InboxStore;
use tower_klikit_sqlite::{SqliteError, SqliteErrorKind, SqliteStore};
use tower_klikit_test_support::large_table::large_table;

use crate::{
    deliveries::accept,
    support::{Folder, with_suffix},
};

#[tokio::test(flavor = "multi_thread")]
async fn backup_contains_earlier_commits() {
    let folder = Folder::new();
    let store = folder.open();
    let target = folder.path().join("backup.db");
    let create = "
        CREATE TABLE other (c);

        INSERT INTO other
        VALUES (17);
        ";
    folder.connect().execute_batch(create).unwrap();
    let accepted = Arc::new(AtomicU64::new(0));
    let serving = tokio::spawn({
        let (store, accepted) = (store.clone(), Arc::clone(&accepted));
        async move {
            for n in 0.. {
                accept(&store, &format!("evt-{n}"), &[]).await;
                accepted.store(n + 1, Ordering::SeqCst);
            }
        }
    });
    while accepted.load(Ordering::SeqCst) < 500 {
        tokio::task::yield_now().await;
    }
    let before = accepted.load(Ordering::SeqCst);
    store.backup(&target).await.unwrap();
    let after = accepted.load(Ordering::SeqCst);
    serving.abort();
    let _ = serving.await;

    // The backup is one complete file.
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!with_suffix(&target, suffix).exists());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(!has_partial(folder.path()));
    let connection = rusqlite::Connection::open(&target).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let other: i64 = connection.query_row("SELECT c FROM other", [], |row| row.get(0)).unwrap();
    assert_eq!((&*check, other), ("ok", 17));
    drop(connection);
    let restored = SqliteStore::open(&target).unwrap();
    let ready = restored.counts().await.unwrap().ready;
    assert!(ready >= before && ready <= after + 1, "{ready} deliveries, expected {before} to {after}");
    accept(&restored, "another event", &[]).await;
}

#[tokio::test]
async fn backup_never_replaces_a_file() {
    let folder = Folder::new();
    let store = folder.open();
    accept(&store, "evt", &[]).await;
    fs::write(folder.path().join("notes.txt"), "notes").unwrap();
    for target in [folder.file(), folder.path().join("notes.txt")] {
        let before = fs::metadata(&target).unwrap().len();
        let error = store.backup(&target).await.unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::File);
        assert!(error.to_string().contains("exists already"), "{error}");
        assert_eq!(fs::metadata(&target).unwrap().len(), before);
    }
    let error = store.backup(folder.path().join("no/such/folder.db")).await.unwrap_err();
    assert!(error.to_string().contains("no/such/folder.db"), "{error}");
    assert_eq!(store.counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn lost_file_is_not_backed_up() {
    for opened in ["create", "open"] {
        let folder = Folder::new();
        let store = folder.open();
        accept(&store, "evt", &[]).await;
        let store = if opened == "create" {
            store
        } else {
            drop(store);
            SqliteStore::open(folder.file()).unwrap()
        };
        store.counts().await.unwrap();
        fs::rename(folder.file(), folder.path().join("away.db")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        store.backup(elsewhere.path().join("backup.db")).await.unwrap_err();
        assert!(fs::read_dir(elsewhere.path()).unwrap().next().is_none(), "{opened}");
    }
}

#[tokio::test]
async fn closing_waits_for_a_backup() {
    let folder = Folder::new();
    let store = folder.open();
    let target = folder.path().join("backup.db");
    for n in 0..1000 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    let _backup = started(&store, &target).await;
    store.close().await.unwrap();
    assert_eq!(SqliteStore::open(&target).unwrap().counts().await.unwrap().ready, 1000);
    let error = store.backup(folder.path().join("another.db")).await.unwrap_err();
    assert_eq!(error.kind(), SqliteErrorKind::Stopped);
}

#[tokio::test]
async fn dropped_backup_leaves_no_file() {
    let folder = Folder::new();
    let store = folder.open();
    // Enough that the copy is not complete before the future is dropped.
    folder.connect().execute_batch(&large_table(100_000)).unwrap();
    let target = folder.path().join("copies").join("backup.db");
    fs::create_dir(folder.path().join("copies")).unwrap();
    drop(started(&store, &target).await);
    store.close().await.unwrap();
    let left: Vec<_> = fs::read_dir(folder.path().join("copies")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Starts a backup. Returns its future when its file exists.
async fn started<'a>(
    store: &'a SqliteStore,
    target: &'a Path,
) -> Pin<Box<impl Future<Output = Result<(), SqliteError>> + 'a>> {
    let mut backup = Box::pin(store.backup(target));
    while !has_partial(target.parent().unwrap()) {
        assert!(poll!(&mut backup).is_pending(), "the backup has ended");
        tokio::task::yield_now().await;
    }
    backup
}

fn has_partial(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.any(|entry| entry.file_name().to_string_lossy().contains("partial"))
}
