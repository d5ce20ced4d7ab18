//! Tests of the inbox's file: restarts, upgrades, permissions, locks and full disks.

use std::{env, fs};

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    inbox::{Acceptance, DeliveryId, DeliveryState, InboxStore},
};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::{
    deliveries::{dead_letter, delivery, done, keep_for, lease, request, settled, show},
    support::{Folder, LEASE, RETENTION, TERMS, TestClock, claim, digest, kind, with_suffix},
};

/// The environment variable with the folder for a child process.
const FOLDER: &str = "TOWER_KLIKIT_TEST_SQLITE_INBOX_FOLDER";

#[tokio::test]
async fn ledger_only_file_gets_an_inbox() {
    let folder = Folder::new();
    let store = SqliteStore::builder().create().ledger_only().open(folder.file()).unwrap();
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap());
    drop(store);
    folder.closed();
    assert!(!folder.tables().iter().any(|table| table.contains("inbox")), "{:?}", folder.tables());
    let store = folder.open();
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), ClaimOutcome::Done { digest: digest(1) });
    let new = delivery("evt-1", "one", &["key"]);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

#[tokio::test]
async fn restart_forgets_nothing() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let mut store = clock.open(&folder.file());
    for event in ["evt-1", "evt-2", "evt-3", "evt-4"] {
        let new = delivery(event, &"x".repeat(20_000), &["key"]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
        if event != "evt-4" {
            let leased = lease(&store, 1, 5).await;
            match event {
                "evt-1" => settled(&store, &leased[0], dead_letter("it's dead — Phở")).await,
                "evt-2" => settled(&store, &leased[0], keep_for(RETENTION)).await,
                _ => {}
            }
        }
    }
    for _ in 0..2 {
        drop(store);
        folder.closed();
        store = clock.open(&folder.file());
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.ready, counts.leased, counts.dead, counts.done), (1, 1, 1, 1));
        let dead = show(&store, 1).await.unwrap();
        assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 1));
        assert_eq!(dead.reason.as_deref(), Some("it's dead — Phở"));
        assert_eq!(dead.body.unwrap(), "x".repeat(20_000));
        assert!(lease(&store, 10, 5).await.is_empty());
    }
    clock.advance(LEASE);
    let leased = lease(&store, 10, 5).await;
    assert_eq!(leased.len(), 1);
    assert_eq!((leased[0].lease().id(), leased[0].lease().attempt()), (DeliveryId::new(3), 2));
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let store = folder.open();
    let new = delivery("evt-1", "one", &[]);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(lease(&store, 1, 5).await.len(), 1);
    for suffix in ["", "-wal", "-shm"] {
        let mode = fs::metadata(with_suffix(&folder.file(), suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn makes_only_empty_files_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let share = || fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o664)).unwrap();
    fs::write(folder.file(), []).unwrap();
    share();
    for expected in [0o600, 0o664] {
        let store = folder.open();
        let new = delivery(&format!("evt-{expected}"), "one", &[]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
        for suffix in ["", "-wal", "-shm"] {
            let mode = fs::metadata(with_suffix(&folder.file(), suffix)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, expected, "{suffix}");
        }
        drop(store);
        folder.closed();
        share();
    }
}

#[tokio::test]
async fn counts_while_the_file_is_locked() {
    let folder = Folder::new();
    let store = folder.open();
    let mut deliveries = vec![];
    for n in 0..40 {
        deliveries.push(delivery(&format!("evt-{n}"), "body", &[]));
    }
    assert_eq!(store.accept(&deliveries[0], RETENTION).await.unwrap(), Acceptance::Accepted);
    let other = folder.connect();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for accepted in join_all(deliveries.iter().map(|new| store.accept(new, RETENTION))).await {
        assert_eq!(kind(&accepted.unwrap_err()), SqliteErrorKind::Busy);
    }
    assert_eq!(kind(&store.lease(&request(1, 5)).await.unwrap_err()), SqliteErrorKind::Busy);
    assert_eq!(store.backlog(10).await.unwrap(), 1);
    other.execute_batch("COMMIT").unwrap();
    let leased = lease(&store, 1, 5).await;
    assert_eq!(leased[0].lease().attempt(), 1);
    for new in &deliveries[1..] {
        assert_eq!(store.accept(new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn reader_notices_a_replaced_file() {
    let folder = Folder::new();
    let store = folder.open();
    let new = delivery("evt-1", "one", &[]);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(store.backlog(10).await.unwrap(), 1);
    fs::write(folder.path().join("restored"), []).unwrap();
    fs::rename(folder.path().join("restored"), folder.file()).unwrap();
    assert_eq!(kind(&store.backlog(10).await.unwrap_err()), SqliteErrorKind::File);
    assert_eq!(kind(&store.accept(&new, RETENTION).await.unwrap_err()), SqliteErrorKind::File);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    assert_eq!(store.backlog(10).await.unwrap(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_an_error_and_loses_nothing() {
    crate::support::run_within_a_file_limit("inbox_files::child_fills_the_disk", FOLDER);
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "another test runs this in a child process"]
async fn child_fills_the_disk() {
    use std::path::PathBuf;

    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = SqliteStore::builder().create().open(folder.join("ledger.db")).unwrap();
    crate::support::limit_files("1000000");
    let body = "x".repeat(8000);
    let (mut accepted, mut failed) = (0, 0);
    for event in 0.. {
        let new = delivery(&format!("evt-{event}"), &body, &["key"]);
        match store.accept(&new, RETENTION).await {
            Ok(outcome) => {
                assert_eq!(outcome, Acceptance::Accepted);
                accepted += 1;
                failed = 0;
            }
            Err(error) => {
                assert!(matches!(kind(&error), SqliteErrorKind::Full | SqliteErrorKind::File), "{error:?}");
                failed += 1;
            }
        }
        // After a failure, the log may be restarted and have space again, until the database file is full too.
        if failed == 20 {
            break;
        }
        assert!(event < 10_000, "the limit has no effect");
    }
    assert!(accepted > 20);

    crate::support::limit_files("unlimited");
    assert_eq!(store.counts().await.unwrap().ready, accepted);
    for _ in 0..accepted {
        let leased = lease(&store, 1, 5).await;
        assert_eq!(leased[0].body(), body.as_bytes());
        settled(&store, &leased[0], done()).await;
    }
    let connection = rusqlite::Connection::open(folder.join("ledger.db")).unwrap();
    for table in ["klikit_inbox", "klikit_inbox_body", "klikit_inbox_key"] {
        let rows: u32 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    fs::write(folder.join("ran"), []).unwrap();
}
