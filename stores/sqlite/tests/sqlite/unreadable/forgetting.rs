//! Tests of forgetting, purging and evicting unreadable deliveries.

use tower_klikit::{
    dedupe::Ledger,
    inbox::{Acceptance, InboxAdmin, InboxStore, SettleOutcome},
};
use tower_klikit_sqlite::SqliteErrorKind;

use super::{change, close, damage, id, leaves};
use crate::{
    deliveries::{accept, dead_letter, dead_letters, delivery, done, keep_for, lease, settled},
    support::{Folder, LEASE, RETENTION, TestClock, kind},
};

#[tokio::test]
async fn unreadable_values_are_forgotten_and_purged() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let start = clock.now();
    for event in ["evt-1", "evt-2", "evt-3", "evt-4"] {
        accept(&store, event, &[]).await;
    }
    for leased in lease(&store, 10, 5).await {
        let is_kept = leased.lease().id().get() > 2;
        settled(&store, &leased, if is_kept { keep_for(LEASE) } else { dead_letter("400") }).await;
    }
    change(
        &folder,
        "
        UPDATE klikit_inbox SET key = 'text', reason = x'00' WHERE id = 1;
        UPDATE klikit_inbox SET key = 17, accepted_at = 'x', since = 'x' WHERE id = 3;
        UPDATE klikit_inbox SET event_key = 'x', attempts = 'x', token = 'x' WHERE id = 4;
        ",
    );
    store.counts().await.unwrap();
    assert_eq!(dead_letters(&store, None, 10).await.len(), 2);
    clock.advance(LEASE);
    // Five: four ledger rows, three of which have a delivery, and delivery 1, which has lost its key.
    assert_eq!(store.count_keys(&(start..clock.now()).into()).await.unwrap(), 5);
    assert_eq!(store.forget_keys(&(start..clock.now()).into()).await.unwrap(), 5);
    assert_eq!(store.purge_done(10).await.unwrap(), 1);
    assert_eq!((folder.count("klikit_inbox"), folder.count("klikit_inbox_body")), (0, 0));
}

#[tokio::test]
async fn unreadable_values_are_evicted_and_expire() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    for n in 1..=6 {
        accept(&store, &format!("evt-{n}"), &[]).await;
    }
    for leased in lease(&store, 10, 5).await {
        let is_kept = leased.lease().id().get() > 4;
        settled(&store, &leased, if is_kept { keep_for(LEASE) } else { dead_letter("400") }).await;
    }
    change(
        &folder,
        "
        UPDATE klikit_inbox SET state = 'odd', key = 'text' WHERE id = 1;
        UPDATE klikit_inbox SET since = 'x' WHERE id = 2;
        UPDATE klikit_inbox SET key = 17, since = 'x', token = 'x' WHERE id = 5;
        DELETE FROM klikit_inbox_body WHERE id IN (3, 6);
        ",
    );
    assert_eq!(store.stored(10).await.unwrap(), 6);
    assert_eq!(store.evict_done(10).await.unwrap(), 2);
    clock.advance(LEASE * 2);
    // Delivery 2, whose time is unreadable, stays and does not stop the purge.
    assert_eq!(store.purge_dead(LEASE, 10).await.unwrap(), 3);
    assert_eq!(dead_letters(&store, None, 10).await[0].id, id(2));
    assert_eq!((store.stored(10).await.unwrap(), folder.count("klikit_inbox_body")), (1, 1));
}

#[tokio::test]
async fn damaged_body_can_be_forgotten() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let body = "x".repeat(3000);
    let deliveries: Vec<_> = (1..=6).map(|n| delivery(&format!("evt-{n}"), &body, &[])).collect();
    let start = clock.now();
    for new in &deliveries {
        assert_eq!(store.accept(new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    for leased in lease(&store, 6, 5).await {
        let settlement = match leased.lease().id().get() {
            1 | 2 => dead_letter("400"),
            3 | 4 => keep_for(LEASE),
            _ => continue,
        };
        settled(&store, &leased, settlement).await;
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox_body");
    damage(&folder, &[pages[0], pages[2], pages[4]]);
    let store = clock.open(&folder.file());
    // The handlers of deliveries 5 and 6 were running across the restart, and now succeed.
    let settlements = [5, 6].map(|n| (tower_klikit::inbox::Lease::new(id(n), 1, 1), done()));
    assert_eq!(store.settle(&settlements).await.unwrap(), [SettleOutcome::Settled; 2]);
    assert_eq!(store.forget_keys(&deliveries[0].claim().event().into()).await.unwrap(), 1);
    clock.advance(LEASE);
    assert_eq!(store.purge_done(1).await.unwrap() + store.purge_done(10).await.unwrap(), 2);
    assert_eq!(store.count_keys(&(start..clock.now()).into()).await.unwrap(), 5);
    assert_eq!(store.forget_keys(&(start..clock.now()).into()).await.unwrap(), 5);
    assert_eq!(folder.count("klikit_inbox"), 0);
    for new in &deliveries {
        assert_eq!(store.accept(new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
}

#[tokio::test]
async fn counts_and_forgets_around_damaged_deliveries() {
    const ALL: u32 = 200;

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let start = clock.now();
    for n in 0..ALL {
        let new = delivery(&format!("evt-{n}"), "body", &[]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    for leased in lease(&store, ALL, 5).await {
        settled(&store, &leased, dead_letter("400")).await;
    }
    clock.advance(LEASE);
    let window = (start..clock.now()).into();
    // Only the deliveries are left, not their rows in the ledger.
    assert_eq!(store.forget(&window).await.unwrap(), u64::from(ALL));
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox");
    assert!(pages.len() > 4, "{pages:?}");
    damage(&folder, &pages[2..3]);

    let store = clock.open(&folder.file());
    let counted = store.count_keys(&window).await.unwrap();
    assert!((u64::from(ALL) / 2..u64::from(ALL)).contains(&counted), "{counted}");
    assert_eq!(kind(&store.forget_keys(&window).await.unwrap_err()), SqliteErrorKind::Damaged);
    // Rows next to the damaged page may stay too, because deleting them moves rows between pages.
    let left = store.count_keys(&window).await.unwrap();
    assert!(left < counted / 2, "{left} of {counted}");
}

#[tokio::test]
async fn damaged_bodies_are_evicted_and_expire() {
    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    let body = "x".repeat(3000);
    for n in 1..=6 {
        let new = delivery(&format!("evt-{n}"), &body, &[]);
        assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
    }
    for leased in lease(&store, 6, 5).await {
        let is_kept = leased.lease().id().get() > 3;
        settled(&store, &leased, if is_kept { keep_for(LEASE) } else { dead_letter("400") }).await;
    }
    close(&folder, store);
    let pages = leaves(&folder, "klikit_inbox_body");
    damage(&folder, &[pages[0], pages[2], pages[4]]);
    let store = clock.open(&folder.file());
    clock.advance(LEASE * 2);
    assert_eq!((store.evict_done(2).await.unwrap(), store.evict_done(10).await.unwrap()), (2, 1));
    assert_eq!((store.purge_dead(LEASE, 2).await.unwrap(), store.purge_dead(LEASE, 10).await.unwrap()), (2, 1));
    assert_eq!((store.stored(10).await.unwrap(), folder.count("klikit_inbox")), (0, 0));
}
