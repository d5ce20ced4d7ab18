//! Outages that last longer than a lease, during which each delivery is handled once.

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

/// The folder for the parts of tests that run in a process of their own.
const FOLDER: &str = "TOWER_KLIKIT_TEST_SQLITE_OUTAGE_FOLDER";

const LEASE: Duration = Duration::from_millis(300);

/// Makes the file fail for many leases while a worker handles two deliveries. The first handler ends meanwhile, the
/// second afterwards.
async fn handles_once(store: &SqliteStore, clock: &TestClock, fail: impl FnOnce(), mend: impl FnOnce()) {
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
    // The worker fails in the same way meanwhile.
    for n in 0..3 {
        let new = delivery(&format!("evt-not-{n}"), &"x".repeat(20_000), &[]);
        store.accept(&new, RETENTION).await.unwrap_err();
        clock.advance(LEASE * 10);
    }
    mend();
    // The worker leases this one, so it has looked for deliveries since.
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
async fn locked_for_longer_than_a_lease() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let other = std::sync::Mutex::new(folder.connect());
    let execute = |sql: &str| other.lock().unwrap().execute_batch(sql).unwrap();
    handles_once(&store, &clock, || execute("BEGIN IMMEDIATE"), || execute("COMMIT")).await;
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(target_os = "linux")]
#[test]
fn full_for_longer_than_a_lease() {
    crate::support::run_within_a_file_limit("outages::child_fills_the_disk", FOLDER);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another test, in a process of its own"]
async fn child_fills_the_disk() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let clock = TestClock::new();
    let store = clock.open(&folder.join("ledger.db"));
    let (fail, mend) = (|| crate::support::limit_files("1"), || crate::support::limit_files("unlimited"));
    handles_once(&store, &clock, fail, mend).await;
    fs::write(folder.join("ran"), []).unwrap();
}

/// Permissions do not bind root, so root has somebody else try.
#[cfg(unix)]
#[test]
fn read_only_for_longer_than_a_lease() {
    crate::support::run_as_nobody("outages::child_may_not_write", FOLDER);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another test, in a process of its own"]
async fn child_may_not_write() {
    use std::os::unix::fs::PermissionsExt;

    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let file = folder.join("ledger.db");
    let clock = TestClock::new();
    let store = clock.open(&file);
    let allow = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    // An open file stays writable, so the store must open the file again.
    let fail = || {
        fs::remove_file(with_suffix(&file, "-wal")).unwrap();
        allow(0o400);
    };
    handles_once(&store, &clock, fail, || allow(0o600)).await;
    fs::write(folder.join("ran"), []).unwrap();
}
