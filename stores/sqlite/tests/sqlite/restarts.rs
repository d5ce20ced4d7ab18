//! Tests of the ledger across restarts, and of the file's mode and permissions.

use std::{fs, thread, time::Duration};

use tower_klikit::dedupe::{Claim, ClaimOutcome, Ledger, LedgerAdmin};
use tower_klikit_sqlite::{SqliteErrorKind, SqliteStore, SqliteStoreBuilder};

use crate::support::{Folder, LEASE, RETENTION, TERMS, TestClock, bytes, claim, digest, renew, with_suffix};

#[tokio::test]
async fn entries_outlive_the_store() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap());
    assert_eq!(store.claim(&claim(2, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    drop(store);
    folder.closed();

    clock.advance(Duration::from_secs(5));
    let store = clock.open(&folder.file());
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), ClaimOutcome::Done { digest: digest(1) });
    let in_flight = ClaimOutcome::InFlight { digest: digest(2), remaining: Duration::from_secs(20) };
    assert_eq!(store.claim(&claim(2, 2), &TERMS).await.unwrap(), in_flight);
    assert!(store.complete(&claim(2, 1), RETENTION).await.unwrap(), "the token is still valid after the restart");
}

#[tokio::test]
async fn entry_follows_the_state_machine() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let (first, second) = (claim(1, 1), claim(1, 2));

    // Expired: the next claim succeeds, and the old token is no longer valid.
    assert_eq!(store.claim(&first, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    clock.advance(LEASE - Duration::from_millis(1));
    let in_flight = ClaimOutcome::InFlight { digest: digest(1), remaining: Duration::from_millis(1) };
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), in_flight);
    clock.advance(Duration::from_millis(1));
    assert!(!renew(&store, &first).await);
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(!renew(&store, &first).await);
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    store.release(&first).await.unwrap();

    // Claimed again with its own token, and renewed: both extend the lease from now.
    clock.advance(LEASE / 2);
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    clock.advance(LEASE / 2);
    assert!(renew(&store, &second).await);
    clock.advance(LEASE - Duration::from_millis(1));

    // Released: the entry can be claimed.
    store.release(&second).await.unwrap();
    assert_eq!(store.claim(&first, &TERMS).await.unwrap(), ClaimOutcome::Claimed);

    // Done: it cannot be claimed, released or renewed, and only its own token can complete it again.
    assert!(store.complete(&first, RETENTION).await.unwrap());
    assert!(store.complete(&first, RETENTION).await.unwrap());
    assert!(!store.complete(&second, RETENTION).await.unwrap());
    assert!(!renew(&store, &first).await);
    store.release(&first).await.unwrap();
    clock.advance(RETENTION - Duration::from_millis(1));
    let done = ClaimOutcome::Done { digest: digest(1) };
    assert_eq!(store.claim(&first, &TERMS).await.unwrap(), done);
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), done);
    clock.advance(Duration::from_millis(1));
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
}

#[tokio::test]
async fn forgets_events_and_windows() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let conflict = Claim::new(bytes(100), bytes(1), digest(100), bytes(1));
    for claim in [&claim(1, 1), &conflict, &claim(2, 1)] {
        assert_eq!(store.claim(claim, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
    assert!(store.complete(&conflict, RETENTION).await.unwrap());
    assert_eq!(store.forget(&conflict.key().into()).await.unwrap(), 0, "the key of a conflict is not an event");
    assert_eq!(store.forget(&claim(1, 1).event().into()).await.unwrap(), 2);
    assert_eq!(store.forget(&claim(1, 1).event().into()).await.unwrap(), 0);
    assert_eq!(store.claim(&conflict, &TERMS).await.unwrap(), ClaimOutcome::Claimed);

    clock.advance(LEASE);
    assert_eq!(store.forget(&claim(2, 1).event().into()).await.unwrap(), 0, "the claim has expired");

    let start = clock.now();
    // More than one slice.
    let claims = (1000..4000).map(|event| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(&claim(event, 1), &TERMS).await })
    });
    for claim in claims.collect::<Vec<_>>() {
        assert_eq!(claim.await.unwrap().unwrap(), ClaimOutcome::Claimed);
    }
    clock.advance(Duration::from_millis(1));
    let end = clock.now();
    assert_eq!(store.claim(&claim(3, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.forget(&(end..start).into()).await.unwrap(), 0);
    assert_eq!(store.forget(&(start..start).into()).await.unwrap(), 0);
    let mut keys = Vec::new();
    for page in [700, 700, 700, 700, 200] {
        let listed = store.entries(&(start..end).into(), keys.last().copied(), 700).await.unwrap();
        assert_eq!(listed.len(), page);
        keys.extend(listed.into_iter().map(|entry| entry.key));
    }
    let mut expected: Vec<_> = (1000..4000).map(|event| *claim(event, 1).key()).collect();
    expected.sort_unstable();
    assert!(keys == expected, "the pages have all entries, in the order of their keys");
    assert_eq!(store.entries(&(start..start).into(), None, 10).await.unwrap(), []);
    assert_eq!(store.forget(&(start..end).into()).await.unwrap(), 3000);
    assert_eq!(store.forget(&(start..end).into()).await.unwrap(), 0);
    let far = std::time::SystemTime::UNIX_EPOCH..end + Duration::from_secs(3600);
    assert_eq!(store.forget(&far.into()).await.unwrap(), 1);
}

#[test]
fn file_is_private_and_in_wal_mode() {
    let folder = Folder::new();
    let _store = folder.open();
    let mode: String = folder.connect().pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    #[cfg(unix)]
    for suffix in ["", "-wal", "-shm"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(with_suffix(&folder.file(), suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn prefixes_separate_stores() {
    let folder = Folder::new();
    let options = |prefix| SqliteStore::builder().create().table_prefix(prefix);
    let (one, other) = (options("one_").open(folder.file()).unwrap(), options("other_").open(folder.file()).unwrap());
    assert_eq!(one.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(other.claim(&claim(1, 2), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(other.forget(&claim(1, 2).event().into()).await.unwrap(), 1);
    let again = options("one_").open(folder.file()).unwrap();
    assert!(again.claim(&claim(1, 3), &TERMS).await.unwrap() != ClaimOutcome::Claimed);

    let error = options("one; DROP TABLE").open(folder.path().join("another.db")).unwrap_err();
    assert_eq!(error.kind(), SqliteErrorKind::TablePrefix);
    assert!(!folder.path().join("another.db").exists());
}

#[test]
fn special_paths_are_ordinary_files() {
    let folder = Folder::new();
    for name in [":memory:", "file:ledger.db?mode=memory", "with 'quotes' and spaces"] {
        let path = folder.path().join(name);
        let _store = SqliteStore::builder().create().open(&path).unwrap();
        assert!(fs::metadata(&path).unwrap().is_file());
    }
}

#[test]
fn opens_a_new_file_in_many_threads_at_once() {
    let folder = Folder::new();
    let stores = thread::scope(|scope| {
        let opening: Vec<_> =
            (0..8).map(|_| scope.spawn(|| SqliteStore::builder().create().open(folder.file()))).collect();
        opening.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for store in stores {
        store.unwrap();
    }
}

#[test]
fn rejects_foreign_files_and_other_versions() {
    let folder = Folder::new();
    drop(folder.open());
    for other in ["2", "3"] {
        folder.connect().execute_batch(&format!("UPDATE klikit_schema SET version = {other}")).unwrap();
        assert_eq!(SqliteStore::open(folder.file()).unwrap_err().kind(), SqliteErrorKind::NewerSchema);
    }

    let text = folder.path().join("text");
    fs::write(&text, "no database, but long enough to have been one, and not empty either").unwrap();
    assert_eq!(SqliteStore::open(&text).unwrap_err().kind(), SqliteErrorKind::File);
    assert!(fs::read_to_string(&text).unwrap().starts_with("no database"));
}

#[test]
fn store_is_clone_send_and_sync() {
    fn assert_all<T: Clone + std::fmt::Debug + Send + Sync + Unpin + 'static>() {}
    assert_all::<SqliteStore>();
    assert_all::<SqliteStoreBuilder>();
}
