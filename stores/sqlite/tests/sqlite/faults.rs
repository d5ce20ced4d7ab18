//! Tests of locked, full, read-only and deleted files: calls fail, and succeed later without a restart.

use std::{env, fs, thread, time::Duration};

use tower_klikit::dedupe::{ClaimOutcome, ClaimTerms, Ledger};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore};

use crate::support::{Folder, LEASE, RETENTION, TERMS, claim, digest, kind, with_suffix};

/// The environment variable with the folder for a child process.
const FOLDER: &str = "TOWER_KLIKIT_TEST_SQLITE_FOLDER";

/// Locks a new file until the transaction ends.
const HOLD_LOCK: &str = "
    BEGIN EXCLUSIVE;

    CREATE TABLE t (c);
    ";

#[tokio::test]
async fn calls_on_a_locked_file_fail() {
    let folder = Folder::new();
    let store = folder.open();
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    let other = folder.connect();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Make more calls than fit into one batch.
    let claims = (2..600).map(|event| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(&claim(event, 1), &TERMS).await })
    });
    for claim in claims.collect::<Vec<_>>() {
        assert_eq!(kind(&claim.await.unwrap().unwrap_err()), SqliteErrorKind::Busy);
    }
    assert_eq!(kind(&store.complete(&claim(1, 1), RETENTION).await.unwrap_err()), SqliteErrorKind::Busy);
    assert!(SqliteStore::builder().create().open(folder.file()).is_ok(), "opening takes no lock if the tables exist");
    other.execute_batch("COMMIT").unwrap();
    assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap());
    assert_eq!(store.claim(&claim(2, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
}

#[tokio::test]
async fn opening_a_locked_new_file_is_an_error() {
    let folder = Folder::new();
    let other = folder.connect();
    other.execute_batch(HOLD_LOCK).unwrap();
    assert_eq!(SqliteStore::builder().create().open(folder.file()).unwrap_err().kind(), SqliteErrorKind::Busy);
    other.execute_batch("COMMIT").unwrap();
    folder.open();
}

/// A process that ends keeps the file locked while it copies its log.
#[test]
fn opening_waits_longer_than_a_call() {
    let folder = Folder::new();
    let other = folder.connect();
    other.execute_batch(HOLD_LOCK).unwrap();
    let unlock = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        other.execute_batch("COMMIT").unwrap();
    });
    folder.open();
    unlock.join().unwrap();
}

#[tokio::test]
async fn dropped_tables_are_created_again() {
    let folder = Folder::new();
    let store = SqliteStore::builder().create().ledger_only().open(folder.file()).unwrap();
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    let drop_all = "
        DROP TABLE klikit_ledger;
        DROP TABLE klikit_clock;
        DROP TABLE klikit_schema;
        ";
    folder.connect().execute_batch(drop_all).unwrap();
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
}

#[cfg(unix)]
#[tokio::test]
async fn notices_a_deleted_file_and_creates_it_again() {
    for gone in [&["", "-wal", "-shm"][..], &[""]] {
        let folder = Folder::new();
        let (store, other) = (folder.open(), folder.open());
        for store in [&store, &other] {
            store.release(&claim(1, 1)).await.unwrap();
        }
        assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
        for suffix in gone {
            fs::remove_file(with_suffix(&folder.file(), suffix)).unwrap();
        }
        for store in [&store, &other] {
            let error = store.claim(&claim(2, 1), &TERMS).await.unwrap_err();
            assert_eq!(kind(&error), SqliteErrorKind::File, "{error:?}");
        }
        // Closing the old connections must not delete the log of the new file.
        assert_eq!(store.claim(&claim(2, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
        assert!(other.claim(&claim(2, 2), &TERMS).await.unwrap() != ClaimOutcome::Claimed);
        drop((store, other));
        folder.closed_by_all();
        let store = folder.open();
        assert!(store.claim(&claim(2, 3), &TERMS).await.unwrap() != ClaimOutcome::Claimed);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn notices_a_replaced_file() {
    let folder = Folder::new();
    let store = folder.open();
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    fs::write(folder.path().join("restored"), []).unwrap();
    fs::rename(folder.path().join("restored"), folder.file()).unwrap();
    assert_eq!(kind(&store.claim(&claim(2, 1), &TERMS).await.unwrap_err()), SqliteErrorKind::File);
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
}

/// A limit on the size of files simulates a full disk: writes fail until the limit is raised.
#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_an_error_and_loses_nothing() {
    crate::support::run_within_a_file_limit("faults::child_fills_the_disk", FOLDER);
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "another test runs this in a child process"]
async fn child_fills_the_disk() {
    use std::path::PathBuf;

    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = SqliteStore::builder().create().open(folder.join("ledger.db")).unwrap();
    crate::support::limit_files("200000");

    let (mut claimed, mut failed) = (vec![], 0);
    for event in 0.. {
        match store.claim(&claim(event, 1), &ClaimTerms { lease: LEASE * 100, ..TERMS }).await {
            Ok(outcome) => {
                assert_eq!(outcome, ClaimOutcome::Claimed);
                claimed.push(event);
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
        assert!(event < 100_000, "the limit has no effect");
    }
    assert!(claimed.len() > 50);

    crate::support::limit_files("unlimited");
    for &event in &claimed {
        let outcome = store.claim(&claim(event, 2), &TERMS).await.unwrap();
        assert!(matches!(outcome, ClaimOutcome::InFlight { .. }), "event {event}: {outcome:?}");
    }
    assert!(store.complete(&claim(claimed[0], 1), RETENTION).await.unwrap());
    assert_eq!(store.claim(&claim(1_000_000, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    let check: String = rusqlite::Connection::open(folder.join("ledger.db"))
        .and_then(|connection| connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(check, "ok");
    fs::write(folder.join("ran"), []).unwrap();
}

/// Permissions do not restrict root, so the child runs as another user.
#[cfg(unix)]
#[test]
fn read_only_file_is_an_error() {
    crate::support::run_as_nobody("faults::child_may_not_write", FOLDER);
}

#[cfg(unix)]
#[tokio::test]
#[ignore = "another test runs this in a child process"]
async fn child_may_not_write() {
    use std::{
        os::unix::fs::PermissionsExt,
        path::{Path, PathBuf},
    };

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let file = folder.join("ledger.db");
    let store = SqliteStore::builder().create().open(&file).unwrap();
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap());
    drop(store);
    crate::support::until("the log to be deleted", || !with_suffix(&file, "-wal").exists());

    let assert_denied = |cause: &str| {
        let error = SqliteStore::open(&file).unwrap_err();
        assert_eq!(error.kind(), SqliteErrorKind::File);
        assert!(error.to_string().contains(&format!("{cause}: Permission denied")), "{error}");
    };
    for mode in [0o400, 0o000] {
        allow(&file, mode);
        assert_denied(&format!("the file {} cannot be opened", file.display()));
    }
    allow(&file, 0o600);
    allow(&folder, 0o500);
    assert_denied(&format!("the folder {} is not writable", folder.display()));
    let error = SqliteStore::builder().create().open(folder.join("new.db")).unwrap_err();
    assert_eq!(error.kind(), SqliteErrorKind::File);
    let unwritable = format!("the folder {} is not writable: Permission denied", folder.display());
    assert!(error.to_string().contains(&unwritable), "{error}");
    allow(&folder, 0o700);
    let store = SqliteStore::builder().create().open(&file).unwrap();
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), ClaimOutcome::Done { digest: digest(1) });

    // Delete the open file. It cannot be created until the permissions are restored.
    fs::remove_file(&file).unwrap();
    allow(&folder, 0o500);
    for _ in 0..3 {
        assert_eq!(kind(&store.claim(&claim(2, 1), &TERMS).await.unwrap_err()), SqliteErrorKind::File);
    }
    allow(&folder, 0o700);
    assert_eq!(store.claim(&claim(2, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    fs::write(folder.join("ran"), []).unwrap();
}
