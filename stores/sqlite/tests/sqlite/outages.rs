//! Tests of outages that last longer than a lease: each delivery is handled once.

use std::{
    convert::Infallible,
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use tokio::{
    sync::{Semaphore, oneshot},
    task::yield_now,
};
use tower::service_fn;
use tower_klikit::{
    VerifiedBody,
    inbox::{Inbox, InboxStore},
};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{accept, delivery},
    support::{Folder, RETENTION, TestClock, with_suffix},
};

/// The environment variable with the folder for a child process.
const FOLDER: &str = "TOWER_KLIKIT_TEST_SQLITE_OUTAGE_FOLDER";

const LEASE: Duration = Duration::from_millis(300);

/// Checks that each delivery is handled once although the file fails for the duration of many leases. A worker handles
/// two deliveries meanwhile. The first handler returns during the outage, the second after it.
async fn assert_handles_once(store: &SqliteStore, clock: &TestClock, fail: impl FnOnce(), repair: impl FnOnce()) {
    let begun = Arc::new(AtomicU32::new(0));
    let ends = [Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0))];
    let handler = {
        let (begun, ends) = (Arc::clone(&begun), ends.clone());
        service_fn(move |_: Request<VerifiedBody>| {
            let end = Arc::clone(&ends[begun.fetch_add(1, Ordering::SeqCst) as usize % 2]);
            async move {
                end.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::new(()))
            }
        })
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Inbox::new(store.clone()).worker(handler).lease(LEASE).poll_interval(Duration::from_millis(20));
    let worker = tokio::spawn(worker.run_until(stopped));
    for n in 1..=2 {
        accept(store, &format!("evt-{n}"), &[]).await;
        while begun.load(Ordering::SeqCst) < n {
            yield_now().await;
        }
    }
    fail();
    clock.advance(LEASE * 10);
    ends[0].add_permits(1);
    // The worker's calls fail in the same way meanwhile.
    for n in 0..3 {
        let new = delivery(&format!("evt-not-{n}"), &"x".repeat(20_000), &[]);
        store.accept(&new, RETENTION).await.unwrap_err();
        clock.advance(LEASE * 10);
    }
    repair();
    // When the worker has leased this delivery, it has polled since the outage.
    accept(store, "evt-3", &[]).await;
    while begun.load(Ordering::SeqCst) < 3 {
        yield_now().await;
    }
    ends[1].add_permits(1);
    ends[0].add_permits(1);
    while store.backlog(1).await.unwrap() > 0 {
        yield_now().await;
    }
    drop(stop);
    worker.await.unwrap();
    assert_eq!(begun.load(Ordering::SeqCst), 3);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_once_when_locked_longer_than_a_lease() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let other = std::sync::Mutex::new(folder.connect());
    let execute = |sql: &str| other.lock().unwrap().execute_batch(sql).unwrap();
    assert_handles_once(&store, &clock, || execute("BEGIN IMMEDIATE"), || execute("COMMIT")).await;
}

/// A limit on the size of files simulates a full disk.
#[cfg(target_os = "linux")]
#[test]
fn handles_once_when_full_longer_than_a_lease() {
    crate::support::run_within_a_file_limit("outages::child_fills_the_disk", FOLDER);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test runs this in a child process"]
async fn child_fills_the_disk() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let clock = TestClock::new();
    let store = clock.open(&folder.join("ledger.db"));
    let (fail, repair) = (|| crate::support::limit_files("1"), || crate::support::limit_files("unlimited"));
    assert_handles_once(&store, &clock, fail, repair).await;
    fs::write(folder.join("ran"), []).unwrap();
}

/// Permissions do not restrict root, so the child runs as another user.
#[cfg(unix)]
#[test]
fn handles_once_when_read_only_longer_than_a_lease() {
    crate::support::run_as_nobody("outages::child_may_not_write", FOLDER);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test runs this in a child process"]
async fn child_may_not_write() {
    use std::os::unix::fs::PermissionsExt;

    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let file = folder.join("ledger.db");
    let clock = TestClock::new();
    let store = clock.open(&file);
    let allow = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    // An open file stays writable, so delete the log: then the store must open the file again.
    let fail = || {
        fs::remove_file(with_suffix(&file, "-wal")).unwrap();
        allow(0o400);
    };
    assert_handles_once(&store, &clock, fail, || allow(0o600)).await;
    fs::write(folder.join("ran"), []).unwrap();
}
