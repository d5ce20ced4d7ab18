//! Tests of purging and evicting deliveries.

use std::time::Duration;

use tower_klikit::inbox::{DeliveryId, DeliveryState, InboxStore, Leased};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{self, accept, dead_letter, dead_letters, keep_for, settled, show},
    support::{Folder, TestClock},
};

const SECOND: Duration = Duration::from_secs(1);

async fn lease(store: &SqliteStore, limit: u32) -> Vec<Leased> {
    deliveries::lease(store, limit, 3).await
}

#[tokio::test]
async fn purges_kept_deliveries() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..300 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    for (n, leased) in lease(&store, 300).await.iter().enumerate() {
        settled(&store, leased, keep_for(if n < 290 { SECOND } else { SECOND * 2 })).await;
    }
    assert_eq!(store.purge_done(1000).await.unwrap(), 0);
    clock.advance(SECOND);
    assert_eq!(store.purge_done(5).await.unwrap(), 5);
    assert_eq!(store.purge_done(1000).await.unwrap(), 285);
    let kept = show(&store, 300).await.unwrap();
    assert_eq!((kept.state, kept.reason), (DeliveryState::Done, None));
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (10, 10));
}

#[tokio::test]
async fn evicts_kept_deliveries_that_end_soonest() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..300 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    for (n, leased) in (0..300).zip(&lease(&store, 300).await) {
        settled(&store, leased, if n < 290 { keep_for(SECOND * (1000 - n)) } else { dead_letter("400") }).await;
    }
    clock.advance(SECOND * 800);
    assert_eq!(store.stored(1000).await.unwrap(), 300);
    assert_eq!(store.evict_done(0).await.unwrap(), 0);
    assert_eq!(store.evict_done(200).await.unwrap(), 200);
    for (id, is_left) in [90, 91, 290, 291].into_iter().zip([true, false, false, true]) {
        assert_eq!(show(&store, id).await.is_some(), is_left, "{id}");
    }
    assert_eq!(store.evict_done(1000).await.unwrap(), 90);
    assert_eq!(store.evict_done(1000).await.unwrap(), 0);
    assert_eq!(store.stored(1000).await.unwrap(), 10);
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (10, 10));
    assert_eq!(folder.rows(), 300);
}

#[tokio::test]
async fn purges_old_dead_letters() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 0..400 {
        if n == 300 {
            clock.advance(SECOND);
        }
        accept(&store, &format!("evt-{n}"), &["key"][..usize::from(n == 0)]).await;
    }
    for leased in &lease(&store, 400).await {
        settled(&store, leased, dead_letter("400")).await;
    }
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 0);
    clock.advance(SECOND);
    // Stored times are rounded, so the deliveries are purged only a millisecond later.
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.purge_dead(SECOND * 2, 0).await.unwrap(), 0);
    assert_eq!(store.purge_dead(SECOND * 2, 130).await.unwrap(), 130);
    assert_eq!(dead_letters(&store, None, 1).await[0].id, DeliveryId::new(131));
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 170);
    assert_eq!(store.purge_dead(SECOND * 2, 1000).await.unwrap(), 0);
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (100, 100));
    assert_eq!(folder.rows(), 400);
    assert_eq!(store.purge_dead(Duration::MAX, 1000).await.unwrap(), 0);
    assert_eq!(store.purge_dead(Duration::ZERO, 1000).await.unwrap(), 100);
}
