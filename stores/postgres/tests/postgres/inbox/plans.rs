//! Tests that the statements use indexes.

use std::time::Duration;

use tower_klikit::inbox::{
    DeliveryId, DeliveryState, Filter, InboxAdmin, InboxStore, LeaseRequest, LedgerRows, Pause, Settlement, ShowBody,
};

use super::{
    RETENTION, TIME, WORKER, bodies, dead_letter, delivery, done, extend, failed, finish, lease, lease_ahead,
    lease_with, ordered, request, reschedule, retry,
};
use crate::{client, count, open, patient, servers::postgres::PostgresServer};

/// The number of rows that sequential scans have read.
const READ: &str = "
    SELECT coalesce(sum(seq_tup_read), 0)::bigint
    FROM pg_stat_user_tables
    WHERE relname LIKE '%inbox%'";

/// Returns a query for the number of scans of an index.
fn used(index: &str) -> String {
    format!(
        "
        SELECT coalesce(sum(idx_scan), 0)::bigint
        FROM pg_stat_user_indexes
        WHERE indexrelname LIKE '%{index}'"
    )
}

/// Fills the inbox with 20,000 deliveries that are done, dead, or not due for a day.
///
/// Uses a separate connection, because the server updates its statistics when a connection ends.
async fn fill(url: &str) {
    client(url)
        .await
        .batch_execute(
            "
                INSERT INTO klikit_inbox (due, accepted_at, token, key, attempts, state, tenant, ordering_keys)
                SELECT
                    now() + interval '1 day', now(), 1, gen_random_uuid(), 1,
                    CASE WHEN n % 3 = 0 THEN 0 ELSE n % 3 + 1 END,
                    'warung',
                    CASE WHEN n % 3 = 0 THEN ARRAY['order:' || n] END
                FROM generate_series(1, 20000) AS n;
                INSERT INTO klikit_inbox_body
                SELECT id, '', '{}', '', 'evt-' || id, 'branch:' || id % 100, ARRAY['order:' || id / 3]
                FROM klikit_inbox;
                INSERT INTO klikit_inbox_tenant VALUES ('warung');
                INSERT INTO klikit_inbox_key
                SELECT unnest(ordering_keys), id
                FROM klikit_inbox
                WHERE state < 2;
                ANALYZE klikit_inbox, klikit_inbox_body, klikit_inbox_key",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn only_counting_scans_tables() {
    let Some(server) = PostgresServer::start_own("only counting scans tables", &[]) else { return };
    let reader = client(server.url()).await;
    open(server.url()).await;
    fill(server.url()).await;
    let others = "
            SELECT count(*)
            FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while count(&reader, others).await > 0 {}
    // Use one connection, because the server updates its statistics when a connection ends.
    let store = patient().max_connections(1).open(server.url()).await.unwrap();
    let before = count(&reader, READ).await;
    for n in 0..20 {
        let id = n.to_string();
        for new in [ordered(&id, &["a"]).await, delivery(&id, "other").await] {
            store.accept(&new, RETENTION).await.unwrap();
        }
        let leased = lease(&store, 4).await;
        assert_eq!(bodies(&leased), [id.as_str()]);
        let held = leased[0].lease();
        assert!(extend(&store, held).await);
        dead_letter(&store, held, "500").await;
        assert!(retry(&store, held.id()).await.unwrap());
        let leased = lease(&store, 4).await;
        let held = leased[0].lease();
        reschedule(&store, held, Duration::ZERO, "500").await;
        let leased = lease(&store, 4).await;
        dead_letter(&store, leased[0].lease(), "500").await;
        store.accept(&ordered(&id, &["a"]).await, RETENTION).await.unwrap();
        // A held lease that has expired.
        let leased = lease(&store, 4).await;
        let expire = "UPDATE klikit_inbox SET due = now() - interval '1 s' WHERE id = $1";
        reader.execute(expire, &[&leased[0].lease().id().get()]).await.unwrap();
        let held: Vec<_> = leased.iter().map(|leased| *leased.lease()).collect();
        assert!(lease_with(&store, LeaseRequest { held: &held, ..request(4) }).await.leased.is_empty());
        let held = leased[0].lease();
        store.show(held.id(), ShowBody::Include).await.unwrap();
        let after = Some(DeliveryId::new(n));
        let dead = Filter::new().states([DeliveryState::Dead]);
        assert_eq!(store.find(&dead, after, 3).await.unwrap().entries.len(), 3);
        let page = store.find(&Filter::new().tenant("none"), after, 3).await.unwrap();
        assert!(page.entries.is_empty() && page.next >= Some(DeliveryId::new(n + 5_000)), "{page:?}");
        for (one, found) in [
            (Filter::new().id(held.id()), 1),
            (Filter::new().event_id(id.as_str()), 1),
            (Filter::new().order(5_000 + n), 3),
            (Filter::new().branch(n).states([DeliveryState::Leased]), 0),
        ] {
            assert_eq!(store.find(&one, None, 3).await.unwrap().entries.len(), found, "{one}");
        }
        let kept = store.find(&Filter::new().states([DeliveryState::Done]), after, 2).await.unwrap();
        let ids: Vec<_> = kept.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(store.dead_letter(&ids, &[DeliveryState::Ready], "").await.unwrap(), 0);
        assert_eq!(store.requeue(&ids, &[DeliveryState::Ready]).await.unwrap(), 0);
        let pause = Pause::everything().tenant("warung").event_type("klikit.order.updated");
        assert_eq!(store.pause(&pause, "clerk").await.unwrap(), 0);
        assert_eq!(store.pauses().await.unwrap().len(), 1);
        assert!(lease(&store, 4).await.is_empty());
        assert!(store.resume(&pause).await.unwrap());
        assert_eq!(store.delete(&ids, &[DeliveryState::Done], LedgerRows::Delete).await.unwrap(), 2);
        finish(&store, held, if n % 2 == 0 { TIME } else { Duration::ZERO }).await;
        // Many settlements at once.
        let mut settlements = Vec::new();
        for kind in 0..7_usize {
            let id = format!("{id}-{kind}");
            store.accept(&delivery(&id, "many").await, RETENTION).await.unwrap();
            let settlement = [
                done(Duration::ZERO),
                done(TIME),
                failed(Duration::from_secs(100_000), "500"),
                Settlement::DeadLetter { reason: "500".into(), status: Some(500) },
                Settlement::Done { keep: Duration::ZERO, history: TIME, status: Some(200) },
                Settlement::Expire,
                Settlement::Release,
            ];
            settlements.push((lease_ahead(&store, 1).await[0], settlement[kind].clone()));
        }
        // Starts of one delivery and of many.
        let leases: Vec<_> = settlements.iter().map(|(lease, _)| *lease).collect();
        assert_eq!(store.start(&leases[..1], WORKER).await.unwrap(), [true]);
        assert_eq!(store.start(&leases, WORKER).await.unwrap(), [true; 7]);
        assert_eq!(store.settle(&settlements).await.unwrap().len(), 7);
        let released = lease(&store, 4).await;
        finish(&store, released[0].lease(), Duration::ZERO).await;
        store.forget_keys(&ordered(&id, &[]).await.claim().event().into()).await.unwrap();
        store.purge_done(10).await.unwrap();
        assert_eq!(store.stored(10).await.unwrap(), 10);
        assert_eq!(store.evict_done(2).await.unwrap(), 2);
        assert_eq!(store.purge_dead(TIME, 10).await.unwrap(), 0);
        assert_eq!(store.purge_dead(Duration::ZERO, 2).await.unwrap(), 2);
        assert_eq!(store.backlog(10).await.unwrap(), 10);
    }
    drop(store);
    while count(&reader, others).await > 0 {}
    let read = count(&reader, READ).await - before;
    // Counting scans a table up to its limit.
    assert!(read <= 20 * 200, "sequential scans read {read} rows");
    for index in [
        "_inbox_due_idx",
        "_inbox_ordered_idx",
        "_inbox_dead_idx",
        "_inbox_done_idx",
        "_inbox_event_key_idx",
        "_inbox_key_id_idx",
        "_inbox_body_event_idx",
        "_inbox_body_branch_idx",
        "_inbox_body_orders_idx",
        "_inbox_attempt_pkey",
    ] {
        assert!(count(&reader, &used(index)).await > 0, "{index} was not used");
    }
}
