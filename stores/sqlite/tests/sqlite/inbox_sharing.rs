//! Tests of pauses, and of the turns of tenants.

use tower_klikit::inbox::{Acceptance, DeliveryId, InboxAdmin, InboxStore, NewDelivery, Pause};
use tower_klikit_sqlite::SqliteStore;

use crate::{
    deliveries::{delivery, ids, lease},
    support::{Folder, RETENTION, TestClock},
};

fn of_tenant(tenant: &str, event: &str, event_type: &str, keys: &[&str]) -> NewDelivery {
    let head = format!(r#"{{"event_id":"{event}","event_type":"{event_type}","tenant":"{tenant}"}}"#);
    delivery(event, "body", keys).with_head(head)
}

async fn accept(store: &SqliteStore, tenant: &str, event: &str, event_type: &str, keys: &[&str]) {
    let new = of_tenant(tenant, event, event_type, keys);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

/// The first tenant has more blocked deliveries than a selection examines, so the selection examines the queues.
#[tokio::test]
async fn blocked_backlog_delays_no_other_tenant() {
    const BLOCKED: i64 = 600;

    let folder = Folder::new();
    let clock = TestClock::new();
    let store = clock.open(&folder.file());
    accept(&store, "a", "evt-0", "created", &["key"]).await;
    assert_eq!(ids(&lease(&store, 1, 5).await), [1]);
    for n in 0..BLOCKED {
        accept(&store, "a", &format!("evt-a-{n}"), "created", &["key"]).await;
    }
    for (tenant, event, event_type, keys) in [
        ("a", "evt-1", "created", &["a1"][..]),
        ("a", "evt-2", "created", &["a2"]),
        ("b", "evt-3", "created", &["b1"]),
        ("b", "evt-4", "updated", &["b2"]),
        ("b", "evt-5", "created", &["b2"]),
        ("c", "evt-6", "created", &[]),
        ("d", "evt-7", "created", &["d1"]),
        ("b", "evt-8", "created", &["b3"]),
    ] {
        accept(&store, tenant, event, event_type, keys).await;
    }
    let paused = [Pause::everything().tenant("d"), Pause::everything().tenant("b").event_type("updated")];
    for pause in &paused {
        assert_eq!(store.pause(pause, "operator").await.unwrap(), 0);
    }
    // One delivery of each tenant, and then one more of any.
    let mut leased: Vec<_> = ids(&lease(&store, 3, 5).await).iter().map(|id| id - BLOCKED - 1).collect();
    leased.sort_unstable();
    assert_eq!(leased, [1, 3, 6]);
    let mut leased: Vec<_> = ids(&lease(&store, 10, 5).await).iter().map(|id| id - BLOCKED - 1).collect();
    leased.sort_unstable();
    assert_eq!(leased, [2, 8]);
    for pause in &paused {
        assert!(store.resume(pause).await.unwrap());
    }
    let mut leased: Vec<_> = ids(&lease(&store, 10, 5).await).iter().map(|id| id - BLOCKED - 1).collect();
    leased.sort_unstable();
    assert_eq!(leased, [4, 7]);
}

#[tokio::test]
async fn leases_deliveries_of_unreadable_tenants() {
    let folder = Folder::new();
    let store = folder.open();
    for n in 1..=6 {
        accept(&store, &format!("tenant-{n}"), &format!("evt-{n}"), "created", &["key"][..n % 2]).await;
    }
    let change = "
        UPDATE klikit_inbox SET tenant = x'ff' WHERE id = 1;
        UPDATE klikit_inbox SET tenant = CAST(x'ff' AS TEXT) WHERE id = 2;
        UPDATE klikit_inbox SET tenant = 'a' || char(0) || 'b' WHERE id = 3;
        UPDATE klikit_inbox SET tenant = '' WHERE id = 4;
        UPDATE klikit_inbox SET ordering_keys = NULL
        ";
    folder.connect().execute_batch(change).unwrap();
    let mut leased = ids(&lease(&store, 10, 5).await);
    leased.sort_unstable();
    assert_eq!(leased, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn pause_applies_to_another_store() {
    let folder = Folder::new();
    let (one, other) = (folder.open(), folder.open());
    accept(&one, "a", "evt-1", "created", &[]).await;
    assert_eq!(one.pause(&Pause::everything(), "operator").await.unwrap(), 0);
    assert!(lease(&other, 1, 5).await.is_empty());
    let pauses = other.pauses().await.unwrap();
    assert_eq!((pauses.len(), &*pauses[0].operator), (1, "operator"));
    assert!(other.resume(&Pause::everything()).await.unwrap());
    let leased = lease(&one, 1, 5).await;
    assert_eq!(leased[0].lease().id(), DeliveryId::new(1));
}
