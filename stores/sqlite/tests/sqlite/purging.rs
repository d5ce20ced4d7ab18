//! Tests of purging the ledger.

use std::{fs, time::Duration};

use tower_klikit::dedupe::{ClaimOutcome, Ledger};
use tower_klikit_sqlite::SqliteStore;

use crate::support::{Folder, LEASE, RETENTION, TERMS, TestClock, claim, renew, with_suffix};

async fn claim_all(store: &SqliteStore, events: std::ops::Range<u64>) {
    let claims = events.map(|event| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(&claim(event, 1), &TERMS).await })
    });
    for claim in claims.collect::<Vec<_>>() {
        assert_eq!(claim.await.unwrap().unwrap(), ClaimOutcome::Claimed);
    }
}

/// Counts the commits in the log. The log's header has 32 bytes, and each frame's header has 24. The second number in a
/// frame's header is not zero if the frame is the last of a commit.
fn commits(folder: &Folder) -> usize {
    let log = fs::read(with_suffix(&folder.file(), "-wal")).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap()) as usize;
    let frames = (32..log.len()).step_by(24 + number(8)).take_while(|frame| log[frame + 8..frame + 16] == log[16..24]);
    frames.filter(|frame| number(frame + 4) != 0).count()
}

#[tokio::test]
async fn claims_purge_a_few_rows_each() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    claim_all(&store, 0..2000).await;
    for event in 0..10 {
        assert!(store.complete(&claim(event, 1), RETENTION).await.unwrap());
    }
    assert_eq!(folder.rows(), 2000);

    clock.advance(LEASE);
    let mut rows = 2000;
    for event in 3000..3200 {
        assert_eq!(store.claim(&claim(event, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
        let now = folder.rows();
        assert!(rows <= now + 32, "one claim has reduced {rows} rows to {now}");
        rows = now;
    }
    assert_eq!(rows, 200 + 10);
}

#[tokio::test]
async fn other_calls_purge_nothing() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    claim_all(&store, 0..3).await;
    clock.advance(LEASE);
    store.release(&claim(7, 1)).await.unwrap();
    assert!(!renew(&store, &claim(7, 1)).await);
    assert_eq!(folder.rows(), 3);
}

#[tokio::test]
async fn purge_stops_at_its_limit() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    claim_all(&store, 0..5000).await;
    assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap());
    assert_eq!(store.purge(u32::MAX).await.unwrap(), 0);

    clock.advance(LEASE);
    assert_eq!(store.purge(0).await.unwrap(), 0);
    assert_eq!(store.purge(10).await.unwrap(), 10);
    assert_eq!(store.purge(1500).await.unwrap(), 1500);
    // Empty the log, so that only later commits are counted.
    let truncate = || folder.connect().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    assert_eq!(truncate().unwrap(), 0);
    assert_eq!(store.purge(u32::MAX).await.unwrap(), 5000 - 1 - 1510);
    assert_eq!(commits(&folder), 4, "3490 rows, 1024 at a time");
    assert_eq!(folder.rows(), 1);

    clock.advance(RETENTION + Duration::from_secs(1));
    assert_eq!(store.purge(u32::MAX).await.unwrap(), 1);
}
