//! Tests of the records of attempts.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryId, DeliveryState, InboxAdmin, InboxStore, LedgerRows};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{WORKER, accept, dead_letter, delivery, done, keep_for, lease, reschedule, retry, settled, show},
    support::{Folder, RETENTION, TestClock},
};

/// Returns the number of records.
fn records(folder: &Folder) -> u32 {
    folder.count("klikit_inbox_attempt")
}

/// Leases the only due delivery and lets its attempt fail.
async fn fail(store: &SqliteStore) {
    settled(store, &lease(store, 1, 5).await[0], reschedule(Duration::ZERO)).await;
}

#[tokio::test]
async fn first_attempt_that_succeeds_writes_no_record() {
    let folder = Folder::new();
    let store = folder.open();
    accept(&store, "evt-1", &[]).await;
    assert_eq!(records(&folder), 0);
    let leased = lease(&store, 1, 5).await;
    assert_eq!(records(&folder), 0);
    let history = show(&store, 1).await.unwrap().history;
    assert_eq!((history.len(), &*history[0].worker, history[0].ended_at), (1, WORKER, None));
    settled(&store, &leased[0], done()).await;
    assert_eq!(records(&folder), 0);
}

#[tokio::test]
async fn records_are_deleted_with_the_delivery() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for way in 0..6 {
        let event = format!("evt-{way}");
        accept(&store, &event, &[]).await;
        fail(&store).await;
        let leased = lease(&store, 1, 5).await;
        let number = leased[0].lease().id();
        let claim = delivery(&event, "body", &[]).claim().clone();
        match way {
            0 => settled(&store, &leased[0], done()).await,
            1 => {
                settled(&store, &leased[0], keep_for(RETENTION)).await;
                assert_eq!(records(&folder), 2);
                assert_eq!(store.evict_done(1).await.unwrap(), 1);
            }
            2 => {
                settled(&store, &leased[0], dead_letter("400")).await;
                assert_eq!(store.purge_dead(Duration::ZERO, 1).await.unwrap(), 1);
            }
            3 => {
                settled(&store, &leased[0], dead_letter("400")).await;
                assert_eq!(store.forget_keys(&claim.event().into()).await.unwrap(), 1);
            }
            4 => {
                let (ids, states) = ([number, DeliveryId::new(99)], [DeliveryState::Leased]);
                assert_eq!(store.delete(&ids, &states, LedgerRows::Keep).await.unwrap(), 1);
            }
            _ => {
                // A retry keeps the records, and a first success after it deletes them.
                settled(&store, &leased[0], dead_letter("400")).await;
                assert!(retry(&store, number.get()).await);
                settled(&store, &lease(&store, 1, 5).await[0], done()).await;
            }
        }
        assert_eq!((records(&folder), folder.count("klikit_inbox")), (0, 0), "way {way}");
    }
}
